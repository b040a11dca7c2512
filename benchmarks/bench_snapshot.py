"""How long a splice keeps the receive thread from its sockets: table, JSON and plot.

    python -m benchmarks.bench_snapshot

A loss that only a snapshot repairs, at so many live orders in 8,000 symbols, while messages arrive and are
held. Counted is the processor time of each call that the receive loop makes until LIVE; the longest is the
pause. Each case runs right after the same one with all held messages applied in one call.
"""

import json
import subprocess
from typing import Any

import numpy as np

from benchmarks.harness import RESULTS, build, write_json

CASES: tuple[dict[str, Any], ...] = (
    {"orders": 100_000, "held": 300_000},
    {"orders": 400_000, "held": 0},
    {"orders": 400_000, "held": 100_000},
    {"orders": 400_000, "held": 300_000},
    {"orders": 400_000, "held": 1_000_000},
    {"orders": 400_000, "held": 300_000, "mbo": True},
    {"orders": 1_600_000, "held": 300_000},
)
SPLICES = 20
ONE_CALL = 1 << 40


def splices(case: dict[str, Any], *options: object) -> list[dict[str, Any]]:
    """Run the driver; one entry a splice."""
    command: list[object] = [build("splice_bench"), "--splices", SPLICES, *options]
    for name, value in case.items():
        command += [f"--{name}"] if value is True else [f"--{name}", value]
    done = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def measure(case: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of one case, in milliseconds."""
    sliced, whole = splices(case), splices(case, "--slice", ONE_CALL)
    pauses = np.array([one["pause_ns"] for one in sliced]) / 1e6
    calls = np.concatenate([one["calls_ns"] for one in sliced]) / 1e6
    at_once = np.array([one["pause_ns"] for one in whole]) / 1e6
    return {
        **case,
        "pause_ms": {str(p): round(float(np.percentile(pauses, p)), 3) for p in (50, 90, 100)},
        "call_ms": {str(p): round(float(np.percentile(calls, p)), 3) for p in (50, 99, 99.9)},
        "one_call_pause_ms": round(float(np.median(at_once)), 3),
        "ratio": round(float(np.median(at_once) / np.median(pauses)), 1),
        "to_live_ms": round(float(np.median([one["to_live_ns"] for one in sliced])) / 1e6, 1),
        "calls_ms": [round(float(ms), 4) for ms in calls],
    }


def main() -> None:
    """Run, print, plot."""
    rows = []
    print("   orders      held  mbo   pause ms: p50    p90    max   in one call  ratio  to LIVE ms")
    for case in CASES:
        row = measure(case)
        rows.append(row)
        p50, p90, most = row["pause_ms"].values()
        print(
            f"{row['orders']:9,} {row['held']:9,}  {'yes' if 'mbo' in row else 'no ':3}"
            f"          {p50:7.2f} {p90:6.2f} {most:6.2f} {row['one_call_pause_ms']:13.2f}"
            f" {row['ratio']:6.1f} {row['to_live_ms']:11.1f}",
            flush=True,
        )
    figures = [{name: value for name, value in row.items() if name != "calls_ms"} for row in rows]
    write_json("snapshot", {"splices": SPLICES, "symbols": 8_000, "cases": figures})
    plot(rows)


def plot(rows: list[dict[str, Any]]) -> None:
    """Draw the share of calls that took longer, over milliseconds, for each case."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5))
    for row in rows:
        ordered = np.sort(row["calls_ms"])
        label = f"{row['orders']:,} orders, {row['held']:,} held{', mbo' if 'mbo' in row else ''}"
        axes.loglog(ordered, 1.0 - np.arange(len(ordered)) / len(ordered), label=label)
    axes.axvline(1.0, color="grey", linestyle=":")
    axes.set(
        xlabel="processor time of a call of the receive loop, ms", ylabel="share of calls that took longer"
    )
    axes.set_title("A snapshot spliced in, slice by slice")
    axes.grid(visible=True, which="both", alpha=0.2)
    axes.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(RESULTS / "snapshot.png", dpi=120)


if __name__ == "__main__":
    main()
