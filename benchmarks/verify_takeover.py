"""Take-over of a hot pair of daemons, again and again: nothing lost, nothing twice, and how long it lasts.

    python -m benchmarks.verify_takeover --times 1000
    python -m benchmarks.verify_takeover --network veth --transport zmq --fifo --keep mine    # root
    python -m benchmarks.verify_takeover --show mine ...    # table and plot of what was kept

Two daemons take the same lines (veth: each in a network namespace of its own, on a bridge with the exchange);
a process of its own follows both, in shared memory or over ZeroMQ. Each time one of them, under the running
feed, is killed (SIGKILL), made to hang (SIGSTOP), or loses packets for good: `hole` is the moment of the
loss, `STALE` that of giving it up. It comes back afterwards. After each session the mbo records delivered are
compared, byte for byte but for receive times, with those of the lossless stream (zmq: per instrument).

The interruption is the longest way of a message, from the exchange's socket to the follower, among those sent
from 5 ms before to 50 ms after the fault; `from socket` counts from the kernel's receive time in the daemon
that delivered it. `no fault` is the same where nothing happens: what the machine and this program add. Exit
status 0 only if nothing was lost or came twice.
"""

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench_takeover import distribution, show
from benchmarks.harness import RESULTS, machine
from benchmarks.takeover_hosts import (
    PER_PACKET,
    Follower,
    Pair,
    Sending,
    hosts,
    lines_of_both,
    session_name,
)
from feedhandler.consumer import Consumer, FeedState
from tests.support.channels import make_channel
from tests.support.exchange import simulated_messages
from tests.support.wait import wait_for

BEFORE_NS, AFTER_NS = 5_000_000, 50_000_000
WINDOW_S = AFTER_NS / 1e9 + 0.02
KINDS = ("SIGKILL", "SIGSTOP", "STALE")
F_BAD_TS_RECV = 8

Records = "np.ndarray[Any, Any]"


def plain(records: Records) -> Records:
    """Return mbo records without what differs between two hosts: receive times, their worth, and the day."""
    out = records.copy()
    out["ts_recv"] = out["ts_in_delta"] = 0
    out["flags"] &= ~np.uint8(F_BAD_TS_RECV)
    if len(out):
        out["ts_event"] -= out["ts_event"][0]
    return out


def lossless(day: Sequence[bytes], folder: Path) -> Records:
    """Return the mbo records of a day that lost nothing."""
    writer = make_channel(folder / "lossless", books=True, ring_bytes=1 << 26, schema_mask=1)
    writer.set_state(FeedState.LIVE)
    with Consumer("lossless", ["mbo"], runtime_dir=folder) as consumer:
        found = []
        for at in range(0, len(day), 1000):
            writer.apply(at + 1, day[at : at + 1000])
            while batches := consumer.poll():
                found += batches
    writer.release()
    return plain(np.concatenate([batch.records for batch in found]))


