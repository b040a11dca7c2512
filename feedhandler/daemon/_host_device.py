"""The network devices' side of `feedhandler check`: rings, waits, merging, drops."""

from collections.abc import Iterator
from pathlib import Path

from feedhandler.config import Config
from feedhandler.daemon._clock import devices_of
from feedhandler.daemon._ethtool import DeviceSettings, read_settings
from feedhandler.daemon._finding import Finding, ok, warning
from feedhandler.daemon._kernel_files import ROOT, node_of_cpu, read, read_int

LARGE_RING = 4096
"""Descriptors; more help nobody and cost cache."""


def look(config: Config, root: Path = ROOT) -> Iterator[Finding]:
    """Yield what is found of the lines' devices and of the kernel's way from them to the sockets."""
    for device in devices_of(config):
        yield from judge(device, read_settings(device), is_card=is_card(device, root))
        yield from _node(device, config.receive.cpu, root)
        yield from _deferral(device, config, root)
    yield from _backlog(root)
    yield from _waiting(config, root)


def is_card(device: str, root: Path = ROOT) -> bool:
    """Tell whether there is hardware (or a hypervisor's) behind the device."""
    return (root / "sys/class/net" / device / "device").exists()


def judge(device: str, settings: DeviceSettings, *, is_card: bool) -> Iterator[Finding]:
    """Judge what the device is set to."""
    ring, coalescing = settings.ring, settings.coalescing
    if ring is not None:
        wanted, show = min(ring.most, LARGE_RING), f"ethtool -g {device}"
        if ring.size < wanted:
            text = f"receive ring of {ring.size} packets, {ring.most} can be had: bursts may be lost"
            yield warning(f"{device}.ring", text, f"ethtool -G {device} rx {wanted}", show)
        else:
            yield ok(f"{device}.ring", f"receive ring of {ring.size} packets", show)
    if coalescing is not None:
        remedy, show = f"ethtool -C {device} adaptive-rx off rx-usecs 0", f"ethtool -c {device}"
        if coalescing.adaptive:
            text = "the driver decides how long a packet waits for its interrupt"
            yield warning(f"{device}.coalescing", text, remedy, show)
        elif coalescing.usecs:
            text = f"a packet waits up to {coalescing.usecs} us for its interrupt"
            yield warning(f"{device}.coalescing", text, remedy, show)
        else:
            yield ok(f"{device}.coalescing", "interrupts do not wait for more packets", show)
    if settings.lro:
        text = "the card merges packets (LRO): their boundaries and times are lost"
        yield warning(f"{device}.lro", text, f"ethtool -K {device} lro off", f"ethtool -k {device}")
    if settings.gro is not None and is_card:
        show = f"ethtool -k {device}"
        if settings.gro:
            text = "each packet is looked at for merging (GRO), which helps no datagram"
            yield warning(f"{device}.gro", text, f"ethtool -K {device} gro off", show)
        else:
            yield ok(f"{device}.gro", "no merging of packets (GRO)", show)


def _node(device: str, cpu: int, root: Path) -> Iterator[Finding]:
    path = f"sys/class/net/{device}/device/numa_node"
    node = read_int(root, path)
    if node is None or node < 0 or cpu < 0:  # -1: the only one, or nobody knows
        return
    show = f"cat /{path}; numactl --hardware"
    if node == node_of_cpu(root, cpu):
        yield ok(f"{device}.node", f"{device} and CPU {cpu} are both on node {node}", show)
        return
    there = read(root, f"sys/devices/system/node/node{node}/cpulist")
    text = f"{device} is on node {node}, CPU {cpu} is not: each packet crosses between them"
    yield warning(f"{device}.node", text, f"set receive.cpu to one of {there}", show)


def _deferral(device: str, config: Config, root: Path) -> Iterator[Finding]:
    """Judge what preferred busy polling rests on: no interrupts while it is polled."""
    if not config.receive.spin or config.receive.mode not in ("socket", "xdp") or not is_card(device, root):
        return
    base = f"sys/class/net/{device}"
    show = f"grep . /{base}/napi_defer_hard_irqs /{base}/gro_flush_timeout"
    if read_int(root, f"{base}/napi_defer_hard_irqs") and read_int(root, f"{base}/gro_flush_timeout"):
        yield ok(f"{device}.busy_poll", "interrupts stay off while the receive thread polls", show)
        return
    text = "interrupts come while the receive thread polls the device all the same"
    remedy = f"echo 2 > /{base}/napi_defer_hard_irqs; echo 200000 > /{base}/gro_flush_timeout"
    yield warning(f"{device}.busy_poll", text, remedy, show)


def _backlog(root: Path) -> Iterator[Finding]:
    """Judge what softirqs have dropped, or left lying, since the machine started (/proc/net/softnet_stat)."""
    rows = [line.split() for line in (read(root, "proc/net/softnet_stat") or "").splitlines()]
    if not rows:
        return
    dropped, squeezed = (sum(int(row[column], 16) for row in rows) for column in (1, 2))
    show = "cat /proc/net/softnet_stat (hexadecimal, a CPU a line; dropped, left lying: columns 2 and 3)"
    if dropped:
        text = f"{dropped} packets were dropped before their sockets since the machine started"
        yield warning("backlog", text, "sysctl -w net.core.netdev_max_backlog=250000", show)
    elif squeezed:
        text = f"packets were left lying {squeezed} times since the machine started, because a turn was over"
        yield warning("backlog", text, "sysctl -w net.core.netdev_budget=600", show)
    else:
        yield ok("backlog", "no packet was dropped before its socket since the machine started", show)


def _waiting(config: Config, root: Path) -> Iterator[Finding]:
    """Judge net.core.busy_poll, which counts only for a receive thread that waits."""
    if config.receive.spin:
        return
    busy_us, show = read_int(root, "proc/sys/net/core/busy_poll") or 0, "sysctl net.core.busy_poll"
    if busy_us:
        yield ok("net.core.busy_poll", f"the kernel polls devices {busy_us} us before it waits", show)
    else:
        text = "the receive thread sleeps at once when nothing is there, and is woken by an interrupt"
        yield warning(
            "net.core.busy_poll", text, "receive.spin = true, or sysctl -w net.core.busy_poll=50", show
        )
