"""What `check` says of machines unlike the one that runs the tests: their /proc and /sys are written here."""

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from feedhandler.config import Config
from feedhandler.daemon import _host_cpu, _host_device, _host_interrupts, _host_memory, _host_privileges
from feedhandler.daemon._ethtool import Coalescing, DeviceSettings, Ring
from feedhandler.daemon._finding import Finding
from tests.support.capabilities import mask
from tests.support.kernel_tree import CPUS, IPC_LOCK_ONLY, write_tree

SILENT = DeviceSettings(ring=None, coalescing=None, gro=None, lro=None)


def config(interface: str = "lo", **receive: Any) -> Config:
    """Return a configuration with these settings of [receive]."""
    line = {"name": "A", "group": "239.1.1.1", "port": 1, "interface": interface}
    settings = {"channel": {"name": "x"}, "line": [line], "receive": receive}
    return Config.model_validate(settings)


def found(findings: Iterable[Finding], check: str) -> Finding:
    """Return the only finding of this name, after a look at all of them: what is wrong has a remedy."""
    everything = list(findings)
    assert all(finding.show for finding in everything)
    assert all(finding.remedy for finding in everything if finding.status != "ok")
    [finding] = [finding for finding in everything if finding.check == check]
    return finding


def names(findings: Iterable[Finding]) -> set[str]:
    """Return what was looked at."""
    return {finding.check for finding in findings}


@pytest.mark.parametrize(
    ("isolated", "partition", "nohz_full", "status", "text"),
    [
        ("", "", "(null)", "warning", "CPU 3 is not isolated: other threads and interrupts share it"),
        ("2,4-5", "", "2-5", "warning", "CPU 3 is not isolated: other threads and interrupts share it"),
        ("2-3", "", "(null)", "warning", "CPU 3 is isolated, but the timer still interrupts it"),
        ("2-3", "", "2-3", "ok", "CPU 3 is isolated"),
        ("", "3", "3", "ok", "CPU 3 is isolated"),
    ],
)
def test_isolation_is_the_kernels_own_list_or_a_partition_of_control_groups(
    tmp_path: Path, isolated: str, partition: str, nohz_full: str, status: str, text: str
) -> None:
    """Not isolated, isolated with the timer's ticks, and wholly."""
    files = {
        f"{CPUS}/isolated": isolated,
        f"{CPUS}/nohz_full": nohz_full,
        "sys/fs/cgroup/cpuset.cpus.isolated": partition,
    }
    finding = found(_host_cpu.look(config(cpu=3), write_tree(tmp_path, files), {0, 3}), "receive.cpu")
    assert (finding.status, finding.text) == (status, text)
    assert (
        status == "ok" or finding.remedy == "boot with isolcpus=managed_irq,domain,3 nohz_full=3 rcu_nocbs=3"
    )


@pytest.mark.parametrize(
    ("siblings", "online", "isolated", "status"),
    [
        ("3", "0-7", "", None),
        ("3,7", "0-6", "", None),
        ("3,7", "0-7", "3", "warning"),
        ("3,7", "0-7", "3,7", "ok"),
    ],
)
def test_other_half_of_a_core_matters_while_others_may_run_there(
    tmp_path: Path, siblings: str, online: str, isolated: str, status: str | None
) -> None:
    """None, switched off, in use, isolated as well."""
    files = {
        f"{CPUS}/cpu3/topology/thread_siblings_list": siblings,
        f"{CPUS}/online": online,
        f"{CPUS}/isolated": isolated,
    }
    findings = list(_host_cpu.look(config(cpu=3), write_tree(tmp_path, files), {0, 3}))
    if status is None:
        assert "siblings" not in names(findings)
        return
    finding = found(findings, "siblings")
    assert finding.status == status
    assert status == "ok" or finding.remedy == f"echo 0 > /{CPUS}/cpu7/online"


