"""A daemon with a journal: what came over the lines and from the servers is there, to be played again."""

import json
import os
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

from feedhandler import _core
from recovery.feeders.capture import feed_capture
from recovery.feeders.session import SessionFeeder
from recovery.store import MessageStore
from tests.support.daemon import COMMAND, Daemon, environment, running, write_config
from tests.support.exchange import Exchange, Line, RewindServer, simulated_messages
from tests.support.journal import journal_files, read
from tests.support.multicast import free_port, free_ports
from tests.support.small_memory import small_memory
from tests.support.wait import wait_for

SESSION = b"LIVETEST01"


def two_lines(drop: float = 0.0) -> list[Line]:
    """Return two lines that both lose packets, in bursts."""
    ports = free_ports(2)
    return [Line(n, f"239.195.{os.getpid() % 250}.{i}", next(ports), drop, 3) for i, n in enumerate("AB")]


def journal_state(daemon: Daemon) -> dict:
    """Return what the journal tells of itself."""
    return _core.journal_status(str(daemon.runtime_dir / daemon.channel)) or {}


def play_day(daemon: Daemon, exchange: Exchange) -> None:
    """Send everything and wait until it is applied and in the journal."""
    while exchange.next <= len(exchange.messages):
        exchange.send(400)
        exchange.heartbeat()
        wait_for(lambda: daemon.reader.next_sequence == exchange.next, "all messages")
    exchange.end()
    wait_for(lambda: daemon.reader.state == 4, "ENDED")


