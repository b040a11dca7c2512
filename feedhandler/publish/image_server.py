"""Answers late subscribers with images of books, a little at a time, beside the publishing."""

import itertools
import json
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import zmq

from feedhandler import _core
from feedhandler.metrics.snapshot import STATE_NAMES
from feedhandler.publish.endpoint import bind
from feedhandler.publish.image import MAX_SYMBOLS, REQUEST, pack_book

BOOKS_PER_TURN = 64
"""Books, or symbols that have none, looked up between two reads of the ring."""
REQUESTS_PER_TURN = 4
REQUESTS_PER_S = 20.0
"""Of one address (without one: of one connection), in the long run; REQUEST_BURST at once."""
REQUEST_BURST = 40.0
MAX_PENDING = 64
"""Requests in work or waiting; more are refused."""
MAX_PENDING_OF_PEER = 16
UNREAD_PARTS = 8
"""Messages held for a peer that does not read; then its request waits, for UNREAD_S at most."""
UNREAD_S = 5.0
SEND_BUFFER = 1 << 17
"""Bytes that the kernel holds for a peer, besides."""
AGAIN_S = 0.25
"""When a peer that was refused for what others ask may ask again."""
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
    peer: bytes
    envelope: list[bytes]
    left: Iterator[str | int]
    moved_s: float
    part: int = 0
    ended: bool = False
    unsent: list[bytes] | None = None


class ImageServer:
    """A ROUTER socket; `turn` does a bounded piece of work and never waits.

    A reply is a series of messages: each a JSON header (`part` from 0, `more`) and up to 64 books. For a peer
    that does not read, a few of them are held, no more; one that asks too often gets an error.
    """

    def __init__(
        self, consumer: "_core.Consumer", channel: str, endpoint: str, context: "zmq.Context[Any]"
    ) -> None:
        self._consumer = consumer
        self._channel = channel
        self._pending: deque[_Pending] = deque()
        self._buckets: OrderedDict[bytes, _Bucket] = OrderedDict()
        self._socket = context.socket(zmq.ROUTER)
        self._socket.set(zmq.SNDHWM, UNREAD_PARTS)
        self._socket.set(zmq.SNDBUF, SEND_BUFFER)  # else the kernel takes megabytes more
        self._socket.set(zmq.RCVHWM, MAX_PENDING)
        self._socket.set(zmq.ROUTER_MANDATORY, 1)  # says when a peer is gone, or does not read
        self._socket.set(zmq.MAXMSGSIZE, 64)
        self._socket.set(zmq.LINGER, 200)
        bind(self._socket, endpoint)

    @property
    def endpoint(self) -> str:
        """The endpoint as bound: a wildcard port is resolved."""
        return str(self._socket.getsockopt_string(zmq.LAST_ENDPOINT))

    @property
    def busy(self) -> bool:
        """Whether there is work left for the next turn, and somebody who takes it."""
        return any(pending.unsent is None for pending in self._pending)

    @property
    def waiting(self) -> bool:
        """Whether anybody has not got his whole reply yet."""
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
            why = f"too many requests: {REQUESTS_PER_S:g} a second are allowed"
            self._refuse(envelope, why, AGAIN_S)
        elif len(self._pending) >= MAX_PENDING or self._pending_of(peer) >= MAX_PENDING_OF_PEER:
            self._refuse(envelope, "busy: try again", AGAIN_S)
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
            self._pending.append(_Pending(peer, envelope, wanted, time.monotonic()))

    def _pending_of(self, peer: bytes) -> int:
        return sum(pending.peer == peer for pending in self._pending)

    def _allowed(self, peer: bytes) -> bool:
        now_s = time.monotonic()
        bucket = self._buckets.setdefault(peer, _Bucket(REQUEST_BURST, now_s))
        self._buckets.move_to_end(peer)
        if len(self._buckets) > MAX_PEERS:
            self._buckets.popitem(last=False)
        return bucket.take(now_s)

    def _refuse(self, envelope: list[bytes], why: str, again_s: float = 0.0) -> None:
        """Say why; `again_s`: when to ask again, 0: it would be refused again."""
        self._send([*envelope, _frame({"channel": self._channel, "error": why, "again_s": again_s})])

    def _send_part(self, pending: _Pending, epoch: int) -> None:
        frames = pending.unsent or self._part(pending, epoch)
        pending.unsent = None
        now_s = time.monotonic()
        sent = self._send(frames)
        if sent is None:
            return  # it is gone
        if sent:
            if pending.ended:
                return
            pending.part += 1
            pending.moved_s = now_s
        elif now_s - pending.moved_s < UNREAD_S:
            pending.unsent = frames
        else:
            return
        self._pending.append(pending)  # behind the others: one that asks for all delays nobody

    def _part(self, pending: _Pending, epoch: int) -> list[bytes]:
        consumer = self._consumer
        wanted = list(itertools.islice(pending.left, BOOKS_PER_TURN))
        for _ in range(8):  # books and the session that they belong to
            session = consumer.session()
            books = [book for one in wanted if (book := self._book(one)) is not None]
            if consumer.session() == session:
                break
        pending.ended = len(wanted) < BOOKS_PER_TURN
        header = {
            "channel": self._channel,
            "epoch": epoch,
            "state": STATE_NAMES[int(consumer.state)],
            "session": session,
            "next_sequence": consumer.next_sequence,
            "part": pending.part,
            "more": not pending.ended,
        }
        return [*pending.envelope, _frame(header), *books]

    def _book(self, wanted: str | int) -> bytes | None:
        if isinstance(wanted, str):
            symbol, raw = wanted, self._consumer.book(wanted)
        else:
            symbol, raw = self._consumer.symbol(wanted), self._consumer.book_of(wanted)
        return None if raw is None or not symbol else pack_book(symbol, raw)

    def _send(self, frames: list[bytes]) -> bool | None:
        """Return whether it is on its way; None: the peer is gone."""
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            return None
        return True


def _frame(header: dict[str, Any]) -> bytes:
    return json.dumps(header, separators=(",", ":")).encode()


def _address(frames: list[zmq.Frame]) -> bytes:
    """Return who asks: a peer that connects again is the same one."""
    try:
        address = frames[-1].get("Peer-Address")
    except zmq.ZMQError:
        address = ""
    return str(address).encode() if address else frames[0].bytes
