"""Files of a channel that are damaged, or made by somebody who means harm: a consumer says so and lives."""

import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.channels import MBO, make_channel, patterned
from tests.support.itch_messages import directory

RING_CAPACITY = 1 << 16
RING_DATA = 8192  # header page, and the checkpoints of four steps rounded up to a page
CHECKPOINTS, TAIL_INTENT, TAIL = 4096, 64, 128
DIRECTORY_COUNT, DIRECTORY = 64, 4096
LINE_COUNT, LINE_NAMES = 12, 4096

# What a consumer does: attach, read all it can, look at names, books, counters. Errors are its answer.
_READER = """
import sys
from feedhandler import Consumer, _core
from feedhandler.errors import RunError, UsageError
folder = sys.argv[1]
def attempt(step):
    try:
        step()
    except (RunError, UsageError, KeyError, ValueError) as error:
        print(type(error).__name__, error)
def read():
    with Consumer(folder, schemas=["mbo"], symbols=sys.argv[2:]) as consumer:
        print("attached", flush=True)
        sys.stdin.readline()
        for step in (lambda: [len(b.records) for _ in range(20) for b in consumer.poll(0.0)],
                     consumer.symbols, lambda: consumer.symbol(4_000_000_000),
                     lambda: consumer.book("AAPL"), lambda: consumer.book("NONE"), lambda: consumer.info):
            attempt(step)
attempt(read)
reader = _core.ChannelReader(folder)
for step in (reader.info, reader.counters, reader.gaps, reader.consumers):
    attempt(step)
"""


def record_header(length: int, schema: int = MBO) -> bytes:
    """Return the eight bytes before a record's body."""
    return struct.pack("<HBBI", length, schema, 1, 1)


def write_at(file: Path, offset: int, data: bytes) -> None:
    """Change a mapped file beneath its readers."""
    descriptor = os.open(file, os.O_WRONLY)
    os.pwrite(descriptor, data, offset)
    os.close(descriptor)


def read_damaged(
    folder: Path, before: list[tuple[str, int, bytes]], after: list[tuple[str, int, bytes]], *symbols: str
) -> str:
    """Damage files before a consumer attaches and after; return what it said. It must end by itself."""
    writer = make_channel(folder, ring_bytes=RING_CAPACITY, books=True)
    writer.set_state(1)
    writer.apply(1, [directory(locate=1, stock="AAPL")])
    for name, offset, data in before:
        write_at(folder / name, offset, data)
    reader = subprocess.Popen(
        [sys.executable, "-c", _READER, str(folder), *symbols],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert reader.stdout is not None
    try:
        said = reader.stdout.readline()
        writer.write(MBO, patterned(0, 10).view(np.uint8))
        for name, offset, data in after:
            write_at(folder / name, offset, data)
        out, err = reader.communicate("\n", timeout=20)
    finally:
        reader.kill()
        reader.communicate()
        writer.release()
    assert reader.returncode == 0, f"{reader.returncode}: {err}"
    return said + out


# A definition of 528 bytes is what lies before: the mbo records start behind it.
FIRST = RING_DATA + 528

records = {
    "length 0": record_header(0),
    "length below its own header": record_header(4),
    "length of another schema": record_header(376),
    "length beyond the tail": record_header(65528),
    "schema that does not exist": record_header(64, 40),
    "padding that jumps over the tail": struct.pack("<HBBI", 0, 255, 0, 0),
}


@pytest.mark.parametrize("damage", records.values(), ids=records.keys())
def test_record_header_that_cannot_be_is_an_error(runtime: Path, damage: bytes) -> None:
    """A header that no writer writes ends the reading with one line: no loop, no foreign byte read."""
    said = read_damaged(runtime / "test", [], [("ring", FIRST + 64, damage)])
    assert "RunError ring: damaged at position" in said


def test_record_header_damaged_before_attaching_is_an_error(runtime: Path) -> None:
    """Attaching passes over what is in the ring: it must not loop on a record that leads nowhere."""
    said = read_damaged(runtime / "test", [("ring", RING_DATA, record_header(0))], [])
    assert "RunError ring: damaged at position" in said


def test_checkpoint_that_cannot_be_is_an_error(runtime: Path) -> None:
    """Attaching looks for the newest checkpoint: one of a foreign step is no reason to spin."""
    said = read_damaged(runtime / "test", [("ring", CHECKPOINTS, struct.pack("<Q", 77))], [])
    assert "RunError ring: damaged at position" in said


@pytest.mark.parametrize("capacity", [0, 3 << 14, 1 << 15])
def test_ring_of_a_capacity_that_cannot_be_is_refused(runtime: Path, capacity: int) -> None:
    """Positions are masked by the capacity, so one that is no power of two must not get as far as that."""
    folder = runtime / "test"
    writer = make_channel(folder, ring_bytes=RING_CAPACITY, books=True)
    writer.release()
    write_at(folder / "ring", 16, struct.pack("<Q", capacity))
    size = 4096 + capacity // 16384 * 128
    os.truncate(folder / "ring", (size + 4095) // 4096 * 4096 + capacity)
    reader = subprocess.run(
        [sys.executable, "-c", _READER, str(folder)], input="\n", capture_output=True, text=True, timeout=20
    )
    assert "not a ring" in reader.stdout + reader.stderr


def test_instrument_directory_longer_than_its_file_is_cut(runtime: Path) -> None:
    """A count of names beyond what the file can hold is not believed."""
    read_damaged(runtime / "test", [], [("books", DIRECTORY_COUNT, struct.pack("<I", 0xFFFFFFFF))])


def test_instrument_id_that_cannot_be_is_passed_over(runtime: Path) -> None:
    """An entry of instrument 2^32 - 1 names nothing; a record of it is nobody's."""
    entry = ("books", DIRECTORY + 8, struct.pack("<I", 0xFFFFFFFF))
    record = ("ring", FIRST + 8 + 4, struct.pack("<I", 0xFFFFFFFF))
    read_damaged(runtime / "test", [], [entry, record], "AAPL")


def test_line_count_beyond_the_page_is_refused(runtime: Path) -> None:
    """More lines than a channel can have would be read from beyond the page."""
    folder = runtime / "test"
    make_channel(folder, ring_bytes=RING_CAPACITY, books=True).release()
    write_at(folder / "channel", LINE_COUNT, struct.pack("<I", 1 << 30))
    reader = subprocess.run(
        [sys.executable, "-c", _READER, str(folder)], input="\n", capture_output=True, text=True, timeout=20
    )
    assert reader.returncode > 0 or "RunError" in reader.stdout, reader.returncode
    assert "not a channel" in reader.stdout + reader.stderr


def test_lock_on_the_whole_consumers_file_counts_once(runtime: Path) -> None:
    """A lock to the end of the file has no length: counting must not ask behind it for ever."""
    import fcntl

    folder = runtime / "test"
    make_channel(folder, ring_bytes=RING_CAPACITY).release()
    with (folder / "consumers").open("rb") as file:
        fcntl.fcntl(file, 37, struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 0, 0, 0))  # F_OFD_SETLK
        code = (
            "import sys; from feedhandler import _core; print(_core.ChannelReader(sys.argv[1]).consumers())"
        )
        counted = subprocess.run(
            [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=20
        )
    assert counted.returncode == 0, counted.returncode
    assert int(counted.stdout) == 1
