"""Two publishers of one feed: merged by number, topic by topic."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from feedhandler import FeedState
from feedhandler.consumer.schema import DTYPES
from feedhandler.publish import Message
from feedhandler.publish.message import behind
from feedhandler.publish.pair_arbiter import HOLD_S, LONGEST_HOLD_S, LOSING_HOLD_S, PairArbiter
from feedhandler.publish.wire import Header

TOPIC = "mbp-1/AAPL/"
BOTH_LIVE = [FeedState.LIVE, FeedState.LIVE]


def message(
    first: int,
    last: int,
    *,
    lost: int = 0,
    state: int = FeedState.LIVE,
    schema: str = "mbp-1",
    flags: int = 0,
) -> Message:
    """Return a message with a record for each number."""
    records = np.zeros(last - first + 1, DTYPES[schema])
    records["flags"] = flags
    records["sequence"] = np.arange(first, last + 1, dtype=np.uint64) & 0xFFFFFFFF
    return Message(f"x/{schema}/AAPL/", Header(1, last, 7, len(records), state), records.tobytes(), lost)


class Merge:
    """An arbiter with a clock, and the numbers that it delivered."""

    def __init__(self, most_held: int = 1000) -> None:
        self.arbiter = PairArbiter(HOLD_S, most_held)
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
    merge.take(LOSING_HOLD_S)
    assert merge.numbers == [1, 2, 3, 4, 5, 9, 10]
    assert merge.lost == 1


def test_flagged_message_waits_for_nobody_when_the_other_is_not_live() -> None:
    """The other is DEAD: what there is comes at once."""
    merge = Merge()
    merge.states = [FeedState.STALE, FeedState.DEAD]
    merge.offer(0, message(1, 5, state=FeedState.STALE))
    assert merge.numbers == list(range(1, 6))


def test_first_messages_of_a_restarted_publisher_wait_for_what_the_other_still_brings() -> None:
    """It was joined behind number 20; the other is late but not silent: nothing is jumped over."""
    merge = Merge()
    merge.offer(0, message(1, 5))
    merge.offer(1, message(21, 22), joined=20)
    for _ in range(10):
        merge.now_s += HOLD_S / 2
        merge.arbiter.hear(0, (0, 0), (0, 0), merge.now_s)
        merge.take()
    assert merge.numbers == list(range(1, 6))
    merge.offer(0, message(6, 15))
    merge.offer(0, message(16, 22))
    assert merge.numbers == list(range(1, 23))
    assert merge.lost == 0


def test_restarted_publisher_is_trusted_once_the_other_has_passed_the_place_where_it_was_joined() -> None:
    """The other's heartbeat says that it has published number 20: a first message behind it is sure."""
    merge = Merge()
    merge.offer(0, message(1, 5))
    merge.arbiter.hear(1, (0, 20), (0, 0), 0.0)
    assert not merge.arbiter.covered(1)
    merge.arbiter.hear(0, (0, 0), (0, 20), 0.0)
    assert merge.arbiter.covered(1)
    merge.offer(1, message(21, 22), joined=20)
    assert merge.numbers == [*range(1, 6), 21, 22]


def test_what_may_be_missing_before_a_restarted_publisher_is_counted() -> None:
    """The other is silent: go on, but say that something may be lost."""
    merge = Merge()
    merge.offer(0, message(1, 5))
    merge.offer(1, message(21, 22), joined=20)
    merge.take(10 * HOLD_S)
    assert merge.numbers == list(range(1, 6))
    merge.take(LOSING_HOLD_S)
    assert merge.numbers == [*range(1, 6), 21, 22]
    assert merge.lost == 1


def test_no_message_waits_without_end() -> None:
    """The other is heard all the time, but never brings this topic."""
    merge = Merge()
    merge.offer(0, message(1, 5))
    merge.offer(1, message(8, 9, lost=1))
    start_s = merge.now_s
    while not merge.numbers[5:]:
        merge.now_s += HOLD_S / 2
        merge.arbiter.hear(0, (0, 0), (0, 0), merge.now_s)
        merge.take()
        assert merge.now_s < start_s + 2 * LONGEST_HOLD_S
    assert merge.now_s >= start_s + LONGEST_HOLD_S
    assert merge.lost == 1


def test_too_many_held_messages_are_let_go() -> None:
    """Memory is bounded: with more than so many nothing waits."""
    merge = Merge(most_held=10)
    merge.offer(0, message(1, 5))
    merge.offer(1, message(8, 8, lost=1))
    for number in range(9, 18):
        merge.offer(1, message(number, number))
    assert merge.numbers == [1, 2, 3, 4, 5]
    merge.offer(1, message(18, 18))
    assert merge.numbers == [1, 2, 3, 4, 5, *range(8, 19)]


def test_stale_message_waits_for_the_live_publisher_that_was_held_up() -> None:
    """Silent for longer than a take-over may last; then its LIVE copy comes, whole."""
    merge = Merge()
    merge.offer(0, message(1, 5))
    merge.offer(1, message(3, 8, state=FeedState.STALE))
    merge.take(10 * HOLD_S)
    assert merge.numbers == [1, 2, 3, 4, 5]
    merge.offer(0, message(6, 9))
    assert merge.numbers == list(range(1, 10))
    assert {batch.header.state for batch in merge.batches} == {FeedState.LIVE}


def test_orders_that_nobody_delivered_leave_mbo_flagged_until_a_snapshot() -> None:
    """Both have lost messages for good: LIVE orders behind that would build a wrong book unnoticed."""
    merge = Merge()
    merge.states = [FeedState.STALE, FeedState.DEAD]
    merge.offer(0, message(1, 5, state=FeedState.STALE, schema="mbo"), key="mbo/AAPL/")
    merge.states = [FeedState.DEAD, FeedState.LIVE]
    merge.offer(1, message(6, 7, schema="mbo"), key="mbo/AAPL/")
    assert merge.batches[-1].header.state == FeedState.STALE
    assert (merge.batches[-1].records["flags"] == 4).all()
    snapshot = message(9, 9, state=FeedState.STALE, schema="mbo", flags=32 | 8 | 4)
    merge.offer(1, snapshot, key="mbo/AAPL/")
    merge.offer(1, message(10, 11, schema="mbo"), key="mbo/AAPL/")
    assert merge.batches[-1].header.state == FeedState.LIVE
    assert (merge.batches[-1].records["flags"] == 0).all()


def test_snapshot_with_the_number_that_came_last_is_not_taken_for_a_repetition() -> None:
    """The book repaired has the number of the last message before it: dropped, the wrong one would stand."""
    merge = Merge()
    merge.states = [FeedState.STALE, FeedState.STALE]
    merge.offer(0, message(1, 9, state=FeedState.STALE))
    merge.offer(1, message(9, 9, state=FeedState.STALE, flags=32 | 8 | 4))
    assert merge.numbers == [*range(1, 10), 9]
    merge.offer(1, message(10, 10))
    merge.offer(0, message(10, 10, state=FeedState.STALE, flags=32 | 8 | 4))
    assert merge.numbers == [*range(1, 10), 9, 10]


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
    merge.take(LOSING_HOLD_S)
    assert merge.numbers == list(range(1, at))
    assert merge.lost == 0
