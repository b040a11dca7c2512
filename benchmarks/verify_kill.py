"""Kills of every process of a site at random moments, again and again: what comes back must be right.

    python -m benchmarks.verify_kill --times 1000
    python -m benchmarks.verify_kill --times 50 --seed 7 --first-round 3    # a round that failed, alone

A site: an exchange that sends without pause on two lines, a daemon with its ZeroMQ publisher and its journal,
and a re-request server (`feedhandler gapfill`) fed from the lines. One of the four is killed (SIGKILL), after
a random time, the daemon now and then with its helpers, or again while it starts; the daemon and the server
are started again at once, as a service manager would, the helpers by the daemon. Then the exchange stops for
a moment and every book is compared with those of its own messages. Rounds differ in how a daemon gets its
books back: start "beginning", or "live" with a snapshot server; both have the journal.

Checked besides: after each kill of the daemon a consumer sees DEAD; at the end of a round the daemon ends
cleanly, every packet in every segment of the journal is one that was sent, whole, and so is every message in
the re-request server's store; in the runtime directory there is what one start leaves and nothing else, no
process is left. Exit status 0 only if all of it was so.
"""

import argparse
import contextlib
import functools
import json
import os
import random
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zmq
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from feedhandler import _core
from feedhandler.consumer import Consumer, FeedState
from feedhandler.journal.segments import PACKED, PLAIN, contents, readable, segments
from feedhandler.publish.wire import Header
from recovery.glimpse import GlimpseServer, GlimpseSettings
from recovery.store import MessageStore
from tests.support.daemon import COMMAND, Daemon, environment, write_config
from tests.support.exchange import HEADER, Exchange, Line, RewindServer, simulated_messages
from tests.support.multicast import free_ports
from tests.support.order_books import OrderBooks

GROUPS = ("239.197.3.1", "239.197.3.2")
RECOVERY = "timeout_ms = 20\nretries = 1000\nmax_outstanding = 32\nrequests_per_s = 100000\n"
HELPERS = ("feedhandler.publish", "feedhandler.journal")
VICTIMS = {"daemon": 5, "zmq": 2, "journal": 2, "gapfill": 2}
LEFT_BY_A_START = {"books", "channel", "consumers", "journal", "lock", "packets", "ring"}
PER_PACKET, PER_ROUND = 4, 50
LONGEST_S = 30.0
MOST_DEAD_MS = 10.0


class WrongError(Exception):
    """What must not be."""


class Sending:
    """The exchange on a thread of its own, at a rate, until its day is over; `quiet` halts it."""

    def __init__(self, exchange: Exchange, rate: float, store: MessageStore) -> None:
        self.exchange, self.rate, self.store = exchange, rate, store
        self.books = OrderBooks()
        self._gate = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            with self._gate:
                first = self.exchange.next
                for sequence, message in enumerate(
                    self.exchange.messages[first - 1 : first - 1 + PER_PACKET], first
                ):
                    self.store.append(sequence, message)  # before anybody can ask for it
                    self.books.apply(message)
                self.exchange.send(PER_PACKET, PER_PACKET)
            due = max(due + PER_PACKET / self.rate, time.monotonic() - 0.01)
            self._stop.wait(max(0.0, due - time.monotonic()))

    @property
    def share_left(self) -> float:
        """How much of the day is still to come."""
        return 1 - self.exchange.next / len(self.exchange.messages)

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """Send nothing meanwhile."""
        with self._gate:
            yield

    def stop(self) -> None:
        """Send no more."""
        self._stop.set()
        self._thread.join()


@dataclass
class Found:
    """What was measured."""

    kills: Counter[str] = field(default_factory=Counter)
    dead_s: list[float] = field(default_factory=list)
    live_s: list[float] = field(default_factory=list)
    back_s: dict[str, list[float]] = field(default_factory=dict)
    sources: Counter[str] = field(default_factory=Counter)
    books: int = 0
    wrong: list[str] = field(default_factory=list)


