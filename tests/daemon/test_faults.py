"""The receive thread finds its memory there: nothing is faulted in while packets wait."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import COMMAND, environment, running, write_config
from tests.support.exchange import Line
from tests.support.multicast import free_port
from tests.support.threads import receive_thread_of
from tests.support.wait import wait_for

MESSAGES = 200_000
MOST_FAULTS = 100
"""The ring alone has more than 4,000 pages here: the thread would fault on each of them."""


@pytest.fixture
def memory_folder() -> Iterator[Path]:
    """A folder in memory, as /run is; other file systems have reasons of their own to fault."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def test_receive_thread_does_not_fault_while_messages_come(memory_folder: Path) -> None:
    """Ring, books, orders and buffers are there before the first packet, though memory is locked."""
    line = Line("A", f"239.199.{os.getpid() % 250}.9", free_port())
    receive = "prefault_orders = 250000\n"
    with running(write_config(memory_folder, [line], receive=receive), memory_folder / "run") as daemon:
        pid = daemon.process.pid
        [started] = [entry for entry in daemon.log() if entry["event"] == "started"]
        before = receive_thread_of(pid).minor_faults
        command = [*COMMAND, "simulate", "--send", f"A={line.group}:{line.port}", "--rate", "200000"]
        command += ["--messages", str(MESSAGES), "--symbols", "4000", "--linger", "0.1"]
        subprocess.run(command, check=True, capture_output=True, timeout=60, env=environment())
        wait_for(lambda: daemon.reader.next_sequence == MESSAGES + 1, "the last message")
        faults = receive_thread_of(pid).minor_faults - before
        written = daemon.reader.counters()["records"]
    assert sum(written.values()) * 64 > 16 << 20, written  # most of the ring was written
    assert started["memory_locked"] or os.geteuid() != 0
    assert faults < MOST_FAULTS
