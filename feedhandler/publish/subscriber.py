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
        self._arbiter = PairArbiter(hold_s)
        self._bound = high_water_mark
        self._conflate = conflate
        self._ready: deque[Message] = deque()
        self._latest: dict[str, Message] = {}
        self._cuts: dict[str, Place] = {}

    @property
    def state(self) -> FeedState:
        """State of the feed as last heard, of a pair the best; DEAD when nothing was heard for 3 s."""
        return min((link.state for link in self._links), key=_RANK.index)

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
            links = [i for i in range(len(self._links)) if self._links[i].joined and i < len(self._images)]
            for index in sorted(links, key=lambda i: _RANK.index(self._links[i].state)):
                try:
                    books, session = self._ask(
                        index, symbols, min(deadline, time.monotonic() + timeout_s / 2)
                    )
                except TimeoutError:
                    why = f"no answer from {self._images[index]}"
                    continue
                self._cuts |= {symbol: (session, book.sequence) for symbol, book in books.items()}
                return books
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

    def _read(self) -> None:
        """Take what is here, up to the bound: the rest waits in ZeroMQ's queues, which are bounded too."""
        now_s = time.monotonic()
        for index, link in enumerate(self._links):
            for _ in range(256):
                if len(self._ready) >= self._bound or (received := link.receive()) is None:
                    break
                message, first = received
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
            self._ready.append(message)
            return
        key = message.topic.split("/", 1)[1]
        before = self._latest.pop(key, None)  # and to the end: in the order of the newest
        self.conflated += message.header.count - 1 + (before is not None)
        last = newest(message)
        self._latest[key] = last if before is None else replace(last, lost=last.lost + before.lost)

    def _pop(self) -> Message | None:
        if self._ready:
            return self._ready.popleft()
        if self._latest:
            return self._latest.pop(next(iter(self._latest)))
        return None

    # ---- joining

    def _wait_joined(self, deadline: float) -> bool:
        while not any(link.joined for link in self._links):
            if time.monotonic() >= deadline:
                return False
            self._poller.poll(20)
            self._read()
        return True

    def _ask(self, index: int, symbols: Sequence[str], deadline: float) -> tuple[dict[str, Book], int]:
        link = self._links[index]
        books: dict[str, Book] = {}
        with self._context.socket(zmq.DEALER) as socket:
            socket.set(zmq.LINGER, 0)
            socket.connect(self._images[index])
            socket.send_multipart(request(symbols))
            while True:
                if time.monotonic() >= deadline:
                    raise TimeoutError
                self._read()
                if not socket.poll(5):
                    continue
                header_frame, *frames = socket.recv_multipart()
                header = json.loads(header_frame)
                if "error" in header:
                    raise RunError(f"{self._images[index]}: {header['error']}")
                books |= {book.symbol: book for book in map(unpack_book, frames)}
                if not header["more"]:
                    break
        self._cut_kept(books, link)
        return books, link.session

    def _cut_kept(self, books: dict[str, Book], link: Link) -> None:
        """Take out of what arrived meanwhile what the images have in them."""
        cuts = {symbol: (link.session, book.sequence) for symbol, book in books.items()}

        def rest(message: Message) -> Message | None:
            cut = cuts.get(message.symbol) if message.schema != "feed" else None
            return message if cut is None else behind(message, link.session, cut)

        self._ready = deque(kept for message in self._ready if (kept := rest(message)) is not None)
        self._latest = {key: kept for key, m in self._latest.items() if (kept := rest(m)) is not None}
