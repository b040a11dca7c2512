"""Becomes a helper of the daemon: `python -m feedhandler.daemon._child PARENT_PID MODULE ARGUMENTS...`.

Runs MODULE as `python -m` would, but dies with the daemon and without its privileges. The daemon cannot see to
that between fork and exec: a fork would copy the page tables of the receive thread's memory and make it fault.
"""

import ctypes
import os
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_CAPABILITY_VERSION_3 = 0x20080522


def _drop_privileges(libc: ctypes.CDLL) -> None:
    if os.geteuid() == 0:
        return  # started by hand as root: nobody asked for less
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    libc.capset(header, (ctypes.c_uint32 * 6)())


def main() -> None:
    """Die with the parent, drop its privileges, become the module."""
    parent, module = int(sys.argv[1]), sys.argv[2]
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it died before the line above
        sys.exit(1)
    _drop_privileges(libc)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    sys.argv = sys.argv[2:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
