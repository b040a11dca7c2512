"""SoupBinTCP 3.00: framing, and both ends of a session as state machines without sockets or clocks.

A machine is given what arrived and the time, and keeps what is to be sent in `output`. Times are seconds of
any clock that does not go back. Facts: SoupBinTCP 3.00 (login, heartbeats, time-outs), Nasdaq.
"""

import struct
from collections.abc import Iterator
from enum import Enum

MAX_PAYLOAD = 65_534
HEARTBEAT_S = 1.0  # sent when nothing else was for so long
DEAD_S = 15.0  # a peer silent for so long is dead
LOGIN_S = 30.0  # a server drops who has not logged in by then

_LOGIN = struct.Struct(">6s10s10s20s")
_ACCEPTED = struct.Struct(">10s20s")


class ProtocolError(Exception):
    """The peer sent what SoupBinTCP does not allow."""


def packet(kind: bytes, payload: bytes = b"") -> bytes:
    """Return one logical packet; `kind` is its type, one byte."""
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"payload: {len(payload)} bytes, at most {MAX_PAYLOAD}")
    return struct.pack(">H", 1 + len(payload)) + kind + payload


def login_request(username: str, password: str, session: str = "", sequence: int = 1) -> bytes:
    """Return the packet a client sends first; `session` empty: the current one."""
    return packet(
        b"L",
        _LOGIN.pack(
            username.encode("ascii").ljust(6),
            password.encode("ascii").ljust(10),
            session.encode("ascii").rjust(10),
            str(sequence).encode().rjust(20),
        ),
    )


def number(field: bytes) -> int:
    """Read a number padded with blanks on either side, or with zeros; blank is 0. ProtocolError otherwise."""
    text = field.strip(b" ")
    if text and not text.isdigit():
        raise ProtocolError(f"{field!r} is not a number")
    return int(text or b"0")


