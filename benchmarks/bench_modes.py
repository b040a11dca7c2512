"""Every receive mode over a veth pair, interleaved: latency, time per packet, packets/s; table and plot.

python -m benchmarks.bench_modes [--rounds 5] [--modes 'socket;packet']   needs root: namespaces, AF_XDP, FIFO

The sender stamps each packet with the processor's counter and the receiver reads it where poll() returned the
packet, both pinned and under SCHED_FIFO: the latency holds the sender's system call and the veth pair too. On
veth the kernel's receiving is done by the sender, so that in a flood the sender is the limit: packets/s are
its, the receiver's own time per packet is the column beside. Tails of a shared machine are no evidence.
"""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import RESULTS, build, write_json
from feedhandler import _core
from tests.support.netns import Veth, veth_pair

PACED_PER_S, PACED_PACKETS, FLOOD_PACKETS, BYTES = 20_000, 12_000, 200_000, 100
PHASES = (("paced", PACED_PACKETS, PACED_PER_S), ("flood", FLOOD_PACKETS, 0))
RUN_TIMEOUT_S = 30
PLUGIN = _core.default_dpdk_plugin()


@dataclass(frozen=True)
class Mode:
    """One row: its name and the settings of the receiver."""

    name: str
    settings: tuple[str, ...]


MODES = (
    Mode("socket, blocking", ("mode=socket", "spin=false")),
    Mode("socket", ("mode=socket",)),
    Mode("packet, blocking", ("mode=packet", "spin=false")),
    Mode("packet", ("mode=packet",)),
    Mode("xdp generic", ("mode=xdp", "xdp.attach=generic")),
    Mode("xdp native", ("mode=xdp", "xdp.attach=native", "xdp.busy_poll=false")),
    Mode("xdp native, busy poll", ("mode=xdp", "xdp.attach=native")),
    Mode("dpdk net_af_packet", ("mode=dpdk", f"dpdk.plugin={PLUGIN}", "dpdk.port=net_af_packet0,iface=vR")),
    Mode("dpdk net_af_xdp", ("mode=dpdk", f"dpdk.plugin={PLUGIN}", "dpdk.port=net_af_xdp0,iface=vR")),
)


def main() -> None:
    """Run all modes, round by round; print, write, draw."""
    parser = argparse.ArgumentParser(description="Every receive mode over a veth pair, interleaved.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--modes", help="Names, separated by semicolons; default: all.")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("needs root: network namespaces, AF_XDP, SCHED_FIFO")
    known = [mode.name for mode in MODES]
    wanted = arguments.modes.split(";") if arguments.modes else known
    if unknown := set(wanted) - set(known):
        sys.exit(f"--modes: no mode {unknown.pop()!r}; there are: {'; '.join(known)}")
    modes = [mode for mode in MODES if mode.name in wanted]
    program = build("modes_bench")
    runs: dict[str, dict[str, list[dict[str, Any]]]] = {
        mode.name: {"paced": [], "flood": []} for mode in modes
    }
    with veth_pair("modes") as pair:
        for _ in range(arguments.rounds):
            for mode in modes:
                for kind, packets, rate in PHASES:
                    runs[mode.name][kind].append(_run(program, pair, mode, packets, rate))
    facts = {name: _summary(one) for name, one in runs.items()}
    write_json("modes", {"bytes": BYTES, "paced_per_s": PACED_PER_S, "modes": facts, "runs": runs})
    _print(facts)
    plot(facts)


def _run(program: Path, pair: Veth, mode: Mode, packets: int, rate: int) -> dict[str, Any]:
    receive = [str(program), "receive", pair.receiver_device, str(RUN_TIMEOUT_S), *mode.settings]
    send = [str(program), "send", pair.sender_address, str(packets), str(BYTES), str(rate)]
    receiver = subprocess.Popen([*pair.inside(pair.receiver), *receive], stdout=subprocess.PIPE, text=True)
    try:
        while (line := receiver.stdout.readline() if receiver.stdout else "") != "ready\n":
            if not line:
                sys.exit(f"{mode.name}: the receiver did not start")
        sent = subprocess.run(
            [*pair.inside(pair.sender), *send], check=True, capture_output=True, timeout=RUN_TIMEOUT_S
        ).stdout
        out = receiver.communicate(timeout=RUN_TIMEOUT_S)[0]
    finally:
        receiver.kill()
        receiver.wait()
    got: dict[str, Any] = json.loads(out.splitlines()[-1])
    got["sent"], got["sent_per_s"] = packets, json.loads(sent)["packets_per_s"]
    return got


