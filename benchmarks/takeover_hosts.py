"""What a take-over needs around it: an exchange, two daemons, a follower of both, each a process."""

import contextlib
import json
import mmap
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast

import numpy as np

from benchmarks.takeover_follow import read
from feedhandler import _core
from feedhandler.consumer import FeedState
from tests.support.daemon import Daemon, environment, write_config
from tests.support.exchange import Exchange, Line, RewindServer
from tests.support.multicast import free_port, free_ports
from tests.support.netns import inside, two_receivers
from tests.support.wait import wait_for

GROUPS = (("239.197.2.1", "239.197.2.2"), ("239.197.2.3", "239.197.2.4"))
"""Each daemon has groups of its own with the same packets, so that one alone can lose some."""
RECOVERY = "timeout_ms = 20\nretries = 10\nmax_outstanding = 32\nrequests_per_s = 100000\n"
PER_PACKET = 4
_NOBODY = 2


class Sending:
    """An exchange in a process of its own: sends the same day again and again, each time as a new session."""

    def __init__(
        self,
        day: Sequence[bytes],
        lines: Sequence[Sequence[Line]],
        places: "Hosts",
        rate: float,
    ) -> None:
        self.rate = rate
        self.packets = -(-len(day) // PER_PACKET)
        # Session, over, who loses, packets sent, how many times as fast.
        self._orders = np.frombuffer(mmap.mmap(-1, 4096), np.int64)
        self._orders[2] = _NOBODY
        self.sent_ns = np.frombuffer(mmap.mmap(-1, 8 * self.packets), np.int64)
        """Of each packet of this session: when it was sent (UTC)."""
        with places.there():
            self.pid = os.fork()
            if self.pid == 0:
                try:
                    self._serve(day, lines, places.sender, rate)
                finally:
                    os._exit(1)

    def _serve(self, day: Sequence[bytes], lines: Sequence[Sequence[Line]], sender: str, rate: float) -> None:
        session, every = 0, [line for pair in lines for line in pair]
        parent = os.getppid()
        exchange = Exchange(day, every, b"NOSESSION0", sender)
        while os.getppid() == parent:
            if int(self._orders[0]) != session:
                session = int(self._orders[0])
                exchange.close()
                exchange = Exchange(day, every, session_name(session), sender)
                self._send_day(exchange, lines, rate)
            elif self._orders[1]:
                exchange.end()
            time.sleep(0.01)

    def _send_day(self, exchange: Exchange, lines: Sequence[Sequence[Line]], rate: float) -> None:
        due_s = time.monotonic()
        for packet in range(self.packets):
            time.sleep(max(0.0, due_s - time.monotonic()))
            due_s += PER_PACKET / rate / int(self._orders[4])
            loser = int(self._orders[2])
            exchange.lines = [line for who, pair in enumerate(lines) if who != loser for line in pair]
            self.sent_ns[packet] = time.time_ns()
            exchange.send(PER_PACKET, PER_PACKET)
            self._orders[3] = packet + 1
        exchange.lines = [line for pair in lines for line in pair]

    def start(self, session: int) -> None:
        """Send the day as this session."""
        self._orders[1:5] = 0, _NOBODY, 0, 1
        self._orders[0] = session

    def hurry(self) -> None:
        """Send the rest of this session some times as fast: nothing is measured any more."""
        self._orders[4] = 4

    @property
    def sent(self) -> int:
        """Packets of this session that were sent."""
        return int(self._orders[3])

    def end(self) -> None:
        """Say that the session is over, again and again, until the next one starts."""
        self._orders[1] = 1

    def lose(self, who: int, packets: int) -> None:
        """Send the next packets to the other daemon only."""
        self._orders[2] = who
        first = self.sent
        wait_for(lambda: self.sent >= min(first + packets, self.packets), "packets to lose")
        self._orders[2] = _NOBODY

    def close(self) -> None:
        """End the process."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def session_name(session: int) -> bytes:
    """Return the name of a session."""
    return f"TAKE{session:06d}".encode()


class Follower:
    """`takeover_follow` and its log."""

    def __init__(
        self, folder: Path, transport: str, where: Sequence[str], prefix: Sequence[str] = ()
    ) -> None:
        self._log = folder / "log"
        self._read = 0
        command = [sys.executable, "-m", "benchmarks.takeover_follow", str(self._log), transport, *where]
        self.process = subprocess.Popen(
            [*prefix, *command], env=environment(), stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self._out = cast(TextIO, self.process.stdout)
        self._words = selectors.DefaultSelector()
        self._words.register(self._out, selectors.EVENT_READ)
        self.said: list[str] = []

    @property
    def restarts(self) -> int:
        """How often it has moved to a restarted daemon; -1 before it follows both."""
        while self._words.select(0):
            word = self._out.readline().strip()
            if not word:
                raise RuntimeError("the follower has ended")
            self.said.append(word)
        return -1 if not self.said else 0 if self.said[-1] == "up" else int(self.said[-1])

    @property
    def size(self) -> int:
        """Bytes logged so far."""
        return self._log.stat().st_size

    def take(self) -> Any:
        """Return what was delivered since the last time."""
        with self._log.open("rb") as log:
            log.seek(self._read)
            data = log.read()
        self._read += len(data)
        return read(data)

    def close(self) -> dict[str, Any]:
        """End it; return what it says."""
        self.process.terminate()
        said, _ = self.process.communicate(timeout=30)
        return dict(json.loads(said.splitlines()[-1]))


class Pair:
    """Two daemons, their re-request servers, their faults."""

    def __init__(
        self,
        folder: Path,
        day: Sequence[bytes],
        lines: Sequence[Sequence[Line]],
        places: "Hosts",
        *,
        fifo: bool,
        zmq: bool,
    ) -> None:
        self._fifo = fifo
        self.runs = [folder / "run-a", folder / "run-b"]
        self.endpoints = [f"tcp://{address}:{free_port()}" for _, address in places.daemons]
        self._prefixes = [prefix for prefix, _ in places.daemons]
        self._configs = []
        with places.there():
            self.servers = [RewindServer(b"NOSESSION0", day, (places.sender, 0)) for _ in places.daemons]
        for index, (_, interface) in enumerate(places.daemons):
            home = folder / f"config-{index}"
            home.mkdir()
            zmq_table = f'[publish.zmq]\nendpoint = "{self.endpoints[index]}"\n' if zmq else ""
            self._configs.append(
                write_config(
                    home,
                    lines[index],
                    [self.servers[index].address],
                    interface=interface,
                    recovery=RECOVERY,
                    channel_table='start = "beginning"\n',
                    publish='schemas = ["mbo"]\nring_mib = 32\n',
                    extra=zmq_table,
                )
            )
        self.restarts = 0
        self._readers: list[_core.ChannelReader | None] = [None, None]
        self.daemons = [self._start(0), self._start(1)]
        for daemon in self.daemons:
            daemon.wait_ready()
            self.hurry(daemon.process.pid)

    def _start(self, index: int) -> Daemon:
        return Daemon(self._configs[index], self.runs[index], prefix=self._prefixes[index])

    def hurry(self, pid: int) -> None:
        """Give real-time priority to the receive thread of a process, or to a process without one."""
        if not self._fifo:
            return
        threads = {
            int(task.name): (task / "comm").read_text() for task in Path(f"/proc/{pid}/task").iterdir()
        }
        for thread in [t for t, name in threads.items() if name == "fh-receive\n"] or list(threads):
            os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(1))

    def is_in(self, index: int, state: FeedState) -> bool:
        """Whether a daemon is in this state."""
        reader = self._readers[index] = self._readers[index] or self.daemons[index].reader
        return reader.state == state

    def are_in(self, state: FeedState) -> bool:
        """Whether both daemons are in this state."""
        return all(self.is_in(index, state) for index in (0, 1))

    def signal(self, index: int, number: int) -> int:
        """Send a daemon a signal; return when (ns UTC)."""
        at = time.time_ns()
        self.daemons[index].process.send_signal(number)
        return at

    def restart(self, index: int) -> None:
        """Kill a daemon and start it again."""
        self.restarts += 1
        self._readers[index] = None
        self.daemons[index].close()
        self.servers[index].silent = False
        self.daemons[index] = self._start(index).wait_ready()
        self.hurry(self.daemons[index].process.pid)

    def close(self) -> None:
        """Leave nothing behind."""
        for daemon in self.daemons:
            daemon.close()
        for server in self.servers:
            server.close()


@dataclass(frozen=True)
class Hosts:
    """Where everything is."""

    sender: str
    """The exchange's address."""
    daemons: list[tuple[list[str], str]]
    """Of each: the words before its command, its address."""
    there: Callable[[], Any]
    """Enter it to make the exchange's sockets, and its process."""
    prefix: list[str]
    """The words before a command beside the exchange."""


@contextlib.contextmanager
def hosts(network: str) -> Iterator["Hosts"]:
    """Yield the places of a run; gone afterwards."""
    if network == "loopback":
        yield Hosts("127.0.0.1", [([], "127.0.0.1")] * 2, contextlib.nullcontext, [])
        return
    with two_receivers("hot") as pairs:
        sender = pairs[0].sender
        places = [(one.inside(one.receiver), one.receiver_address) for one in pairs]
        yield Hosts(pairs[0].sender_address, places, lambda: inside(sender), pairs[0].inside(sender))


def lines_of_both() -> list[list[Line]]:
    """Return lines A and B of each daemon."""
    return [
        [Line(name, group, port) for name, group, port in zip("AB", groups, free_ports(2), strict=True)]
        for groups in GROUPS
    ]
