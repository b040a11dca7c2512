"""Packets of one message from memory through receive, frame and sequence: one core, no sender to wait for.

python -m benchmarks.bench_receive [--rounds 11]
"""

import argparse
import json
import subprocess

import numpy as np

from benchmarks.harness import RESULTS, build, write_json

BOUND_PER_S = 5e6
VARIANTS = {
    "datagrams": "datagrams, 32 a turn",
    "datagrams_alone": "datagrams, one a turn",
    "datagrams_two_lines": "datagrams of two lines, each message on both",
    "frames": "Ethernet frames, 32 a turn, checksums seen to by the device",
    "frames_checksums": "Ethernet frames, 32 a turn, checksums computed",
}


def main() -> None:
    """Run all variants interleaved on one pinned core; table, JSON, plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    rounds = parser.parse_args().rounds
    command = [str(build("receive_bench")), "--rounds", str(rounds)]
    times = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    facts = {name: _facts(np.array(times[name])) for name in VARIANTS}
    write_json("receive", {"bound_packets_per_s": BOUND_PER_S, "variants": facts})
    print(f"{'from memory, one message a packet':62} {'ns median':>9} {'worst':>6} {'M packets/s':>12}")
    for name, text in VARIANTS.items():
        one = facts[name]
        print(f"{text:62} {one['ns_median']:9.1f} {one['ns_worst']:6.1f} {one['packets_per_s'] / 1e6:12.1f}")
    slowest = min(one["packets_per_s"] for one in facts.values())
    print(
        f"bound {BOUND_PER_S / 1e6:.0f} M packets/s: {'met' if slowest >= BOUND_PER_S else 'NOT met'} by all"
    )
    plot(facts)


def _facts(ns: np.ndarray) -> dict[str, float]:
    median = float(np.median(ns))
    return {"ns_median": median, "ns_worst": float(ns.max()), "packets_per_s": 1e9 / median}


def plot(facts: dict[str, dict[str, float]]) -> None:
    """Draw packets a second of each variant beside the bound."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 3.2))
    names = list(VARIANTS)[::-1]
    values = [facts[name]["packets_per_s"] / 1e6 for name in names]
    bars = axes.barh([VARIANTS[name] for name in names], values, color="tab:blue")
    axes.bar_label(bars, fmt="%.0f", padding=3)
    axes.axvline(BOUND_PER_S / 1e6, color="tab:red", linestyle=":", label="5 million")
    axes.set(xlabel="million packets a second on one core", xlim=(0, max(values) * 1.12))
    axes.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(RESULTS / "receive.png", dpi=120)


if __name__ == "__main__":
    main()
