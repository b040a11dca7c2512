"""The privileges' side of `feedhandler check`."""

import re
from collections.abc import Iterator
from pathlib import Path

from feedhandler.config import Config
from feedhandler.daemon._finding import Finding, error, ok, warning
from feedhandler.daemon._kernel_files import ROOT, read
from feedhandler.daemon._privileges import CAPABILITIES

NEEDED_BY_MODE = {"packet": ("CAP_NET_RAW",), "xdp": ("CAP_NET_RAW", "CAP_NET_ADMIN", "CAP_BPF")}
"""What a mode cannot do without. What DPDK needs depends on its device: it is opened, see _host_network."""


def look(config: Config, root: Path = ROOT) -> Iterator[Finding]:
    """Yield which privileges this process has, of those that the configuration can use."""
    mode = config.receive.mode
    helpful = {"CAP_IPC_LOCK": "memory may be paged out"}
    if mode in ("socket", "onload"):
        helpful["CAP_NET_ADMIN"] = (
            "receive buffers stay within net.core.rmem_max, busy polling is not preferred"
        )
    if config.receive.priority:
        helpful["CAP_SYS_NICE"] = "no real-time priority, unless RLIMIT_RTPRIO allows it"
    needed = dict.fromkeys(NEEDED_BY_MODE.get(mode, ()), f'receive.mode "{mode}" cannot be set up')
    show = "grep CapEff /proc/self/status"
    for name, consequence in {**needed, **helpful}.items():
        remedy = f"AmbientCapabilities={name} and CapabilityBoundingSet={name} in the unit"
        if name in needed:
            remedy = f"systemd/mode-{mode}.conf as a drop-in of the unit"
        if has_capability(name, root):
            yield ok(name, "granted", show)
        else:
            missed = error if name in needed else warning
            yield missed(name, f"not granted: {consequence}", remedy, show)


def has_capability(name: str, root: Path = ROOT) -> bool:
    """Tell whether this process may use it now."""
    found = re.search(r"CapEff:\s*([0-9a-f]+)", read(root, "proc/self/status") or "")
    return found is not None and bool(int(found[1], 16) >> CAPABILITIES[name] & 1)