@pytest.mark.parametrize(
    ("receive", "disabled", "status", "text"),
    [
        ({}, "0", "warning", "CPUs sleep as deep as C6: consumers that wait wake up to 133 us late"),
        ({"spin": False}, "0", "warning", "CPUs sleep as deep as C6: the receive thread, and consumers"),
        ({}, "1", "ok", "CPUs wake within 2 us"),
        ({"idle_latency_us": 0}, "0", "ok", "CPUs wake within 0 us"),
        ({"idle_latency_us": 200}, "0", "warning", "CPUs sleep as deep as C6"),
    ],
)
def test_deepest_idle_state_that_is_left_decides(
    tmp_path: Path, receive: dict[str, Any], disabled: str, status: str, text: str
) -> None:
    """What is disabled, or excluded by our own setting, does not count."""
    files = {
        f"{CPUS}/cpu0/cpuidle/state{n}/{name}": value
        for n, state in enumerate((("POLL", "0", "0"), ("C1", "2", "0"), ("C6", "133", disabled)))
        for name, value in zip(("name", "latency", "disable"), state, strict=True)
    }
    finding = found(_host_cpu.look(config(**receive), write_tree(tmp_path, files), {0, 1}), "idle states")
    assert (finding.status, finding.text[: len(text)]) == (status, text)


def test_governor_that_slows_down_is_named(tmp_path: Path) -> None:
    """The one of the receive thread's CPU."""
    tree = write_tree(tmp_path, {f"{CPUS}/cpu3/cpufreq/scaling_governor": "powersave"})
    finding = found(_host_cpu.look(config(cpu=3), tree, {0, 3}), "governor")
    assert (finding.status, finding.remedy) == ("warning", "cpupower -c 3 frequency-set -g performance")
    assert '"powersave"' in finding.text


@pytest.mark.parametrize(
    ("receive", "runtime_us", "status"),
    [
        ({"cpu": 3, "priority": 10}, 950_000, "ok"),
        ({"cpu": 0, "priority": 10}, 950_000, "warning"),
        ({"cpu": 3, "priority": 10}, -1, "error"),
        ({"cpu": 3, "priority": 10, "priority_guard": False}, -1, "warning"),
    ],
)
def test_priority_is_judged_as_the_start_of_the_daemon_would(
    tmp_path: Path, receive: dict[str, Any], runtime_us: int, status: str
) -> None:
    """An error keeps it from starting; without its guard there is still a warning."""
    files = {
        "proc/sys/kernel/osrelease": "6.1.0",
        "proc/sys/kernel/sched_rt_runtime_us": str(runtime_us),
        "proc/sys/kernel/sched_rt_period_us": "1000000",
        "proc/self/status": f"CapEff:\t{mask(['sys_nice']):x}",
    }
    tree = write_tree(tmp_path, files)
    assert found(_host_cpu.look(config(**receive), tree, {0, 3}), "receive.priority").status == status


INTERRUPTS = """\
           CPU0       CPU1
 41:         11          0  PCI-MSI  lo-TxRx-0
 42:          0         12  PCI-MSI  lo-TxRx-1
 43:          0         12  PCI-MSI  loop
 44:          3          0  PCI-MSI  nvme0q1
LOC:         22         33  Local timer interrupts"""


def test_interrupts_of_a_lines_device_on_the_receive_threads_cpu_are_listed(tmp_path: Path) -> None:
    """Where they are handled now counts, not where they may be; others are counted apart."""
    files = {"proc/interrupts": INTERRUPTS, f"{CPUS}/online": "0-3"}
    for number, cpu in ((41, 0), (42, 3), (43, 3), (44, 1)):
        files[f"proc/irq/{number}/smp_affinity_list"] = "0-3"
        files[f"proc/irq/{number}/effective_affinity_list"] = str(cpu)
    tree = write_tree(tmp_path, files)
    finding = found(_host_interrupts.look(config(cpu=3), tree), "lo.interrupts")
    assert finding.status == "warning"
    assert finding.text.startswith("interrupts 42 of lo are handled on CPU 3")
    assert finding.remedy == "for i in 42; do echo 0,1,2 > /proc/irq/$i/smp_affinity_list; done"
    assert found(_host_interrupts.look(config(cpu=3), tree), "interrupts").text.startswith("1 interrupts")
    assert found(_host_interrupts.look(config(cpu=2), tree), "lo.interrupts").status == "ok"
    assert found(_host_interrupts.look(config(cpu=2), tree), "interrupts").status == "ok"
    with_priority = found(_host_interrupts.look(config(cpu=3, priority=1), tree), "lo.interrupts")
    assert "ksoftirqd" in with_priority.text
    assert not list(_host_interrupts.look(config(), tree))


