"""The exchange of a scenario: what arrives on each line and when, and its faulty servers. No clock."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

from feedhandler import _core
from recovery.soupbintcp import ServerSession
from tests.faults.scenario import (
    END_REPEAT_NS,
    HEARTBEAT_NS,
    LINE_B_LAG_NS,
    MS,
    PACKETS,
    PER_PACKET,
    ROUND_TRIP_NS,
    SLOW_NS,
    US,
    Fault,
    Scenario,
    sent_ns,
)
from tests.faults.stream import Stream
from tests.support.rewind import NaiveRewind

FOREIGN = b"ELSEWHERE!"
END_NS = 10 * MS  # after the last packet
OUTAGE_NS = 100 * MS
ROLLOVER_NS = 100 * MS  # after the end
STALE_IMAGE = 10  # messages in it


@dataclass(frozen=True)
class Sent:
    """What the exchange sends: `packet` counts from 1 over all sessions, 0 when it holds no message."""

    ns: int
    packet: int
    payload: bytes


def mold(session: bytes, first: int, messages: list[bytes]) -> bytes:
    """Return a MoldUDP64 packet."""
    blocks = b"".join(struct.pack(">H", len(message)) + message for message in messages)
    return struct.pack(">10sQH", session, first, len(messages)) + blocks


def first_number(packet: int) -> int:
    """Return the number of the first message in a packet of the first session."""
    return (packet - 1) * PER_PACKET + 1


def schedule(scenario: Scenario, stream: Stream, following: Stream) -> list[Sent]:
    """Return everything that is sent, in order of time."""
    out = [Sent(sent_ns(packet), packet, _packet(stream, packet)) for packet in range(1, PACKETS + 1)]
    quiet_ns = out[-1].ns
    if scenario.over:
        ends = range(quiet_ns + END_NS, scenario.horizon_ns, END_REPEAT_NS)
        begin_ns = quiet_ns + END_NS + ROLLOVER_NS if scenario.rolls else scenario.horizon_ns
        last = len(stream.messages) + 1
        payload = struct.pack(">10sQH", stream.session, last, 0xFFFF)
        out += [Sent(ns, 0, payload) for ns in ends if ns < begin_ns]
        if scenario.rolls:
            packets = len(following.messages) // PER_PACKET
            out += [
                Sent(begin_ns + i * MS, PACKETS + 1 + i, _packet(following, 1 + i)) for i in range(packets)
            ]
            stream, quiet_ns = following, begin_ns + packets * MS
    if not scenario.over or scenario.rolls:
        payload = struct.pack(">10sQH", stream.session, len(stream.messages) + 1, 0)
        beats = range(quiet_ns + HEARTBEAT_NS, scenario.horizon_ns, HEARTBEAT_NS)
        out += [Sent(ns, 0, payload) for ns in beats]
    return out


def _packet(stream: Stream, packet: int) -> bytes:
    first = first_number(packet)
    return mold(stream.session, first, [stream.messages[first + i] for i in range(PER_PACKET)])


def arrivals(scenario: Scenario, sent: list[Sent]) -> Iterator[tuple[int, int, bytes]]:
    """Yield (ns, line, payload) of everything that arrives, in no order."""
    for line, name in enumerate("AB"):
        heard = [s for s in sent if not scenario.late or s.ns >= scenario.zero_ns]
        for fault in scenario.faults:
            if fault.line in (name, "both"):
                heard = sorted(_hit(fault, heard), key=lambda s: s.ns)
        for each in heard:
            yield each.ns + line * LINE_B_LAG_NS, line, each.payload


def _hit(fault: Fault, heard: list[Sent]) -> Iterator[Sent]:
    """Yield what a fault leaves of what a line brings."""
    five = range(fault.packet, fault.packet + 5)
    begun_ns = sent_ns(fault.packet)
    for at, each in enumerate(heard):
        hit = each.packet == fault.packet
        if fault.cause in ("loss", "loss, rollover") and hit:
            continue
        if fault.cause == "end not heard" and each.payload[18:20] == b"\xff\xff":
            continue
        if fault.cause == "burst loss" and each.packet in five:
            continue
        if fault.cause == "line dead" and 0 <= each.ns - begun_ns < OUTAGE_NS:
            continue
        if fault.cause == "reorder" and hit:
            yield replace(each, ns=heard[_behind(heard, at)].ns + 1 * US)
        elif fault.cause == "duplicate" and hit:
            yield from (replace(each, ns=each.ns + later) for later in (0, 1 * US, 5 * MS))
        elif fault.cause == "corruption" and hit:
            damaged = bytearray(each.payload)
            damaged[21] ^= 1  # of the first block's length
            yield replace(each, payload=bytes(damaged))
        elif fault.cause == "wrong session" and each.packet in five:
            yield replace(each, payload=FOREIGN + each.payload[10:])
        else:
            yield each


def _behind(heard: list[Sent], at: int) -> int:
    """Two packets behind; at the end of the session, what says that it is over."""
    last = min(at + 2, len(heard) - 1)
    return last if heard[last].packet else min(at + 1, len(heard) - 1)


class RewindServer:
    """A re-request server of one of the kinds of `scenario.SERVERS`."""

    def __init__(self, kind: str, session: bytes) -> None:
        self.kind = kind
        self.requests = 0
        self._good = NaiveRewind(session, {})

    def store(self, session: bytes, number: int, message: bytes) -> None:
        """Remember what was sent: of the session that is on."""
        if session != self._good.session:
            self._good = NaiveRewind(session, {})
        self._good.messages[number] = message

    def answer(self, request: bytes) -> tuple[int, bytes] | None:
        """Return (ns until it arrives, datagram), or None for silence."""
        self.requests += 1
        reply = self._good.answer(request)
        if reply is None or self.kind == "silent" or (self.kind == "lossy" and self.requests % 2 == 1):
            return None
        return (SLOW_NS if self.kind == "slow" else ROUND_TRIP_NS), self._lie(reply)

    def _lie(self, reply: bytes) -> bytes:
        _, first, count = struct.unpack_from(">10sQH", reply)
        if self.kind == "wrong session":
            return FOREIGN + reply[10:]
        if self.kind == "wrong numbers":
            return reply[:10] + struct.pack(">Q", first + 1000) + reply[18:]
        if self.kind == "truncated":
            return reply[:-3]
        if self.kind == "wrong bytes":
            return mold(reply[:10], first, [bytes([0x80 + i % 64]) * 30 for i in range(count)])
        return reply


class SnapshotServer:
    """A snapshot server of one of the kinds of `scenario.SNAPSHOTS`: a connection at a time."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.connections = 0

    def connect(self, stream: Stream, sent: int, login: bytes, now_s: float) -> tuple[bytes, bytes, bool]:
        """Take a login when `sent` messages are out; return (answer, rest of the image, is it whole)."""
        self.connections += 1
        session = ServerSession(now_s)
        session.receive(login, now_s)
        assert session.login is not None
        assert session.login[3] == 1
        if self.kind == "refused":
            session.reject("A", now_s)
            return bytes(session.output), b"", True
        name = FOREIGN if self.kind == "wrong session" else stream.session
        session.accept(name.decode().strip(), 1, now_s)
        stale = STALE_IMAGE if sent > STALE_IMAGE else 0
        image = image_after(stream, stale if self.kind == "stale" else sent)
        cut = self.kind == "cut" or (self.kind == "cut, then good" and self.connections == 1)
        return bytes(session.output), image[: len(image) // 2] if cut else image, not cut


def image_after(stream: Stream, count: int) -> bytes:
    """Return the image as of message `count`, as SoupBinTCP packets."""
    image = _core.SnapshotImage()
    blocks = b"".join(
        struct.pack(">H", len(stream.messages[n])) + stream.messages[n] for n in range(1, count + 1)
    )
    image.apply(1, count, blocks)
    data: bytes = image.image()
    return data
