"""What can happen to a running daemon, in every receive mode, across a veth pair: right books at the end."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from feedhandler.consumer import Consumer, FeedState
from tests.support.daemon import Daemon, running, write_config
from tests.support.exchange import Exchange, Line, RewindServer, simulated_messages
from tests.support.model_book import Model, Orders
from tests.support.netns import Veth, inside, veth_pair
from tests.support.receive_modes import MODES, Mode, Settings, as_toml
from tests.support.wait import wait_for
from tests.support.xdp import take_program_off

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make network namespaces")

SESSION = b"LIVETEST01"
MESSAGES = 24_000
PATIENT = "timeout_ms = 20\nretries = 1000000\nrequests_per_s = 100000\nmax_outstanding = 32\n"
LIVE, RECOVERING = 1, 2
NOBODY = 41_999
"""A port where nobody listens, until somebody does."""
FREEZE = Path(__file__).resolve().parent.parent / "support" / "freeze.py"


@pytest.fixture(scope="module")
def day() -> list[bytes]:
    """Return one simulated day for all tests."""
    return simulated_messages(MESSAGES)


@pytest.fixture(scope="module")
def books(day: list[bytes]) -> Model:
    """Return the books at its end."""
    model = Orders()
    for sequence, message in enumerate(day, start=1):
        model.apply(sequence, message)
    return model


class World:
    """A veth pair, the exchange and its server at one end, daemons in one mode at the other."""

    def __init__(self, mode: Mode, pair: Veth, day: list[bytes]) -> None:
        self.mode, self.pair, self.day = mode, pair, day
        self.opened = contextlib.ExitStack()

    def exchange(self, lines: Sequence[Line]) -> tuple[Exchange, RewindServer]:
        """Start one that has sent nothing yet, and the server of its day."""
        with inside(self.pair.sender):
            exchange = Exchange(self.day, lines, SESSION, self.pair.sender_address)
        self.opened.callback(exchange.close)
        return exchange, self.server()

    def server(self, port: int = 0) -> RewindServer:
        """Start a server of the day."""
        with inside(self.pair.sender):
            server = RewindServer(SESSION, self.day, (self.pair.sender_address, port))
        self.opened.callback(server.close)
        return server

    def config(
        self,
        folder: Path,
        lines: Sequence[Line],
        servers: Sequence[tuple[str, int]],
        settings: Settings | None = None,
        receive: str = "",
        recovery: str = PATIENT,
    ) -> Path:
        """Write the configuration of a daemon that has every number of the day."""
        table = (settings or self.mode.settings)([self.pair.receiver_device])
        return write_config(
            folder,
            lines,
            servers,
            interface=self.pair.receiver_device,
            channel_table='start = "beginning"\n',
            receive=receive + as_toml(table),
            recovery=recovery,
        )

    @contextlib.contextmanager
    def running(self, config: Path, folder: Path, prefix: Sequence[str] = (), **env: str) -> Iterator[Daemon]:
        """Run a daemon in the receiver's namespace; it ends in order, if it still runs."""
        words = [*self.pair.inside(self.pair.receiver), *prefix]
        with running(config, folder / "run", prefix=words, env=self.mode.environment() | env) as daemon:
            yield daemon
            assert daemon.process.returncode is not None or daemon.stop() == 0


@pytest.fixture(scope="module", params=MODES, ids=[mode.name for mode in MODES])
def link(request: pytest.FixtureRequest) -> Iterator[tuple[Mode, Veth]]:
    """Each mode has namespaces of its own."""
    with veth_pair("modes") as pair:
        yield request.param, pair


@pytest.fixture
def world(link: tuple[Mode, Veth], day: list[bytes]) -> Iterator[World]:
    """What belongs to the exchange is closed after each test."""
    made = World(*link, day)
    with made.opened:
        yield made
    if made.mode.left_behind:  # by a daemon that was killed, or gave up a thread that hangs
        take_program_off(made.pair)


def two_lines(drop: float = 0.0) -> list[Line]:
    """Return two lines of one device."""
    return [Line(name, f"239.77.4.{n}", 30000 + n, drop, 3) for n, name in enumerate("AB", start=1)]


def send_part(daemon: Daemon, exchange: Exchange, count: int) -> None:
    """Send so many messages; returns when all are there."""
    reader = daemon.reader

    def arrived() -> bool:
        exchange.heartbeat()  # what was lost at the end is seen by what follows
        return bool(reader.next_sequence == exchange.next)

    exchange.send(count)
    wait_for(arrived, f"all below {exchange.next}", timeout_s=30, interval_s=0.01)


def send_the_rest(daemon: Daemon, exchange: Exchange) -> None:
    """Send the day to its end, not faster than it is taken."""
    while exchange.next <= len(exchange.messages):
        send_part(daemon, exchange, 2000)
    wait_for(lambda: daemon.reader.state == LIVE, "LIVE")


