"""Which CPUs the daemon's other threads run on, and how deeply CPUs may sleep meanwhile."""

import contextlib
import os
import struct
from collections.abc import Set
from pathlib import Path

from feedhandler.config import Config
from feedhandler.daemon._kernel_files import ROOT, node_of_cpu, read_cpus
from feedhandler.daemon._threads import thread_ids
from feedhandler.errors import RunError

_DMA_LATENCY = Path("/dev/cpu_dma_latency")


def make_way(cpu: int, usable: Set[int], root: Path = ROOT) -> None:
    """Move all threads, and what they start, off the receive thread's CPU, but not off its node.

    While the feed is made: its memory comes from the node of the thread that touches it first, and its
    threads inherit where they may run.
    """
    node = node_of_cpu(root, cpu)
    near = set(usable) if node is None else read_cpus(root, f"sys/devices/system/node/node{node}/cpulist")
    _run_on((near & usable) - {cpu} or usable - {cpu}, cpu)


def spread(cpu: int, usable: Set[int]) -> None:
    """Let all other threads, and the helpers that inherit this, run on any CPU but the receive thread's."""
    _run_on(usable - {cpu}, cpu)


def _run_on(others: Set[int], cpu: int) -> None:
    if cpu < 0 or not others:
        return
    for thread in thread_ids():  # libraries have started some at their import
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(thread, others)


def hold_idle_latency(config: Config) -> int | None:
    """Keep CPUs out of sleep that takes longer to leave than configured, as long as the descriptor is open.

    Raises RunError when the kernel or the unit does not let this user.
    """
    wanted_us = config.receive.idle_latency_us
    if wanted_us < 0:
        return None
    try:
        held = os.open(_DMA_LATENCY, os.O_WRONLY | os.O_CLOEXEC)
        os.write(held, struct.pack("i", wanted_us))
    except OSError as error:
        where = f"{config.where('receive.idle_latency_us')}: {_DMA_LATENCY}"
        raise RunError(f"{where}: {error.strerror} (docs/tuning.md says who may)") from error
    return held
