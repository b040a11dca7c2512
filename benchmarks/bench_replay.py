"""What loss costs: replay without loss against the same with 1 % loss on both lines, recovery included.

    python -m benchmarks.bench_replay [--messages 10000000] [--rounds 7]

Both lines carry every packet, so the second copy of each is part of the work. The variants take turns,
and a round's figures are compared within the round: ratios hold on a machine that others use too. Rates are
given by the clock and by processor time, which leaves out what others take away.
"""

import argparse
import statistics
import time
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS, simulated_day, write_json
from feedhandler.replay.options import Faults, ReplayOptions
from feedhandler.replay.player import Player
from feedhandler.replay.source import open_source

DAY = date(2026, 11, 20)
VARIANTS = {
    "lossless": ReplayOptions(trading_day=DAY),
    "1 % loss": ReplayOptions(trading_day=DAY, faults=Faults(drop=0.01)),
    "1 % loss in bursts of 10": ReplayOptions(trading_day=DAY, faults=Faults(drop=0.01, drop_burst=10)),
    "5 % in bursts, all faults, 20 % of rewind lost": ReplayOptions(
        trading_day=DAY,
        faults=Faults(drop=0.05, drop_burst=10, duplicate=0.01, reorder=0.01, corrupt=0.01),
        drop_rewind=0.2,
    ),
}
BASE = "lossless"


def run(path: Path, options: ReplayOptions) -> dict[str, Any]:
    """Play once; messages a second by the clock and by processor time, and what came out."""
    player = Player(open_source(path), options)
    processor_s, clock_s = time.process_time(), time.perf_counter()
    played = player.play()
    processor_s, clock_s = time.process_time() - processor_s, time.perf_counter() - clock_s
    messages = played.counts["messages"]
    return {"clock": messages / clock_s, "processor": messages / processor_s, "counts": played.counts}


def plot(rounds: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Rates by variant, a point for every round."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 3.5), layout="constrained")
    names = list(rounds)
    for at, name in enumerate(names):
        rates = [each["processor"] / 1e6 for each in rounds[name]]
        axes.plot(rates, [at] * len(rates), "o", alpha=0.6)
        axes.plot([statistics.median(rates)], [at], "k|", markersize=24)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("million messages per second of processor time, both lines, books and records")
    figure.savefig(path, dpi=120, bbox_inches="tight")


def main() -> None:
    """Run all variants in turn and write table, JSON and plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    arguments, _ = parser.parse_known_args()
    path = simulated_day(arguments.messages)
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in VARIANTS}
    for number in range(arguments.rounds):
        order = list(VARIANTS) if number % 2 == 0 else list(reversed(VARIANTS))
        for name in order:
            rounds[name].append(run(path, VARIANTS[name]))
    if len({each["counts"]["books_sha256"] for runs in rounds.values() for each in runs}) != 1:
        raise RuntimeError("the books differ")
    table: dict[str, dict[str, float]] = {}
    print(f"{arguments.messages:,} messages, {arguments.rounds} rounds; medians\n")
    print(f"{'':48} {'M/s':>7} {'M/cpu s':>8} {'of lossless':>12} {'gaps':>7} {'recovered':>10}")
    for name, runs in rounds.items():
        pairs = zip(runs, rounds[BASE], strict=True)
        ratio = statistics.median(own["processor"] / base["processor"] for own, base in pairs)
        counts = runs[0]["counts"]
        table[name] = {
            "messages_per_s": statistics.median(each["clock"] for each in runs),
            "messages_per_processor_s": statistics.median(each["processor"] for each in runs),
            "ratio_to_lossless": ratio,
            "gaps": counts["gaps"],
            "recovered": counts["recovered_line"] + counts["recovered_rewind"],
            "unrecovered": counts["unrecovered"],
        }
        row = table[name]
        print(
            f"{name:48} {row['messages_per_s'] / 1e6:7.2f} {row['messages_per_processor_s'] / 1e6:8.2f} "
            f"{ratio:12.3f} {row['gaps']:7,} {row['recovered']:10,}"
        )
    write_json("replay", {"messages": arguments.messages, "rounds": arguments.rounds, "variants": table})
    plot(rounds, RESULTS / "replay.png")
    print(f"\nin {RESULTS}: replay.json, replay.png")


if __name__ == "__main__":
    main()
