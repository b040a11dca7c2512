"""Take-over of a hot pair, again and again: nothing lost, nothing twice, and how long it lasts.

    python -m benchmarks.verify_takeover --times 1000
    python -m benchmarks.verify_takeover --times 1000 --network veth    # root: each daemon in a namespace

Two daemons take the same lines; one consumer reads both channels. Each time one of the daemons is killed
(SIGKILL) or made to hang (SIGSTOP) under the running feed, and comes back afterwards. After each session the
mbo records delivered are compared, byte for byte but for receive times, with those of the lossless stream.
The interruption is the longest way of a message, from the exchange's socket to the consumer, among those sent
from 2 ms before to 50 ms after the fault; `no fault` is the same, measured where nothing happens: what the
machine and this program add. Exit status 0 only if nothing was lost or came twice.
"""

import argparse
import contextlib
import json
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from feedhandler.consumer import Consumer, FeedState
from tests.support.channels import make_channel
from tests.support.daemon import Daemon, write_config
from tests.support.exchange import Exchange, Line, RewindServer, simulated_messages
from tests.support.multicast import free_ports
from tests.support.netns import inside, two_receivers

GROUPS = ("239.197.2.1", "239.197.2.2")
RECOVERY = "timeout_ms = 20\nretries = 1000000\nmax_outstanding = 32\nrequests_per_s = 100000\n"
PER_PACKET = 4
BEFORE_S, AFTER_S = 0.002, 0.05


