"""Capabilities are taken from every thread, whatever it is doing, and only those that are not needed."""

import os
import resource
import subprocess
import sys

import pytest

from feedhandler.daemon._privileges import needed
from tests.support.capabilities import mask
from tests.support.daemon import environment

PROGRAM = """
import ctypes, os, pathlib, select, signal, sys, threading, time
from feedhandler import _core
chosen = sys.argv[2:]
def busy():
    while not ended.is_set():
        pass
def blocks_signals():
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    blocked.set()
    ended.wait()
reading, writing = os.pipe()
ended, blocked, never = threading.Event(), threading.Event(), threading.Lock()
never.acquire()
kinds = {
    "busy": busy,
    "sleeps": lambda: time.sleep(3600),
    "polls": lambda: select.select([reading], [], []),
    "reads": lambda: os.read(reading, 1),
    "waits": never.acquire,
    "blocks": blocks_signals,
}
for name in chosen:
    threading.Thread(target=kinds[name], daemon=True).start()
if "blocks" in chosen:
    blocked.wait()
def permitted():
    for status in pathlib.Path("/proc/self/task").glob("*/status"):
        yield next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("CapPrm"))
try:
    _core.limit_capabilities(int(sys.argv[1], 16))
except RuntimeError as error:
    print(str(error).replace(str(threading.enumerate()[-1].native_id), "THREAD"))
else:
    print(len(list(permitted())), *set(permitted()))
sys.stdout.flush()
os._exit(0)
"""


def limited(kept: int, *kinds: str) -> str:
    """Return what a process says that has limited itself with threads of these kinds."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, f"{kept:x}", *kinds],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout.strip() or done.stderr


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to have capabilities at all")


@needs_root
def test_no_thread_keeps_what_is_taken() -> None:
    """A spinning one, and those that wait in the kernel in any way; they go on afterwards."""
    kept = mask(["ipc_lock", "bpf"])
    assert limited(kept, "busy", "sleeps", "polls", "reads", "waits") == f"6 {kept:016x}"
    assert limited(0, "busy") == f"2 {0:016x}"


@needs_root
def test_thread_that_does_not_hear_is_told() -> None:
    """It blocks all signals: that its capabilities stay is not hidden."""
    assert limited(0, "blocks") == "thread THREAD does not react"


def test_locked_memory_needs_its_capability_up_to_no_limit() -> None:
    """Without a limit, or without locked memory, it goes; root keeps its way with files."""
    limit = {"limit_bytes": 8 << 20}
    assert needed(root=False, memory_locked=True, **limit) == ("CAP_IPC_LOCK",)
    assert needed(root=False, memory_locked=False, **limit) == ()
    assert needed(root=False, memory_locked=True, limit_bytes=resource.RLIM_INFINITY) == ()
    assert "CAP_DAC_OVERRIDE" in needed(root=True, memory_locked=False, **limit)


@pytest.mark.parametrize(
    ("port", "kept"),
    [
        ("net_af_packet0,iface=eth2", ()),
        ("net_pcap0,rx_pcap=day.pcap", ()),
        ("net_af_xdp0,iface=eth2", ("CAP_NET_ADMIN",)),
        ("0000:3b:00.0", ("CAP_NET_ADMIN",)),
    ],
)
def test_devices_that_dpdk_gives_back_itself_need_net_admin_to_the_end(port: str, kept: tuple[str]) -> None:
    """AF_XDP's program stays on the device when nobody may take it off."""
    assert needed(root=False, memory_locked=False, limit_bytes=0, dpdk_ports=[port]) == kept