def assert_books_are_right(daemon: Daemon, model: Model) -> None:
    """Compare each symbol's ten levels with the model's; nothing was lost for good."""
    with Consumer("live", ["mbo"], runtime_dir=daemon.runtime_dir) as consumer:
        for locate, symbol in model.symbols.items():
            book = consumer.book(symbol.strip())
            for side, levels in (("B", book.bids), ("A", book.asks)):
                expected = [(price * 100_000, *rest) for price, *rest in model.levels(locate, side)[:10]]
                assert [tuple(map(int, level)) for level in levels.tolist()] == expected, (symbol, side)
    counters = daemon.stat()
    assert (counters["messages"], counters["state"]) == (MESSAGES, "LIVE")
    assert counters["gaps"]["unrecovered"] == counters["gaps"]["open"] == 0


def test_losses_and_noise_on_both_lines_leave_the_books_right(
    world: World, tmp_path: Path, books: Model
) -> None:
    """15 % lost on each line, a fifth of the replies, damaged and foreign packets in between."""
    lines = two_lines(drop=0.15)
    exchange, server = world.exchange(lines)
    server.drop = 0.2
    with world.running(world.config(tmp_path, lines, [server.address]), tmp_path) as daemon:
        exchange.send(2000)
        noise = [b"", b"x" * 19, SESSION + bytes(8) + b"\0\1\0\5abc", b"OTHERSESS1" + bytes(7) + b"\1\0\0"]
        for line in lines:
            for datagram in noise:
                exchange.send_raw(line, datagram)
        send_the_rest(daemon, exchange)
        assert_books_are_right(daemon, books)
        counters = daemon.stat()
        for line in lines:
            seen = counters["lines"][line.name]
            assert (seen["malformed"], seen["foreign_session"], seen["kernel_drops"]) == (3, 1, 0)
            assert (seen["packets"], seen["missing"]) == (line.sent_packets, len(line.dropped))
        assert counters["gaps"]["recovered_rewind"] == len(lines[0].dropped & lines[1].dropped) > 20
        frames = {name: n for name, n in counters["receive"].items() if n and name != "other_traffic"}
        assert frames == {}


def test_overrun_buffer_is_counted_and_repaired(world: World, tmp_path: Path, books: Model) -> None:
    """The daemon stands still while 20,000 packets come: the drops are counted, all of them fetched."""
    [line, _] = two_lines()
    exchange, server = world.exchange([line])
    config = world.config(tmp_path, [line], [server.address], world.mode.small)
    with world.running(config, tmp_path, world.mode.small_prefix) as daemon:
        exchange.send(100)
        reader = daemon.reader
        wait_for(lambda: reader.next_sequence == 101 and reader.state == LIVE, "LIVE")
        daemon.process.send_signal(signal.SIGSTOP)
        exchange.send(20_000, per_packet=1)
        daemon.process.send_signal(signal.SIGCONT)
        send_the_rest(daemon, exchange)

        def told() -> bool:
            seen = reader.counters()["lines"][0]
            return bool(seen["packets"] + seen["kernel_drops"] == line.sent_packets)

        wait_for(told, "the counter of drops")
        counters = daemon.stat()
        dropped = counters["lines"]["A"]["kernel_drops"]
        assert dropped >= 4000
        assert counters["receive"]["device_drops"] == (dropped if world.mode.past_kernel else 0)
        assert_books_are_right(daemon, books)


def test_killed_daemon_is_followed_by_one_with_the_right_books(
    world: World, tmp_path: Path, books: Model
) -> None:
    """Kill -9 in the middle of the day: the next one has the lines at once and fetches what was before."""
    lines = two_lines(drop=0.05)
    exchange, server = world.exchange(lines)
    config = world.config(tmp_path, lines, [server.address])
    with world.running(config, tmp_path) as daemon:
        exchange.send(6000)
        daemon.process.send_signal(signal.SIGKILL)
        daemon.process.wait(10)
    if world.mode.left_behind:
        config = world.config(tmp_path, lines, [server.address], world.mode.clean)
    with world.running(config, tmp_path) as daemon:
        exchange.send(6000)
        send_the_rest(daemon, exchange)
        assert_books_are_right(daemon, books)


def test_link_that_goes_down_and_up_is_received_again(world: World, tmp_path: Path, books: Model) -> None:
    """Membership and receiving survive it; what was sent meanwhile is fetched."""
    lines = two_lines()
    exchange, server = world.exchange(lines)
    config = world.config(tmp_path, lines, [server.address], receive="line_down_s = 0.2\n")
    with world.running(config, tmp_path) as daemon:
        reader = daemon.reader
        send_part(daemon, exchange, 6000)
        set_link(world.pair, "down")
        wait_for(lambda: reader.counters()["lines"][0]["down"] == 1, "line down")
        exchange.send(6000)
        set_link(world.pair, "up")
        send_the_rest(daemon, exchange)
        wait_for(lambda: not any(one["down"] for one in reader.counters()["lines"][:2]), "lines up")
        assert_books_are_right(daemon, books)
        assert daemon.stat()["gaps"]["recovered_rewind"] >= 5000


