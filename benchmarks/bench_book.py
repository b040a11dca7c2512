"""Decode + all books against itch-book and itchcpp, same file: interleaved, pinned, ratios of paired rounds.

    python -m benchmarks book
    python -m benchmarks.bench_book [--file DAY.itch] [--messages 10000000] [--rounds 7] [--cpu 1]
    python -m benchmarks.bench_book --scaling        # cost against live orders, symbols, levels
    python -m benchmarks.bench_book --callgrind      # instructions per message, bytes per live order,
                                                     # beside those kept in benchmarks/book_tracked.json

Processor time of the measured thread, file mapped and touched before the clock. Each run of ours is paired
with a run of itch-book right before it. Table to stdout; JSON, table and plot to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.harness import RESULTS, build, simulated_day, write_json

TRACKED = Path(__file__).parent / "book_tracked.json"

# In bursts: packets that wait in the socket are announced together, 64 messages at a time, as the receive
# loop does. Alone: each is known only when the one before it is done.
BURST = ["--burst"]
PUBLISH = ["--publish"]
OURS = {
    "look-ahead over the file": (0.27, ["--packet", "4096"]),
    "packets of 4, in bursts": (0.35, ["--packet", "4", *BURST]),
    "packets of 4, alone": (0.35, ["--packet", "4"]),
    "packets of 1, in bursts": (0.40, ["--packet", "1", *BURST]),
    "packets of 1, alone": (0.40, ["--packet", "1"]),
    "look-ahead, mbp-1 + trades published": (0.35, ["--packet", "4096", *PUBLISH]),
    "packets of 4, in bursts, published": (0.42, ["--packet", "4", *BURST, *PUBLISH]),
    "packets of 4, alone, published": (0.42, ["--packet", "4", *PUBLISH]),
}

PEERS = {
    "itch-book": """
import sys, time, numpy as np, itch_book._core as core
data = np.fromfile(sys.argv[1], dtype=np.uint8)
session = core.Session([], 0, [])
start = time.process_time()
session.feed(data)
spent = time.process_time() - start
stats = session.stats()
assert stats["missing_ref"] == 0 and stats["malformed"] == 0, stats
print(spent * 1e9 / stats["messages"])
""",
    "itchcpp": """
import io, sys, time
from itchcpp.book import BookManager
data = open(sys.argv[1], "rb").read()
books = BookManager()
start = time.process_time()
try:
    books.process_stream(data)
except TypeError:
    books.process_stream(io.BytesIO(data))
print((time.process_time() - start) * 1e9 / int(sys.argv[2]))
""",
}


def pinned(command: list[str], cpu: int) -> str:
    """Run on one processor."""
    return subprocess.run(
        ["taskset", "-c", str(cpu), *command], check=True, capture_output=True, text=True
    ).stdout


def measure(driver: Path, file: Path, options: list[str], cpu: int) -> dict[str, float]:
    """One run of ours."""
    return dict(json.loads(pinned([str(driver), str(file), *options], cpu)))


def measure_peer(name: str, file: Path, messages: int, cpu: int) -> float | None:
    """Nanoseconds per message of one run of a peer; None when it is not installed or failed."""
    try:
        return float(pinned([sys.executable, "-c", PEERS[name], str(file), str(messages)], cpu))
    except subprocess.CalledProcessError as error:
        print(f"{name}: {error.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None


def compare(driver: Path, file: Path, messages: int, rounds: int, cpu: int) -> dict[str, list[list[float]]]:
    """Pairs (nanoseconds per message, that of itch-book right before), everything once a round, in turn."""
    pairs: dict[str, list[list[float]]] = {}
    for _ in range(rounds):
        for name, (_, options) in OURS.items():
            base = measure_peer("itch-book", file, messages, cpu)
            if base is None:
                sys.exit("itch-book is needed to compare with: pip install '.[bench]'")
            pairs.setdefault(name, []).append([measure(driver, file, options, cpu)["ns_per_message"], base])
        if (spent := measure_peer("itchcpp", file, messages, cpu)) is not None:
            pairs.setdefault("itchcpp", []).append([spent, base])
    return pairs


def summarize(pairs: dict[str, list[list[float]]]) -> dict[str, dict[str, float]]:
    """Median figures; median and quartiles of the ratios of the pairs; what is asked for."""
    out = {}
    for name, values in pairs.items():
        ratios = [ours / base for ours, base in values]
        low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        out[name] = {
            "ns_per_message": statistics.median(ours for ours, _ in values),
            "ratio": statistics.median(ratios),
            "ratio_low": low,
            "ratio_high": high,
        }
        if name in OURS:
            out[name]["asked"] = OURS[name][0]
    return out


def table(rows: dict[str, dict[str, float]]) -> str:
    """One line for each way of running."""
    lines = ["| | ns/message | ratio to itch-book | quartiles | asked: at most |", "|---|---|---|---|---|"]
    for name, row in rows.items():
        asked = f"{row['asked']:.2f}" if "asked" in row else ""
        lines.append(
            f"| {name} | {row['ns_per_message']:.1f} | {row['ratio']:.2f} "
            f"| {row['ratio_low']:.2f}-{row['ratio_high']:.2f} | {asked} |"
        )
    return "\n".join(lines)


def plot(rows: dict[str, dict[str, float]], path: Path) -> None:
    """Bars of the ratios with their quartiles, and what is asked for as a mark."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    names = list(rows)[::-1]
    ratios = [rows[name]["ratio"] for name in names]
    spread = [
        [rows[name]["ratio"] - rows[name]["ratio_low"] for name in names],
        [rows[name]["ratio_high"] - rows[name]["ratio"] for name in names],
    ]
    figure, axes = plt.subplots(figsize=(9, 4))
    axes.barh(names, ratios, xerr=spread, capsize=3)
    asked = [(row["asked"], name) for name, row in rows.items() if "asked" in row]
    axes.plot(*zip(*asked, strict=True), "|", color="black", markersize=22, label="asked: at most")
    axes.axvline(1, color="grey", linewidth=1)
    axes.set_xlabel("time per message as a ratio to itch-book (median and quartiles of pairs)")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120, bbox_inches="tight")


