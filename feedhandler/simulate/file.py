"""A simulated day as a file."""

import contextlib
import gzip
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from feedhandler import _core
from feedhandler.errors import RunError

_BATCH = 1 << 20  # bytes


@contextlib.contextmanager
def open_output(path: Path) -> Iterator[IO[bytes]]:
    """Open `path` for writing, compressed when its name ends `.gz`. A file that was not finished is removed."""
    try:
        # The name and time of gzip's header are left out: the same day gives the same bytes.
        with path.open("wb") as raw:
            if path.name.endswith(".gz"):
                with gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=raw, mtime=0) as packed:
                    yield packed
            else:
                yield raw
    except OSError as error:
        raise RunError(f'--output: "{path}": {error.strerror or error}') from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def write_binaryfile(
    exchange: _core.Exchange, path: Path, progress: Callable[[int], None] = lambda _: None
) -> None:
    """Write the day of `exchange` to `path` as BinaryFILE: u16 big-endian length + message, a zero length at the end.

    `progress` is called with the messages written so far. Raises RunError when the file cannot be written.
    """
    with open_output(path) as file:
        while batch := exchange.next(_BATCH):
            file.write(batch)
            progress(exchange.messages)
        file.write(b"\0\0")
