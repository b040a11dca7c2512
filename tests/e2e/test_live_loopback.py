"""A daemon, a lossy exchange and consumers, all real, on loopback and without privileges."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from feedhandler.consumer import Consumer, FeedState
from tests.support.daemon import Daemon, running, write_config
from tests.support.exchange import Exchange, Line, RewindServer, packet, simulated_messages
from tests.support.model_book import Model, Orders
from tests.support.multicast import Sender, free_ports
from tests.support.wait import wait_for

SESSION = b"LIVETEST01"
MESSAGES = 12_000


@pytest.fixture(scope="module")
def day() -> list[bytes]:
    """Return one simulated day for all tests."""
    return simulated_messages(MESSAGES)


def two_lines(drop: float = 0.0, burst: float = 1.0) -> list[Line]:
    """Return two lines on ports that nobody else has."""
    ports = free_ports(2)
    return [
        Line(name, f"239.195.{os.getpid() % 250}.{n}", next(ports), drop, burst)
        for n, name in enumerate("AB", start=1)
    ]


@pytest.fixture
def open_exchange(day: list[bytes]) -> Iterator[Callable[[list[Line]], Exchange]]:
    """Make exchanges that send the day; they are closed afterwards."""
    with contextlib.ExitStack() as opened:

        def make(lines: list[Line], messages: list[bytes] = day) -> Exchange:
            exchange = Exchange(messages, lines, SESSION)
            opened.callback(exchange.close)
            return exchange

        yield make


@pytest.fixture
def rewind(day: list[bytes]) -> Iterator[RewindServer]:
    """Serve re-requests for the day."""
    server = RewindServer(SESSION, day, ("127.0.0.1", 0))
    yield server
    server.close()


def follow(consumer: Consumer, daemon: Daemon, exchange: Exchange, chunk: int = 500) -> list[np.ndarray]:
    """Send everything in chunks, each awaited, and return all records that the consumer saw."""
    batches = []
    reader = daemon.reader
    while exchange.next <= len(exchange.messages):
        exchange.send(chunk)
        exchange.heartbeat()
        wait_for(lambda: reader.next_sequence == exchange.next, f"arrival of all below {exchange.next}")
        batches += [batch.records.copy() for batch in consumer.poll()]
    exchange.end()
    wait_for(lambda: daemon.reader.state == 4, "ENDED")
    while found := consumer.poll(timeout_s=0.2):
        batches += [batch.records.copy() for batch in found]
    return batches


def assert_lines_add_up(counters: dict, lines: list[Line], total: int) -> None:
    """Compare each line's counters with what its sender did."""
    for name, line in zip((line.name for line in lines), lines, strict=True):
        seen = counters["lines"][name]
        assert seen["kernel_drops"] == 0
        assert seen["packets"] == line.sent_packets
        assert seen["missing"] == len(line.dropped)
        assert seen["messages"] == total - len(line.dropped) == seen["won"] + seen["late"]
        assert seen["malformed"] == seen["foreign_session"] == 0