class Framer:
    """Bytes as TCP splits and joins them in, whole packets out."""

    def __init__(self, longest: int = MAX_PAYLOAD) -> None:
        self._buffer = bytearray()
        self._longest = longest

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield (type, payload) of each packet that is complete now; ProtocolError for what cannot be one."""
        buffer = self._buffer
        buffer += data
        at = 0
        try:
            while len(buffer) - at >= 2:
                length = buffer[at] << 8 | buffer[at + 1]
                if not 1 <= length <= 1 + self._longest:
                    raise ProtocolError(f"a packet of length {length}")
                if len(buffer) - at < 2 + length:
                    return
                start = at + 2
                at = start + length
                yield bytes(buffer[start : start + 1]), bytes(buffer[start + 1 : at])
        finally:
            del buffer[:at]


class Phase(Enum):
    """Where a session stands."""

    LOGIN = "login"
    OPEN = "open"
    CLOSED = "closed"


class _Peer:
    """What both ends share: heartbeats, silence, closing."""

    _heartbeat = b""

    def __init__(self, now_s: float, longest: int) -> None:
        self.phase = Phase.LOGIN
        self.reason = ""  # why it is closed
        self.output = bytearray()
        self._framer = Framer(longest)
        self._began_s = self._heard_s = self._sent_s = now_s

    def send(self, kind: bytes, payload: bytes, now_s: float) -> None:
        """Queue one packet."""
        self.output += packet(kind, payload)
        self._sent_s = now_s

    def close(self, reason: str) -> None:
        """End the session; the first reason stays."""
        if self.phase is not Phase.CLOSED:
            self.phase, self.reason = Phase.CLOSED, reason

    def tick(self, now_s: float) -> None:
        """Send a heartbeat when one is due; give up a peer that is silent or does not log in."""
        if self.phase is Phase.CLOSED:
            return
        if self.phase is Phase.LOGIN and now_s - self._began_s >= LOGIN_S:
            self.close("no login")
        elif now_s - self._heard_s >= DEAD_S:
            self.close("silent")
        elif self.phase is Phase.OPEN and now_s - self._sent_s >= HEARTBEAT_S:
            self.send(self._heartbeat, b"", now_s)


class ClientSession(_Peer):
    """The client: logs in with `sequence` (1: from the beginning), then takes sequenced messages."""

    _heartbeat = b"R"

    def __init__(
        self, username: str, password: str, now_s: float, *, session: str = "", sequence: int = 1
    ) -> None:
        super().__init__(now_s, MAX_PAYLOAD)
        self.session = ""  # told by the server
        self.next_sequence = 0  # of the next sequenced message; told by the server, then counted
        self.output += login_request(username, password, session, sequence)

    def receive(self, data: bytes, now_s: float) -> Iterator[bytes]:
        """Yield the sequenced messages in `data`; anything that is not allowed closes the session."""
        self._heard_s = now_s
        try:
            for kind, payload in self._framer.feed(data):
                if self.phase is Phase.CLOSED:
                    return
                if kind == b"S" and self.phase is Phase.OPEN:
                    self.next_sequence += 1
                    yield payload
                else:
                    self._on_control(kind, payload)
        except ProtocolError as error:
            self.close(f"protocol error: {error}")

    def _on_control(self, kind: bytes, payload: bytes) -> None:
        if kind in b"+HU":  # a server of version 4 may send unsequenced data: nothing for us
            return
        if self.phase is Phase.LOGIN and kind == b"A" and len(payload) == _ACCEPTED.size:
            session, sequence = _ACCEPTED.unpack(payload)
            self.session = session.strip(b" ").decode("ascii", "replace")
            self.next_sequence = number(sequence)
            self.phase = Phase.OPEN
        elif self.phase is Phase.LOGIN and kind == b"J" and len(payload) == 1:
            self.close(f"login refused: {payload.decode('ascii', 'replace')}")
        elif kind == b"Z":
            self.close("end of session")
        else:
            raise ProtocolError(f"a packet of type {kind!r} and {len(payload)} bytes in {self.phase.value}")

    def logout(self, now_s: float) -> None:
        """Ask the server to close."""
        self.send(b"O", b"", now_s)
        self.close("logged out")


class ServerSession(_Peer):
    """The server's end of one connection. After `login` is set the owner answers by `accept` or `reject`."""

    _heartbeat = b"H"

    def __init__(self, now_s: float) -> None:
        super().__init__(now_s, longest=256)  # no client has more to say
        self.login: tuple[str, str, str, int] | None = None  # username, password, session, sequence

    def receive(self, data: bytes, now_s: float) -> None:
        """Take what the client sent."""
        self._heard_s = now_s
        try:
            for kind, payload in self._framer.feed(data):
                if self.phase is Phase.CLOSED:
                    return
                self._on_packet(kind, payload)
        except ProtocolError as error:
            self.close(f"protocol error: {error}")

    def _on_packet(self, kind: bytes, payload: bytes) -> None:
        if kind in b"+RU" and (self.login is not None or kind == b"+"):
            return
        if kind == b"O":
            self.close("logged out")
        elif kind == b"L" and self.login is None and len(payload) in (46, 51):  # 51: version 4.10
            username, password, session, sequence = _LOGIN.unpack(payload[:46])
            texts = [field.strip(b" ").decode("ascii", "replace") for field in (username, password, session)]
            self.login = (texts[0], texts[1], texts[2], number(sequence))
        else:
            raise ProtocolError(f"a packet of type {kind!r} and {len(payload)} bytes in {self.phase.value}")

    def accept(self, session: str, sequence: int, now_s: float) -> None:
        """Let the client in: the next sequenced message has number `sequence`."""
        self.phase = Phase.OPEN
        self.send(
            b"A",
            _ACCEPTED.pack(session.encode("ascii", "replace").rjust(10), str(sequence).encode().rjust(20)),
            now_s,
        )

    def reject(self, reason: str, now_s: float) -> None:
        """Refuse: "A" not authorised, "S" no such session."""
        self.send(b"J", reason.encode("ascii"), now_s)
        self.close(f"login refused: {reason}")
