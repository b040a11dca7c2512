"""Recovery under load: how long a hole stays open, by rate of the feed and share lost.

    python -m benchmarks.bench_repair [--seconds 1.5] [--rounds 5] [--limits "as delivered"]

Live, on loopback: `feedhandler simulate` sends two lines that lose the same packets, so that no line can fill
what the other lost; the daemon asks `feedhandler gapfill` for them. Time to repair is from gap_open to
gap_closed in the daemon's event stream, read by a consumer. For each loss the rate is doubled until recovery
does not converge: something is lost for good, or holes stay open longer and longer. When the sender, which
shares the processors, cannot go faster, that is said, and what it reached is the load. The highest load at
which 1 % is repaired is the sustainable one; at half of it 1 % is measured again, lost on both lines at once
and on each by itself. --limits runs one half of the table and keeps the other of the last run.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import RESULTS, feedhandler, simulated_day, write_json
from feedhandler.consumer import Consumer
from feedhandler.names import EVENT_NAMES
from tests.support.daemon import Daemon, environment, running, write_config
from tests.support.exchange import Line
from tests.support.multicast import free_ports
from tests.support.wait import wait_for

GROUPS = ("239.198.2.1", "239.198.2.2")
SESSION, SYMBOLS, SEED = "REPAIR", 500, 1
RATES = tuple(25_000 << n for n in range(6))  # messages a second
LOSSES = (0.003, 0.01, 0.03, 0.1, 0.3)
BOUND_MS, BOUND_LOSS = 10.0, 0.01
RAISED = "max_outstanding = 64\nrequests_per_s = 1000000\n"
RAISED_SERVER = (
    "client_requests_per_s = 1e6\nclient_bytes_per_s = 1e9\nrequests_per_s = 1e6\nbytes_per_s = 1e9\n"
)
LIMITS = {  # what may be asked and answered: lines of [recovery], lines of [gapfill]
    "as delivered": ("", ""),
    "raised": (RAISED, RAISED_SERVER),
    "raised, no wait": (RAISED + "arbitration_ms = 0\n", RAISED_SERVER),
}
SWEPT = ("as delivered", "raised")
EVENTS = {name: number for number, name in EVENT_NAMES.items()}
ENDED = 4


@dataclass(frozen=True)
class Point:
    """What one run at a rate and a loss gave. Times in milliseconds, processor time in cores."""

    rate: int  # messages a second asked of the sender
    loss: float
    sent_per_s: int  # what it reached
    holes: int
    median_ms: float
    p99_ms: float
    max_ms: float
    by_server: float  # share of the missing messages that the re-request server brought
    live: float  # share of the time
    requests_per_s: float
    retries: int
    kernel_drops: int
    cores: dict[str, float]
    why_not: str  # it did not converge; empty: it did


@contextmanager
def gapfill(folder: Path, day: Path, settings: str = "") -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Serve the day by `feedhandler gapfill`; yields the process and its port."""
    (port,) = free_ports(1)
    config, log = folder / "gapfill.toml", folder / "gapfill.log"
    config.write_text(
        f'[gapfill]\nlisten = "127.0.0.1:{port}"\nsource = "binaryfile"\nfile = "{day}"\n'
        f'session = "{SESSION}"\n{settings}'
    )
    with log.open("wb") as errors:
        process = subprocess.Popen([feedhandler(), "gapfill", "--config", config], stderr=errors)
    try:
        wait_for(lambda: process.poll() is not None or '"serving"' in log.read_text(), "gapfill", 60)
        if process.poll() is not None:
            raise RuntimeError(log.read_text())
        yield process, port
    finally:
        process.terminate()
        process.wait()