def test_loss_on_both_lines_is_repaired_and_every_book_is_right(
    tmp_path: Path, day: list[bytes], rewind: RewindServer, open_exchange: Callable[[list[Line]], Exchange]
) -> None:
    """Both lines lose 15 %, the server a fifth of its replies: no message lost, every record, right books."""
    lines = two_lines(drop=0.15, burst=3)
    rewind.drop = 0.2
    config = write_config(
        tmp_path, lines, [rewind.address], recovery="timeout_ms = 5\nrequests_per_s = 100000\nretries = 100\n"
    )
    with (
        running(config, tmp_path / "run") as daemon,
        Consumer("live", ["mbo"], runtime_dir=daemon.runtime_dir) as consumer,
    ):
        exchange = open_exchange(lines)
        records = np.concatenate(follow(consumer, daemon, exchange))
        assert consumer.lost == 0
        counters = daemon.stat()
        assert_lines_add_up(counters, lines, MESSAGES)
        lost_on_both = lines[0].dropped & lines[1].dropped
        assert len(lost_on_both) > 20
        assert counters["messages"] == MESSAGES
        assert counters["state"] == "ENDED"
        gaps = counters["gaps"]
        assert gaps["unrecovered"] == gaps["open"] == 0
        assert gaps["recovered_rewind"] == len(lost_on_both)
        assert counters["recovery"]["requests"] == len(rewind.requests)

        model = Orders()
        for sequence, message in enumerate(day, start=1):
            model.apply(sequence, message)
        expected = np.array([(row[1], row[3], row[5], row[6], row[7]) for row in model.mbo], dtype=object)
        got = [
            (int(r["sequence"]), r["action"].decode(), int(r["order_id"]), int(r["price"]), int(r["size"]))
            for r in records
        ]
        assert got == [tuple(row) for row in expected]
        assert_books_equal(consumer, model)


def assert_books_equal(consumer: Consumer, model: Model) -> None:
    """Compare every symbol's ten levels with the model's."""
    for locate, symbol in model.symbols.items():
        book = consumer.book(symbol.strip())
        for side, levels in (("B", book.bids), ("A", book.asks)):
            expected = [
                (price * 100_000, size, orders) for price, size, orders in model.levels(locate, side)[:10]
            ]
            assert [tuple(map(int, level)) for level in levels.tolist()] == expected, (symbol, side)


def test_states_are_seen_by_a_consumer_as_they_happen(
    tmp_path: Path, day: list[bytes], rewind: RewindServer, open_exchange: Callable[[list[Line]], Exchange]
) -> None:
    """STARTING, LIVE, RECOVERING while a hole is open, LIVE again; what lies behind the hole waits."""
    lines = two_lines()
    rewind.silent = True
    with running(
        write_config(tmp_path, lines, [rewind.address], recovery="timeout_ms = 5\nretries = 1000000\n"),
        tmp_path / "run",
    ) as daemon:
        consumer = Consumer("live", ["event"], runtime_dir=daemon.runtime_dir)
        exchange = open_exchange(lines)
        assert consumer.state == FeedState.STARTING
        exchange.send(100)
        wait_for(lambda: consumer.state == FeedState.LIVE, "LIVE")
        exchange.next += 10  # a hole in both lines
        exchange.send(100)
        wait_for(lambda: consumer.state == FeedState.RECOVERING, "RECOVERING")
        assert consumer.next_sequence == 101
        rewind.silent = False
        wait_for(lambda: consumer.state == FeedState.LIVE, "LIVE again")
        wait_for(lambda: consumer.next_sequence == 211, "all behind the hole")
        trace = [
            (int(r["type"]), int(r["first"]), int(r["last"]), int(r["state"]))
            for batch in consumer.poll(timeout_s=1.0)
            for r in batch.records
            if r["type"] < 11  # from there on: what messages say, and how recovery goes
        ]
    session_start, state, gap_open, gap_closed = 7, 1, 2, 3
    assert trace == [
        (session_start, 1, 0, 0),
        (state, 0, 0, 1),
        (gap_open, 101, 110, 2),
        (state, 0, 0, 2),
        (gap_closed, 101, 110, 2),
        (state, 0, 0, 1),
    ]


