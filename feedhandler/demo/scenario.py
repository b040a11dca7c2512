"""What the demo does, step by step; a generator, so that a view can be drawn between the steps."""

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from feedhandler import Consumer, FeedState
from feedhandler.demo.program import Program, console_script, example
from feedhandler.errors import RunError
from feedhandler.metrics.snapshot import open_reader, snapshot

CHANNEL = "demo"

_CONFIG = """
[channel]
name = "demo"
start = "beginning"
[[line]]
name = "A"
group = "239.192.70.1"
port = {port_a}
[[line]]
name = "B"
group = "239.192.70.2"
port = {port_b}
[receive]
spin = false
[recovery]
max_outstanding = 16
requests_per_s = 100000
retries = 20
[[recovery.server]]
address = "127.0.0.1:{port_rewind}"
[publish]
schemas = ["mbp-1", "trades", "status"]
[metrics]
listen = ""
"""


@dataclass(frozen=True)
class DemoSettings:
    """How much of everything; shares are per packet."""

    seconds: float = 20.0
    rate: int = 20_000  # messages a second
    symbols: int = 40
    drop: float = 0.05
    drop_burst: float = 8.0
    drop_rewind: float = 0.1
    seed: int = 1

    @property
    def messages(self) -> int:
        """Messages of the whole session."""
        return int(self.seconds * self.rate)


@dataclass
class Outcome:
    """What happened, for the verdict; times are CLOCK_MONOTONIC ns."""

    killed_at_ns: int = 0
    refused: dict[str, dict[str, Any]] = field(default_factory=dict)
    resumed: dict[str, dict[str, Any]] = field(default_factory=dict)
    live_after_restart_ns: int = 0
    restarted_at_ns: int = 0
    final_state: FeedState = FeedState.STARTING
    stat: dict[str, Any] = field(default_factory=dict)
    stat_before_kill: dict[str, Any] = field(default_factory=dict)
    wrong_books: list[str] = field(default_factory=list)
    compared_books: int = 0
    exchange: dict[str, Any] = field(default_factory=dict)


