"""What the consumer of a hot pair adds to a take-over: C++, no daemon, no network.

    python -m benchmarks takeover
    python -m benchmarks.bench_takeover --times 1000 --fifo    # root: with real-time priority

Two writers publish the same records into two channels; one is killed, stopped or says STALE.
`takeover_bench.cpp` says what is measured. `waiting`: the other channel is STALE, so that its records wait
for those of the one that fails: all that is left when that one dies; for 0.1 s when it stands still.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

from benchmarks.harness import build, write_json

ROWS = {
    "no fault": ("none", "live"),
    "killed": ("kill", "live"),
    "stopped": ("stop", "live"),
    "says STALE": ("stale", "live"),
    "killed, waiting": ("kill", "stale"),
    "stopped, waiting": ("stop", "stale"),
}
MARKS = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


def distribution(seconds: list[float]) -> dict[str, float]:
    """Return quantiles in milliseconds."""
    ordered = sorted(seconds)
    out = {name: ordered[min(len(ordered) - 1, int(share * len(ordered)))] for name, share in MARKS.items()}
    out |= {"max": ordered[-1], "mean": sum(ordered) / len(ordered)}
    over = sum(value > 0.01 for value in ordered)
    return {
        "count": len(ordered),
        **{name: round(value * 1e3, 3) for name, value in out.items()},
        "over_10ms": over,
    }


def show(rows: dict[str, dict[str, float]]) -> None:
    """Print a table."""
    names = ["count", *MARKS, "max", "mean", "over_10ms"]
    print(f"{'ms':<24}" + "".join(f"{name:>11}" for name in names))
    for row, found in rows.items():
        print(f"{row:<24}" + "".join(f"{found[name]:>11g}" for name in names))


def main() -> None:
    """Measure, print, keep; interleaved, twenty trials at a time."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=200, help="trials of each kind, in twenties")
    parser.add_argument("--fifo", action="store_true", help="with real-time priority (SCHED_FIFO)")
    options = parser.parse_args()
    driver = [*(["chrt", "-f", "1"] if options.fifo else []), str(build("takeover_bench"))]
    found: dict[str, list[float]] = {row: [] for row in ROWS}
    wrong = 0
    memory = Path("/dev/shm")  # noqa: S108  where channels lie in production, too
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        for _ in range(0, options.times, 20):
            for row, (fault, other) in ROWS.items():
                command = [*driver, str(Path(folder) / "trial"), fault, other, "20"]
                printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                values = [int(line) for line in printed.split()]
                wrong += sum(value < 0 for value in values)
                found[row] += [value / 1e9 for value in values if value >= 0]
    rows = {row: distribution(values) for row, values in found.items()}
    show(rows)
    print(f"lost or twice: {wrong}")
    write_json("takeover", {"fifo": options.fifo, "rows": rows, "wrong": wrong})
    if wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
