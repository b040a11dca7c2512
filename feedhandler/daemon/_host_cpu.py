"""The processors' side of `feedhandler check`: is the receive thread's CPU its own, and awake?"""

import os
import resource
from collections.abc import Iterator, Set
from pathlib import Path

from feedhandler.config import Config
from feedhandler.daemon._finding import Finding, error, ok, warning
from feedhandler.daemon._host_privileges import has_capability
from feedhandler.daemon._kernel_files import ROOT, read, read_cpus, read_int
from feedhandler.daemon._realtime import refusal, share_of_others_us

CPUS = "sys/devices/system/cpu"
DMA_LATENCY = "dev/cpu_dma_latency"
LONG_WAKE_US = 10
"""Sleep that takes longer to leave is worth a warning: ten times the budget of a packet's way."""


def look(config: Config, root: Path = ROOT, usable: Set[int] | None = None) -> Iterator[Finding]:
    """Yield what is found of the CPUs; `usable`: those that this process may use."""
    usable = os.sched_getaffinity(0) if usable is None else usable
    cpu = config.receive.cpu
    yield from _chosen(config, usable)
    yield from _realtime(config, usable, root)
    yield from _idle_states(config, max(cpu, 0), root)
    if cpu in usable:
        yield from _isolated(cpu, root)
        yield from _siblings(cpu, root)
        yield from _governor(cpu, root)


def _chosen(config: Config, usable: Set[int]) -> Iterator[Finding]:
    cpu = config.receive.cpu
    if config.receive.spin and len(usable) < 2:
        text = "the receive thread spins on the only CPU there is: nothing else will run well"
        yield warning("receive.spin", text, "spin = false, or a second CPU", "nproc")
    if cpu >= 0 and cpu not in usable:
        allowed = ", ".join(map(str, sorted(usable)))
        text = f"{cpu} is not a CPU that this process may use"
        yield error("receive.cpu", text, f"use one of: {allowed}", "taskset -p $$")
    elif cpu < 0 and config.receive.spin:
        text = "the receive thread is not pinned: the scheduler may move it or put others beside it"
        yield warning("receive.cpu", text, "set receive.cpu to an isolated CPU", f"cat /{CPUS}/isolated")


def _realtime(config: Config, usable: Set[int], root: Path) -> Iterator[Finding]:
    receive, show = config.receive, "sysctl kernel.sched_rt_runtime_us kernel.sched_rt_period_us"
    if receive.priority == 0:
        return
    if refused := refusal(config, usable, root):
        yield error("receive.priority", *refused, show)
        return
    granted = resource.getrlimit(resource.RLIMIT_RTPRIO)[0]
    if not has_capability("CAP_SYS_NICE", root) and 0 <= granted < receive.priority:
        text = f"{receive.priority} is not granted (CAP_SYS_NICE or RLIMIT_RTPRIO is needed)"
        yield error("receive.priority", text, "docs/tuning.md says what the unit needs", "ulimit -r")
        return
    share_us = share_of_others_us(root, receive.cpu)
    if share_us == 0:
        text = f"{receive.priority}: nothing takes the CPU back from a receive thread that does not wait"
        yield warning("receive.priority", text, "sysctl -w kernel.sched_rt_runtime_us=950000", show)
    elif receive.cpu == 0:
        text = f"{receive.priority} on CPU 0, where the kernel does its own work"
        yield warning("receive.priority", text, "set receive.cpu to another CPU", "ps -eLo psr,comm")
    else:
        text = f"{receive.priority}; {share_us / 1000:g} ms of each second stay for others that wait there"
        yield ok("receive.priority", text, show)


def _isolated(cpu: int, root: Path) -> Iterator[Finding]:
    isolated = read_cpus(root, f"{CPUS}/isolated") | read_cpus(root, "sys/fs/cgroup/cpuset.cpus.isolated")
    show = f"cat /{CPUS}/isolated /{CPUS}/nohz_full"
    boot = f"boot with isolcpus=managed_irq,domain,{cpu} nohz_full={cpu} rcu_nocbs={cpu}"
    if cpu not in isolated:
        text = f"CPU {cpu} is not isolated: other threads and interrupts share it"
        yield warning("receive.cpu", text, boot, show)
    elif cpu not in read_cpus(root, f"{CPUS}/nohz_full"):
        text = f"CPU {cpu} is isolated, but the timer still interrupts it"
        yield warning("receive.cpu", text, boot, show)
    else:
        yield ok("receive.cpu", f"CPU {cpu} is isolated", show)


def _siblings(cpu: int, root: Path) -> Iterator[Finding]:
    path = f"{CPUS}/cpu{cpu}/topology/thread_siblings_list"
    online = read_cpus(root, f"{CPUS}/online")
    others = sorted(read_cpus(root, path) & online - {cpu})
    if not others:
        return
    names = ", ".join(map(str, others))
    if set(others) <= read_cpus(root, f"{CPUS}/isolated"):
        yield ok("siblings", f"CPU {cpu} shares its core with CPU {names}, isolated too", f"cat /{path}")
        return
    text = f"CPU {cpu} shares its core with CPU {names}: what runs there takes from its speed"
    off = "; ".join(f"echo 0 > /{CPUS}/cpu{other}/online" for other in others)
    yield warning("siblings", text, off, f"cat /{path}")


def _governor(cpu: int, root: Path) -> Iterator[Finding]:
    path = f"{CPUS}/cpu{cpu}/cpufreq/scaling_governor"
    governor = read(root, path)
    if governor not in (None, "performance"):
        text = f'CPU {cpu} runs under the governor "{governor}": it slows down when it seems idle'
        remedy = f"cpupower -c {cpu} frequency-set -g performance"
        yield warning("governor", text, remedy, f"cat /{path}")


def _idle_states(config: Config, cpu: int, root: Path) -> Iterator[Finding]:
    """Of the states that are not disabled the one that takes longest to leave."""
    folder, limit_us = root / CPUS / f"cpu{cpu}/cpuidle", config.receive.idle_latency_us
    deepest_us, name = 0, ""
    for state in sorted(folder.glob("state[0-9]*")):
        latency_us = read_int(state, "latency") or 0
        allowed = not read_int(state, "disable") and (limit_us < 0 or latency_us <= limit_us)
        if allowed and latency_us > deepest_us:
            deepest_us, name = latency_us, read(state, "name") or state.name
    show = f"grep . /{CPUS}/cpu{cpu}/cpuidle/state*/{{name,latency,disable}}"
    if limit_us >= 0 and not os.access(root / DMA_LATENCY, os.W_OK):
        text = f"{limit_us}: /{DMA_LATENCY} cannot be written: the daemon does not start"
        remedy = "docs/tuning.md says who may, or idle_latency_us = -1"
        yield error("receive.idle_latency_us", text, remedy, f"ls -l /{DMA_LATENCY}")
    if deepest_us <= LONG_WAKE_US:
        if folder.is_dir():
            yield ok("idle states", f"CPUs wake within {deepest_us} us", show)
        return
    who = "consumers that wait" if config.receive.spin else "the receive thread, and consumers that wait,"
    text = f"CPUs sleep as deep as {name}: {who} wake up to {deepest_us} us late"
    yield warning("idle states", text, "receive.idle_latency_us = 0, or boot with cpuidle.off=1", show)