@pytest.mark.parametrize("place", ["sys/devices/pci/card", "sys/devices/pci/card/virtio2"])
def test_interrupts_are_found_by_the_devices_own_folder(tmp_path: Path, place: str) -> None:
    """A card's, or, for a virtio device, the one above."""
    files = {
        "sys/devices/pci/card/msi_irqs/7": "msix",
        "sys/class/net/lo/device": f"-> ../../../../{place}",
        "proc/irq/7/smp_affinity_list": "1-3",
    }
    tree = write_tree(tmp_path, files)
    assert _host_interrupts.interrupts_of("lo", tree) == {7}
    assert found(_host_interrupts.look(config(cpu=1), tree), "lo.interrupts").status == "warning"


@pytest.mark.parametrize(("isolated", "warned"), [("", True), ("3", False)])
def test_balancer_of_interrupts_is_a_danger_where_the_cpu_is_not_isolated(
    tmp_path: Path, isolated: str, warned: bool
) -> None:
    """It leaves isolated CPUs alone."""
    files = {"proc/812/comm": "irqbalance", "proc/1/comm": "systemd", f"{CPUS}/isolated": isolated}
    findings = _host_interrupts.look(config(cpu=3), write_tree(tmp_path, files))
    assert ("irqbalance" in names(findings)) == warned


@pytest.mark.parametrize(
    ("settings", "check", "status", "remedy"),
    [
        (SILENT._replace(ring=Ring(256, 8192)), "e0.ring", "warning", "ethtool -G e0 rx 4096"),
        (SILENT._replace(ring=Ring(512, 1024)), "e0.ring", "warning", "ethtool -G e0 rx 1024"),
        (SILENT._replace(ring=Ring(4096, 8192)), "e0.ring", "ok", ""),
        (
            SILENT._replace(coalescing=Coalescing(50, 0, adaptive=False)),
            *("e0.coalescing", "warning", "ethtool -C e0 adaptive-rx off rx-usecs 0"),
        ),
        (
            SILENT._replace(coalescing=Coalescing(0, 0, adaptive=True)),
            *("e0.coalescing", "warning", "ethtool -C e0 adaptive-rx off rx-usecs 0"),
        ),
        (SILENT._replace(coalescing=Coalescing(0, 1, adaptive=False)), "e0.coalescing", "ok", ""),
        (SILENT._replace(gro=True), "e0.gro", "warning", "ethtool -K e0 gro off"),
        (SILENT._replace(gro=False), "e0.gro", "ok", ""),
        (SILENT._replace(lro=True), "e0.lro", "warning", "ethtool -K e0 lro off"),
    ],
)
def test_settings_of_a_card_are_judged(
    settings: DeviceSettings, check: str, status: str, remedy: str
) -> None:
    """With the command that sets each."""
    finding = found(_host_device.judge("e0", settings, is_card=True), check)
    assert (finding.status, finding.remedy) == (status, remedy)


def test_driver_that_says_nothing_and_device_without_a_card_are_not_judged() -> None:
    """A veth pair merges packets by itself only when asked to, and needs that for busy polling."""
    assert list(_host_device.judge("e0", SILENT, is_card=True)) == []
    assert list(_host_device.judge("e0", SILENT._replace(gro=True, lro=False), is_card=False)) == []


@pytest.mark.parametrize(
    ("node", "cpu", "status"), [("1", 3, "ok"), ("1", 0, "warning"), ("-1", 0, None), ("1", -1, None)]
)
def test_device_and_cpu_on_two_nodes_are_told(
    tmp_path: Path, node: str, cpu: int, status: str | None
) -> None:
    """The remedy names the CPUs beside the device; nothing is said where nobody knows."""
    files = {
        "sys/class/net/lo/device/numa_node": node,
        "sys/devices/system/node/node0/cpulist": "0-1",
        "sys/devices/system/node/node1/cpulist": "2-3",
    }
    findings = list(_host_device.look(config(cpu=cpu), write_tree(tmp_path, files)))
    assert ("lo.node" in names(findings)) == (status is not None)
    if status is not None:
        finding = found(findings, "lo.node")
        assert finding.status == status
        assert status == "ok" or finding.remedy == "set receive.cpu to one of 2-3"