def feedhandler(*arguments: str) -> dict:
    """Run a command that prints one JSON object and must succeed."""
    done = subprocess.run(
        [*COMMAND, *arguments, "--json"], env=environment(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_what_the_daemon_received_can_be_replayed_served_and_exported(tmp_path: Path) -> None:
    """With loss on both lines: the journal has every packet of both, and the replies that filled the holes.

    Replay, a re-request server's store and export get the whole day from it.
    """
    messages = simulated_messages(6000)
    lines, server = two_lines(0.1), RewindServer(SESSION, messages, ("127.0.0.1", 0))
    directory = tmp_path / "journal"
    extra = f'[journal]\ndirectory = "{directory}"\n'
    try:
        with running(
            write_config(tmp_path, lines, [server.address], extra=extra), tmp_path / "run"
        ) as daemon:
            exchange = Exchange(messages, lines)
            play_day(daemon, exchange)
            stat = wait_for(
                lambda: (
                    (s := daemon.stat())["journal"]["packets"]
                    == sum(line["packets"] for line in s["lines"].values()) + s["recovery"]["replies"]
                    and s
                ),
                "the journal",
            )
            assert stat["gaps"]["recovered_rewind"] > 0
            assert daemon.stop() == 0
    finally:
        server.close()
        exchange.close()
    packets = [packet for path in journal_files(directory) for packet in read(path)]
    for line in lines:
        of_line = [p for p in packets if p.destination == (line.group, line.port)]
        assert len(of_line) == line.sent_packets
        assert all(abs(p.ts_ns - time.time_ns()) < 600e9 for p in of_line)
    replies = [p for p in packets if p.source == server.address]
    assert len(replies) == stat["recovery"]["replies"]
    assert replies[0].payload[:10] == SESSION

    counts = feedhandler("replay", str(directory))
    assert (counts["messages"], counts["unrecovered"], counts["state"]) == (len(messages), 0, "ENDED")
    assert counts["recovered_rewind"] > 0
    with MessageStore.create() as store:
        assert feed_capture(SessionFeeder(store), directory) == len(packets)
        assert [message for _, message in store.messages()] == messages
    exported = feedhandler("export", str(directory), "-o", str(tmp_path / "out"), "--schema", "mbo")
    [day] = exported["days"]
    assert day["books_sha256"] == counts["books_sha256"]
    assert (day["messages"], day["unrecovered"]) == (len(messages), 0)


def test_journal_killed_under_a_daemon_comes_back_and_misses_nothing(tmp_path: Path) -> None:
    """The ring keeps what comes meanwhile; the feed does not notice."""
    messages, lines, directory = simulated_messages(3000), two_lines(), tmp_path / "journal"
    config = write_config(tmp_path, lines, extra=f'[journal]\ndirectory = "{directory}"\n')
    with running(config, tmp_path / "run") as daemon:
        exchange = Exchange(messages, lines)
        for _ in range(3):
            exchange.send(500)
            wait_for(lambda: journal_state(daemon).get("packets", 0) > 0, "the journal")
            pid = wait_for(lambda: journal_state(daemon)["pid"], "the journal's pid")
            os.kill(pid, signal.SIGKILL)
            exchange.send(300)
            wait_for(lambda old=pid: journal_state(daemon)["pid"] != old, "another journal")
        play_day(daemon, exchange)
        assert daemon.stop() == 0
        exchange.close()
    payloads = [p for path in journal_files(directory) for p in read(path)]
    of_line = [p.payload for p in payloads if p.destination == (lines[0].group, lines[0].port)]
    assert lines[0].sent_packets <= len(of_line) <= lines[0].sent_packets + 3
    starts = [struct.unpack_from(">Q", payload, 10)[0] for payload in of_line]
    assert starts == sorted(starts)
    assert feedhandler("replay", str(directory))["messages"] == len(messages)


def test_restarted_daemon_goes_on_in_the_same_directory(tmp_path: Path) -> None:
    """Two runs, one of them killed with its journal: the segments of both are one capture, in order."""
    messages, lines, directory = simulated_messages(2000), two_lines(), tmp_path / "journal"
    config = write_config(tmp_path, lines, extra=f'[journal]\ndirectory = "{directory}"\n')
    exchange = Exchange(messages, lines)
    with running(config, tmp_path / "run") as daemon:
        exchange.send(1000)
        wait_for(lambda: daemon.reader.next_sequence == 1001, "messages")
        wait_for(lambda: journal_state(daemon)["packets"] == 250, "the journal")
        daemon.stop(signal.SIGKILL)
    with running(config, tmp_path / "run") as daemon:
        exchange.send(1000)
        exchange.end()
        wait_for(lambda: daemon.reader.state in (3, 4), "the end")
        wait_for(lambda: journal_state(daemon).get("packets") == 252, "the journal")
        assert daemon.stop() == 0
    exchange.close()
    assert len(journal_files(directory)) == 2
    assert feedhandler("replay", str(directory))["messages"] == len(messages)


def test_full_disk_stops_the_journal_and_not_the_feed(tmp_path: Path) -> None:
    """An error in the log, failures in stat, journal_up 0 in the metrics; every message is applied."""
    disk = tmp_path / "disk"
    messages, lines = simulated_messages(2000), two_lines()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    extra = f'[journal]\ndirectory = "{disk}/journal"\nsegment_mib = 2\n'
    path = write_config(tmp_path, lines, extra=extra)
    path.write_text(path.read_text().replace('listen = ""', f'listen = "127.0.0.1:{port}"'))
    with small_memory(disk, 1), running(path, tmp_path / "run") as daemon:
        exchange = Exchange(messages, lines)
        play_day(daemon, exchange)
        exchange.close()
        alarms = wait_for(
            lambda: [entry for entry in daemon.log() if entry["event"] == "journal_stopped"], "the alarm"
        )
        assert (alarms[0]["level"], alarms[0]["reason"]) == ("error", "No space left on device")
        stat = daemon.stat()
        assert stat["messages"] == len(messages)
        assert stat["journal"]["failures"] >= 1
        from tests.daemon.test_helpers import metrics

        wait_for(lambda: 'feedhandler_journal_up{channel="live"} 0.0' in metrics(port), "the metric", 20, 0.1)
        assert daemon.stop() == 0


def test_channel_without_a_journal_has_no_packets_in_shared_memory(tmp_path: Path) -> None:
    """Neither new nor left by a start that had one."""
    lines = [Line("A", f"239.195.{os.getpid() % 250}.9", free_port())]
    with_journal = write_config(tmp_path, lines, extra=f'[journal]\ndirectory = "{tmp_path}/journal"\n')
    folder = tmp_path / "run" / "live"
    first = Daemon(with_journal, tmp_path / "run").wait_ready()
    assert (folder / "packets").exists()
    first.stop(signal.SIGKILL)
    first.close()
    with running(write_config(tmp_path, lines), tmp_path / "run") as daemon:
        assert not (folder / "packets").exists()
        assert "journal" not in daemon.stat()
