"""Two publishers of one feed, one stream: by topic, each number once, whoever brings it first."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from feedhandler.consumer.state import FeedState
from feedhandler.publish.message import BEFORE_ALL, Message, Place, behind

HOLD_S = 0.008
"""How long a publisher may be silent until a message published RECOVERING or STARTING does not wait for its
LIVE copy any more."""
LOSING_HOLD_S = 0.5
"""The same where something would be missing that the other may still bring: behind a hole, STALE, or before
the place where a restarted publisher was joined. One that died says so and is not waited for."""
LONGEST_HOLD_S = 1.0
"""No message waits for longer, however busy the other publisher is."""
_SNAPSHOT, _MAYBE_BAD_BOOK = 32, 4


@dataclass(slots=True)
class _Held:
    message: Message
    place: Place
    first: bool
    at_s: float


@dataclass(slots=True)
class _Topic:
    delivered: Place = BEFORE_ALL
    live: bool = True
    """Whether what was delivered last was published LIVE."""
    orders_missing: bool = False
    queues: dict[int, deque[_Held]] = field(default_factory=dict)


class PairArbiter:
    """Pure: the clock and the states of the publishers are passed in.

    A message is sure when it was published LIVE and nothing is missing before it. It is delivered at once:
    a publisher that has missed nothing says what is next. Any other waits as long as a publisher that is LIVE
    may still bring what is missing: until its copy has come, or it has passed the place, or it is silent for
    `hold_s` (LOSING_HOLD_S where something would be missing); for nobody when no other publisher is LIVE.

    What a publisher sent before it was heard is not known. Until another one has passed the place where that
    was (`joined`), the first message of each of its topics is not sure.
    """

    def __init__(self, hold_s: float = HOLD_S, most_held: int = 10_000) -> None:
        self.hold_s = hold_s
        self._most_held = most_held  # with more than these nothing waits
        self._held = 0
        self._topics: dict[str, _Topic] = {}
        self._waiting: set[str] = set()
        self._joined: dict[int, Place] = {}
        self._passed: dict[int, Place] = {}
        self._heard_s: dict[int, float] = {}

    def hear(self, link: int, joined: Place | None, passed: Place, now_s: float) -> None:
        """Note that a publisher was heard: from where on, and up to where all has been published."""
        self._heard_s[link] = now_s
        self._passed[link] = passed
        if joined is not None:
            self._joined[link] = joined
        else:
            self._joined.pop(link, None)

    def covered(self, link: int) -> bool:
        """Whether what a publisher sent before it was heard has come from another one."""
        joined = self._joined.get(link)
        return joined is not None and any(
            passed >= joined for other, passed in self._passed.items() if other != link
        )

    def offer(
        self, key: str, link: int, message: Message, place: Place, *, first: bool, now_s: float
    ) -> None:
        """Take a message of topic `key` (without the channel) from a publisher."""
        topic = self._topics.setdefault(key, _Topic())
        topic.queues.setdefault(link, deque()).append(_Held(message, place, first, now_s))
        self._held += 1
        self._waiting.add(key)

    def take(self, states: Sequence[FeedState], now_s: float) -> list[tuple[Message, Place]]:
        """Return what can be delivered now, in order within each topic, with the place where each ends."""
        out: list[tuple[Message, Place]] = []
        for key in list(self._waiting):
            topic = self._topics[key]
            while (found := self._next(key, topic, states, now_s)) is not None:
                out.append(found)
            if not any(topic.queues.values()):
                self._waiting.discard(key)
        return out

    @property
    def holding(self) -> bool:
        """Whether anything waits."""
        return bool(self._waiting)

    def _next(
        self, key: str, topic: _Topic, states: Sequence[FeedState], now_s: float
    ) -> tuple[Message, Place] | None:
        while True:
            fronts: list[tuple[bool, Place, int]] = []
            for link, queue in topic.queues.items():
                while queue and _is_delivered(topic, queue[0]):
                    self._pop(queue)
                if queue:
                    fronts.append((not self._sure(link, queue[0]), queue[0].place, link))
            if not fronts:
                return None
            unsure, _, link = min(fronts)
            held = topic.queues[link][0]
            if unsure and self._may_come(topic, held, states, now_s):
                return None
            self._pop(topic.queues[link])
            message = _rest(topic, held)
            if message is None:  # its numbers end before it does: nothing is new in it
                continue
            if held.first and unsure and topic.delivered != BEFORE_ALL and message is held.message:
                message = replace(message, lost=max(1, message.lost))  # perhaps: nobody can tell any more
            return _follow(key, topic, message, held.place), held.place

    def _pop(self, queue: deque[_Held]) -> None:
        queue.popleft()
        self._held -= 1

    def _sure(self, link: int, held: _Held) -> bool:
        known = not held.first or self.covered(link)
        return known and held.message.lost == 0 and held.message.header.state == FeedState.LIVE

    def _may_come(self, topic: _Topic, held: _Held, states: Sequence[FeedState], now_s: float) -> bool:
        if now_s >= held.at_s + LONGEST_HOLD_S or self._held > self._most_held:
            return False
        losing = held.first or held.message.lost or held.message.header.state == FeedState.STALE
        hold_s = max(self.hold_s, LOSING_HOLD_S) if losing else self.hold_s
        return any(
            state == FeedState.LIVE
            and not topic.queues.get(other)
            and self._passed.get(other, BEFORE_ALL) < held.place
            and now_s < max(held.at_s, self._heard_s.get(other, 0.0)) + hold_s
            for other, state in enumerate(states)
        )


def _is_delivered(topic: _Topic, held: _Held) -> bool:
    if held.place != topic.delivered:
        return held.place < topic.delivered
    return topic.live or not _is_snapshot(held.message)


def _is_snapshot(message: Message) -> bool:
    if message.header.state == FeedState.LIVE:
        return False
    records = message.records
    return "flags" in (records.dtype.names or ()) and bool(records["flags"][-1] & _SNAPSHOT)


def _rest(topic: _Topic, held: _Held) -> Message | None:
    """What of a message was not delivered; nothing before that part is missing when a part of it was."""
    if held.place == topic.delivered:  # a book as a snapshot repaired it: it has the last number before
        records = held.message.records
        return _with(held.message, records[(records["flags"] & _SNAPSHOT) != 0])
    message = behind(held.message, held.place[0], topic.delivered)
    return message if message is None or message is held.message else replace(message, lost=0)


def _follow(key: str, topic: _Topic, message: Message, place: Place) -> Message:
    """Orders that were lost for good are missing from books built of mbo records, whoever comes LIVE next."""
    if place[0] != topic.delivered[0]:
        topic.orders_missing = False
    topic.delivered = place
    topic.live = message.header.state == FeedState.LIVE
    if not key.startswith("mbo/"):
        return message
    if _is_snapshot(message):
        topic.orders_missing = False
    elif message.header.state == FeedState.STALE:
        topic.orders_missing = True
    elif topic.orders_missing and topic.live:
        records = message.records.copy()
        records["flags"] |= _MAYBE_BAD_BOOK
        message = _with(message, records)
        message = replace(message, header=replace(message.header, state=int(FeedState.STALE)))
    return message


def _with(message: Message, records: "np.ndarray[tuple[int], np.dtype[np.void]]") -> Message:
    header = replace(message.header, count=len(records))
    return replace(message, body=records.tobytes(), header=header)
