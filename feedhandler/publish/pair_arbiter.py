"""Two publishers of one feed, one stream: by topic, each number once, whoever brings it first."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from feedhandler.consumer.state import FeedState
from feedhandler.publish.message import BEFORE_ALL, Message, Place, behind

HOLD_S = 0.008
"""How long a message that may have a hole before it, or is flagged, waits for the other's copy."""


@dataclass(slots=True)
class _Held:
    message: Message
    place: Place
    sure: bool
    until_s: float


@dataclass(slots=True)
class _Topic:
    delivered: Place = BEFORE_ALL
    queues: dict[int, deque[_Held]] = field(default_factory=dict)


class PairArbiter:
    """Pure: the clock and the states of the publishers are passed in.

    A message is sure when it was published LIVE and nothing is missing before it. It is delivered at once:
    a publisher that has missed nothing says what is next. Any other waits until another publisher's copy has
    passed it, or `hold_s`, or for nobody when no other publisher is LIVE.
    """

    def __init__(self, hold_s: float = HOLD_S) -> None:
        self.hold_s = hold_s
        self._topics: dict[str, _Topic] = {}
        self._waiting: set[str] = set()

    def offer(
        self, key: str, link: int, message: Message, place: Place, *, first: bool, now_s: float
    ) -> None:
        """Take a message of topic `key` (without the channel) from a publisher."""
        topic = self._topics.setdefault(key, _Topic())
        fresh = first and topic.delivered != BEFORE_ALL  # what it sent before we listened is not known
        sure = message.lost == 0 and message.header.state == FeedState.LIVE and not fresh
        held = _Held(message, place, sure, now_s + self.hold_s)
        topic.queues.setdefault(link, deque()).append(held)
        self._waiting.add(key)

    def take(self, states: Sequence[FeedState], now_s: float) -> list[tuple[Message, Place]]:
        """Return what can be delivered now, in order within each topic, with the place where each ends."""
        out: list[tuple[Message, Place]] = []
        for key in list(self._waiting):
            topic = self._topics[key]
            while (found := self._next(topic, states, now_s)) is not None:
                out.append(found)
            if not any(topic.queues.values()):
                self._waiting.discard(key)
        return out

    @property
    def holding(self) -> bool:
        """Whether anything waits."""
        return bool(self._waiting)

    def _next(self, topic: _Topic, states: Sequence[FeedState], now_s: float) -> tuple[Message, Place] | None:
        fronts: list[tuple[bool, Place, int]] = []
        for link, queue in topic.queues.items():
            while queue and queue[0].place <= topic.delivered:
                queue.popleft()
            if queue:
                fronts.append((not queue[0].sure, queue[0].place, link))
        if not fronts:
            return None
        unsure, _, link = min(fronts)
        held = topic.queues[link][0]
        if unsure and now_s < held.until_s:
            absent = [state for other, state in enumerate(states) if not topic.queues.get(other)]
            if FeedState.LIVE in absent:
                return None
        topic.queues[link].popleft()
        message = behind(held.message, held.place[0], topic.delivered)
        if message is None:  # its numbers end before it does: nothing is new in it
            return self._next(topic, states, now_s)
        if message is not held.message:  # part of it was delivered: nothing before that part is missing
            message = replace(message, lost=0)
        topic.delivered = held.place
        return message, held.place
