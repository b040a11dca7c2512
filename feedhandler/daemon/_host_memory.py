"""The memory's side of `feedhandler check`: huge pages, swap, pages that the kernel moves."""

import re
from collections.abc import Iterator
from pathlib import Path

from feedhandler.config import Config
from feedhandler.daemon._finding import Finding, error, ok, warning
from feedhandler.daemon._host_privileges import has_capability
from feedhandler.daemon._kernel_files import ROOT, read, read_int

TRANSPARENT = "sys/kernel/mm/transparent_hugepage/enabled"
RESERVED = "sys/kernel/mm/hugepages/hugepages-2048kB"
WANTED_PAGES = 64
"""Of 2 MiB, for the packets' memory of a channel in mode "xdp"; books use transparent ones."""


def look(config: Config, root: Path = ROOT) -> Iterator[Finding]:
    """Yield what is found of the memory."""
    yield _transparent(root)
    yield _reserved(config, root)
    yield from _swap(root)
    yield from _moved(root)


def _transparent(root: Path) -> Finding:
    chosen = re.search(r"\[(\w+)]", read(root, TRANSPARENT) or "")
    if chosen and chosen[1] in ("madvise", "always"):
        return ok("huge pages", f"transparent huge pages: {chosen[1]}", f"cat /{TRANSPARENT}")
    text = "transparent huge pages are off: a busy book waits longer for memory"
    return warning("huge pages", text, f"echo madvise > /{TRANSPARENT}", f"cat /{TRANSPARENT}")


def _reserved(config: Config, root: Path) -> Finding:
    total, free = (read_int(root, f"{RESERVED}/{name}_hugepages") or 0 for name in ("nr", "free"))
    text, show = f"{free} of {total} reserved pages of 2 MiB are free", "grep HugePages_ /proc/meminfo"
    mode, dpdk = config.receive.mode, config.receive.dpdk
    if mode == "xdp":
        wanted, user = WANTED_PAGES, "the packets' memory"
    elif mode == "dpdk" and dpdk.huge_pages:
        wanted, user = -(-dpdk.memory_mib // 2), "DPDK's memory"
    else:
        why = "without receive.dpdk.huge_pages " if mode == "dpdk" else ""
        return ok("reserved huge pages", f'{text}; receive.mode "{mode}" {why}uses none', show)
    if free >= wanted:
        return ok("reserved huge pages", f"{text}, for {user}", show)
    remedy = f"sysctl -w vm.nr_hugepages={total - free + wanted}"
    if mode == "dpdk":
        text += f": {user} needs {wanted} (receive.dpdk.memory_mib), it does not start without"
        return error("reserved huge pages", text, f"{remedy}, or huge_pages = false", show)
    return warning("reserved huge pages", f"{text}: {user} takes small ones", remedy, show)


def _swap(root: Path) -> Iterator[Finding]:
    swaps = (read(root, "proc/swaps") or "").splitlines()[1:]
    if swaps and not has_capability("CAP_IPC_LOCK", root):
        text = "there is swap and memory is not locked: books may be paged out while the market is quiet"
        yield warning("swap", text, "swapoff -a, or AmbientCapabilities=CAP_IPC_LOCK", "swapon --show")


def _moved(root: Path) -> Iterator[Finding]:
    nodes = len(list((root / "sys/devices/system/node").glob("node[0-9]*")))
    if nodes > 1 and read_int(root, "proc/sys/kernel/numa_balancing"):
        text = "the kernel unmaps pages now and then to see which node uses them: the receive thread faults"
        show = "sysctl kernel.numa_balancing"
        yield warning("numa balancing", text, "sysctl -w kernel.numa_balancing=0", show)
