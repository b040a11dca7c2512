"""The threads of this process, as the kernel knows them."""

from pathlib import Path

from feedhandler.daemon._kernel_files import read

RECEIVE = "fh-receive"
"""Name of the receive thread, as core/receive/feed.hpp sets it."""


def thread_ids() -> list[int]:
    """Return the ids of all threads but the receive thread, which sees to itself."""
    return [int(task.name) for task in _tasks() if read(task, "comm") not in (None, RECEIVE)]


def receive_thread() -> int | None:
    """Return the id of the receive thread; None: there is none."""
    return next((int(task.name) for task in _tasks() if read(task, "comm") == RECEIVE), None)


def _tasks() -> list[Path]:
    return list(Path("/proc/self/task").iterdir())
