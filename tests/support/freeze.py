"""Freezes the receive thread of a daemon, alone, by ptrace, until it is killed: `python freeze.py PID`."""

import ctypes
import os
import sys
from pathlib import Path

SEIZE, INTERRUPT = 0x4206, 0x4207
WALL = 0x40000000


def main() -> None:
    """Freeze the thread, say so, and stay: without its tracer it would run again."""
    tasks = Path(f"/proc/{sys.argv[1]}/task")
    [thread] = [int(t.name) for t in tasks.iterdir() if (t / "comm").read_text().strip() == "fh-receive"]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    for request in (SEIZE, INTERRUPT):
        assert libc.ptrace(request, thread, None, None) == 0, os.strerror(ctypes.get_errno())
    print("frozen", flush=True)
    while True:
        _, status = os.waitpid(thread, WALL)  # and it must see the thread's end, or the thread never ends
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            break


if __name__ == "__main__":
    main()
