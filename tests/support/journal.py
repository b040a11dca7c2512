"""Journals for tests: a channel's folder with a packet ring, and what an independent reader sees."""

import io
import socket
import struct
import time
from pathlib import Path
from typing import NamedTuple

import dpkt
import zstandard

from feedhandler import _core
from tests.support.channels import make_channel

GROUPS = [("239.194.1.1", 26477), ("239.194.1.2", 26478)]
SERVER = ("10.1.2.3", 26500)
FIRST_REPLY_LINE = 8


class Written(NamedTuple):
    ts_ns: int
    source: tuple[str, int]
    destination: tuple[str, int]
    payload: bytes


class Channel:
    """A channel and its packet ring, as a daemon with a journal makes them."""

    def __init__(self, folder: Path, ring_bytes: int = 1 << 22) -> None:
        self.folder = folder
        self.epoch = time.time_ns()
        self.writer = make_channel(folder, epoch=self.epoch)
        lines = [_core.LineSettings(name, *GROUPS[i], "127.0.0.1") for i, name in enumerate("AB")]
        self.ring = _core.PacketRing(str(folder), ring_bytes, self.epoch, lines, [SERVER])


def read(path: Path) -> list[Written]:
    """Read a finished segment by dpkt alone; every checksum that it has must be right."""
    data = path.read_bytes()
    if path.suffix == ".zst":
        data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    magic, *_ = struct.unpack_from("<I", data)
    assert magic == 0xA1B23C4D
    out = []
    for at, frame in zip(_times(data), dpkt.pcap.Reader(io.BytesIO(data)), strict=True):
        ip = dpkt.ethernet.Ethernet(frame[1]).data
        udp = ip.data
        sums = ip.sum, udp.sum
        ip.sum = udp.sum = 0
        again = dpkt.ip.IP(bytes(ip))
        assert (again.sum, again.data.sum) == sums
        out.append(
            Written(
                at,
                (socket.inet_ntoa(ip.src), udp.sport),
                (socket.inet_ntoa(ip.dst), udp.dport),
                bytes(udp.data),
            )
        )
    return out


def _times(data: bytes) -> list[int]:
    """Walk the records: dpkt's times are doubles, too coarse for nanoseconds."""
    out, at = [], 24
    while at < len(data):
        seconds, rest, length, original = struct.unpack_from("<IIII", data, at)
        assert length == original
        out.append(seconds * 10**9 + rest)
        at += 16 + length
    assert at == len(data)
    return out


def journal_files(directory: Path) -> list[Path]:
    """Return the segments in order; none when the directory is not there yet."""
    if not directory.exists():
        return []
    return sorted(path for path in directory.iterdir() if ".pcap" in path.name)


def numbered(number: int, size: int = 64) -> bytes:
    """Return a payload that tells its number."""
    return struct.pack(">Q", number) + bytes((number * 7 + i) & 0xFF for i in range(size - 8))
