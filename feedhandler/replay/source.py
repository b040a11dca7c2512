"""The file that is replayed: opened, unpacked when gzip, mapped into memory, recognised by its content."""

import gzip
import mmap
import os
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from feedhandler import _core
from feedhandler.errors import UsageError

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


def open_source(path: str | os.PathLike[str]) -> Source:
    """Map `path` into memory and tell what it is.

    A gzip file, recognised by its first bytes, is unpacked into a nameless temporary file (in $TMPDIR), so
    that a file larger than the memory can be played. Raises UsageError when it cannot be read, is empty or is
    of no known kind.
    """
    name = os.fspath(path)
    try:
        with Path(path).open("rb") as file:
            if not file.seekable():
                raise UsageError(f'FILE: "{name}" is not a regular file')
            packed = file.read(2) == _GZIP_MAGIC
            file.seek(0)
            cut_at = None
            if packed:
                with tempfile.TemporaryFile() as unpacked:
                    cut_at = _unpack(name, file, unpacked)
                    data = _map(name, unpacked)
            else:
                data = _map(name, file)
    except OSError as error:
        raise UsageError(f'FILE: "{name}": {error.strerror or error}') from error
    return Source(name, _recognise(name, data), data, cut_at)


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