@pytest.mark.parametrize(
    ("mode", "defer", "flush", "status"),
    [
        ("socket", "0", "0", "warning"),
        ("socket", "2", "0", "warning"),
        ("socket", "2", "200000", "ok"),
        ("packet", "0", "0", None),
    ],
)
def test_busy_polling_wants_interrupts_left_off(
    tmp_path: Path, mode: str, defer: str, flush: str, status: str | None
) -> None:
    """Both settings together; only where the receive thread polls the device."""
    files = {
        "sys/class/net/lo/device/vendor": "0x15b3",
        "sys/class/net/lo/napi_defer_hard_irqs": defer,
        "sys/class/net/lo/gro_flush_timeout": flush,
    }
    findings = list(_host_device.look(config(mode=mode), write_tree(tmp_path, files)))
    assert ("lo.busy_poll" in names(findings)) == (status is not None)
    if status is not None:
        assert found(findings, "lo.busy_poll").status == status


@pytest.mark.parametrize(
    ("dropped", "squeezed", "status", "remedy"),
    [
        (0, 0, "ok", ""),
        (0, 0x1E, "warning", "sysctl -w net.core.netdev_budget=600"),
        (0x10, 3, "warning", "sysctl -w net.core.netdev_max_backlog=250000"),
    ],
)
def test_what_softirqs_dropped_is_read_from_their_own_counters(
    tmp_path: Path, dropped: int, squeezed: int, status: str, remedy: str
) -> None:
    """Summed over the CPUs; hexadecimal."""
    rows = f"000a {dropped:08x} {squeezed:08x} 0\n000b {0:08x} {0:08x} 0"
    tree = write_tree(tmp_path, {"proc/net/softnet_stat": rows})
    finding = found(_host_device.look(config(), tree), "backlog")
    assert (finding.status, finding.remedy) == (status, remedy)
    assert not dropped or "16 packets" in finding.text


def test_receive_thread_that_waits_is_told_of_the_kernels_polling(tmp_path: Path) -> None:
    """A setting of the whole machine that a spinning one does not need."""
    tree = write_tree(tmp_path, {"proc/sys/net/core/busy_poll": "0"})
    assert found(_host_device.look(config(spin=False), tree), "net.core.busy_poll").status == "warning"
    assert "net.core.busy_poll" not in names(_host_device.look(config(), tree))
    write_tree(tmp_path, {"proc/sys/net/core/busy_poll": "50"})
    assert found(_host_device.look(config(spin=False), tree), "net.core.busy_poll").status == "ok"


@pytest.mark.parametrize(
    ("setting", "status"),
    [
        ("always madvise [never]", "warning"),
        ("always [madvise] never", "ok"),
        ("[always] madvise never", "ok"),
    ],
)
def test_transparent_huge_pages_are_for_the_books(tmp_path: Path, setting: str, status: str) -> None:
    """They ask for them by madvise."""
    tree = write_tree(tmp_path, {_host_memory.TRANSPARENT: setting})
    assert found(_host_memory.look(config(), tree), "huge pages").status == status


@pytest.mark.parametrize(
    ("mode", "total", "free", "status", "remedy"),
    [
        ("socket", 0, 0, "ok", ""),
        ("xdp", 0, 0, "warning", "sysctl -w vm.nr_hugepages=64"),
        ("xdp", 100, 10, "warning", "sysctl -w vm.nr_hugepages=154"),
        ("dpdk", 0, 0, "ok", ""),
    ],
)
def test_reserved_huge_pages_are_wanted_by_some_modes(
    tmp_path: Path, mode: str, total: int, free: int, status: str, remedy: str
) -> None:
    """So many that enough are free; what others have taken is theirs."""
    base = _host_memory.RESERVED
    tree = write_tree(tmp_path, {f"{base}/nr_hugepages": str(total), f"{base}/free_hugepages": str(free)})
    finding = found(_host_memory.look(config(mode=mode), tree), "reserved huge pages")
    assert (finding.status, finding.remedy) == (status, remedy)