class Run:
    """The faults of one run, and what they did."""

    def __init__(
        self, pair: Pair, sending: Sending, follower: Follower, kinds: Sequence[str], seed: int
    ) -> None:
        self.pair, self.sending, self.follower = pair, sending, follower
        self._kinds = kinds
        self._chance = random.Random(seed)  # noqa: S311
        self._faults: list[tuple[str, int]] = []
        self.samples: dict[str, list[tuple[float, float]]] = {}
        """Kind to (interruption, its part from the socket on), in seconds."""
        self.done = 0

    def session(self, number: int, times: int, expected: Records, *, by_topic: bool) -> list[str]:
        """Send a day with faults in it; return what was wrong with what was delivered."""
        for server in self.pair.servers:
            server.session = session_name(number)
        self.sending.start(number)
        self._faults.clear()
        while self.done < times and self._one():
            self.done += 1
        if self.done == times and self._are_well():
            self.sending.hurry()
        wait_for(lambda: self.sending.sent == self.sending.packets, "end of the day", 120.0)
        self.sending.end()
        wait_for(lambda: self.pair.are_in(FeedState.ENDED), "state ENDED", 60.0)
        self._let_arrive()
        times_ns, records = self.follower.take()
        cleared = (records["action"] == b"R") & (records["sequence"] == 0)  # by a rollover
        times_ns, records = times_ns[~cleared], records[~cleared]
        for kind, at_ns in self._faults:
            self.samples.setdefault(kind, []).append(self._interruption_s(times_ns, records, at_ns))
        return compare(expected, records, number, by_topic=by_topic)

    def _let_arrive(self) -> None:
        size = -1

        def quiet() -> bool:
            nonlocal size
            before, size = size, self.follower.size
            return before == size

        wait_for(quiet, "the follower's last record", 30.0, 0.1)

    def _one(self) -> bool:
        """Do one fault and mend it; False when the day is over before both are well."""
        if not self._are_well():
            return False
        time.sleep(self._chance.uniform(0.0, 0.05))
        if self._left_s() < 1.0:
            return False
        self._note("no fault", time.time_ns())
        index, kind = self._chance.randrange(2), self._chance.choice(self._kinds)
        if kind == "STALE":
            self._lose_for_good(index)
            self.pair.restart(index)
            return True
        number = signal.Signals[kind]
        self._note(kind, self.pair.signal(index, number))
        if number == signal.SIGSTOP:
            self.pair.signal(index, signal.SIGCONT)
        else:
            self.pair.restart(index)
        return True

    def _are_well(self) -> bool:
        """Both LIVE, and followed."""

        def well() -> bool:
            followed = self.follower.restarts == self.pair.restarts
            return self._left_s() < 1.0 or (followed and self.pair.are_in(FeedState.LIVE))

        wait_for(well, "two LIVE daemons, followed", 60.0)
        return self._left_s() >= 1.0

    def _lose_for_good(self, index: int) -> None:
        self.pair.servers[index].silent = True
        at_ns = time.time_ns()
        self.sending.lose(index, 3)
        self._note("hole", at_ns)
        wait_for(lambda: self.pair.is_in(index, FeedState.STALE), "state STALE", 10.0, 0.0005)
        self._note("STALE", time.time_ns())

    def _note(self, kind: str, at_ns: int) -> None:
        self._faults.append((kind, at_ns))
        time.sleep(WINDOW_S)

    def _left_s(self) -> float:
        return (self.sending.packets - self.sending.sent) * PER_PACKET / self.sending.rate

    def _interruption_s(self, times_ns: Any, records: Records, at_ns: int) -> tuple[float, float]:
        """Return the longest way of a message sent around a fault, and the longest from the socket on."""
        sent = self.sending.sent_ns
        numbers = records["sequence"].astype(np.int64)
        moment = sent[(numbers - 1) // PER_PACKET]
        way = times_ns - moment
        around = (moment >= at_ns - BEFORE_NS) & (moment <= at_ns + AFTER_NS)
        if not around.any():
            return 0.0, 0.0
        from_socket = times_ns[around] - records["ts_recv"][around].astype(np.int64)
        return float(way[around].max()) / 1e9, float(from_socket.max()) / 1e9


def verify(
    times: int,
    network: str = "loopback",
    transport: str = "shm",
    *,
    messages: int = 30_000,
    rate: float = 4000,
    seed: int = 1,
    fifo: bool = False,
    kinds: Sequence[str] = KINDS,
) -> dict[str, Any]:
    """Run it; the result's `wrong` lists the sessions whose records were not those of the lossless stream."""
    day = simulated_messages(messages)
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as name, hosts(network) as places:
        folder = Path(name)
        expected = lossless(day, folder)
        lines = lines_of_both()
        sending = Sending(day, lines, places, rate)
        pair = Pair(folder, day, lines, places, fifo=fifo, zmq=transport == "zmq")
        where = pair.endpoints if transport == "zmq" else [str(run / "live") for run in pair.runs]
        follower = Follower(folder, transport, where, places.prefix)
        try:
            wait_for(lambda: follower.restarts == 0, "a follower of both", 90.0)
            for pid in (follower.process.pid, sending.pid):
                pair.hurry(pid)
            run = Run(pair, sending, follower, kinds, seed)
            session = 0
            while run.done < times:
                session += 1
                wrong += run.session(session, times, expected, by_topic=transport == "zmq")
        finally:
            said = follower.close()
            pair.close()
            sending.close()
    return {
        "times": run.done,
        "network": network,
        "transport": transport,
        "fifo": fifo,
        "sessions": session,
        "records": session * len(expected),
        **said,
        "wrong": wrong,
        "samples": run.samples,
    }


def compare(expected: Records, records: Records, session: int, *, by_topic: bool) -> list[str]:
    """Return what is wrong with the records of one session."""
    if by_topic:  # the order between instruments is that of arrival
        expected = expected[np.argsort(expected["instrument_id"], kind="stable")]
        records = records[np.argsort(records["instrument_id"], kind="stable")]
    records = plain(records)
    if by_topic and len(expected):
        records["ts_event"] += expected["ts_event"][0]
    if records.tobytes() == expected.tobytes():
        return []
    numbers, wanted = records["sequence"], expected["sequence"]
    return [
        f"session {session}: {len(records)} records instead of {len(expected)}; "
        f"{len(np.setdiff1d(wanted, numbers))} numbers missing; "
        f"{int((np.diff(numbers.astype(np.int64)) < 0).sum())} steps back; "
        f"{int((records['flags'] & 4 != 0).sum())} flagged"
    ]


def summary(samples: dict[str, list[list[float]]]) -> dict[str, dict[str, float]]:
    """Return a row of quantiles for each kind of fault, and one for its part from the socket on."""
    rows = {}
    for kind in ("no fault", "SIGKILL", "SIGSTOP", "hole", "STALE"):
        if found := samples.get(kind):
            rows[kind] = distribution([whole for whole, _ in found])
            rows[f"{kind}, from socket"] = distribution([part for _, part in found])
    return rows


def keep(name: str, result: dict[str, Any]) -> None:
    """Append a run to results/takeover-NAME.jsonl."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    with (RESULTS / f"takeover-{name}.jsonl").open("a") as out:
        out.write(json.dumps({"machine": machine(), **result}) + "\n")


def show_kept(names: Sequence[str]) -> bool:
    """Print what was kept under each name, draw all; return whether nothing was lost or came twice."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(names), figsize=(5 * len(names), 4), sharey=True, squeeze=False)
    good = True
    for name, axes in zip(names, panels[0], strict=True):
        runs = [json.loads(line) for line in (RESULTS / f"takeover-{name}.jsonl").read_text().splitlines()]
        samples: dict[str, list[list[float]]] = {}
        for run in runs:
            for kind, found in run["samples"].items():
                samples.setdefault(kind, []).extend(found)
            good = good and not run["wrong"] and not run["lost"]
        sums = {what: sum(run[what] for run in runs) for what in ("times", "records", "lost")}
        print(name, sums, "wrong:", [line for run in runs for line in run["wrong"]])
        show(summary(samples))
        for kind, found in samples.items():
            ordered = sorted(whole * 1e3 for whole, _ in found)
            axes.step(ordered, np.arange(1, len(ordered) + 1) / len(ordered), where="post", label=kind)
        axes.axvline(10, color="grey", linewidth=1)
        axes.set_xscale("log")
        axes.set_title(name)
        axes.set_xlabel("longest way of a message around the fault, ms")
        axes.legend(loc="lower right")
    panels[0][0].set_ylabel("share of take-overs")
    figure.tight_layout()
    figure.savefig(RESULTS / "takeover.png", dpi=120)
    return good


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=1000)
    parser.add_argument("--network", choices=["loopback", "veth"], default="loopback")
    parser.add_argument("--transport", choices=["shm", "zmq"], default="shm")
    parser.add_argument("--rate", type=float, default=4000, help="messages a second")
    parser.add_argument("--messages", type=int, default=30_000, help="of one session")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--fifo", action="store_true", help="real-time priority for daemons and follower")
    parser.add_argument("--keep", metavar="NAME", help="append the samples to results/takeover-NAME.jsonl")
    parser.add_argument("--show", nargs="+", metavar="NAME", help="run nothing: print and draw what was kept")
    options = parser.parse_args()
    if options.show:
        raise SystemExit(0 if show_kept(options.show) else 1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leave no daemon and no namespace behind
    result = verify(
        options.times,
        options.network,
        options.transport,
        messages=options.messages,
        rate=options.rate,
        seed=options.seed,
        fifo=options.fifo,
    )
    if options.keep:
        keep(options.keep, result)
    show(summary(result.pop("samples")))
    print(json.dumps(result))
    raise SystemExit(1 if result["wrong"] or result["lost"] else 0)


if __name__ == "__main__":
    main()
