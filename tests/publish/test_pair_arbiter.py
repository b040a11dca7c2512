"""Two publishers of one feed: merged by number, topic by topic."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from feedhandler import FeedState
from feedhandler.consumer.schema import DTYPES
from feedhandler.publish import Message
from feedhandler.publish.message import behind
from feedhandler.publish.pair_arbiter import HOLD_S, STALE_HOLD_S, PairArbiter
from feedhandler.publish.wire import Header

TOPIC = "mbp-1/AAPL/"
BOTH_LIVE = [FeedState.LIVE, FeedState.LIVE]


def message(first: int, last: int, *, lost: int = 0, state: int = FeedState.LIVE) -> Message:
    """Return a message with a record for each number."""
    records = np.zeros(last - first + 1, DTYPES["mbp-1"])
    records["sequence"] = np.arange(first, last + 1, dtype=np.uint64) & 0xFFFFFFFF
    return Message(f"x/{TOPIC}", Header(1, last, 7, len(records), state), records.tobytes(), lost)


class Merge:
    """An arbiter with a clock, and the numbers that it delivered."""

    def __init__(self) -> None:
        self.arbiter = PairArbiter()
        self.now_s = 0.0
        self.states = list(BOTH_LIVE)
        self.numbers: list[int] = []
        self.lost = 0
        self.batches: list[Message] = []
        self._seen: set[int] = set()
        for link in (0, 1):
            self.arbiter.hear(link, (0, 0), (0, 0), 0.0)

    def offer(self, link: int, offered: Message, *, joined: int = 0, key: str = TOPIC) -> None:
        """Offer one and take what comes; `joined`: the publisher was first heard behind that number."""
        place = (0, offered.header.channel_seq)
        first = link not in self._seen
        self._seen.add(link)
        self.arbiter.hear(link, (0, joined), (0, 0), self.now_s)
        self.arbiter.offer(key, link, offered, place, first=first, now_s=self.now_s)
        self.take()

    def take(self, after_s: float = 0.0) -> None:
        """Take what comes later."""
        self.now_s += after_s
        for taken, _ in self.arbiter.take(self.states, self.now_s):
            self.numbers += [int(number) for number in taken.records["sequence"]]
            self.lost += taken.lost
            self.batches.append(taken)


def test_batches_of_different_cuts_are_trimmed() -> None:
    """One sends 1-5 and 6-9, the other 1-3 and 4-9: each number once."""
    merge = Merge()
    for link, first, last in ((0, 1, 5), (1, 1, 3), (1, 4, 9), (0, 6, 9)):
        merge.offer(link, message(first, last))
    merge.take(HOLD_S)
    assert merge.numbers == list(range(1, 10))


def test_hole_of_one_is_filled_by_the_other() -> None:
    """What one publisher dropped for a slow subscriber, the other brings before the hold is over."""
    merge = Merge()
    merge.offer(0, message(1, 5))
    merge.offer(0, message(9, 10, lost=1))
    assert merge.numbers == list(range(1, 6))
    merge.offer(1, message(1, 8))
    merge.offer(1, message(9, 12))
    assert merge.numbers == list(range(1, 13))
    assert merge.lost == 0


def test_hole_of_both_is_told_after_the_hold() -> None:
    """Nobody brings it: delivered late, in order, and counted."""
    merge = Merge()
    merge.offer(0, message(1, 5))
    merge.offer(0, message(9, 10, lost=1))
    merge.take(HOLD_S)
    assert merge.numbers == [1, 2, 3, 4, 5, 9, 10]
    assert merge.lost == 1


def test_flagged_message_waits_for_nobody_when_the_other_is_not_live() -> None:
    """The other is DEAD: what there is comes at once."""
    merge = Merge()
    merge.states = [FeedState.STALE, FeedState.DEAD]
    merge.offer(0, message(1, 5, state=FeedState.STALE))
    assert merge.numbers == list(range(1, 6))


def test_trimming_at_the_wrap_of_32_bits() -> None:
    """Records carry 32 bits of their number."""
    start = (1 << 32) - 3
    kept = behind(message(start, start + 6), 0, (0, start + 3))
    assert kept is not None
    assert kept.records["sequence"].tolist() == [1, 2, 3]


@settings(max_examples=300, deadline=None)
@given(
    cuts=st.lists(st.tuples(st.integers(1, 6), st.booleans()), min_size=1, max_size=20),
    good_cuts=st.lists(st.integers(1, 6), min_size=1, max_size=30),
    order=st.lists(st.booleans(), max_size=60),
    states=st.lists(st.sampled_from([FeedState.LIVE, FeedState.STALE, FeedState.RECOVERING]), max_size=20),
)
def test_each_number_once_in_order_whatever_the_other_drops(
    cuts: list[tuple[int, bool]], good_cuts: list[int], order: list[bool], states: list[FeedState]
) -> None:
    """One publisher loses and is flagged at will, the other is LIVE and whole: its stream comes, no more."""
    good = []
    at = 1
    for size in good_cuts:
        good.append(message(at, at + size - 1))
        at += size
    bad, lost, bad_at = [], 0, 1
    for index, (size, dropped) in enumerate(cuts):
        size = min(size, at - bad_at)
        if size <= 0:
            break
        if dropped:
            lost += 1
        else:
            state = states[index] if index < len(states) else FeedState.LIVE
            bad.append(message(bad_at, bad_at + size - 1, lost=lost if bad else 0, state=state))
            lost = 0
        bad_at += size
    joined = int(bad[0].records["sequence"][0]) - 1 if bad else 0  # the other was there before
    merge = Merge()
    queues = {True: good, False: bad}
    for turn in [*order, *[True] * len(good), *[False] * len(bad)]:
        if queues[turn]:
            merge.offer(0 if turn else 1, queues[turn].pop(0), joined=0 if turn else joined)
    merge.take(STALE_HOLD_S)
    assert merge.numbers == list(range(1, at))
    assert merge.lost == 0