def test_stopped_daemon_is_stale_and_live_again_when_it_goes_on(world: World, tmp_path: Path) -> None:
    """SIGSTOP: nobody beats the heart, so readers stop trusting the books within a second and a bit."""
    lines = two_lines()
    exchange, server = world.exchange(lines)
    with world.running(world.config(tmp_path, lines, [server.address]), tmp_path) as daemon:
        consumer = Consumer("live", ["mbo"], runtime_dir=daemon.runtime_dir)
        send_part(daemon, exchange, 100)
        wait_for(lambda: consumer.state == FeedState.LIVE, "LIVE")
        daemon.process.send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        wait_for(lambda: consumer.state == FeedState.STALE, "STALE")
        assert time.monotonic() - stopped < 2
        daemon.process.send_signal(signal.SIGCONT)
        wait_for(lambda: consumer.state == FeedState.LIVE, "LIVE again")


def test_frozen_receive_thread_is_stale_unvouched_and_left_behind(world: World, tmp_path: Path) -> None:
    """Only the receive thread hangs: readers see STALE, no watchdog is fed, SIGTERM still ends it."""
    lines = two_lines()
    exchange, server = world.exchange(lines)
    config = world.config(tmp_path, lines, [server.address])
    with contextlib.ExitStack() as stack:
        daemon = stack.enter_context(world.running(config, tmp_path, WATCHDOG_USEC="400000"))
        consumer = Consumer("live", ["mbo"], runtime_dir=daemon.runtime_dir)
        send_part(daemon, exchange, 100)
        wait_for(lambda: consumer.state == FeedState.LIVE, "LIVE")
        freezer = subprocess.Popen(
            [sys.executable, str(FREEZE), str(daemon.process.pid)], stdout=subprocess.PIPE, text=True
        )
        stack.callback(freezer.communicate)
        stack.callback(freezer.kill)
        assert freezer.stdout is not None
        assert freezer.stdout.readline() == "frozen\n"
        wait_for(lambda: consumer.state == FeedState.STALE, "STALE")
        before = daemon.notifications().count("WATCHDOG=1")
        later = time.monotonic() + 0.5
        wait_for(lambda: time.monotonic() > later, "a watchdog interval")
        assert daemon.notifications().count("WATCHDOG=1") == before
        started = time.monotonic()
        assert daemon.stop(signal.SIGTERM) == 1
        assert time.monotonic() - started < 5  # TimeoutStopSec of the unit, which would kill it
        assert consumer.state == FeedState.DEAD
        assert any("hangs" in entry["event"] for entry in daemon.log())


def send_with_a_hole(exchange: Exchange) -> None:
    """Send 1 to 100 and 106 to 205."""
    exchange.send(100)
    exchange.next += 5
    exchange.send(100)


def test_server_that_starts_late_is_still_used(world: World, tmp_path: Path) -> None:
    """Nobody listens at first ("connection refused"): requests go on until an answer repairs the hole."""
    lines = two_lines()
    exchange, _ = world.exchange(lines)
    config = world.config(tmp_path, lines, [(world.pair.sender_address, NOBODY)])
    with world.running(config, tmp_path) as daemon:
        reader = daemon.reader
        send_with_a_hole(exchange)
        wait_for(lambda: reader.state == RECOVERING, "RECOVERING")
        wait_for(lambda: reader.counters()["recovery"]["timeouts"] >= 3, "unanswered requests")
        world.server(NOBODY)
        wait_for(lambda: reader.state == LIVE and reader.next_sequence == 206, "LIVE")


def test_second_server_is_asked_when_the_first_is_silent(world: World, tmp_path: Path) -> None:
    """After 1 + retries requests the next server in the list gets its turn."""
    lines = two_lines()
    exchange, silent = world.exchange(lines)
    silent.silent, working = True, world.server()
    servers, recovery = [silent.address, working.address], "timeout_ms = 100\nretries = 2\n"
    with world.running(world.config(tmp_path, lines, servers, recovery=recovery), tmp_path) as daemon:
        send_with_a_hole(exchange)
        wait_for(lambda: daemon.reader.next_sequence == 206, "everything")
        assert silent.requests == [(101, 5)] * 3
        assert working.requests == [(101, 5)]


def test_second_server_is_asked_at_once_when_nobody_listens_at_the_first(
    world: World, tmp_path: Path
) -> None:
    """The host's refusal is believed, shown and logged: no time-out of a minute is waited for."""
    lines = two_lines()
    exchange, working = world.exchange(lines)
    servers = [(world.pair.sender_address, NOBODY), working.address]
    config = world.config(tmp_path, lines, servers, recovery="timeout_ms = 60000\n")
    with world.running(config, tmp_path) as daemon:
        send_with_a_hole(exchange)
        wait_for(lambda: daemon.reader.next_sequence == 206, "everything")
        refused, answered = daemon.stat()["servers"].values()
        assert (refused["health"], refused["resting"], refused["refused"]) == (4, 1, 1)
        assert (answered["health"], answered["resting"], answered["answered"]) == (1, 0, 1)
        wait_for(lambda: "refused" in daemon.log_path.read_text(), "a line in the log")


def set_link(pair: Veth, state: str) -> None:
    """Take the receiver's device down or up."""
    command = ["ip", "-n", pair.receiver, "link", "set", pair.receiver_device, state]
    subprocess.run(command, check=True, timeout=30)