def wait(condition: Callable[[], Any], what: str, timeout_s: float = LONGEST_S) -> Any:
    """Return the first true value of the condition; raise WrongError when there is none in time."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise WrongError(f"no {what} within {timeout_s:g} s")
        time.sleep(0.001)
    return value


class Site:
    """One round's processes."""

    def __init__(self, folder: Path, day: Sequence[bytes], rate: float, *, snapshots: bool) -> None:
        self.folder, self.runtime, self.journal = folder, folder / "run", folder / "journal"
        self._stack = contextlib.ExitStack()
        session = b"KILLED0001"
        port_a, port_b, gapfill, zmq_port = free_ports(4)
        lines = [Line("A", GROUPS[0], port_a), Line("B", GROUPS[1], port_b)]
        server = RewindServer(session, day, ("127.0.0.1", 0))
        self._stack.callback(server.close)
        store = self._stack.enter_context(MessageStore.create(session=session, max_messages=1 << 20))
        glimpse = self._snapshots(store) if snapshots else ""
        self.config = write_config(
            folder,
            lines,
            [("127.0.0.1", gapfill), server.address],
            recovery=RECOVERY,
            channel_table="" if snapshots else 'start = "beginning"\n',
            publish=f'schemas = ["mbo"]\nring_mib = 8\n[publish.zmq]\nendpoint = "tcp://127.0.0.1:{zmq_port}"\n',
            extra=f'{glimpse}[journal]\ndirectory = "{self.journal}"\nsegment_mib = 1\nring_mib = 4\n',
        )
        self.gapfill_config = self._gapfill_config(gapfill, lines, server.address)
        self.gapfill_address = ("127.0.0.1", gapfill)
        self.gapfill = self.start_gapfill()
        self.daemon = Daemon(self.config, self.runtime)
        exchange = Exchange(day, lines, session)
        self._stack.callback(exchange.close)
        wait(self.is_ready, "READY")
        self.sending = Sending(exchange, rate, store)
        self._stack.callback(self.sending.stop)
        self.consumer = self._stack.enter_context(Consumer("live", ["mbo"], runtime_dir=self.runtime))
        context = zmq.Context()
        self._stack.callback(context.term)
        self.subscriber = context.socket(zmq.SUB)
        self._stack.callback(self.subscriber.close, 0)
        self.subscriber.setsockopt(zmq.RECONNECT_IVL, 10)
        self.subscriber.subscribe(b"live/")
        self.subscriber.connect(f"tcp://127.0.0.1:{zmq_port}")

    def _snapshots(self, store: MessageStore) -> str:
        server = GlimpseServer(
            store,
            ("127.0.0.1", 0),
            GlimpseSettings(username="user", password="secret"),  # noqa: S106
        )
        self._stack.enter_context(server)
        thread = threading.Thread(target=server.run)
        thread.start()
        self._stack.callback(thread.join)
        self._stack.callback(server.stop)
        (self.folder / "password").write_text("secret\n")
        return (
            f'[recovery.snapshot]\naddress = "127.0.0.1:{server.address[1]}"\nusername = "user"\n'
            f'password_file = "{self.folder / "password"}"\n'
        )

    def _gapfill_config(self, port: int, lines: Sequence[Line], upstream: tuple[str, int]) -> Path:
        path = self.folder / "gapfill.toml"
        text = (
            f'[gapfill]\nlisten = "127.0.0.1:{port}"\nsource = "lines"\nstore = "{self.folder}/day.store"\n'
        )
        text += "store_mib = 64\nclient_requests_per_s = 100000\nclient_bytes_per_s = 100000000\n"
        for line in lines:
            text += f'[[line]]\nname = "{line.name}"\ngroup = "{line.group}"\nport = {line.port}\n'
            text += 'interface = "127.0.0.1"\n'
        path.write_text(text + f'[[upstream]]\naddress = "{upstream[0]}:{upstream[1]}"\n')
        return path

    # ---- processes

    def start_gapfill(self) -> "subprocess.Popen[bytes]":
        """Start the re-request server."""
        with (self.folder / "gapfill.log").open("ab") as log:
            command = [*COMMAND, "gapfill", "--config", str(self.gapfill_config)]
            return subprocess.Popen(command, env=environment(), stderr=log)

    def start_daemon(self) -> None:
        """Start the daemon; the one before is dead."""
        self.daemon.close()
        self.daemon = Daemon(self.config, self.runtime)

    def is_ready(self) -> bool:
        """Whether the daemon has said so; raises WrongError when it ended by itself."""
        if self.daemon.process.poll() is not None:
            raise WrongError(f"the daemon ended with status {self.daemon.process.returncode}")
        return any("READY=1" in message for message in self.daemon.notifications())

    def helper(self, module: str) -> int | None:
        """Return the pid of a helper of the daemon that has become what it is to be."""
        pid = self.daemon.process.pid
        with contextlib.suppress(OSError):
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
                if module.encode() in words:
                    return int(child)
        return None

    def reader(self) -> Any:
        """Return a reader of the channel as it is now; None while there is none."""
        try:
            return self.daemon.reader
        except Exception:  # noqa: BLE001  files of two starts, while one takes the other's place
            return None

    def kill_daemon(self, found: Found, first: Sequence[int]) -> None:
        """Kill it, right after those that are to die first; measure how long its consumer takes to see it."""
        wait(
            lambda: (self.consumer.poll(), self.consumer.state == FeedState.LIVE)[1], "consumer that is LIVE"
        )
        for pid in first:
            os.kill(pid, signal.SIGKILL)
        at = time.monotonic()
        self.daemon.process.kill()
        while self.consumer.state != FeedState.DEAD:
            if time.monotonic() > at + LONGEST_S:
                raise WrongError("the consumer does not see that the daemon is dead")
            time.sleep(0.0001)  # the dying process needs a CPU to die on
        found.dead_s.append(time.monotonic() - at)

    def live(self) -> float:
        """Wait until the daemon is LIVE, while the feed goes on; return when it was."""
        wait(self.is_ready, "READY")
        wait(lambda: (reader := self.reader()) and reader.state == FeedState.LIVE, "LIVE")
        return time.monotonic()

    def compare(self) -> int:
        """Halt the exchange, compare every book with its own; return how many."""
        with self.sending.quiet():
            exchange = self.sending.exchange
            exchange.heartbeat()

            def caught_up() -> bool:
                self.consumer.poll()
                book_of = self.reader()
                return (
                    book_of is not None
                    and book_of.next_sequence == exchange.next
                    and self.consumer.state == FeedState.LIVE
                    and self.consumer.next_sequence == exchange.next
                )

            wait(caught_up, f"LIVE at number {exchange.next}")
            expected = self.sending.books.levels()
            for symbol, sides in expected.items():
                book = self.consumer.book(symbol)
                for side, levels in zip((book.bids, book.asks), sides, strict=True):
                    if [tuple(level) for level in side.tolist()] != levels:
                        raise WrongError(f"book of {symbol} before number {exchange.next}")
            return len(expected)

    def close(self) -> None:
        """Leave nothing behind."""
        for process in (self.daemon.process, self.gapfill):
            if process.poll() is None:
                process.kill()
        self._stack.close()
        self.daemon.close()
        self.gapfill.wait()

    # ---- kills: each returns when all is well again

    def daemon_killed(self, chance: random.Random, found: Found) -> None:
        """The daemon, now and then all its helpers with it, or its successor while it starts."""
        with_helpers = chance.random() < 0.3
        helpers = (self.helper(module) for module in HELPERS)
        self.kill_daemon(found, [pid for pid in helpers if pid] if with_helpers else [])
        found.kills["daemon and helpers" if with_helpers else "daemon"] += 1
        while chance.random() < 0.2:
            self.start_daemon()
            time.sleep(chance.uniform(0, 0.5))
            self.daemon.process.kill()
            found.kills["daemon while it starts"] += 1
        at = time.monotonic()
        self.start_daemon()
        found.live_s.append(self.live() - at)

    def zmq_killed(self, _chance: random.Random, found: Found) -> None:
        """The publisher: subscribers get another epoch."""
        pid = wait(lambda: self.helper("feedhandler.publish"), "publisher")
        epoch = wait(self._epoch, "message from ZeroMQ")
        at = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        found.kills["zmq"] += 1
        wait(lambda: self._epoch() not in (None, epoch), "message of another publisher")
        found.back_s.setdefault("zmq", []).append(time.monotonic() - at)

    def _epoch(self) -> int | None:
        """Read all that came; return the epoch of the newest."""
        epoch = None
        with contextlib.suppress(zmq.Again):
            while True:
                epoch = Header.unpack(self.subscriber.recv_multipart(zmq.NOBLOCK)[1]).epoch
        return epoch

    def journal_killed(self, _chance: random.Random, found: Found) -> None:
        """The journal: another one goes on writing."""
        pid = wait(lambda: self._journal().get("pid"), "journal")
        at = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        found.kills["journal"] += 1
        again = wait(lambda: (s := self._journal()).get("pid", pid) != pid and s, "another journal")
        wait(lambda: self._journal()["packets"] > again["packets"], "packets in the journal")
        found.back_s.setdefault("journal", []).append(time.monotonic() - at)

    def journal_writes(self) -> bool:
        """Whether the daemon's journal has begun."""
        pid = self.helper("feedhandler.journal")
        return pid is not None and self._journal().get("pid") == pid and self._journal()["packets"] > 0

    def _journal(self) -> dict[str, Any]:
        return _core.journal_status(str(self.runtime / "live")) or {}

    def gapfill_killed(self, chance: random.Random, found: Found) -> None:
        """The re-request server: it goes on with its store, and has what it missed from further up."""
        at = time.monotonic()
        self.gapfill.kill()
        self.gapfill.wait()
        found.kills["gapfill"] += 1
        missed = self.sending.exchange.next + PER_PACKET
        self.gapfill = self.start_gapfill()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(self.gapfill_address)
            client.setblocking(False)
            for number in (1 + int(chance.random() * missed), missed):
                gives = functools.partial(self._gives, client, number)
                wait(gives, f"message {number} from the re-request server")
        found.back_s.setdefault("gapfill", []).append(time.monotonic() - at)

    def _gives(self, client: socket.socket, number: int) -> bool:
        """Ask for a message; tell whether it came."""
        exchange = self.sending.exchange
        with contextlib.suppress(OSError):  # refused: nobody listens yet
            client.send(HEADER.pack(exchange.session, number, 1))
        with contextlib.suppress(OSError):
            while reply := client.recv(2048):
                if HEADER.unpack_from(reply)[1] != number:
                    continue
                message = exchange.messages[number - 1]
                if (
                    reply
                    != HEADER.pack(exchange.session, number, 1) + struct.pack(">H", len(message)) + message
                ):
                    raise WrongError(f"the re-request server gives a wrong message {number}")
                return True
        return False

    # ---- the end of a round

    def stop_and_look(self) -> list[str]:
        """End everything in good order; return what is not as it should be."""
        wrong = []
        helpers = [pid for m in HELPERS if (pid := self.helper(m))]
        self.sending.stop()
        for process, name in ((self.daemon.process, "daemon"), (self.gapfill, "gapfill")):
            process.send_signal(signal.SIGTERM)
            if status := process.wait(10):
                wrong.append(f"{name} ended with status {status}")
        wrong += [f"process {pid} is left" for pid in helpers if Path(f"/proc/{pid}").exists()]
        left = {path.name for path in (self.runtime / "live").iterdir()}
        if left != LEFT_BY_A_START:
            wrong.append(f"runtime directory: {sorted(left ^ LEFT_BY_A_START)}")
        if {path.name for path in self.runtime.iterdir()} != {"live"}:
            wrong.append("runtime directory: more than the channel")
        return wrong + self.look_at_journal() + self.look_at_store()

    def look_at_journal(self) -> list[str]:
        """Every packet of a line is one that was sent, byte for byte; no torn tail, no unfinished file."""
        wrong = []
        known = {f"{s.path.name}" for s in segments(self.journal)}
        wrong += [f"journal: {p.name}" for p in self.journal.iterdir() if p.name not in {*known, "lock"}]
        survey = _core.JournalSurvey()
        for segment in segments(self.journal):
            if segment.kind not in (PLAIN, PACKED):
                wrong.append(f"journal: {segment.path.name} was not finished")
            data = b"".join(contents(segment))
            if segment.kind == PLAIN:
                with segment.path.open("rb") as file:
                    if readable(segment, file)[1]:
                        wrong.append(f"journal: {segment.path.name} has a torn tail")
            survey.begin_segment()
            survey.read(data)
            wrong += self._packets_not_sent(segment.path.name, data)
        return wrong

    def _packets_not_sent(self, name: str, data: bytes) -> list[str]:
        exchange, at = self.sending.exchange, 24
        while at < len(data):
            length = int.from_bytes(data[at + 8 : at + 12], "little")
            payload = data[at + 16 + 42 : at + 16 + length]
            at += 16 + length
            session, first, count = HEADER.unpack_from(payload)
            blocks = b"".join(
                len(m).to_bytes(2, "big") + m for m in exchange.messages[first - 1 : first - 1 + count]
            )
            if session != exchange.session or (count and payload[HEADER.size :] != blocks):
                return [f"journal: {name} has a packet that nobody sent"]
        return []

    def look_at_store(self) -> list[str]:
        """Every message in it is the exchange's; and those of the beginning are there."""
        exchange = self.sending.exchange
        with MessageStore.open(self.folder / "day.store") as store:
            held = dict(store.messages())
        bad = sum(message != exchange.messages[sequence - 1] for sequence, message in held.items())
        out = [f"store: {bad} messages are wrong"] if bad else []
        return out if held else [*out, "store: empty"]


