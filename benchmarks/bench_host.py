"""What settings of the host are worth here: each on and off in turn, as ratios.

    python -m benchmarks host                                    # as root, for priority and namespaces
    python -m benchmarks.bench_host [--rounds 5] [--only spin]

Packets cross a veth pair between two network namespaces; sender and receiver are pinned to two CPUs, the
books to one. Table to stdout; JSON and table to benchmarks/results/. What this machine has no means to change
(isolated CPUs, idle states, nodes, interrupts of a card) is not measured: docs/tuning.md says which.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS, build, simulated_day, write_json
from tests.support.netns import Veth, veth_pair

Measure = Callable[[], dict[str, float]]
GROUP, PORT = "239.77.1.1", "30001"
NO_HUGE_PAGES = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(41, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"
)
"""PR_SET_THP_DISABLE, which lasts over exec."""

CPUS = sorted(os.sched_getaffinity(0))
SENDER_CPU, RECEIVER_CPU = CPUS[0], CPUS[-1]
FIRST = ("chrt", "-f", "10")
"""Before whatever else runs, so that a busy machine is not what is measured; for half a second at a time."""


def output(command: list[str]) -> dict[str, float]:
    """Run a driver that prints one line of JSON."""
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return dict(json.loads(done.stdout.splitlines()[-1]))


@contextlib.contextmanager
def hogs() -> Iterator[None]:
    """Keep every CPU busy by one normal process that may run anywhere, as a careless machine would."""
    busy = [subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in CPUS]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def books(driver: Path, day: Path, *, huge: bool) -> Measure:
    """Decode and books over a day, with and without transparent huge pages."""
    command = ["taskset", "-c", str(RECEIVER_CPU), str(driver), str(day), "--packet", "4", "--burst"]
    without = [*command[:3], sys.executable, "-S", "-c", NO_HUGE_PAGES, *command[3:]]
    return lambda: output(command if huge else without)


def stolen(driver: Path, *prefix: str) -> Measure:
    """What others take of a spinner's time on a machine that is busy."""

    def measure() -> dict[str, float]:
        with hogs():
            return output([*prefix, str(driver), "stolen", "2"])

    return measure


def packets(
    driver: Path, pair: Veth, *, wait: str = "spin", napi: bool = False, burst: tuple[int, int] | None = None
) -> Measure:
    """One way over the pair, 20,000 packets a second; `burst`: (buffer bytes, ms asleep) and all at once."""
    count, rate = (20_000, 0) if burst else (10_000, 20_000)
    buffer_bytes, stall_ms = burst or (0, 0)

    def measure() -> dict[str, float]:
        switch(pair, napi=napi)
        receive = [*pair.inside(pair.receiver), "taskset", "-c", str(RECEIVER_CPU), *FIRST, str(driver)]
        receive += [
            "receive",
            GROUP,
            PORT,
            pair.receiver_device,
            str(count),
            wait,
            str(buffer_bytes),
            str(stall_ms),
        ]
        send = [*pair.inside(pair.sender), "taskset", "-c", str(SENDER_CPU), *FIRST, str(driver), "send"]
        send += [GROUP, PORT, pair.sender_device, str(count), str(rate)]
        with subprocess.Popen(receive, stdout=subprocess.PIPE, text=True) as receiver:
            if receiver.stdout is None or receiver.stdout.readline() != "ready\n":
                sys.exit("the receiver cannot join")
            subprocess.run(send, check=True, timeout=120)
            found: dict[str, float] = json.loads(receiver.stdout.read())
        if bool(found["napi_id"]) != napi:  # busy polling would do nothing, or be there unasked
            sys.exit(f"NAPI id {found['napi_id']} with napi={napi}")
        return found

    return measure


def switch(pair: Veth, *, napi: bool) -> None:
    """Let the receiver's end have a NAPI: GRO there, and no segmentation at the other end."""
    for namespace, device, feature, on in (
        (pair.receiver, pair.receiver_device, "gro", napi),
        (pair.sender, pair.sender_device, "tso", not napi),
    ):
        command = [*pair.inside(namespace), "ethtool", "-K", device, feature, "on" if on else "off"]
        subprocess.run(command, check=True, capture_output=True, timeout=30)


def comparisons(pair: Veth) -> dict[str, tuple[str, str, Measure, str, Measure]]:
    """By name: (figure, on, its measure, off, its measure)."""
    host, day = build("host_bench"), simulated_day()
    book = build("book_bench")
    pinned = ("taskset", "-c", str(RECEIVER_CPU))
    small, large = (212_992 // 2, 20), (64 << 20, 20)
    touch = lambda kind: lambda: output([*pinned, *FIRST, str(host), "touch", kind, "256"])  # noqa: E731
    return {
        "huge-pages": (
            *("ns_per_message", "transparent huge pages", books(book, day, huge=True)),
            *("small pages", books(book, day, huge=False)),
        ),
        "fault": ("median_ns", "populated", touch("populated"), "faulted in", touch("shared")),
        "huge-fault": ("median_ns", "huge page", touch("huge"), "small page", touch("small")),
        "pinned": ("stolen_share", "pinned", stolen(host, *pinned), "anywhere", stolen(host)),
        "priority": (
            *("stolen_share", "pinned, FIFO", stolen(host, *pinned, *FIRST)),
            *("pinned", stolen(host, *pinned)),
        ),
        "spin": ("median_us", "spin", packets(host, pair), "block", packets(host, pair, wait="block")),
        "busy-poll": ("median_us", "busy poll", packets(host, pair, napi=True), "spin", packets(host, pair)),
        "buffer": (
            *("lost_share", "64 MiB", packets(host, pair, burst=large)),
            *("208 KiB", packets(host, pair, burst=small)),
        ),
    }


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", metavar="NAME")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("host: needs root, for real-time priority and network namespaces")
        return
    rows: dict[str, Any] = {}
    lines = ["| | figure | on | off | on | off | on / off (quartiles) |", "|---|---|---|---|---|---|---|"]
    with veth_pair("H") as pair:
        for name, (figure, on, measure_on, off, measure_off) in comparisons(pair).items():
            if options.only and name not in options.only:
                continue
            pairs = [(measure_on()[figure], measure_off()[figure]) for _ in range(options.rounds)]
            ratios = [a / b for a, b in pairs if b]
            median_on, median_off = (statistics.median(values) for values in zip(*pairs, strict=True))
            quartiles = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else []
            text = f"{quartiles[1]:.2f} ({quartiles[0]:.2f}-{quartiles[2]:.2f})" if quartiles else ""
            lines.append(
                f"| {name} | {figure} | {on} | {off} | {median_on:.4g} | {median_off:.4g} | {text} |"
            )
            print(lines[-1], flush=True)
            rows[name] = {"figure": figure, "on": on, "off": off, "pairs": pairs, "ratios": ratios}
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "host.md").write_text("\n".join(lines) + "\n")
    write_json("host", {"rows": rows})


if __name__ == "__main__":
    main()
