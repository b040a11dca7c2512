"""Becomes a helper of the daemon: `python -m feedhandler.daemon._child PARENT_PID MODULE ARGUMENTS...`.

Runs MODULE as `python -m` would, but dies with the daemon. The daemon cannot see to that between fork and
exec: a fork would copy the page tables of the receive thread's memory and make it fault.
"""

import ctypes
import os
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Die with the parent, become the module."""
    parent, module = int(sys.argv[1]), sys.argv[2]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it died before the line above
        sys.exit(1)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    sys.argv = sys.argv[2:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
