"""Answers late subscribers with images of books, a little at a time, beside the publishing."""

import json
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import zmq

from feedhandler import _core
from feedhandler.metrics.snapshot import STATE_NAMES
from feedhandler.publish.image import MAX_SYMBOLS, REQUEST, pack_book

BOOKS_PER_TURN = 64
REQUESTS_PER_TURN = 4
REQUESTS_PER_S = 20.0
"""Of one address (without one: of one connection), in the long run; REQUEST_BURST at once."""
REQUEST_BURST = 40.0
MAX_PENDING = 64
"""Requests in work or waiting; more are refused."""
MAX_PEERS = 4096


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at_s: float

    def take(self, now_s: float) -> bool:
        self.tokens = min(REQUEST_BURST, self.tokens + (now_s - self.at_s) * REQUESTS_PER_S)
        self.at_s = now_s
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@dataclass(slots=True)
class _Pending:
    envelope: list[bytes]
    left: Iterator[str | int]
    part: int = 0


class ImageServer:
    """A ROUTER socket; `turn` does a bounded piece of work and never waits.

    A reply is a series of messages: each a JSON header (`part` from 0, `more`) and up to 64 books. A peer
    that does not read its replies loses them; one that asks too often gets an error.
    """

    def __init__(
        self, consumer: "_core.Consumer", channel: str, endpoint: str, context: "zmq.Context[Any]"
    ) -> None:
        self._consumer = consumer
        self._channel = channel
        self._pending: deque[_Pending] = deque()
        self._buckets: OrderedDict[bytes, _Bucket] = OrderedDict()
        self._socket = context.socket(zmq.ROUTER)
        self._socket.set(zmq.SNDHWM, 1000)
        self._socket.set(zmq.RCVHWM, 1000)
        self._socket.set(zmq.MAXMSGSIZE, 64)
        self._socket.set(zmq.LINGER, 200)
        self._socket.bind(endpoint)

    @property
    def endpoint(self) -> str:
        """The endpoint as bound: a wildcard port is resolved."""
        return str(self._socket.getsockopt_string(zmq.LAST_ENDPOINT))

    @property
    def busy(self) -> bool:
        """Whether there is work left for the next turn."""
        return bool(self._pending)

    def turn(self, epoch: int) -> bool:
        """Take a few requests, send a few books; return whether a request was taken."""
        taken = False
        for _ in range(REQUESTS_PER_TURN):
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                break
            self._take(_address(frames), [frame.bytes for frame in frames])
            taken = True
        if self._pending:
            self._send_part(self._pending.popleft(), epoch)
        return taken

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()

    def _take(self, peer: bytes, frames: list[bytes]) -> None:
        at = 2 if len(frames) > 1 and frames[1] == b"" else 1  # REQ sends an empty frame, DEALER need not
        envelope, words = frames[:at], frames[at:]
        if not self._allowed(peer):
            self._refuse(envelope, f"too many requests: {REQUESTS_PER_S:g} a second are allowed")
        elif len(self._pending) >= MAX_PENDING:
            self._refuse(envelope, "busy: try again")
        elif not words or words[0] != REQUEST:
            self._refuse(envelope, f"not a request: the first frame is {REQUEST.decode()}")
        elif len(words) - 1 > MAX_SYMBOLS:
            self._refuse(envelope, f"too many symbols: {MAX_SYMBOLS} are allowed, or none for all")
        else:
            wanted: Iterator[str | int]
            wanted = (
                iter([word.decode("ascii", "replace") for word in words[1:]])
                if words[1:]
                else iter(list(self._consumer.symbols()))
            )
            self._pending.append(_Pending(envelope, wanted))

    def _allowed(self, peer: bytes) -> bool:
        now_s = time.monotonic()
        bucket = self._buckets.setdefault(peer, _Bucket(REQUEST_BURST, now_s))
        self._buckets.move_to_end(peer)
        if len(self._buckets) > MAX_PEERS:
            self._buckets.popitem(last=False)
        return bucket.take(now_s)

    def _refuse(self, envelope: list[bytes], why: str) -> None:
        self._send(envelope, {"channel": self._channel, "error": why}, [])

    def _send_part(self, pending: _Pending, epoch: int) -> None:
        books: list[bytes] = []
        ended = True
        for wanted in pending.left:
            if (book := self._book(wanted)) is not None:
                books.append(book)
            if len(books) == BOOKS_PER_TURN:
                ended = False
                break
        consumer = self._consumer
        header = {
            "channel": self._channel,
            "epoch": epoch,
            "state": STATE_NAMES[int(consumer.state)],
            "session": consumer.session(),
            "next_sequence": consumer.next_sequence,
            "part": pending.part,
            "more": not ended,
        }
        self._send(pending.envelope, header, books)
        if not ended:
            pending.part += 1
            self._pending.append(pending)  # behind the others: one that asks for all delays nobody

    def _book(self, wanted: str | int) -> bytes | None:
        if isinstance(wanted, str):
            symbol, raw = wanted, self._consumer.book(wanted)
        else:
            symbol, raw = self._consumer.symbol(wanted), self._consumer.book_of(wanted)
        return None if raw is None or not symbol else pack_book(symbol, raw)

    def _send(self, envelope: list[bytes], header: dict[str, Any], books: list[bytes]) -> None:
        text = json.dumps(header, separators=(",", ":")).encode()
        try:
            self._socket.send_multipart([*envelope, text, *books], zmq.NOBLOCK)
        except zmq.Again:  # a peer that does not read: its loss
            return


def _address(frames: list[zmq.Frame]) -> bytes:
    """Return who asks: a peer that connects again is the same one."""
    try:
        address = frames[-1].get("Peer-Address")
    except zmq.ZMQError:
        address = ""
    return str(address).encode() if address else frames[0].bytes