def test_lost_for_good_turns_stale_clears_books_and_goes_on(
    tmp_path: Path, day: list[bytes], open_exchange: Callable[[list[Line]], Exchange]
) -> None:
    """Without a server a hole is given up: STALE at once, books cleared, the feed goes on, flagged."""
    lines = two_lines()
    with running(write_config(tmp_path, lines), tmp_path / "run") as daemon:
        consumer = Consumer("live", ["mbo"], runtime_dir=daemon.runtime_dir)
        exchange = open_exchange(lines)
        exchange.send(1000)
        wait_for(lambda: consumer.next_sequence == 1001, "the first part")
        exchange.next += 5
        exchange.send(1000)
        wait_for(lambda: consumer.next_sequence == 2006, "the second part")
        assert consumer.state == FeedState.STALE
        records = np.concatenate([batch.records for batch in consumer.poll(timeout_s=1.0)])
        assert not (records[records["sequence"] <= 1000]["flags"] & 4).any()
        cleared = records[records["action"] == b"R"]
        assert len(cleared) > 0
        assert set(cleared["sequence"].tolist()) == {1005}
        assert (records[records["sequence"] >= 1005]["flags"] & 4).all()
        wait_for(lambda: daemon.stat()["gaps"]["unrecovered"] == 5, "the counter of the lost ones")
        [gap] = daemon.reader.gaps()
        assert (gap["first"], gap["last"], gap["unrecovered"]) == (1001, 1005, 5)
        wait_for(lambda: any(entry["event"] == "gap_lost" for entry in daemon.log()), "gap_lost in the log")


def test_killed_daemon_is_dead_at_once_and_a_restart_is_followed(
    tmp_path: Path, day: list[bytes], open_exchange: Callable[[list[Line]], Exchange]
) -> None:
    """kill -9: readers say DEAD, `stat` exits with 1; the same consumer finds the next daemon."""
    lines = two_lines()
    config = write_config(tmp_path, lines)
    with running(config, tmp_path / "run") as daemon:
        consumer = Consumer("live", ["mbo"], runtime_dir=daemon.runtime_dir)
        exchange = open_exchange(lines)
        exchange.send(1000)
        wait_for(lambda: consumer.state == FeedState.LIVE and consumer.next_sequence == 1001, "LIVE")
        consumer.poll()
        wait_for(lambda: daemon.stat()["messages"] == 1000, "counters")
        daemon.process.send_signal(signal.SIGKILL)
        daemon.process.wait(10)
        assert consumer.state == FeedState.DEAD
        counters = daemon.stat()
        assert (counters["state"], counters["messages"], counters["exit_status"]) == ("DEAD", 1000, 1)
        again = Daemon(config, daemon.runtime_dir)
        try:
            again.wait_ready()
            exchange.send(500)
            wait_for(lambda: again.reader.next_sequence == 1501, "messages in the new daemon")
            batches = wait_for(consumer.poll, "records of the new daemon")
            assert consumer.restarts == 1
            assert consumer.state == FeedState.STALE  # joined in the middle, without a snapshot
            assert min(int(batch.records["sequence"].min()) for batch in batches) >= 1001
        finally:
            again.close()


def test_start_at_the_beginning_recovers_what_was_sent_before(
    tmp_path: Path, day: list[bytes], rewind: RewindServer, open_exchange: Callable[[list[Line]], Exchange]
) -> None:
    """start = "beginning": STARTING until the head is recovered, then LIVE with the whole day's records."""
    lines = two_lines()
    config = write_config(tmp_path, lines, [rewind.address], channel_table='start = "beginning"\n')
    with running(config, tmp_path / "run") as daemon:
        consumer = Consumer("live", ["mbo"], runtime_dir=daemon.runtime_dir)
        exchange = open_exchange(lines)
        exchange.next = 2001
        exchange.send(100)
        wait_for(lambda: consumer.state == FeedState.LIVE, "LIVE")
        wait_for(lambda: consumer.next_sequence == 2101, "everything")
        records = np.concatenate([batch.records for batch in consumer.poll(timeout_s=1.0)])
        model = Orders()
        for sequence, message in enumerate(day[:2100], start=1):
            model.apply(sequence, message)
        assert len(records) == len(model.mbo)
        assert_books_equal(consumer, model)


