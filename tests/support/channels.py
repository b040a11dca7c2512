"""Channels for tests: patterned records, and a writer in a process of its own, to be killed."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from feedhandler import _core
from feedhandler.consumer.schema import DTYPES, SCHEMA_NAMES

MBO = SCHEMA_NAMES.index("mbo")

_WRITER = """
import sys, time
sys.path.insert(0, {tests!r})
import numpy as np
from feedhandler import _core
from tests.support.channels import MBO, patterned
writer = _core.ChannelWriter(sys.argv[1], "test", epoch=time.time_ns(), ring_bytes=1 << 20)
writer.own()
writer.set_state(1)
end, at = time.monotonic() + 60, 0
print("up", flush=True)
while time.monotonic() < end:
    writer.heartbeat()
    if sys.argv[2] == "write":
        writer.write(MBO, patterned(at, 500).view(np.uint8), at)
        at += 500
    else:
        time.sleep(0.001)
"""


def patterned(first: int, count: int) -> NDArray[np.void]:
    """Return mbo records whose every field follows from their number, so that a torn one shows."""
    records = np.zeros(count, DTYPES["mbo"])
    numbers = np.arange(first, first + count, dtype=np.uint64)
    for field in ("ts_event", "order_id", "ts_recv"):
        records[field] = numbers
    records["price"] = numbers
    records["sequence"] = records["size"] = records["instrument_id"] = numbers & 0xFFFFFFFF
    return records


def garbage(records: NDArray[np.void]) -> int:
    """Return how many of these records are not as `patterned` made them."""
    number = records["order_id"]
    good = (records["ts_event"] == number) & (records["ts_recv"] == number) & (records["price"] == number)
    for field in ("sequence", "size", "instrument_id"):
        good &= records[field] == (number & 0xFFFFFFFF)
    return int(np.count_nonzero(~good))


def start_writer(folder: Path, mode: str = "write") -> "subprocess.Popen[str]":
    """Start what stands in for a daemon: it owns, beats, and (mode "write") publishes at full speed."""
    code = _WRITER.format(tests=str(Path(__file__).resolve().parent.parent))
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder), mode], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


def end(process: "subprocess.Popen[str]") -> None:
    """Kill a process and close what it had."""
    process.kill()
    process.communicate()


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Wait for a condition; fail when it does not come true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.0005)


def make_channel(folder: Path, **options: object) -> "_core.ChannelWriter":
    """Return a writer that owns the channel in this process."""
    writer = _core.ChannelWriter(str(folder), folder.name, **{"epoch": time.time_ns(), **options})
    writer.own()
    return writer
