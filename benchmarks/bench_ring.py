"""The ring: one writer, two readers in other processes; against iceoryx2 and pyzmq, interleaved.

python -m benchmarks.bench_ring [--rounds N] [--records N]
A rate counts only with what its readers lost and found torn beside it. The writer waits for nobody: with more
busy processes than CPUs, the kernel's time slices decide who is lapped. `cpu ns` is the reader's CPU time a
record, which does not depend on who else is there.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS, ROOT, build, write_json

BATCH = 1000
MILLION = 1_000_000
KEYS = ("writer_ns", "read_per_s", "reader_cpu_ns")


def _start(command: list[str]) -> "subprocess.Popen[str]":
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    if process.stdout is None or process.stdout.readline() != "up\n":
        sys.exit(f"{' '.join(command)}: did not start")
    return process


def _peer(kind: str, role: str, folder: str, records: int) -> list[str]:
    return [sys.executable, "-m", "benchmarks.ring_peers", kind, role, folder, str(records), str(BATCH)]


def one_run(writer: list[str], reader: list[str], readers_first: bool = False) -> dict[str, Any]:
    """Run a writer and two readers; return the writer's ns a record and the slower reader's rate."""
    processes = []
    if not readers_first:
        writing = _start(writer)
    processes = [_start(reader), _start(reader)]
    if readers_first:
        writing = _start(writer)
    if writing.stdin is None or writing.stdout is None:
        raise RuntimeError("no pipes")
    writing.stdin.write("go\n")
    writing.stdin.flush()
    wrote = json.loads(writing.stdout.readline())
    read = [json.loads(process.communicate(timeout=120)[0].splitlines()[-1]) for process in processes]
    writing.communicate(timeout=120)
    return {
        "writer_ns": wrote["elapsed_ns"] / wrote["written"],
        "read_per_s": min(r["read"] / r["elapsed_ns"] * 1e9 for r in read),
        "reader_cpu_ns": max(r["cpu_ns"] / max(1, r["read"]) for r in read),
        "lost": max(r["lost"] for r in read),
        "garbage": sum(r["garbage"] for r in read),
        "unreported": max(wrote["written"] - r["read"] - r["lost"] for r in read),
    }


def cases(folder: str, records: int) -> dict[str, Any]:
    """Return name -> a function that runs it once."""
    bench = str(build("ring_bench"))

    def ours(rate: int, per_commit: int, reader: list[str], count: int) -> Any:
        writer = [bench, "write", f"{folder}/bench", str(count), str(rate), str(per_commit), "64"]
        return lambda: one_run(writer, reader)

    cpp = [bench, "read", f"{folder}/bench"]
    python = _peer("ours", "read", f"{folder}/bench", records)
    few = records // 4 // BATCH * BATCH
    return {
        "C++, commit a record, unpaced": ours(0, 1, cpp, records),
        "C++, commit 10 records, unpaced": ours(0, 10, cpp, records),
        "C++, commit a record, 20 M/s": ours(20 * MILLION, 1, cpp, records),
        "C++, commit a record, 25 M/s": ours(25 * MILLION, 1, cpp, records),
        "Python batches, 10 M/s": ours(10 * MILLION, 1, python, records),
        "Python batches, 20 M/s": ours(20 * MILLION, 1, python, records),
        f"iceoryx2 in Python, batches of {BATCH}": lambda: one_run(
            _peer("iceoryx2", "write", folder, few), _peer("iceoryx2", "read", folder, few)
        ),
        f"pyzmq, batches of {BATCH}": lambda: one_run(
            _peer("pyzmq", "write", folder, few), _peer("pyzmq", "read", folder, few)
        ),
    }


def main(arguments: list[str] | None = None) -> None:
    """Run, print, plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--records", type=int, default=20 * MILLION)
    options = parser.parse_args(arguments if arguments is not None else [])
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        runs = cases(folder, options.records)
        results: dict[str, list[dict[str, Any]]] = {name: [] for name in runs}
        for _ in range(options.rounds):
            for name, run in runs.items():
                results[name].append(run())
    summary = {name: _summary(entries) for name, entries in results.items()}
    write_json(
        "ring", {"records": options.records, "rounds": options.rounds, "summary": summary, "runs": results}
    )
    _print(summary)
    _plot(summary)


def _summary(entries: list[dict[str, Any]]) -> dict[str, float]:
    medians = {key: statistics.median(entry[key] for entry in entries) for key in KEYS}
    return medians | {key: max(entry[key] for entry in entries) for key in ("lost", "garbage", "unreported")}


def _print(summary: dict[str, dict[str, float]]) -> None:
    columns = ("writer ns", "M read/s", "cpu ns", "lost", "torn", "unreported")
    print(f"{'medians; two readers, the slower one':<40}" + "".join(f"{column:>11}" for column in columns))
    for name, row in summary.items():
        rate = row["read_per_s"] / 1e6
        times = f"{row['writer_ns']:11.1f}{rate:11.2f}{row['reader_cpu_ns']:11.1f}"
        print(f"{name:<40}{times}{row['lost']:11,.0f}{row['garbage']:11.0f}{row['unreported']:11.0f}")


def _plot(summary: dict[str, dict[str, float]]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4))
    names = list(summary)
    axes.barh(names, [summary[name]["read_per_s"] / 1e6 for name in names])
    axes.invert_yaxis()
    axes.set_xlabel("million MBO records a second, the slower of two readers")
    figure.tight_layout()
    figure.savefig(RESULTS / "ring.png", dpi=120, bbox_inches="tight")
    print(f"plot: {Path(RESULTS / 'ring.png').relative_to(ROOT)}")


if __name__ == "__main__":
    main(sys.argv[1:])
