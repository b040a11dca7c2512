"""What is replayed: a file or a journal's segments; unpacked, mapped, recognised by its content."""

import gzip
import mmap
import os
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from feedhandler import _core
from feedhandler.errors import UsageError
from feedhandler.journal import segments as journal

_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK = 1 << 20  # bytes unpacked at once


@dataclass(frozen=True)
class Source:
    """A file in memory. `kind` is "capture" (pcap, pcapng) or "binary" (BinaryFILE)."""

    path: str
    kind: str
    data: mmap.mmap | bytes
    cut_at: (
        int | None
    )  # bytes unpacked before the gzip stream ended without its end; None: whole, or not gzip
    damage: tuple[str, ...] = ()  # what else was not whole: one line each


def open_source(path: str | os.PathLike[str]) -> Source:
    """Map `path` into memory and tell what it is.

    A gzip or zstd file, recognised by its first bytes, is unpacked into a nameless temporary file (in
    $TMPDIR), so that a file larger than the memory can be played. A directory is a journal: its segments are
    put together there, in order. Raises UsageError when it cannot be read, is empty or is of no known kind.
    """
    name = os.fspath(path)
    try:
        if Path(path).is_dir():
            return open_segments(name, journal.segments(Path(path)))
        segment = journal.parse(Path(path))
        if segment is not None and segment.kind != journal.PLAIN:
            return open_segments(name, [segment])
        with Path(path).open("rb") as file:
            if not file.seekable():
                raise UsageError(f'FILE: "{name}" is not a regular file')
            magic = file.read(4)
            file.seek(0)
            cut_at = None
            damage: tuple[str, ...] = ()
            if magic == journal.ZSTD_MAGIC:
                with tempfile.TemporaryFile() as unpacked:
                    damage = _unpack_zstd(file, unpacked)
                    data = _map(name, unpacked)
            elif magic[:2] == _GZIP_MAGIC:
                with tempfile.TemporaryFile() as unpacked:
                    cut_at = _unpack(name, file, unpacked)
                    data = _map(name, unpacked)
            else:
                data = _map(name, file)
    except OSError as error:
        raise UsageError(f'FILE: "{name}": {error.strerror or error}') from error
    return Source(name, _recognise(name, data), data, cut_at, damage)


def open_segments(name: str, segments: Sequence[journal.Segment]) -> Source:
    """Put segments of a journal together as one capture; one that is being written up to its last packet.

    `name` is what errors call it. Raises UsageError when there is none, or one cannot be read.
    """
    if not segments:
        raise UsageError(f'FILE: "{name}" is a directory without segments of a journal (*.pcap, *.pcap.zst)')
    if len(channels := {segment.channel for segment in segments}) > 1:
        raise UsageError(f'FILE: "{name}" has segments of several channels: {", ".join(sorted(channels))}')
    damage: list[str] = []
    with tempfile.TemporaryFile() as whole:
        for segment in segments:
            try:
                _append_segment(segment, whole, damage)
            except FileNotFoundError:  # it was finished or compressed meanwhile, or is too old to be kept
                again = [s for s in journal.segments(segment.path.parent) if s.start == segment.start]
                if again:
                    _append_segment(again[0], whole, damage)
            except OSError as error:
                raise UsageError(f'FILE: "{segment.path}": {error.strerror or error}') from error
        whole.flush()
        data = _map(name, whole)
    return Source(name, _recognise(name, data), data, None, tuple(damage))


def _append_segment(segment: journal.Segment, whole: BinaryIO, damage: list[str]) -> None:
    """Append a segment's records, behind one header for all."""
    start = whole.tell()
    skip = journal.PCAP_HEADER_BYTES if start else 0
    with segment.path.open("rb") as file:  # once: it may be compressed and removed meanwhile
        try:
            for chunk in journal.contents_of(segment, file):
                whole.write(chunk[skip:])
                skip = max(0, skip - len(chunk))
        except journal.DamagedError as error:
            damage.append(f"{segment.path.name}: {error}; what lies before it was played")
            _cut_torn_record(start, whole)
        if segment.kind == journal.PLAIN and (torn := journal.readable(segment, file)[1]):
            damage.append(f"{segment.path.name}: the last {torn} bytes are no whole packets")


def _cut_torn_record(start: int, whole: BinaryIO) -> None:
    whole.flush()
    size = whole.tell()
    if size == 0:
        return
    with mmap.mmap(whole.fileno(), 0, access=mmap.ACCESS_READ) as data:
        header = bytes(data[: journal.PCAP_HEADER_BYTES])
        records = header + data[start or len(header) : size]
    good, *_ = _core.segment_extent(records)
    whole.seek((start or len(header)) + good - len(header))
    whole.truncate()


def _unpack_zstd(packed: BinaryIO, unpacked: BinaryIO) -> tuple[str, ...]:
    try:
        for chunk in journal.unpacked(packed):
            unpacked.write(chunk)
    except journal.DamagedError as error:
        return (f"{error}, {unpacked.tell()} bytes of it were played",)
    finally:
        unpacked.flush()
    return ()


def _map(name: str, file: BinaryIO) -> mmap.mmap:
    if os.fstat(file.fileno()).st_size == 0:
        raise UsageError(f'FILE: "{name}" is empty: a pcap, pcapng or BinaryFILE is needed')
    data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    data.madvise(mmap.MADV_SEQUENTIAL)
    return data


def _unpack(name: str, packed: BinaryIO, unpacked: BinaryIO) -> int | None:
    """Unpack `packed`; one that ends too early gives what it holds. Returns where it ended then."""
    cut_at = None
    try:
        with gzip.GzipFile(fileobj=packed) as stream:
            while chunk := stream.read1(_CHUNK):
                unpacked.write(chunk)
    except EOFError:
        cut_at = unpacked.tell()
    except (gzip.BadGzipFile, zlib.error) as error:
        raise UsageError(
            f'FILE: "{name}": damaged gzip data behind byte {unpacked.tell()}: {error}'
        ) from error
    unpacked.flush()
    return cut_at


def _recognise(name: str, data: mmap.mmap) -> str:
    kind = _core.recognise_file(data)
    if not kind:
        raise UsageError(
            f'FILE: "{name}" is no pcap, pcapng or BinaryFILE: it starts with {data[:8].hex(" ")}'
        )
    return kind