def test_silent_line_is_down_and_up_again(
    tmp_path: Path, day: list[bytes], open_exchange: Callable[[list[Line]], Exchange]
) -> None:
    """A line without packets is told after line_down_s; the feed stays LIVE by the other."""
    lines = two_lines()
    with running(write_config(tmp_path, lines, receive="line_down_s = 0.2\n"), tmp_path / "run") as daemon:
        exchange = open_exchange(lines)
        exchange.send(100)
        both, exchange.lines = exchange.lines, lines[:1]

        def only_a() -> bool:
            exchange.heartbeat()
            return bool(daemon.reader.counters()["lines"][1]["down"])

        wait_for(only_a, "line B down", interval_s=0.02)
        assert daemon.reader.counters()["lines"][0]["down"] == 0
        assert daemon.reader.state == 1
        exchange.lines = both
        exchange.send(100)
        wait_for(lambda: daemon.reader.counters()["lines"][1]["down"] == 0, "line B up")
        wait_for(lambda: any(entry["event"] == "line_up" for entry in daemon.log()), "line_up in the log")


def test_forged_replies_from_another_address_are_not_taken(
    tmp_path: Path, day: list[bytes], open_exchange: Callable[[list[Line]], Exchange]
) -> None:
    """Only the server that was asked may answer: a datagram from elsewhere changes nothing."""
    lines = two_lines()
    server = RewindServer(SESSION, day, ("127.0.0.1", 0))
    server.silent = True
    config = write_config(tmp_path, lines, [server.address], recovery="timeout_ms = 5\nretries = 1000000\n")
    try:
        with running(config, tmp_path / "run") as daemon:
            exchange = open_exchange(lines)
            exchange.send(100)
            exchange.next += 5
            exchange.send(100)
            reader = daemon.reader
            wait_for(lambda: reader.state == 2 and server.requests, "a request")
            forged = [b"X" * len(message) for message in day[100:105]]
            client = client_port(daemon.process.pid, server.address[1])
            with Sender() as other:
                other.send(packet(SESSION, 101, forged), "127.0.0.1", client)
            deadline = time.monotonic() + 0.2
            wait_for(lambda: time.monotonic() > deadline, "some time for the forged reply")
            assert reader.counters()["recovery"]["replies"] == 0
            assert reader.next_sequence == 101
            server.silent = False
            wait_for(lambda: reader.next_sequence == 206, "the true reply")
    finally:
        server.close()


def client_port(pid: int, server_port: int) -> int:
    """Return the local port of the process's socket that is connected to the server."""
    for row in Path(f"/proc/{pid}/net/udp").read_text().splitlines()[1:]:
        local, remote = row.split()[1:3]
        if int(remote.split(":")[1], 16) == server_port:
            return int(local.split(":")[1], 16)
    raise AssertionError("no socket connected to the server")


def test_second_daemon_on_the_channel_is_refused_by_one_line(tmp_path: Path) -> None:
    """The channel belongs to one daemon; the second says so and leaves the first alone."""
    config = write_config(tmp_path, two_lines())
    with running(config, tmp_path / "run") as daemon:
        second = Daemon(config, daemon.runtime_dir)
        try:
            assert second.process.wait(20) == 1
            refusals = [line for line in second.log_path.read_text().splitlines() if not line.startswith("{")]
            assert len(refusals) == 1
            assert "another daemon runs this channel" in refusals[0]
            assert daemon.process.poll() is None
            assert daemon.reader.state == 0  # STARTING
        finally:
            second.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("spin", ["true", "false"])
def test_signal_ends_the_daemon_within_a_second(tmp_path: Path, number: int, spin: str) -> None:
    """A clean stop: exit status 0, within a second, and readers see DEAD."""
    with running(
        write_config(tmp_path, two_lines()), tmp_path / "run", env={"FEEDHANDLER__RECEIVE__SPIN": spin}
    ) as daemon:
        reader = daemon.reader
        started = time.monotonic()
        assert daemon.stop(number) == 0
        assert time.monotonic() - started < 1.0
        assert reader.state == 255
        assert daemon.notifications()[-1] == "STOPPING=1"
