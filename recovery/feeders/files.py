"""Opening what a user gives: gzip and zstd are recognised by content, not by name."""

import gzip
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import zstandard

from feedhandler.journal import segments as journal


@contextmanager
def open_plain(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a file for reading, decompressed when it is gzip or zstd.

    Of a journal's segment that is being written only the whole packets can be read.
    """
    segment = journal.parse(Path(path))
    with Path(path).open("rb") as raw:
        if raw.peek(4)[:4] == journal.ZSTD_MAGIC:
            with zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True) as unpacked:
                yield cast(IO[bytes], io.BufferedReader(unpacked, 1 << 20))
        elif segment is not None and segment.kind == journal.PART:
            yield io.BytesIO(b"".join(journal.contents(segment)))
        elif raw.peek(2)[:2] == b"\x1f\x8b":
            with gzip.open(raw) as plain:
                yield cast(IO[bytes], plain)
        else:
            yield raw