def _summary(runs: dict[str, list[dict[str, Any]]]) -> dict[str, float]:
    def of(kind: str, key: str) -> np.ndarray:
        return np.array([run[key] for run in runs[kind]])

    lost = 1 - of("flood", "received").sum() / of("flood", "sent").sum()
    return {
        "min_ns": float(of("paced", "min_ns").min()),
        "p50_ns": float(np.median(of("paced", "p50_ns"))),
        "p50_low_ns": float(of("paced", "p50_ns").min()),
        "p50_high_ns": float(of("paced", "p50_ns").max()),
        "paced_cpu_ns": float(np.median(of("paced", "cpu_ns"))),
        "flood_per_s": float(np.median(of("flood", "packets_per_s"))),
        "flood_busy_ns": float(np.median(of("flood", "busy_ns"))),
        "flood_cpu_ns": float(np.median(of("flood", "cpu_ns"))),
        "flood_lost": float(lost),
    }


def _print(facts: dict[str, dict[str, float]]) -> None:
    print(f"{'':26} {'one way, us: min':>16} {'p50 (range)':>18} {'CPU us':>7}", end="")
    print(f" | flood: {'k packets/s':>11} {'lost':>7} {'ns in poll':>10} {'CPU us':>7}")
    for name, one in facts.items():
        spread = f"({one['p50_low_ns'] / 1e3:.1f}-{one['p50_high_ns'] / 1e3:.1f})"
        print(f"{name:26} {one['min_ns'] / 1e3:16.1f} {one['p50_ns'] / 1e3:6.1f} {spread:>11}", end="")
        print(f" {one['paced_cpu_ns'] / 1e3:7.1f} |        {one['flood_per_s'] / 1e3:11.0f}", end="")
        print(f" {one['flood_lost']:7.2%} {one['flood_busy_ns']:10.0f} {one['flood_cpu_ns'] / 1e3:7.1f}")


def plot(facts: dict[str, dict[str, float]]) -> None:
    """Draw latency with its range, and the flood: the receiver's time per packet, processor time, rate."""
    import matplotlib as mpl
    import matplotlib.ticker

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    names = list(facts)[::-1]

    def values(key: str, unit: float) -> np.ndarray:
        return np.array([facts[name][key] for name in names]) / unit

    figure, axes = plt.subplots(2, 2, figsize=(12, 0.8 * len(names) + 2), sharey=True)
    (one_way, polls), (cpu, rate) = axes
    medians = values("p50_ns", 1e3)
    low, high = medians - values("p50_low_ns", 1e3), values("p50_high_ns", 1e3) - medians
    one_way.barh(names, medians, xerr=[low, high], color="tab:blue", label="median, range over rounds")
    one_way.scatter(values("min_ns", 1e3), names, color="black", marker="|", s=120, zorder=3, label="minimum")
    one_way.set(xscale="log", xlim=(1, None), xlabel=f"one way at {PACED_PER_S:,} packets/s, µs")
    one_way.xaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5)))
    one_way.xaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
    one_way.xaxis.set_minor_formatter(mpl.ticker.NullFormatter())
    one_way.legend(fontsize="small")
    polls.barh(names, values("flood_busy_ns", 1), color="tab:orange")
    polls.set(xlabel="flood: ns a packet in polls that brought some")
    cpu.barh(names, values("flood_cpu_ns", 1e3), color="tab:orange")
    cpu.set(xlabel="flood: receiver's processor time a packet, µs")
    rate.barh(names, values("flood_per_s", 1e3), color="tab:orange")
    rate.set(xlabel="flood: thousand packets/s received (the sender is the limit)")
    figure.suptitle("Receive modes over a veth pair, interleaved")
    figure.tight_layout()
    figure.savefig(RESULTS / "modes.png", dpi=120)


if __name__ == "__main__":
    main()