def round_of(
    kills: int, seed: str, day: Sequence[bytes], rate: float, found: Found, tell: Callable[[], None]
) -> None:
    """Kill so often, at moments that the seed tells."""
    chance = random.Random(seed)  # noqa: S311
    with tempfile.TemporaryDirectory(prefix="kill-") as name, contextlib.ExitStack() as stack:
        site = Site(Path(name), day, rate, snapshots=chance.random() < 0.5)
        stack.callback(site.close)
        try:
            site.live()
            goal = sum(found.kills.values()) + kills
            while sum(found.kills.values()) < goal and site.sending.share_left > 0.05:
                time.sleep(chance.uniform(0.0, 0.05))
                victim = chance.choices(list(VICTIMS), list(VICTIMS.values()))[0]
                getattr(site, f"{victim}_killed")(chance, found)
                found.books += site.compare()
                tell()
            wait(site.journal_writes, "journal")  # one that is told to end before it began repairs nothing
            wrong = site.stop_and_look()
            found.sources += Counter(e["source"] for e in site.daemon.log() if e["event"] == "restart")
        except (WrongError, subprocess.TimeoutExpired) as error:
            wrong = [str(error), *(json.dumps(entry) for entry in site.daemon.log()[-12:])]
        found.wrong += [f"seed {seed}: {text}" for text in wrong]


