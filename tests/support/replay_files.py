"""Files for replay tests, written byte by byte from the formats' specifications, and their replay."""

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from feedhandler import _core
from feedhandler.replay.options import ReplayOptions
from feedhandler.replay.player import Played, Player
from feedhandler.replay.source import open_source

GROUP_A, GROUP_B = ("239.1.1.1", 26477), ("239.1.1.2", 26478)
ETHERNET, RAW, COOKED, COOKED_V2 = 1, 101, 113, 276
SESSION = b"TESTSESSIO"


def binary_file(messages: list[bytes], *, end: bool = True) -> bytes:
    """BinaryFILE: u16 big-endian length + message; a zero-length record ends it."""
    return b"".join(struct.pack(">H", len(m)) + m for m in messages) + (b"\0\0" if end else b"")


def mold(first: int, messages: list[bytes], session: bytes = SESSION) -> bytes:
    """One MoldUDP64 data packet."""
    head = session + struct.pack(">QH", first, len(messages))
    return head + b"".join(struct.pack(">H", len(m)) + m for m in messages)


def mold_end(sequence: int, session: bytes = SESSION) -> bytes:
    """The end of a session."""
    return session + struct.pack(">QH", sequence, 0xFFFF)


def udp(payload: bytes, group: tuple[str, int] = GROUP_A) -> bytes:
    """An IPv4 packet with a UDP datagram, checksums left zero."""
    address = bytes(int(part) for part in group[0].split("."))
    head = struct.pack(">HHHH", 49152, group[1], 8 + len(payload), 0)
    return (
        struct.pack(">BBHHHBBH", 0x45, 0, 28 + len(payload), 0, 0, 1, 17, 0)
        + b"\x0a\0\0\x01"
        + address
        + head
        + payload
    )


def link(packet: bytes, kind: int = ETHERNET, vlans: int = 0) -> bytes:
    """Put the link layer before an IPv4 packet."""
    tags = b"".join(struct.pack(">HH", 0x8100, 141) for _ in range(vlans))
    if kind == ETHERNET:
        return bytes.fromhex("01005e010101 020000000001") + tags + b"\x08\0" + packet
    if kind == COOKED:
        return struct.pack(">HHH8s", 2, 1, 6, b"") + b"\x08\0" + packet
    if kind == COOKED_V2:
        return b"\x08\0" + struct.pack(">HIHBB8s", 0, 1, 1, 2, 6, b"") + packet
    return packet


def pcap(
    frames: list[tuple[int, bytes]], *, ns: bool = True, order: str = "<", kind: int = ETHERNET, snap: int = 0
) -> bytes:
    """A pcap file; `snap` cuts the frames."""
    out = struct.pack(order + "IHHiIII", 0xA1B23C4D if ns else 0xA1B2C3D4, 2, 4, 0, 0, snap or 65535, kind)
    for ts, frame in frames:
        kept = frame[:snap] if snap else frame
        seconds, rest = divmod(ts, 10**9)
        out += (
            struct.pack(order + "IIII", seconds, rest if ns else rest // 1000, len(kept), len(frame)) + kept
        )
    return out


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    """One pcapng block."""
    body += bytes(-len(body) % 4)
    length = struct.pack(order + "I", 12 + len(body))
    return struct.pack(order + "I", kind) + length + body + length


def section(order: str = "<") -> bytes:
    """A pcapng section header."""
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(resolution: int | None = 9, order: str = "<", kind: int = ETHERNET, snap: int = 0) -> bytes:
    """A pcapng interface; `resolution` is the byte of if_tsresol, None: no option (microseconds)."""
    options = b"" if resolution is None else struct.pack(order + "HHB3xHH", 9, 1, resolution, 0, 0)
    return block(1, struct.pack(order + "HHI", kind, 0, snap) + options, order)


def enhanced(ticks: int, frame: bytes, order: str = "<", on: int = 0) -> bytes:
    """A pcapng enhanced packet block."""
    head = struct.pack(order + "IIIII", on, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), len(frame))
    return block(6, head + frame, order)


@dataclass
class Records:
    """Keeps the records of a replay, by schema."""

    data: dict[str, bytearray] = field(default_factory=dict)

    def write(self, schema: str, records: bytes) -> None:
        """Append."""
        self.data.setdefault(schema, bytearray()).extend(records)


def play(path: Path, records: Records | None = None, **options: Any) -> Played:
    """Replay a file in this process; `options` are those of ReplayOptions."""
    return Player(open_source(path), ReplayOptions(**options), records).play()


def simulated(messages: int, symbols: int = 50, seed: int = 1) -> bytes:
    """A BinaryFILE of the simulated exchange."""
    exchange = _core.Exchange(messages=messages, symbols=symbols, seed=seed)
    out = b""
    while records := exchange.next():
        out += records
    return out