def plain(records: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Return mbo records without what differs between two hosts: receive times, and the day."""
    out = records.copy()
    out["ts_recv"] = out["ts_in_delta"] = 0
    if len(out):
        out["ts_event"] -= out["ts_event"][0]
    return out


def lossless(day: Sequence[bytes], folder: Path) -> "np.ndarray[Any, Any]":
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


class Sending:
    """An exchange that sends its day at a rate, on a thread of its own."""

    def __init__(self, exchange: Exchange, rate: float) -> None:
        self.exchange = exchange
        self.times: list[float] = []
        self.ends: list[int] = []
        """Of each packet: when it was sent, and the number behind its last."""
        self.rate = rate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def _send(self) -> None:
        start = time.monotonic()
        while not self._stop.is_set() and self.exchange.next <= len(self.exchange.messages):
            self.times.append(time.monotonic())
            self.exchange.send(PER_PACKET, PER_PACKET)
            self.ends.append(self.exchange.next)
            time.sleep(max(0.0, start + self.exchange.next / self.rate - time.monotonic()))

    @property
    def done(self) -> bool:
        """Whether the whole day is sent."""
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Send no more."""
        self._stop.set()
        self._thread.join()


class Pair:
    """Two daemons, their faults, and what a consumer of both got."""

    def __init__(
        self, folder: Path, lines: Sequence[Line], server: tuple[str, int], places: list[Any]
    ) -> None:
        self.runs = [folder / "run-a", folder / "run-b"]
        self.prefixes = [prefix for prefix, _ in places]
        self.configs = []
        for name, (_, interface) in zip("ab", places, strict=True):
            home = folder / f"config-{name}"
            home.mkdir()
            self.configs.append(
                write_config(
                    home,
                    lines,
                    [server],
                    interface=interface,
                    recovery=RECOVERY,
                    channel_table='start = "beginning"\n',
                    publish='schemas = ["mbo"]\nring_mib = 32\n',
                )
            )
        self.daemons = [self._start(0).wait_ready(), self._start(1).wait_ready()]
        self.consumer = Consumer([str(run / "live") for run in self.runs], ["mbo"])
        self.records: list[Any] = []
        self.seen: list[tuple[float, int]] = []
        """When the consumer had got which number."""

    def _start(self, index: int) -> Daemon:
        return Daemon(self.configs[index], self.runs[index], prefix=self.prefixes[index])

    def pump(self, enough: Callable[[], bool], timeout_s: float = 30.0) -> None:
        """Read until something is so."""
        deadline = time.monotonic() + timeout_s
        while not enough():
            for batch in self.consumer.poll(0.001):
                self.records.append(batch.records)
                self.seen.append((time.monotonic(), batch.sequence))
            if time.monotonic() >= deadline:
                raise TimeoutError(f"not within {timeout_s:g} s; state {self.consumer.state.name}")

    def pump_for(self, seconds: float) -> None:
        """Read for so long."""
        end = time.monotonic() + seconds
        self.pump(lambda: time.monotonic() >= end)

    def is_in(self, state: FeedState) -> bool:
        """Whether both daemons are in this state."""
        try:
            return all(daemon.reader.state == state for daemon in self.daemons)
        except Exception:  # noqa: BLE001  a daemon that starts has no channel yet
            return False

    def fault(self, index: int, number: int) -> float:
        """Send a daemon a signal; return when."""
        at = time.monotonic()
        self.daemons[index].process.send_signal(number)
        return at

    def mend(self, index: int, number: int) -> None:
        """Undo it."""
        if number == signal.SIGSTOP:
            self.daemons[index].process.send_signal(signal.SIGCONT)
            return
        self.daemons[index].close()
        self.daemons[index] = self._start(index)

    def close(self) -> None:
        """Leave nothing behind."""
        self.consumer.close()
        for daemon in self.daemons:
            daemon.close()


def interruption_s(pair: Pair, sending: Sending, at: float) -> float:
    """Return the longest way of a message sent around a fault."""
    times = [when for when, _ in pair.seen]
    numbers = np.maximum.accumulate(np.array([number for _, number in pair.seen]))
    longest = 0.0
    for index in range(bisect_left(sending.times, at - BEFORE_S), len(sending.ends)):
        sent = sending.times[index]
        if sent > at + AFTER_S:
            break
        position = int(np.searchsorted(numbers, sending.ends[index] - 1))
        if position < len(times):  # a packet whose last message gave no record is covered by the next one
            longest = max(longest, times[position] - sent)
    return longest


@contextlib.contextmanager
def hosts(network: str) -> Iterator[tuple[str, list[Any], Callable[[], Any]]]:
    """Yield (sender's address, [(prefix, interface) of each daemon], where to make the sender's sockets)."""
    if network == "loopback":
        yield "127.0.0.1", [([], "127.0.0.1"), ([], "127.0.0.1")], contextlib.nullcontext
        return
    with two_receivers("hot") as pairs:
        places = [(one.inside(one.receiver), one.receiver_address) for one in pairs]
        yield pairs[0].sender_address, places, lambda: inside(pairs[0].sender)


def verify(
    times: int, network: str = "loopback", *, messages: int = 40_000, rate: float = 4000, seed: int = 1
) -> dict[str, Any]:
    """Run it; the result's `wrong` lists the sessions whose records were not those of the lossless stream."""
    chance = random.Random(seed)  # noqa: S311
    day = simulated_messages(messages)
    interruptions: dict[str, list[float]] = {"no fault": [], "SIGKILL": [], "SIGSTOP": []}
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as name, hosts(network) as (sender, places, there):
        folder = Path(name)
        expected = lossless(day, folder)
        lines = [Line(n, group, port) for n, group, port in zip("AB", GROUPS, free_ports(2), strict=True)]
        with there():
            server = RewindServer(b"TAKEOVER00", day, (sender, 0))
        pair = Pair(folder, lines, server.address, places)
        try:
            done, session = 0, 0
            while done < times:
                session += 1
                server.session = f"TAKE{session:06d}".encode()
                with there():
                    exchange = Exchange(day, lines, server.session, sender)
                pair.records, pair.seen = [], []
                sending = Sending(exchange, rate)
                try:
                    while done < times and not sending.done:
                        if not _one(pair, sending, chance, interruptions):
                            break
                        done += 1
                    exchange_over = sending
                    pair.pump(lambda s=exchange_over: s.done, 120.0)

                    def ended(over: Exchange = exchange) -> bool:
                        over.end()
                        return pair.is_in(FeedState.ENDED)

                    pair.pump(ended)
                    pair.pump_for(0.05)
                finally:
                    sending.stop()
                    exchange.close()
                wrong += compare(expected, pair.records, session)
            shares = list(pair.consumer.delivered_from.values())
            lost = pair.consumer.lost
        finally:
            pair.close()
            server.close()
    summary = {kind: distribution(found) for kind, found in interruptions.items() if found}
    return {
        "times": times,
        "network": network,
        "sessions": session,
        "delivered_from": shares,
        "lost": lost,
        "interruption_ms": summary,
        "wrong": wrong,
    }


def _one(pair: Pair, sending: Sending, chance: random.Random, interruptions: dict[str, list[float]]) -> bool:
    """Do one fault and mend it; False when the day is over before both are well."""
    pair.pump(lambda: pair.is_in(FeedState.LIVE) or sending.done, 60.0)
    quiet = time.monotonic()
    pair.pump_for(chance.uniform(AFTER_S, 2 * AFTER_S) + 0.05)
    left_s = (len(sending.exchange.messages) - sending.exchange.next) / sending.rate
    if sending.done or left_s < 0.3:
        return False
    interruptions["no fault"].append(interruption_s(pair, sending, quiet))
    index = chance.randrange(2)
    number = chance.choice([signal.SIGKILL, signal.SIGSTOP])
    at = pair.fault(index, number)
    pair.pump_for(AFTER_S + 0.05)
    interruptions[number.name].append(interruption_s(pair, sending, at))
    pair.mend(index, number)
    return True


def compare(expected: "np.ndarray[Any, Any]", got: list[Any], session: int) -> list[str]:
    """Return what is wrong with the records of one session."""
    records = np.concatenate(got)
    records = plain(records[(records["action"] != b"R") | (records["sequence"] != 0)])  # a rollover's
    if records.tobytes() == expected.tobytes():
        return []
    numbers, wanted = records["sequence"], expected["sequence"]
    missing = np.setdiff1d(wanted, numbers)
    return [
        f"session {session}: {len(records)} records instead of {len(expected)}; "
        f"{len(missing)} numbers missing; "
        f"{int((np.diff(numbers.astype(np.int64)) < 0).sum())} steps back; "
        f"{int((records['flags'] & 4 != 0).sum())} flagged"
    ]


def distribution(seconds: list[float]) -> dict[str, float]:
    """Return quantiles in milliseconds."""
    ordered = sorted(seconds)
    marks = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
    out = {name: ordered[min(len(ordered) - 1, int(share * len(ordered)))] for name, share in marks.items()}
    out |= {"max": ordered[-1], "mean": statistics.fmean(ordered)}
    return {"count": len(ordered), **{name: round(value * 1e3, 3) for name, value in out.items()}}


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=1000)
    parser.add_argument("--network", choices=["loopback", "veth"], default="loopback")
    parser.add_argument("--rate", type=float, default=4000, help="messages a second")
    parser.add_argument("--messages", type=int, default=40_000, help="of one session")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    result = verify(
        options.times, options.network, messages=options.messages, rate=options.rate, seed=options.seed
    )
    print(json.dumps(result))
    sys.exit(1 if result["wrong"] or result["lost"] else 0)


if __name__ == "__main__":
    main()