def verify(
    times: int,
    seed: int = 1,
    *,
    first_round: int = 0,
    per_round: int = PER_ROUND,
    rate: float = 1500,
    messages: int = 150_000,
    tell: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:
    """Kill so many times; the result's `wrong` lists what was not right, with the seed of its round."""
    found = Found()
    day = simulated_messages(messages)
    number, began = first_round, time.monotonic()
    while (done := sum(found.kills.values())) < times and not found.wrong:
        kills = min(per_round, times - done)
        round_of(
            kills, f"{seed}/{number}", day, rate, found, lambda: tell(min(times, sum(found.kills.values())))
        )
        number += 1
    late = [1e3 * s for s in found.dead_s if 1e3 * s > MOST_DEAD_MS]
    return {
        "kills": sum(found.kills.values()),
        "of": dict(found.kills),
        "rounds": number - first_round,
        "seed": seed,
        "books_compared": found.books,
        "restarts_by": dict(found.sources),
        "dead_ms": distribution(found.dead_s),
        "dead_later_than_10_ms": len(late),
        "live_s": distribution(found.live_s, 1.0),
        "back_s": {name: distribution(times_s, 1.0) for name, times_s in found.back_s.items()},
        "elapsed_s": round(time.monotonic() - began, 1),
        "wrong": found.wrong,
    }


def distribution(seconds: list[float], unit: float = 1e3) -> dict[str, float]:
    """Return quantiles in thousandths of a second, or in `unit`ths."""
    if not seconds:
        return {"count": 0}
    ordered = sorted(seconds)
    marks = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
    out = {name: ordered[min(len(ordered) - 1, int(share * len(ordered)))] for name, share in marks.items()}
    out |= {"max": ordered[-1], "mean": statistics.fmean(ordered)}
    return {"count": len(ordered), **{name: round(value * unit, 3) for name, value in out.items()}}


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first-round", type=int, default=0)
    parser.add_argument("--per-round", type=int, default=PER_ROUND)
    parser.add_argument("--rate", type=float, default=1500, help="messages a second")
    options = parser.parse_args()
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("kills", total=options.times)
        result = verify(
            options.times,
            options.seed,
            first_round=options.first_round,
            per_round=options.per_round,
            rate=options.rate,
            tell=lambda done: bar.update(task, completed=done),
        )
    print(json.dumps(result))
    sys.exit(1 if result["wrong"] else 0)


if __name__ == "__main__":
    main()
