"""Subscribe to a ZeroMQ publisher, or to both of a hot pair, and learn what was lost on the way."""

import json
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import zmq

from feedhandler.consumer.book import Book
from feedhandler.consumer.consumer import CONFLATED
from feedhandler.consumer.state import FeedState
from feedhandler.errors import RunError, UsageError
from feedhandler.publish.image import request, unpack_book
from feedhandler.publish.link import Link
from feedhandler.publish.message import Message, Place, behind, newest
from feedhandler.publish.pair_arbiter import HOLD_S, PairArbiter

__all__ = ["Message", "ZmqSubscriber"]
_RANK = [
    FeedState.LIVE,
    FeedState.ENDED,
    FeedState.RECOVERING,
    FeedState.STARTING,
    FeedState.STALE,
    FeedState.DEAD,
]
"""Best first."""


class ZmqSubscriber:
    """A subscriber of one channel, or of the two of a hot pair, that counts by topic what it missed.

    `topics`: "SCHEMA/SYMBOL/" or prefixes of it, without the channel; empty: all. Feed events always come.
    What is lost before a topic's first message cannot be known. A new epoch starts the counting again.

    Given two endpoints (and the channel's name on each, if they differ) it delivers one stream: within each
    topic every number once and in order, from whichever publisher brings it first. Feed events come from
    both: the topic says whose they are.

    `snapshot_endpoint`: where `join` gets images of books; of a pair: one for each endpoint.
    `conflate`: of each mbp topic only the newest record is kept while the caller is busy; `conflated` counts
    the others.
    """

    def __init__(
        self,
        endpoint: str | Sequence[str],
        channel: str | Sequence[str],
        topics: Sequence[str] = (),
        high_water_mark: int = 10_000,
        context: "zmq.Context[Any] | None" = None,
        *,
        snapshot_endpoint: str | Sequence[str] = (),
        conflate: bool = False,
        hold_s: float = HOLD_S,
    ) -> None:
        self.lost = 0
        """Messages lost, over all topics and epochs; of a pair: what neither brought, at most so many."""
        self.conflated = 0
        """Records that a newer one of the same topic took the place of."""
        endpoints = [endpoint] if isinstance(endpoint, str) else list(endpoint)
        channels = [channel] * len(endpoints) if isinstance(channel, str) else list(channel)
        if len(channels) != len(endpoints):
            raise UsageError(
                f"channel: {len(channels)} given for {len(endpoints)} endpoints; one each is needed"
            )
        self._images = [snapshot_endpoint] if isinstance(snapshot_endpoint, str) else list(snapshot_endpoint)
        self._context: zmq.Context[Any] = context or zmq.Context.instance()
        sessions = [""]
        self._links = [
            Link(where, name, topics, high_water_mark, self._context, sessions)
            for where, name in zip(endpoints, channels, strict=True)
        ]
        self._poller = zmq.Poller()
        for link in self._links:
            self._poller.register(link.socket, zmq.POLLIN)
        self._arbiter = PairArbiter(hold_s, high_water_mark)
        self._bound = high_water_mark
        self._conflate = conflate
        self._ready: deque[tuple[Message, Place]] = deque()
        self._latest: dict[str, tuple[Message, Place]] = {}
        self._cuts: dict[str, Place] = {}
        self._behind_since: dict[int, tuple[Place, float]] = {}  # a link's furthest place, and since when

    @property
    def state(self) -> FeedState:
        """State of the feed as last heard, of a pair the best; DEAD when nothing was heard for 3 s.

        Of a pair: a publisher that stands still while the other goes on is not LIVE.
        """
        return min(self._states(time.monotonic()), key=_RANK.index)

    @property
    def covered(self) -> bool:
        """Whether each publisher of the pair can take over now.

        Not so in the first second after one was (re)started: what it sent before it was heard must have come
        from the other.
        """
        return len(self._links) == 1 or all(self._arbiter.covered(index) for index in range(len(self._links)))

    @property
    def restarts(self) -> int:
        """How often a publisher was seen to have started anew: what fell in between is unknown."""
        return sum(link.restarts for link in self._links)

    def receive(self, timeout_s: float = 1.0) -> Message | None:
        """Return the next message, None on time-out."""
        deadline = time.monotonic() + timeout_s
        while True:
            if self._conflate or not self._ready:
                self._read()
            if (message := self._pop()) is not None:
                return message
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return None
            self._poller.poll(1 if self._arbiter.holding else max(1, int(left_s * 1000)))

    def join(self, symbols: Sequence[str] = (), timeout_s: float = 5.0) -> dict[str, Book]:
        """Return images of these books (none given: of all); `receive` goes on exactly behind them.

        What was published up to a book's `sequence` is in it and is not delivered any more for that symbol.
        Call it after construction to join in the middle of a day, and again after a loss. A symbol that the
        feed has not named has no book. Messages that arrive meanwhile are kept, up to the high-water mark.

        Raises RunError when no image comes in time, or the publisher refuses.
        """
        if not self._images:
            raise UsageError("snapshot_endpoint: none given; join() asks there")
        deadline = time.monotonic() + timeout_s
        why = "no heartbeat"
        while time.monotonic() < deadline:
            if not self._wait_joined(deadline):
                break
            links = [i for i, link in enumerate(self._links) if link.joined and i < len(self._images)]
            states = self._states(time.monotonic())
            for index in sorted(links, key=lambda i: _RANK.index(states[i])):
                try:
                    return self._ask(index, symbols, min(deadline, time.monotonic() + timeout_s / 2))
                except TimeoutError as error:
                    why = str(error)
        raise RunError(f"no image of the books within {timeout_s:g} s: {why}")

    def close(self) -> None:
        """Let go of the sockets."""
        for link in self._links:
            link.close()

    def __enter__(self) -> "ZmqSubscriber":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- reading

    def _states(self, now_s: float) -> list[FeedState]:
        furthest = max(link.furthest for link in self._links)
        states = [link.state for link in self._links]
        for index, link in enumerate(self._links):
            if link.furthest == furthest:
                self._behind_since.pop(index, None)
                continue
            at, since_s = self._behind_since.get(index, (link.furthest, now_s))
            self._behind_since[index] = (at, since_s) if at == link.furthest else (link.furthest, now_s)
            claims = states[index] in (FeedState.LIVE, FeedState.ENDED)
            if claims and now_s - self._behind_since[index][1] > self._arbiter.hold_s:
                states[index] = FeedState.STALE
        return states

    def _read(self) -> None:
        """Take what is here, up to the bound: the rest waits in ZeroMQ's queues, which are bounded too."""
        now_s = time.monotonic()
        for index, link in enumerate(self._links):
            for _ in range(256):
                if len(self._ready) >= self._bound or (received := link.receive()) is None:
                    break
                message, first = received
                self._arbiter.hear(index, link.joined, link.passed, now_s)
                if message.schema == "feed" or len(self._links) == 1:
                    self._put(message, link.place(message))
                    continue
                key = message.topic.removeprefix(f"{link.channel}/")
                self._arbiter.offer(key, index, message, link.place(message), first=first, now_s=now_s)
        if len(self._links) > 1:
            for message, place in self._arbiter.take([link.state for link in self._links], now_s):
                self._put(message, place)

    def _put(self, message: Message, place: Place) -> None:
        self.lost += message.lost
        if (cut := self._cuts.get(message.symbol)) is not None and message.schema != "feed":
            kept = behind(message, place[0], cut)
            if kept is None:
                return
            message = kept
        if not self._conflate or message.schema not in CONFLATED:
            self._ready.append((message, place))
            return
        key = message.topic.split("/", 1)[1]
        before = self._latest.pop(key, None)  # and to the end: in the order of the newest
        self.conflated += message.header.count - 1 + (before is not None)
        last = newest(message)
        if before is not None:
            last = replace(last, lost=last.lost + before[0].lost)
        self._latest[key] = (last, place)

    def _pop(self) -> Message | None:
        if self._ready:
            return self._ready.popleft()[0]
        if self._latest:
            return self._latest.pop(next(iter(self._latest)))[0]
        return None

    # ---- joining

    def _wait_joined(self, deadline: float) -> bool:
        while not any(link.joined for link in self._links):
            if time.monotonic() >= deadline:
                return False
            self._poller.poll(20)
            self._read()
        return True

    def _ask(self, index: int, symbols: Sequence[str], deadline: float) -> dict[str, Book]:
        where, link = self._images[index], self._links[index]
        why = f"no answer from {where}"
        books: dict[str, Book] = {}
        cuts: dict[str, Place] = {}
        with self._context.socket(zmq.DEALER) as socket:
            socket.set(zmq.LINGER, 0)
            socket.connect(where)
            socket.send_multipart(request(symbols))
            while True:
                if time.monotonic() >= deadline:
                    raise TimeoutError(why)
                self._read()
                if not socket.poll(5):
                    continue
                header_frame, *frames = socket.recv_multipart()
                header = json.loads(header_frame)
                if header["channel"] != link.channel:
                    raise RunError(f'{where}: images of "{header["channel"]}", not of "{link.channel}"')
                if "error" in header:
                    why = f"{where}: {header['error']}"
                    if not header.get("again_s"):
                        raise RunError(why)
                    if time.monotonic() + header["again_s"] >= deadline:
                        raise TimeoutError(why)
                    self._read_for(header["again_s"])
                    socket.send_multipart(request(symbols))
                    continue
                session = link.session_of(header["session"])
                for book in map(unpack_book, frames):
                    books[book.symbol] = book
                    cuts[book.symbol] = (session, book.sequence)
                if not header["more"]:
                    break
        self._cut_kept(cuts)
        self._cuts |= cuts
        return books

    def _read_for(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            self._poller.poll(max(1, int(left_s * 1000)))
            self._read()

    def _cut_kept(self, cuts: dict[str, Place]) -> None:
        """Take out of what arrived meanwhile what the images have in them."""

        def rest(kept: tuple[Message, Place]) -> tuple[Message, Place] | None:
            message, place = kept
            cut = cuts.get(message.symbol) if message.schema != "feed" else None
            left = message if cut is None else behind(message, place[0], cut)
            return None if left is None else (left, place)

        self._ready = deque(kept for one in self._ready if (kept := rest(one)) is not None)
        self._latest = {key: kept for key, one in self._latest.items() if (kept := rest(one)) is not None}