@pytest.mark.parametrize(
    ("memory_mib", "total", "free", "status", "remedy"),
    [
        (256, 128, 128, "ok", ""),
        (256, 128, 127, "error", "sysctl -w vm.nr_hugepages=129, or huge_pages = false"),
        (17, 0, 0, "error", "sysctl -w vm.nr_hugepages=9, or huge_pages = false"),
    ],
)
def test_dpdk_does_not_start_without_the_huge_pages_that_it_asks_for(
    tmp_path: Path, memory_mib: int, total: int, free: int, status: str, remedy: str
) -> None:
    """With receive.dpdk.huge_pages: as many as memory_mib is."""
    base = _host_memory.RESERVED
    tree = write_tree(tmp_path, {f"{base}/nr_hugepages": str(total), f"{base}/free_hugepages": str(free)})
    dpdk = {"huge_pages": True, "memory_mib": memory_mib}
    finding = found(_host_memory.look(config(mode="dpdk", dpdk=dpdk), tree), "reserved huge pages")
    assert (finding.status, finding.remedy) == (status, remedy)


SWAPS = "Filename Type Size Used Priority"


@pytest.mark.parametrize(
    ("swaps", "status", "warned"),
    [
        (SWAPS, "CapEff:\t0", False),
        (f"{SWAPS}\n/dev/sda2 partition 1 0 -2", "CapEff:\t0", True),
        (f"{SWAPS}\n/dev/sda2 partition 1 0 -2", IPC_LOCK_ONLY, False),
    ],
)
def test_swap_is_a_danger_for_memory_that_is_not_locked(
    tmp_path: Path, swaps: str, status: str, warned: bool
) -> None:
    """None at all, some, some but locked memory."""
    tree = write_tree(tmp_path, {"proc/swaps": swaps, "proc/self/status": status})
    assert ("swap" in names(_host_memory.look(config(), tree))) == warned


@pytest.mark.parametrize(("nodes", "warned"), [(1, False), (2, True)])
def test_moving_of_pages_matters_where_there_are_nodes(tmp_path: Path, nodes: int, warned: bool) -> None:
    """With one node nothing can be moved."""
    files = {f"sys/devices/system/node/node{n}/cpulist": str(n) for n in range(nodes)}
    tree = write_tree(tmp_path, {**files, "proc/sys/kernel/numa_balancing": "1"})
    assert ("numa balancing" in names(_host_memory.look(config(), tree))) == warned


@pytest.mark.parametrize(
    ("receive", "expected"),
    [
        ({}, {"CAP_NET_ADMIN": "warning", "CAP_IPC_LOCK": "ok"}),
        ({"mode": "dpdk"}, {"CAP_IPC_LOCK": "ok"}),
        ({"mode": "packet"}, {"CAP_IPC_LOCK": "ok", "CAP_NET_RAW": "error"}),
        (
            {"mode": "xdp"},
            {"CAP_NET_ADMIN": "error", "CAP_IPC_LOCK": "ok", "CAP_NET_RAW": "error", "CAP_BPF": "error"},
        ),
        (
            {"priority": 5, "cpu": 1},
            {"CAP_NET_ADMIN": "warning", "CAP_IPC_LOCK": "ok", "CAP_SYS_NICE": "warning"},
        ),
    ],
)
def test_privileges_are_those_that_the_configuration_uses(
    tmp_path: Path, receive: dict[str, Any], expected: dict[str, str]
) -> None:
    """What a mode cannot do without is an error, what makes it better a warning, the rest is not said."""
    tree = write_tree(tmp_path, {"proc/self/status": IPC_LOCK_ONLY})
    assert {f.check: f.status for f in _host_privileges.look(config(**receive), tree)} == expected


def test_feed_is_made_on_the_node_of_the_receive_threads_cpu(tmp_path: Path) -> None:
    """Memory comes from the node of the thread that touches it first; on its CPU itself nobody else stays."""
    usable = sorted(os.sched_getaffinity(0))
    assert len(usable) > 1, "this needs two CPUs"
    near, far = usable[0], usable[-1]
    files = {
        "sys/devices/system/node/node0/cpulist": f"{near},9000",
        "sys/devices/system/node/node1/cpulist": f"{far}",
    }
    tree = write_tree(tmp_path, files)
    code = (
        "import os, sys; from pathlib import Path; from feedhandler.daemon._placement import make_way\n"
        "make_way(int(sys.argv[2]), os.sched_getaffinity(0), Path(sys.argv[1]))\n"
        "print(sorted(os.sched_getaffinity(0)))"
    )

    def left(cpu: int) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, str(tree), str(cpu)], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert left(9000) == str([near])  # beside it on its node
    assert left(far) == str([cpu for cpu in usable if cpu != far])  # alone on its node: anywhere else
    assert left(-1) == str(usable)
