"""A daemon repairs its books by snapshots over TCP: real processes, lossy lines, servers that fail."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from feedhandler.consumer import Consumer
from recovery.glimpse import GlimpseServer, GlimpseSettings
from recovery.store import MessageStore
from tests.support.daemon import Daemon, running, write_config
from tests.support.exchange import Exchange, Line, simulated_messages
from tests.support.model_book import Model
from tests.support.multicast import free_ports
from tests.support.snapshot import model_of
from tests.support.wait import wait_for

SESSION = b"LIVETEST01"
STARTING, LIVE, STALE, ENDED = 0, 1, 3, 4


@pytest.fixture(scope="module")
def day() -> list[bytes]:
    """One simulated day."""
    return simulated_messages(12_000)


def one_line() -> list[Line]:
    """A line on a port that nobody else has."""
    return [Line("A", f"239.196.{os.getpid() % 250}.1", next(free_ports(1)), 0.0, 1.0)]


@contextlib.contextmanager
def snapshots(settings: GlimpseSettings | None = None) -> Iterator[tuple[GlimpseServer, MessageStore]]:
    """A snapshot server over an empty store."""
    with (
        MessageStore.create(session=SESSION) as store,
        GlimpseServer(store, ("127.0.0.1", 0), settings) as server,
    ):
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield server, store
        finally:
            server.stop()
            thread.join()


def send(exchange: Exchange, store: MessageStore, upto: int) -> None:
    """Send up to message `upto`, stored before it is sent; tell the number that follows."""
    for sequence in range(exchange.next, upto + 1):
        store.append(sequence, exchange.messages[sequence - 1])
    exchange.send(upto + 1 - exchange.next)
    exchange.heartbeat()


def lose(exchange: Exchange, store: MessageStore, count: int) -> None:
    """The next messages are on no line."""
    for sequence in range(exchange.next, exchange.next + count):
        store.append(sequence, exchange.messages[sequence - 1])
    exchange.next += count


def config_of(folder: Path, lines: list[Line], server: GlimpseServer, password: str = "secret") -> Path:
    """A configuration with the snapshot server and no other."""
    (folder / "password").write_text(password + "\n")
    text = (
        f'[recovery.snapshot]\naddress = "127.0.0.1:{server.address[1]}"\n'
        f'username = "user"\npassword_file = "{folder / "password"}"\n'
    )
    return write_config(folder, lines, extra=text)


def assert_books(daemon: Daemon, model: Model) -> None:
    """Every book that the daemon shows equals the naive model's."""
    with Consumer("live", runtime_dir=daemon.runtime_dir) as consumer:
        compared = 0
        for locate, symbol in model.symbols.items():
            if not symbol or locate not in model.had_order:
                continue
            book = consumer.book(symbol)
            for side, levels in (("B", book.bids), ("A", book.asks)):
                expected = [(p * 100_000, size, orders) for p, size, orders in model.levels(locate, side)]
                assert [tuple(map(int, level)) for level in levels] == expected[:10], symbol
                compared += len(expected)
        assert compared > 50


def state_of(daemon: Daemon, state: int) -> None:
    """Wait for a state."""
    wait_for(lambda: daemon.reader.state == state, f"state {state}")


def test_a_late_start_and_a_loss_are_repaired(tmp_path: Path, day: list[bytes]) -> None:
    """Mid-day start: STARTING, then LIVE with right books; the same again after a loss; then ENDED."""
    lines = one_line()
    with (
        snapshots(GlimpseSettings(username="user", password="secret")) as (server, store),
        running(config_of(tmp_path, lines, server), tmp_path / "run") as daemon,
        contextlib.closing(Exchange(day, lines, SESSION)) as exchange,
    ):
        lose(exchange, store, 5000)
        send(exchange, store, 6000)
        state_of(daemon, LIVE)
        send(exchange, store, 7000)
        wait_for(lambda: daemon.reader.next_sequence == 7001, "arrival")
        assert_books(daemon, model_of(day[:7000]))
        lose(exchange, store, 500)
        send(exchange, store, 8000)
        wait_for(lambda: daemon.stat()["gaps"]["recovered_snapshot"] == 500, "repair")
        state_of(daemon, LIVE)
        send(exchange, store, 12_000)
        exchange.end()
        state_of(daemon, ENDED)
        assert_books(daemon, model_of(day))
        counters = daemon.stat()
        assert counters["gaps"]["unrecovered"] == 0
        assert server.counters.snapshots == 2
    log = daemon.log_path.read_text()
    assert "snapshot_begin" in log
    assert "snapshot_end" in log


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (GlimpseSettings(username="user", password="other"), "login refused: A"),
        (GlimpseSettings(cut_after=2000), "cut: the server closed the connection"),
    ],
)
def test_no_book_of_a_snapshot_that_fails(
    tmp_path: Path, day: list[bytes], settings: GlimpseSettings, reason: str
) -> None:
    """Refused or cut: STALE, tried again, and told why; never LIVE."""
    lines = one_line()
    with (
        snapshots(settings) as (server, store),
        running(config_of(tmp_path, lines, server), tmp_path / "run") as daemon,
        contextlib.closing(Exchange(day, lines, SESSION)) as exchange,
    ):
        send(exchange, store, 3000)
        state_of(daemon, LIVE)
        lose(exchange, store, 10)
        send(exchange, store, 4000)
        state_of(daemon, STALE)
        wait_for(lambda: server.counters.connections >= 3, "third try")
        assert daemon.reader.state == STALE
        assert daemon.stat()["gaps"]["unrecovered"] == 10
        wait_for(lambda: reason in daemon.log_path.read_text(), "reason in the log")


def test_a_server_of_another_session_is_not_believed(tmp_path: Path, day: list[bytes]) -> None:
    """Its books are not this feed's."""
    lines = one_line()
    with snapshots() as (server, store):
        store.reset(b"YESTERDAY1")
        with (
            running(config_of(tmp_path, lines, server), tmp_path / "run") as daemon,
            contextlib.closing(Exchange(day, lines, SESSION)) as exchange,
        ):
            lose(exchange, store, 1000)
            send(exchange, store, 2000)
            wait_for(lambda: "YESTERDAY1" in daemon.log_path.read_text(), "reason in the log")
            assert daemon.reader.state == STARTING
