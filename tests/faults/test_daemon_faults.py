"""What can happen to a running daemon, done to a real one."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from feedhandler.consumer import Consumer, FeedState
from tests.support.daemon import Daemon, environment, running, write_config
from tests.support.exchange import Exchange, Line, RewindServer, simulated_messages
from tests.support.multicast import free_port, free_ports
from tests.support.netns import veth_pair
from tests.support.wait import wait_for

SESSION = b"LIVETEST01"
PATIENT = "timeout_ms = 20\nretries = 1000000\nrequests_per_s = 100000\nmax_outstanding = 32\n"
needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root, to trace, drop capabilities or make namespaces"
)


@pytest.fixture(scope="module")
def day() -> list[bytes]:
    """Return one simulated day for all tests."""
    return simulated_messages(40_000)


@pytest.fixture
def line() -> Line:
    """Return a line on a port that nobody else has."""
    return Line("A", f"239.200.{os.getpid() % 250}.1", free_port())


@pytest.fixture
def exchange(day: list[bytes], line: Line) -> Iterator[Exchange]:
    """Send the day on the line."""
    made = Exchange(day, [line], SESSION)
    yield made
    made.close()


def consumer_of(daemon: Daemon) -> Consumer:
    """Attach to the daemon's channel."""
    return Consumer("live", ["mbo"], runtime_dir=daemon.runtime_dir)


def test_stopped_daemon_is_stale_and_live_again_when_it_goes_on(
    tmp_path: Path, line: Line, exchange: Exchange
) -> None:
    """SIGSTOP: nobody beats the heart, so readers stop trusting the books within a second and a bit."""
    with running(write_config(tmp_path, [line]), tmp_path / "run") as daemon:
        consumer = consumer_of(daemon)
        exchange.send(100)
        wait_for(lambda: consumer.state == FeedState.LIVE, "LIVE")
        daemon.process.send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        wait_for(lambda: consumer.state == FeedState.STALE, "STALE")
        assert time.monotonic() - stopped < 2
        daemon.process.send_signal(signal.SIGCONT)
        wait_for(lambda: consumer.state == FeedState.LIVE, "LIVE again")