def free_udp_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Demo:
    """Owns the processes. Use as a context manager: leaving it stops them all and removes their files."""

    def __init__(self, settings: DemoSettings) -> None:
        self.settings = settings
        self.outcome = Outcome()
        self.step = "preparing"
        self.programs: dict[str, Program] = {}
        shared_memory = Path("/dev/shm")  # noqa: S108  the ring and the books belong in memory, not on a disk
        where = shared_memory if os.access(shared_memory, os.W_OK) else None
        self._folder = tempfile.TemporaryDirectory(prefix="feedhandler-demo-", dir=where)
        self.folder = Path(self._folder.name)
        self._ports = [free_udp_port() for _ in range(3)]

    def __enter__(self) -> "Demo":
        return self

    def __exit__(self, *_: object) -> None:
        for program in reversed(self.programs.values()):
            program.stop()
        self._folder.cleanup()

    # ---- the scenario --------------------------------------------------------------------------------

    def run(self) -> Iterator[None]:
        """Play the scenario; yields several times a second."""
        self._write_reference()
        yield
        self._start_daemon()
        yield from self._wait(
            "waiting for the daemon", lambda: (self.folder / CHANNEL / "channel").exists(), 15
        )
        self._start_consumers()
        self._start_exchange()
        yield from self._wait("waiting for the feed", lambda: self._both_say("allows", "quoting"), 30)
        yield from self._follow("trading", self.settings.seconds * 0.4)
        yield from self._kill_and_restart()
        yield from self._wait(
            "trading, until the exchange closes",
            lambda: self.state in (FeedState.ENDED, FeedState.DEAD),
            self.settings.seconds + 30,
        )
        self._take_stock()

    def _kill_and_restart(self) -> Iterator[None]:
        self.outcome.stat_before_kill = self.stat()
        marks = {name: len(self.programs[name].lines) for name in ("strategy", "risk")}
        self.outcome.killed_at_ns = self.programs["daemon"].kill()
        yield from self._wait(
            "the daemon is killed",
            lambda: self._took_note("refused", marks, "refuses", "forbids", "feed DEAD"),
            5,
        )
        yield from self._follow("no daemon: nobody may act", 1.0)
        marks = {name: len(self.programs[name].lines) for name in ("strategy", "risk")}
        self.outcome.restarted_at_ns = time.monotonic_ns()
        self._start_daemon()
        yield from self._wait(
            "the daemon is back and fetches all it missed",
            lambda: self._took_note("resumed", marks, "quoting", "allows"),
            self.settings.seconds + 30,
        )
        self.outcome.live_after_restart_ns = time.monotonic_ns()

    # ---- its processes -------------------------------------------------------------------------------

    def _start(self, name: str, command: list[str]) -> None:
        self.programs[name] = Program(name, command, self.folder / f"{name}.log")

    def _start_daemon(self) -> None:
        config = self.folder / "feed.toml"
        a, b, rewind = self._ports
        config.write_text(_CONFIG.format(port_a=a, port_b=b, port_rewind=rewind))
        self._start(
            "daemon", [*console_script(), "run", "--config", str(config), "--runtime-dir", str(self.folder)]
        )

    def _start_consumers(self) -> None:
        risk, orders = f"ipc://{self.folder}/risk.sock", f"ipc://{self.folder}/orders.sock"
        common = [CHANNEL, "--runtime-dir", str(self.folder), "--risk", risk, "--orders", orders]
        self._start("risk", [*example("risk_monitor.py"), *common])
        self._start("strategy", [*example("quoting_strategy.py"), *common])

    def _exchange_options(self) -> list[str]:
        s = self.settings
        return ["--messages", str(s.messages), "--symbols", str(s.symbols), "--seed", str(s.seed), "--json"]

    def _start_exchange(self) -> None:
        s, (a, b, rewind) = self.settings, self._ports
        command = [*console_script(), "simulate", *self._exchange_options()]
        command += ["--send", f"A=239.192.70.1:{a},B=239.192.70.2:{b}", "--rewind", f"127.0.0.1:{rewind}"]
        command += [
            "--rate",
            str(s.rate),
            "--burst",
            str(max(1, s.rate // 100)),
            "--lead",
            "1",
            "--linger",
            "3",
        ]
        command += [
            "--drop",
            str(s.drop),
            "--drop-burst",
            str(s.drop_burst),
            "--drop-rewind",
            str(s.drop_rewind),
        ]
        self._start("exchange", command)

    def _write_reference(self) -> None:
        """Write the same session to a file, and its final books: what the consumers must see at the end."""
        day, books = self.folder / "reference.itch", self.folder / "reference.csv"
        self._quietly(["simulate", "--output", str(day), *self._exchange_options()])
        self._quietly(["replay", str(day), "--date", "2026-01-02", "--dump-books", str(books), "--json"])

    @staticmethod
    def _quietly(arguments: list[str]) -> None:
        command = [*console_script(), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode != 0:
            raise RunError(f"{arguments[0]} failed: {done.stderr.strip()}")

    # ---- looking -------------------------------------------------------------------------------------

    @property
    def state(self) -> FeedState:
        """State of the feed as a consumer sees it now."""
        try:
            with Consumer(CHANNEL, schemas=["trades"], runtime_dir=self.folder) as consumer:
                return consumer.state
        except Exception:  # noqa: BLE001  no channel yet: there is no feed
            return FeedState.DEAD

    def stat(self) -> dict[str, Any]:
        """Return the counters as `feedhandler stat --json` tells them."""
        return snapshot(open_reader(self.folder / CHANNEL))

    def _both_say(self, risk: str, strategy: str) -> bool:
        return (
            self.programs["risk"].said(risk) is not None
            and self.programs["strategy"].said(strategy) is not None
        )

    def _took_note(
        self, notes: str, marks: dict[str, int], strategy: str, risk: str, reason: str = ""
    ) -> bool:
        """Note the first such word of each since its mark; true when both have spoken."""
        found = getattr(self.outcome, notes)
        for name, event in (("strategy", strategy), ("risk", risk)):
            said = self.programs[name].said(event, marks[name], reason)
            if name not in found and said is not None:
                found[name] = said
        return len(found) == 2

    def _follow(self, step: str, seconds: float) -> Iterator[None]:
        self.step = step
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            yield
            time.sleep(0.1)

    def _wait(self, step: str, condition: Any, timeout_s: float) -> Iterator[None]:
        self.step = step
        deadline = time.monotonic() + timeout_s
        while not condition():
            if broken := next((p for p in self.programs.values() if self._is_broken(p)), None):
                raise RunError(broken.complaint())
            if time.monotonic() > deadline:
                raise RunError(f"{step}: not within {timeout_s:.0f} s")
            yield
            time.sleep(0.02)

    def _is_broken(self, program: Program) -> bool:
        """Whether it ended though it should not: the exchange ends, the daemon is killed on purpose."""
        killed = program.name == "daemon" and self.outcome.killed_at_ns and not self.outcome.restarted_at_ns
        return not program.running and program.name != "exchange" and not killed

    def _take_stock(self) -> None:
        self.step = "comparing every book with the exchange's"
        self.outcome.final_state = self.state
        self.outcome.stat = self.stat()
        expected = self._reference_levels()
        with Consumer(CHANNEL, schemas=["trades"], runtime_dir=self.folder) as consumer:
            for symbol, levels in expected.items():
                book = consumer.book(symbol)
                seen = [
                    (side, int(level["price"]), int(level["size"]), int(level["orders"]))
                    for side, side_levels in (("B", book.bids), ("S", book.asks))
                    for level in side_levels
                ]
                self.outcome.compared_books += 1
                if seen != levels:
                    self.outcome.wrong_books.append(symbol)
        self.programs["exchange"].stop()  # it says what it sent, and repeats the end of the session no more
        self.outcome.exchange = next(iter(self.programs["exchange"].lines), {})

    def _reference_levels(self) -> dict[str, list[tuple[str, int, int, int]]]:
        """Return the best ten levels a side of every symbol: (side, price in 1e-9, size, orders)."""
        books: dict[str, list[tuple[str, int, int, int]]] = {}
        for line in (self.folder / "reference.csv").read_text().splitlines()[1:]:
            symbol, side, price, size, orders = line.split(",")
            levels = books.setdefault(symbol, [])
            if sum(level[0] == side for level in levels) < 10:
                levels.append((side, int(price.replace(".", "")) * 100_000, int(size), int(orders)))
        return books
