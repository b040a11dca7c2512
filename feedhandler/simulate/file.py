"""A simulated day as a file."""

import contextlib
import gzip
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import IO, cast

from feedhandler import _core
from feedhandler.errors import RunError
from feedhandler.exchange_time import midnight_ns
from feedhandler.simulate.network import group_number
from feedhandler.simulate.options import Line

_BATCH = 1 << 20  # bytes

Progress = Callable[[int], None]  # called with the messages written so far


@contextlib.contextmanager
def open_output(path: Path) -> Iterator[IO[bytes]]:
    """Open `path` for writing, compressed when its name ends `.gz`. A file left unfinished is removed."""
    try:
        raw = path.open("wb")
    except OSError as error:
        raise RunError(f'--output: "{path}": {error.strerror}') from error
    try:
        with raw:
            if path.name.endswith(".gz"):
                # Name and time are left out of gzip's header: the same day gives the same bytes.
                with gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=raw, mtime=0) as packed:
                    yield cast(IO[bytes], packed)
            else:
                yield raw
    except BaseException as error:
        if path.is_file():  # and not a device
            path.unlink()
        if isinstance(error, OSError):
            raise RunError(f'--output: "{path}": {error.strerror}') from error
        raise


def is_capture(path: Path) -> bool:
    """Whether the name asks for a pcap file."""
    return path.name.removesuffix(".gz").endswith(".pcap")


def write_binaryfile(exchange: _core.Exchange, path: Path, progress: Progress = lambda _: None) -> None:
    """Write the day to `path` as BinaryFILE: u16 big-endian length + message, a zero length at the end.

    Raises RunError when the file cannot be written.
    """
    with open_output(path) as file:
        while batch := exchange.next(_BATCH):
            file.write(batch)
            progress(exchange.messages)
        file.write(b"\0\0")


def write_pcap(
    exchange: _core.Exchange,
    path: Path,
    lines: list[Line],
    session: str,
    day: date,
    progress: Progress = lambda _: None,
) -> int:
    """Write the day to `path` as nanosecond pcap, each packet once per line; returns the packets of one line.

    Raises RunError when the file cannot be written.
    """
    groups = [(group_number(line.group), line.port) for line in lines]
    encoder = _core.PcapEncoder(exchange, session, groups, midnight_ns(day))
    with open_output(path) as file:
        while batch := encoder.next(_BATCH):
            file.write(batch)
            progress(exchange.messages)
    return int(encoder.packets)
