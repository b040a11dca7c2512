"""The receive thread's real-time priority, and what keeps one that never waits from starving the rest."""

import os
import re
import time
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from feedhandler.config import Config
from feedhandler.daemon._kernel_files import ROOT, read, read_int

DEMOTED_AFTER_S = 1.0
"""A receive thread without progress for so long loses its priority: it hangs, and others may need its CPU."""

FAIR_SERVER_SINCE = (6, 12)
"""Since then each CPU keeps a share for normal threads, by default 50 ms a second, whoever waits there."""


def refusal(config: Config, usable: Set[int], root: Path = ROOT) -> tuple[str, str] | None:
    """Return (text, remedy) of what makes the priority configured dangerous here; None: nothing does."""
    receive = config.receive
    if receive.priority == 0 or not receive.priority_guard:
        return None
    if receive.spin and receive.cpu < 0:
        return (
            f"{receive.priority} with receive.spin needs receive.cpu: where it goes nobody else would run",
            "receive.cpu = N, or spin = false",
        )
    if receive.spin and usable <= {receive.cpu}:
        return (
            f"{receive.priority} with receive.spin on CPU {receive.cpu}, the only one this process may use: "
            "the daemon itself would not run",
            "a second CPU, or spin = false",
        )
    share = share_of_others_us(root, receive.cpu)
    if share == 0:
        return (
            f"{receive.priority}: this kernel keeps no time for others on a CPU of a real-time thread",
            "sysctl -w kernel.sched_rt_runtime_us=950000, or receive.priority_guard = false",
        )
    return None


def share_of_others_us(root: Path = ROOT, cpu: int = -1) -> int:
    """Return how many microseconds of each second the kernel keeps for normal threads; 0: none.

    kernel.sched_rt_runtime_us = -1 says: none. A kernel with fair servers keeps some all the same, but
    whoever set that did not want it, and an older kernel would take it at its word after the next boot.
    """
    runtime = read_int(root, "proc/sys/kernel/sched_rt_runtime_us")
    period = read_int(root, "proc/sys/kernel/sched_rt_period_us") or 1_000_000
    throttled = 0 if runtime is None or runtime < 0 else max(0, period - runtime) * 1_000_000 // period
    version = re.match(r"(\d+)\.(\d+)", read(root, "proc/sys/kernel/osrelease") or "")
    if not throttled or version is None or (int(version[1]), int(version[2])) < FAIR_SERVER_SINCE:
        return throttled
    # Readable by root where debugfs is mounted; else what the kernel starts with.
    served_ns = read_int(root, f"sys/kernel/debug/sched/fair_server/cpu{max(cpu, 0)}/runtime")
    return 50_000 if served_ns is None else served_ns // 1000


@dataclass
class Demotion:
    """Takes the priority from a receive thread that hangs. `tick` by a thread that runs elsewhere."""

    log: FilteringBoundLogger
    thread: int | None
    progress: int = -1
    progressed_s: float = 0.0

    def tick(self, progress: int) -> None:
        """Look whether there was progress since the last call."""
        now_s = time.monotonic()
        if progress != self.progress:
            self.progress, self.progressed_s = progress, now_s
        elif self.thread is not None and now_s - self.progressed_s >= DEMOTED_AFTER_S:
            # Without the flag the kernel would take this for its removal, which needs a privilege.
            policy = os.SCHED_OTHER | os.SCHED_RESET_ON_FORK
            os.sched_setscheduler(self.thread, policy, os.sched_param(0))
            self.log.error("receive thread demoted", without_progress_s=round(now_s - self.progressed_s, 1))
            self.thread = None
