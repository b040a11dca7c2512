"""A sender of MoldUDP64 on any number of lines and its re-request server; knows exactly what it dropped."""

import random
import socket
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from feedhandler import _core
from tests.support.multicast import Sender

HEADER = struct.Struct(">10sQH")
END_OF_SESSION = 0xFFFF


def simulated_messages(count: int, symbols: int = 20, seed: int = 1) -> list[bytes]:
    """Return a simulated trading day, message by message."""
    day = _core.Exchange(messages=count, symbols=symbols, seed=seed)
    messages = []
    while records := day.next(1 << 20):
        at = 0
        while at < len(records):
            (length,) = struct.unpack_from(">H", records, at)
            messages.append(records[at + 2 : at + 2 + length])
            at += 2 + length
    return messages


def packet(session: bytes, first: int, messages: Sequence[bytes]) -> bytes:
    """Return the datagram with these messages, numbered from `first`."""
    blocks = b"".join(struct.pack(">H", len(message)) + message for message in messages)
    return HEADER.pack(session, first, len(messages)) + blocks


@dataclass
class Line:
    """One multicast line and what was dropped on it: numbers of messages, and packets."""

    name: str
    group: str
    port: int
    drop: float = 0.0
    burst: float = 1.0
    sent_packets: int = 0
    dropped_packets: int = 0
    dropped: set[int] = field(default_factory=set)
    _in_burst: bool = False

    def loses(self, chance: random.Random) -> bool:
        """Decide about the next packet: bursts of mean length `burst`, in all a share of `drop`."""
        if self._in_burst:
            self._in_burst = chance.random() >= 1 / self.burst
        elif self.drop:
            self._in_burst = chance.random() < self.drop / self.burst / (1 - self.drop)
        return self._in_burst


class RewindServer:
    """Answers re-requests from a list of messages, on a thread of its own; `silent`: says nothing."""

    def __init__(self, session: bytes, messages: Sequence[bytes], address: tuple[str, int]) -> None:
        self.session, self.messages = session, messages
        self.silent = False
        self.drop = 0.0
        self.requests: list[tuple[int, int]] = []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.address = self.socket.getsockname()
        self.socket.settimeout(0.05)
        self._chance = random.Random(7)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._stop.is_set():
            try:
                request, client = self.socket.recvfrom(2048)
            except TimeoutError:
                continue
            session, first, count = HEADER.unpack(request)
            self.requests.append((first, count))
            if session != self.session or self.silent or self._chance.random() < self.drop:
                continue
            self.socket.sendto(self.reply(first, count), client)

    def reply(self, first: int, count: int) -> bytes:
        """Return as many of the messages asked for as fit one datagram of 1,472 bytes."""
        size, fitting = HEADER.size, 0
        for message in self.messages[first - 1 : first - 1 + count]:
            size += 2 + len(message)
            if size > 1472:
                break
            fitting += 1
        return packet(self.session, first, self.messages[first - 1 : first - 1 + fitting])

    def close(self) -> None:
        """Stop serving."""
        self._stop.set()
        self._thread.join()
        self.socket.close()


class Exchange:
    """Sends the messages in order over all lines; each line drops its own packets."""

    def __init__(
        self,
        messages: Sequence[bytes],
        lines: Sequence[Line],
        session: bytes = b"LIVETEST01",
        address: str = "127.0.0.1",
    ) -> None:
        assert len(session) == 10
        self.messages, self.lines, self.session = messages, lines, session
        self.next = 1
        self._sender = Sender(address)
        self._chance = random.Random(42)

    def send(self, count: int, per_packet: int = 8) -> None:
        """Send the next `count` messages, or all that are left."""
        end = min(self.next + count, len(self.messages) + 1)
        while self.next < end:
            stop = min(self.next + per_packet, end)
            datagram = packet(self.session, self.next, self.messages[self.next - 1 : stop - 1])
            for line in self.lines:
                self._send_or_drop(line, datagram, range(self.next, stop))
            self.next = stop

    def _send_or_drop(self, line: Line, datagram: bytes, numbers: range) -> None:
        if line.loses(self._chance):
            line.dropped_packets += 1
            line.dropped.update(numbers)
        else:
            self.send_raw(line, datagram)

    def send_raw(self, line: Line, datagram: bytes) -> None:
        """Send any datagram on a line."""
        self._sender.send(datagram, line.group, line.port)
        line.sent_packets += 1

    def heartbeat(self) -> None:
        """Say on every line which number comes next."""
        for line in self.lines:
            self.send_raw(line, HEADER.pack(self.session, self.next, 0))

    def end(self) -> None:
        """Say on every line that the session is over."""
        for line in self.lines:
            self.send_raw(line, HEADER.pack(self.session, self.next, END_OF_SESSION))

    def close(self) -> None:
        """Close the socket."""
        self._sender.close()