def instructions(driver: Path, file: Path, options: list[str]) -> int:
    """Instructions per message; of two lengths, so that start-up cancels out."""
    counts = []
    for limit in (500_000, 1_500_000):
        with tempfile.NamedTemporaryFile() as out:
            command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out.name}", str(driver)]
            done = subprocess.run(
                [*command, str(file), *options, "--limit", str(limit)],
                check=True,
                capture_output=True,
                text=True,
            )
        (count,) = re.findall(r"Collected : (\d+)", done.stderr)
        counts.append(int(count))
    return round((counts[1] - counts[0]) / 1e6)


def callgrind(file: Path, cpu: int) -> dict[str, int]:
    """Instructions per message; bytes per live order. The same on every machine with the same compiler."""
    driver = build("book_bench", "-march=x86-64-v3")  # valgrind knows no AVX-512
    found = {
        f"{name}: instructions per message": instructions(driver, file, options)
        for name, (_, options) in OURS.items()
    }
    for limit in (1_000_000, 5_000_000):
        run = measure(build("book_bench"), file, ["--packet", "4096", "--limit", str(limit)], cpu)
        name = f"bytes per order of {run['orders']:,.0f} live ones"
        found[name] = round(run["rss_kib"] * 1024 / max(run["orders"], 1))
    return found


def tracked(found: dict[str, int]) -> str:
    """Each figure beside the one that is kept in the repository, if it is of the same input."""
    kept = json.loads(TRACKED.read_text())
    lines = ["| | now | kept |", "|---|---|---|"]
    lines += [f"| {name} | {value} | {kept.get(name, '')} |" for name, value in found.items()]
    return "\n".join(lines)


def scaling(driver: Path, cpu: int, rounds: int) -> dict[str, dict[str, float]]:
    """Cost per message as one dimension grows, the generator of the driver making the flow."""
    dimensions = {
        "orders": [10_000, 100_000, 1_000_000, 10_000_000],
        "symbols": [10, 100, 1_000, 8_000],
        "levels": [10, 100, 1_000, 10_000],
    }
    out: dict[str, dict[str, float]] = {}
    for dimension, values in dimensions.items():
        for value in values:
            found = []
            for _ in range(rounds):
                line = pinned(
                    [str(driver), "generate", f"--{dimension}", str(value), "--packet", "4096"], cpu
                )
                found.append(json.loads(line)["ns_per_message"])
            out.setdefault(dimension, {})[str(value)] = statistics.median(found)
            print(f"{dimension} {value:>10,}: {statistics.median(found):.1f} ns/message", flush=True)
    return out


def plot_scaling(found: dict[str, dict[str, float]], path: Path) -> None:
    """One curve a dimension."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(found), figsize=(12, 3.5), sharey=True)
    most = max(max(values.values()) for values in found.values())
    for axes, (dimension, values) in zip(panels, found.items(), strict=True):
        axes.plot([int(value) for value in values], list(values.values()), marker="o")
        axes.set_xscale("log")
        axes.set_ylim(0, 1.1 * most)
        axes.set_xlabel({"orders": "live orders", "symbols": "symbols", "levels": "levels a side"}[dimension])
    panels[0].set_ylabel("nanoseconds per message")
    figure.tight_layout()
    figure.savefig(path, dpi=120, bbox_inches="tight")


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--file", type=Path, help="a BinaryFILE instead of the simulated day")
    parser.add_argument("--messages", type=int, default=10_000_000)
    parser.add_argument("--symbols", type=int, default=8_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cpu", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--callgrind", action="store_true")
    parser.add_argument("--scaling", action="store_true")
    options = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    driver = build("book_bench")
    if options.scaling:
        curves = scaling(driver, options.cpu, max(1, options.rounds // 2))
        (RESULTS / "book_scaling.json").write_text(json.dumps(curves, indent=1))
        plot_scaling(curves, RESULTS / "book_scaling.png")
        return
    file = options.file or simulated_day(options.messages, options.symbols)
    if options.callgrind:
        found = callgrind(file, options.cpu)
        print(tracked(found))
        (RESULTS / "book_tracked.json").write_text(json.dumps(found, indent=1) + "\n")
        return
    pairs = compare(driver, file, options.messages, options.rounds, options.cpu)
    rows = summarize(pairs)
    text = table(rows)
    print(text)
    (RESULTS / "book.md").write_text(text + "\n")
    write_json("book", {"rows": rows, "pairs": pairs})
    plot(rows, RESULTS / "book.png")


if __name__ == "__main__":
    main()