@needs_root
def test_frozen_receive_thread_is_stale_unvouched_and_left_behind(
    tmp_path: Path, line: Line, exchange: Exchange
) -> None:
    """Only the receive thread hangs: readers see STALE, no watchdog is fed, SIGTERM still ends it."""
    env = {"WATCHDOG_USEC": "400000"}
    with running(write_config(tmp_path, [line]), tmp_path / "run", env=env) as daemon:
        consumer = consumer_of(daemon)
        exchange.send(100)
        wait_for(lambda: consumer.state == FeedState.LIVE, "LIVE")
        freezer = subprocess.Popen(
            [
                sys.executable,
                str(Path(__file__).parent.parent / "support" / "freeze.py"),
                str(daemon.process.pid),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert freezer.stdout is not None
            assert freezer.stdout.readline() == "frozen\n"
            wait_for(lambda: consumer.state == FeedState.STALE, "STALE")
            before = daemon.notifications().count("WATCHDOG=1")
            later = time.monotonic() + 0.5
            wait_for(lambda: time.monotonic() > later, "a watchdog interval")
            assert daemon.notifications().count("WATCHDOG=1") == before
            started = time.monotonic()
            assert daemon.stop(signal.SIGTERM) == 1
            assert time.monotonic() - started < 2
            assert consumer.state == FeedState.DEAD
            assert any("hangs" in entry["event"] for entry in daemon.log())
        finally:
            freezer.kill()
            freezer.communicate()


@needs_root
def test_overrun_socket_buffer_is_counted_and_repaired(
    tmp_path: Path, day: list[bytes], line: Line, exchange: Exchange
) -> None:
    """The daemon stalls while the line goes on: the drops are counted exactly, and all fetched again."""
    server = RewindServer(SESSION, day, ("127.0.0.1", 0))
    config = write_config(tmp_path, [line], [server.address], recovery=PATIENT)
    # Without CAP_NET_ADMIN the buffer is what net.core.rmem_max allows: small enough to overrun.
    without = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"]
    try:
        with running(config, tmp_path / "run", prefix=without) as daemon:
            exchange.send(100)
            reader = daemon.reader
            wait_for(lambda: reader.state == 1, "LIVE")
            daemon.process.send_signal(signal.SIGSTOP)
            exchange.send(30_000, per_packet=1)
            daemon.process.send_signal(signal.SIGCONT)

            def everything() -> bool:
                exchange.heartbeat()  # the tail was dropped too: only a later packet can tell
                return bool(reader.next_sequence == exchange.next)

            wait_for(everything, "everything", timeout_s=60, interval_s=0.02)
            wait_for(lambda: reader.state == 1, "LIVE again")
            wait_for(lambda: reader.counters()["gaps"]["open"] == 0, "no open gap in the counters")

            def told() -> bool:
                seen = reader.counters()["lines"][0]
                return bool(seen["packets"] + seen["kernel_drops"] == line.sent_packets)

            wait_for(told, "the counter of drops")
            counters = daemon.stat()
            assert counters["lines"]["A"]["kernel_drops"] > 1000
            assert counters["messages"] == exchange.next - 1
            assert counters["gaps"]["unrecovered"] == 0
    finally:
        server.close()


def test_server_that_starts_late_is_still_used(
    tmp_path: Path, day: list[bytes], line: Line, exchange: Exchange
) -> None:
    """Nobody listens at first ("connection refused"): requests go on until an answer repairs the hole."""
    port = free_port()
    config = write_config(tmp_path, [line], [("127.0.0.1", port)], recovery=PATIENT)
    with running(config, tmp_path / "run") as daemon:
        reader = daemon.reader
        exchange.send(100)
        exchange.next += 5
        exchange.send(100)
        wait_for(lambda: reader.state == 2, "RECOVERING")
        wait_for(lambda: reader.counters()["recovery"]["timeouts"] >= 3, "unanswered requests")
        server = RewindServer(SESSION, day, ("127.0.0.1", port))
        try:
            wait_for(lambda: reader.state == 1 and reader.next_sequence == 206, "LIVE")
        finally:
            server.close()


def test_second_server_is_asked_when_the_first_is_silent(
    tmp_path: Path, day: list[bytes], line: Line, exchange: Exchange
) -> None:
    """After 1 + retries requests the next server in the list gets its turn."""
    silent, working = (RewindServer(SESSION, day, ("127.0.0.1", 0)) for _ in range(2))
    silent.silent = True
    recovery = "timeout_ms = 20\nretries = 2\n"
    config = write_config(tmp_path, [line], [silent.address, working.address], recovery=recovery)
    try:
        with running(config, tmp_path / "run") as daemon:
            exchange.send(100)
            exchange.next += 5
            exchange.send(100)
            wait_for(lambda: daemon.reader.next_sequence == 206, "everything")
            assert silent.requests == [(101, 5)] * 3
            assert working.requests == [(101, 5)]
    finally:
        silent.close()
        working.close()


def test_second_server_is_asked_at_once_when_nobody_listens_at_the_first(
    tmp_path: Path, day: list[bytes], line: Line, exchange: Exchange
) -> None:
    """The host's refusal is believed, shown and logged: no time-out of a minute is waited for."""
    nobody = ("127.0.0.1", free_port())
    working = RewindServer(SESSION, day, ("127.0.0.1", 0))
    config = write_config(tmp_path, [line], [nobody, working.address], recovery="timeout_ms = 60000\n")
    try:
        with running(config, tmp_path / "run") as daemon:
            exchange.send(100)
            exchange.next += 5
            exchange.send(100)
            wait_for(lambda: daemon.reader.next_sequence == 206, "everything")
            refused, answered = daemon.stat()["servers"].values()
            assert (refused["health"], refused["resting"], refused["refused"]) == (4, 1, 1)
            assert (answered["health"], answered["resting"], answered["answered"]) == (1, 0, 1)
            wait_for(lambda: "refused" in daemon.log_path.read_text(), "a line in the log")
    finally:
        working.close()


def test_damaged_and_foreign_packets_are_counted_and_change_nothing(
    tmp_path: Path, line: Line, exchange: Exchange
) -> None:
    """Noise on the line: cut packets, another session, an empty datagram; the feed goes on."""
    with running(write_config(tmp_path, [line]), tmp_path / "run") as daemon:
        reader = daemon.reader
        exchange.send(100)
        for noise in (
            b"",
            b"x" * 19,
            SESSION + bytes(8) + b"\0\1" + b"\0\5abc",
            b"OTHERSESS1" + bytes(7) + b"\1\0\0",
        ):
            exchange.send_raw(line, noise)
        exchange.send(100)
        wait_for(lambda: reader.next_sequence == 201 and reader.state == 1, "LIVE")
        wait_for(lambda: reader.counters()["lines"][0]["malformed"] == 3, "three malformed")
        assert reader.counters()["lines"][0]["foreign_session"] == 1


@needs_root
def test_link_that_goes_down_and_up_is_received_again(tmp_path: Path) -> None:
    """The membership survives the link: line_down, line_up, and the same daemon goes on."""
    with veth_pair("flap") as pair:
        port = next(free_ports(1))
        line = Line("A", "239.201.1.1", port)
        config = write_config(tmp_path, [line], interface=pair.receiver_device, receive="line_down_s = 0.2\n")
        prefix = pair.inside(pair.receiver)
        with running(config, tmp_path / "run", prefix=prefix) as daemon:
            reader = daemon.reader
            heartbeats = subprocess.Popen(
                [*pair.inside(pair.sender), sys.executable, "-c", HEARTBEATS, pair.sender_address, str(port)],
                env=environment(),
            )
            try:
                wait_for(lambda: reader.counters()["lines"][0]["packets"] > 0, "heartbeats")
                set_link(pair.receiver, pair.receiver_device, "down")
                wait_for(lambda: reader.counters()["lines"][0]["down"] == 1, "line down")
                set_link(pair.receiver, pair.receiver_device, "up")
                wait_for(lambda: reader.counters()["lines"][0]["down"] == 0, "line up")
            finally:
                heartbeats.kill()
                heartbeats.wait()


HEARTBEATS = """
import socket, sys, time
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(sys.argv[1]))
while True:
    try: sender.sendto(b"LIVETEST01" + bytes(7) + b"\\1" + bytes(2), ("239.201.1.1", int(sys.argv[2])))
    except OSError: pass  # while the link is down
    time.sleep(0.02)
"""


def set_link(namespace: str, device: str, state: str) -> None:
    """Take the link up or down."""
    subprocess.run(["ip", "-n", namespace, "link", "set", device, state], check=True, timeout=30)
