"""The files of a journal: their names, their order, and their packets however they are packed.

`CHANNEL-20261120T143000.000000001Z.pcap.part` is being written (or was, when its writer died), `.pcap` is
finished, `.pcap.zst` compressed. The time is the first packet's, UTC, so that names sort as packets came.
"""

import mmap
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import zstandard

from feedhandler import _core

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
PCAP_HEADER_BYTES = 24
CHUNK = 1 << 20
PART, PLAIN, PACKED = ".pcap.part", ".pcap", ".pcap.zst"
_NAME = re.compile(r"(?P<channel>.+)-(?P<start>\d{8}T\d{6}\.\d{9})Z(?P<kind>\.pcap(?:\.part|\.zst)?)")


@dataclass(frozen=True)
class Segment:
    """One file of a journal."""

    path: Path
    channel: str
    start: str
    kind: str

    @property
    def start_ns(self) -> int:
        """Return when its first packet was received, UTC ns."""
        seconds, _, rest = self.start.partition(".")
        at = datetime.strptime(seconds, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
        return int(at.timestamp()) * 1_000_000_000 + int(rest)

    def named(self, kind: str) -> Path:
        """Return the path that it has as another kind."""
        return self.path.with_name(f"{self.channel}-{self.start}Z{kind}")


def segment_path(directory: Path, channel: str, start_ns: int) -> Path:
    """Return the path of a new segment whose first packet was received at `start_ns`."""
    seconds, rest = divmod(start_ns, 1_000_000_000)
    at = datetime.fromtimestamp(seconds, tz=UTC)
    return directory / f"{channel}-{at:%Y%m%dT%H%M%S}.{rest:09d}Z{PART}"


def parse(path: Path) -> Segment | None:
    """Return the segment that the name tells of; None for any other file."""
    found = _NAME.fullmatch(path.name)
    if found is None:
        return None
    segment = Segment(path, found["channel"], found["start"], found["kind"])
    try:
        _ = segment.start_ns
    except ValueError:  # no time of this calendar
        return None
    return segment


def segments(directory: Path) -> list[Segment]:
    """Return the segments of a journal in the order of their packets, each once."""
    found = [segment for path in directory.iterdir() if (segment := parse(path))]
    order = (PLAIN, PACKED, PART)  # two of one start: a compression that was just done, or cut off
    once: dict[tuple[str, str], Segment] = {}
    for segment in sorted(found, key=lambda s: (s.start, s.channel, order.index(s.kind))):
        once.setdefault((segment.start, segment.channel), segment)
    return list(once.values())


def extent(file: BinaryIO) -> tuple[int, int]:
    """Return (bytes, packets) of the whole records of a segment not compressed; (0, 0): it is none."""
    if os.fstat(file.fileno()).st_size == 0:
        return 0, 0
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        size, packets, _, _ = _core.segment_extent(data)
        return size, packets


class DamagedError(Exception):
    """A compressed file that ends too early, or whose data contradict themselves."""


def unpacked(file: BinaryIO) -> Iterator[bytes]:
    """Yield what a zstd file holds. Raises DamagedError behind what could be unpacked."""
    stream = zstandard.ZstdDecompressor().decompressobj()
    fresh = True
    while chunk := file.read(CHUNK):
        while chunk:
            if stream.eof:  # frames may follow each other
                stream, fresh = zstandard.ZstdDecompressor().decompressobj(), True
            try:
                yield stream.decompress(chunk)
            except zstandard.ZstdError as error:
                raise DamagedError(f"damaged zstd data: {error}") from error
            fresh = False
            chunk = stream.unused_data if stream.eof else b""
    if not fresh and not stream.eof:
        raise DamagedError("the zstd stream ends too early")


def readable(segment: Segment, file: BinaryIO) -> tuple[int, int]:
    """Return (bytes to read, bytes behind them that are no whole packets) of a segment not compressed.

    A finished file that another program has written (an editor of captures) is taken as it is.
    """
    size, packets = extent(file)
    whole = os.fstat(file.fileno()).st_size
    if segment.kind == PLAIN and packets == 0:
        size = whole
    return size, 0 if segment.kind == PART else whole - size


def contents(segment: Segment) -> Iterator[bytes]:
    """Yield a segment's bytes as a pcap file: whole records only, though it is being written.

    Raises DamagedError behind what could be read of a compressed one.
    """
    with segment.path.open("rb") as file:
        yield from contents_of(segment, file)


def contents_of(segment: Segment, file: BinaryIO) -> Iterator[bytes]:
    """Yield the same of a file that is open, and stands at its start."""
    if segment.kind == PACKED:
        yield from unpacked(file)
        return
    left, _ = readable(segment, file)
    while left > 0 and (chunk := file.read(min(left, CHUNK))):
        left -= len(chunk)
        yield chunk
