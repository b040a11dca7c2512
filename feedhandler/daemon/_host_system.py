"""The machine's side of `feedhandler check`: privileges, memory, CPUs, runtime directory."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from feedhandler.config import Config
from feedhandler.daemon._finding import Finding, error, ok, warning

BOOKS_BYTES = 64 << 20
"""Room for the books file and the channel file, generously; the rest of the channel's memory is the ring."""

_CAPABILITIES = {
    "CAP_NET_ADMIN": (12, "receive buffers stay within net.core.rmem_max, busy polling is not preferred"),
    "CAP_IPC_LOCK": (14, "memory may be paged out"),
    "CAP_SYS_NICE": (23, "no real-time priority and no other process's CPUs can be set"),
}


def look(config: Config, directory: Path) -> Iterator[Finding]:
    """Yield what the machine lacks for this configuration; `directory`: the channel's folder."""
    yield from _privileges()
    yield _huge_pages()
    yield from _cpus(config)
    yield from _runtime_dir(config, directory)


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def _privileges() -> Iterator[Finding]:
    status = _read("/proc/self/status") or ""
    found = re.search(r"CapEff:\s*([0-9a-f]+)", status)
    effective = int(found[1], 16) if found else 0
    for name, (bit, consequence) in _CAPABILITIES.items():
        if effective >> bit & 1:
            yield ok(name, "granted")
        else:
            yield warning(name, f"not granted: {consequence}", f"AmbientCapabilities={name} in the unit")


def _huge_pages() -> Finding:
    setting = _read("/sys/kernel/mm/transparent_hugepage/enabled") or ""
    chosen = re.search(r"\[(\w+)]", setting)
    if chosen and chosen[1] in ("madvise", "always"):
        return ok("huge pages", f"transparent huge pages: {chosen[1]}")
    text = "transparent huge pages are off: a busy book costs a third more memory latency"
    return warning("huge pages", text, "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled")


def parse_cpus(text: str) -> set[int]:
    """Return the CPUs of a kernel list such as "2-3,8"."""
    cpus: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        cpus.update(range(int(first), int(last or first) + 1))
    return cpus


def _cpus(config: Config) -> Iterator[Finding]:
    cpu, usable = config.receive.cpu, os.sched_getaffinity(0)
    if config.receive.spin and len(usable) < 2:
        text = "the receive thread spins on the only CPU there is: nothing else will run well"
        yield warning("receive.spin", text, "spin = false, or a second CPU")
    if cpu < 0:
        if config.receive.spin:
            text = "the receive thread is not pinned: the scheduler may move it or put others beside it"
            yield warning("receive.cpu", text, "set receive.cpu to an isolated CPU")
        return
    if cpu not in usable:
        allowed = ", ".join(map(str, sorted(usable)))
        yield error("receive.cpu", f"{cpu} is not a CPU that this process may use", f"use one of: {allowed}")
        return
    if cpu in parse_cpus(_read("/sys/devices/system/cpu/isolated") or ""):
        yield ok("receive.cpu", f"CPU {cpu} is isolated")
    else:
        text = f"CPU {cpu} is not isolated: other threads and interrupts share it"
        yield warning("receive.cpu", text, f"boot with isolcpus={cpu} nohz_full={cpu} rcu_nocbs={cpu}")
    governor = _read(f"/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor")
    if governor not in (None, "performance"):
        text = f'CPU {cpu} runs under the governor "{governor}": it slows down when it seems idle'
        yield warning("governor", text, f"cpupower -c {cpu} frequency-set -g performance")


def _runtime_dir(config: Config, directory: Path) -> Iterator[Finding]:
    existing = directory
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        remedy = "choose another by --runtime-dir or $FEEDHANDLER_RUNTIME_DIR, or let systemd make it"
        yield error("runtime directory", f"{directory} cannot be made or written by this user", remedy)
        return
    space = os.statvfs(existing)
    free, wanted = space.f_bavail * space.f_frsize, (config.publish.ring_mib << 20) + BOOKS_BYTES
    if free < wanted:
        text = f"{existing} has {free >> 20} MiB free, the channel needs up to {wanted >> 20}"
        yield error("runtime directory", text, "a smaller publish.ring_mib, or a larger tmpfs")
    else:
        yield ok("runtime directory", f"{directory} can be written, {free >> 20} MiB free")