def processor_s(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Meter:
    """Processor time of the processes while the feed runs."""

    def __init__(self, pids: dict[str, int], seconds: float) -> None:
        self._pids, self._seconds = pids, seconds
        self._begin: tuple[float, dict[str, float]] | None = None
        self.cores: dict[str, float] = {}

    def look(self, next_sequence: int) -> None:
        """Take the figures of now if the feed has just begun, or nine tenths of it are over."""
        if self.cores or next_sequence <= 1:
            return
        now_s = time.monotonic()
        if self._begin is not None and now_s - self._begin[0] < 0.9 * self._seconds:
            return
        used = {name: processor_s(pid) for name, pid in self._pids.items()}
        if self._begin is None:
            self._begin = now_s, used
            return
        begin_s, before = self._begin
        self.cores = {name: round((used[name] - before[name]) / (now_s - begin_s), 2) for name in used}


def run(rate: int, loss: float, seconds: float, limits: str, *, same: bool = True) -> Point:
    """Send for some seconds; how long holes were open."""
    messages = round(rate * seconds)
    recovery, server = LIMITS[limits]
    day = simulated_day(messages, SYMBOLS, SEED)
    with tempfile.TemporaryDirectory() as name, gapfill(Path(name), day, server) as (rewind, port):
        folder, ports = Path(name), free_ports(2)
        lines = [Line(*line) for line in zip("AB", GROUPS, ports, strict=True)]
        config = write_config(
            folder,
            lines,
            [("127.0.0.1", port)],
            recovery=recovery,
            publish='schemas = ["mbp-1", "trades"]\nring_mib = 256\n',
        )
        with (
            running(config, folder / "run") as daemon,
            Consumer("live", ["event"], runtime_dir=daemon.runtime_dir, spin_s=0) as consumer,
        ):
            words = ["--messages", messages, "--rate", rate, "--symbols", SYMBOLS, "--seed", SEED, "--json"]
            words += ["--drop", loss, "--session", SESSION, "--rewind", "", "--lead", 0.2, "--linger", 0.6]
            words += ["--send", ",".join(f"{line.name}={line.group}:{line.port}" for line in lines)]
            words += ["--same-faults"] if same else []
            sender = subprocess.Popen(
                [feedhandler(), "simulate", *map(str, words)],
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            pids = {"daemon": daemon.process.pid, "sender": sender.pid, "re-request server": rewind.pid}
            meter = Meter(pids, seconds)
            events = follow(consumer, daemon, sender, meter)
            stdout, _ = sender.communicate()
            return judged(rate, loss, events, daemon.reader.counters(), json.loads(stdout), meter)


def follow(
    consumer: Consumer, daemon: Daemon, sender: subprocess.Popen[bytes], meter: Meter
) -> NDArray[np.void]:
    """Return the events until the session has ended, or the sender and two seconds more."""
    batches: list[NDArray[np.void]] = []

    def take(timeout_s: float) -> bool:
        found = consumer.poll(timeout_s)
        for batch in found:
            events = batch.records
            batches.append(events[events["type"] != EVENTS["trading"]])
        return bool(found)

    over_s = float("inf")
    while daemon.reader.state != ENDED and daemon.process.poll() is None and time.monotonic() < over_s:
        take(0.0)
        if over_s == float("inf") and sender.poll() is not None:
            over_s = time.monotonic() + 2
        meter.look(consumer.next_sequence)
        time.sleep(0.02)
    while take(0.2):
        pass
    if consumer.lost:
        raise RuntimeError(f"the consumer lost {consumer.lost} records: no measurement")
    return np.concatenate(batches)


def judged(
    rate: int,
    loss: float,
    events: NDArray[np.void],
    stat: dict[str, Any],
    sent: dict[str, Any],
    meter: Meter,
) -> Point:
    """Make a point of the events, and judge whether recovery converged."""
    opened = {int(e["first"]): int(e["ts"]) for e in events[events["type"] == EVENTS["gap_open"]]}
    closed = events[events["type"] == EVENTS["gap_closed"]]
    took = {int(e["first"]): (int(e["ts"]) - opened[int(e["first"])]) / 1e6 for e in closed}
    all_ms = np.array([took.get(first, np.inf) for first in opened])  # in order of opening
    third = len(all_ms) // 3
    gaps = stat["gaps"]
    why_not = ""
    if gaps["unrecovered"]:
        why_not = f"{gaps['unrecovered']} messages lost for good"
    elif len(took) < len(opened):
        why_not = f"{len(opened) - len(took)} holes open at the end"
    elif third > 10 and np.median(all_ms[-third:]) > 2 * np.median(all_ms[:third]) + 5:
        why_not = "holes stay open longer and longer"
    times = (
        np.percentile(all_ms, [50, 99, 100], method="higher").round(3).tolist() if len(all_ms) else [0.0] * 3
    )
    return Point(
        rate,
        loss,
        sent["messages_per_s"],
        len(all_ms),
        median_ms=times[0],
        p99_ms=times[1],
        max_ms=times[2],
        by_server=round(gaps["recovered_rewind"] / max(1, gaps["messages"]), 3),
        live=round(live_share(events), 3),
        requests_per_s=round(stat["recovery"]["requests"] / sent["elapsed_s"], 1),
        retries=stat["recovery"]["retries"],
        kernel_drops=sum(line["kernel_drops"] for line in stat["lines"]),
        cores=meter.cores,
        why_not=why_not,
    )


def live_share(events: NDArray[np.void]) -> float:
    """Share of the time between the first state and the last in which the feed was LIVE."""
    states = events[events["type"] == EVENTS["state"]]
    lasted = np.diff(states["ts"].astype(np.int64))
    return float(lasted[states["state"][:-1] == 1].sum() / max(1, lasted.sum()))


def sweep(seconds: float, limits: str) -> list[Point]:
    """For each loss, double the rate until recovery does not converge, twice in a row."""
    points = []
    for loss in LOSSES:
        for rate in RATES:
            point = run(rate, loss, seconds, limits)
            if point.why_not:
                show(point)
                point = run(rate, loss, seconds, limits)
            show(point)
            points.append(point)
            if point.why_not or point.sent_per_s < 0.9 * rate:
                break  # beyond it there is nothing to learn
    return points


HEAD = (
    "  asked    sent   loss   holes   median     99 %  longest  LIVE  requests  kernel  cores: daemon +\n"
    "messages / s                         ms       ms       ms             / s   drops  sender + server"
)


def show(point: Point) -> None:
    """Print one line."""
    print(
        f"{point.rate:7,} {point.sent_per_s:7,} {point.loss:6.1%} {point.holes:7,} {point.median_ms:8.2f} "
        f"{point.p99_ms:8.2f} {point.max_ms:8.2f} {point.live:5.0%} {point.requests_per_s:9,.0f} "
        f"{point.kernel_drops:7,}  {' + '.join(f'{used:.2f}' for used in point.cores.values())}  "
        f"{point.why_not}",
        flush=True,
    )


def plot(facts: dict[str, Any], path: Path) -> None:
    """Heat maps, median and 99 %, by rate and loss; what did not converge is crossed."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.colors import LogNorm

    sweeps = {limits: facts["sweeps"][limits] for limits in SWEPT if limits in facts["sweeps"]}
    figure, all_axes = plt.subplots(
        len(sweeps), 2, figsize=(11, 1 + 3.2 * len(sweeps)), layout="constrained", squeeze=False
    )
    norm = LogNorm(0.1, 1000)
    for row, (limits, rows) in zip(all_axes, sweeps.items(), strict=True):
        points = [Point(**each) for each in rows]
        for axes, what, name in zip(row, ("median_ms", "p99_ms"), ("median", "99 %"), strict=True):
            grid = np.full((len(LOSSES), len(RATES)), np.nan)
            for point in points:
                at = LOSSES.index(point.loss), RATES.index(point.rate)
                if point.why_not:
                    axes.text(*at[::-1], "×", ha="center", va="center", fontsize=18, color="firebrick")
                    continue
                grid[at] = value = getattr(point, what)
                slow = point.sent_per_s < 0.9 * point.rate
                text = f"{value:.3g}" + (f"\n({point.sent_per_s // 1000}k)" if slow else "")
                axes.text(*at[::-1], text, ha="center", va="center", fontsize=8, color="white")
            image = axes.imshow(grid, norm=norm, cmap="plasma", origin="lower", aspect="auto")
            axes.set_facecolor("whitesmoke")
            axes.set_xticks(range(len(RATES)), [f"{rate // 1000:,}" for rate in RATES])
            axes.set_yticks(range(len(LOSSES)), [f"{loss * 100:g} %" for loss in LOSSES])
            axes.set_title(f"{name}, limits {limits}")
            axes.set_xlabel("feed, thousand messages per second")
            axes.set_ylabel("packets lost on both lines at once")
    figure.colorbar(image, ax=all_axes, label="time to repair, ms (gap_open to gap_closed)", extend="both")
    figure.suptitle(
        f"Time to repair by rate and loss, live, {os.cpu_count()} cores; sustainable at 1 %: "
        f"{facts.get('sustainable_messages_per_s', 0):,} messages per second\n"
        "× recovery did not converge   (96k) all that the sender could do beside it   blank: not run"
    )
    figure.savefig(path, dpi=120, bbox_inches="tight")


def at_half(sustainable: int, seconds: float, rounds: int) -> dict[str, list[Point]]:
    """Measure the bound: 1 % at half of the sustainable rate."""
    print(f"\n{BOUND_LOSS:.0%} lost at half of {sustainable:,} messages a second\n{HEAD}")
    points: dict[str, list[Point]] = {}
    for name, same, limits in (
        ("both lines at once", True, "raised"),
        ("each line by itself", False, "raised"),
        ("both lines at once, without arbitration wait", True, "raised, no wait"),
    ):
        points[name] = []
        for _ in range(rounds):
            points[name].append(run(sustainable // 2, BOUND_LOSS, seconds, limits, same=same))
            show(points[name][-1])
        median = statistics.median(point.median_ms for point in points[name])
        met = median <= BOUND_MS and not any(point.why_not for point in points[name])
        print(f"on {name}: median {median:.2f} ms, bound {BOUND_MS:g} ms: {'met' if met else 'NOT MET'}")
    return points


def main() -> None:
    """Sweep, measure at half of the sustainable rate, write table, JSON and plot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=1.5, help="of each run")
    parser.add_argument("--rounds", type=int, default=5, help="runs at half of the sustainable rate")
    parser.add_argument("--limits", choices=SWEPT, help="only these")
    arguments, _ = parser.parse_known_args()
    path = RESULTS / "repair.json"
    facts = json.loads(path.read_text()) if arguments.limits and path.exists() else {"sweeps": {}}
    for limits in (arguments.limits,) if arguments.limits else SWEPT:
        print(f"limits {limits}\n{HEAD}")
        points = sweep(arguments.seconds, limits)
        facts["sweeps"][limits] = [asdict(point) for point in points]
        repaired = [point.sent_per_s for point in points if point.loss == BOUND_LOSS and not point.why_not]
        if limits == "raised" and repaired:
            half = at_half(max(repaired), arguments.seconds, arguments.rounds)
            facts["sustainable_messages_per_s"] = max(repaired)
            facts["at_half"] = {name: [asdict(point) for point in each] for name, each in half.items()}
    write_json("repair", {name: fact for name, fact in facts.items() if name != "machine"})
    plot(facts, RESULTS / "repair.png")
    print(f"\nin {RESULTS}: repair.json, repair.png")


if __name__ == "__main__":
    main()
