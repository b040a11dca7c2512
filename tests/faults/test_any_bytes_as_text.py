"""Bytes that are no text where text is expected: peers may send them, and nothing may fall over."""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from feedhandler.consumer import Consumer, FeedState
from recovery.soupbintcp import packet as soup_packet
from tests.support.daemon import running, write_config
from tests.support.exchange import Exchange, Line, simulated_messages
from tests.support.multicast import free_port
from tests.support.wait import wait_for

SESSION = b"\xff\xfe\x01SESS \xe9 "
SHOWN = "\N{REPLACEMENT CHARACTER}" * 2 + "\x01SESS \N{REPLACEMENT CHARACTER}"


@contextlib.contextmanager
def answering(answer: bytes) -> Iterator[tuple[int, list[int]]]:
    """A snapshot server that has one answer to everybody; its port, and a mark for each connection."""
    seen: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(4096)
                        connection.sendall(answer)
                    seen.append(1)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1], seen
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def accepted(session: bytes, number: bytes) -> bytes:
    """Return the login's acceptance with these bytes in it."""
    return soup_packet(b"A", session.ljust(10) + number.rjust(20))


ANSWERS = [
    (accepted(b"\xff\xfe\xfd", b"1"), 'session "???"'),
    (accepted(b"\xff\xfe\x01SESS \xe9 ", b"\x80\n"), "begins at number ??"),
    (soup_packet(b"J", b"\xe9"), "login refused: ?"),
    (soup_packet(b"J"), "login refused: "),
]


@pytest.mark.parametrize(("answer", "reason"), ANSWERS, ids=["session", "number", "reason", "no-reason"])
def test_a_session_and_answers_that_are_no_text_do_not_end_the_daemon(
    tmp_path: Path, answer: bytes, reason: str
) -> None:
    """Log, counters and consumers show them with the odd bytes replaced; the feed goes on."""
    line = Line("A", f"239.199.{os.getpid() % 250}.1", free_port())
    with answering(answer) as (port, seen):
        (tmp_path / "password").write_text("secret\n")
        snapshot = (
            f'[recovery.snapshot]\naddress = "127.0.0.1:{port}"\nusername = "user"\n'
            f'password_file = "{tmp_path / "password"}"\n'
        )
        with (
            running(write_config(tmp_path, [line], extra=snapshot), tmp_path / "run") as daemon,
            contextlib.closing(Exchange(simulated_messages(200), [line], SESSION)) as exchange,
            Consumer("live", ["mbo"], runtime_dir=daemon.runtime_dir) as consumer,
        ):
            exchange.next = 100  # joined in mid-session: only a snapshot would help
            exchange.send(50)
            wait_for(lambda: len(seen) > 1, "second try")
            failures = wait_for(
                lambda: [entry for entry in daemon.log() if entry["event"] == "snapshot_failed"], "reason"
            )
            assert reason in failures[0]["reason"]
            assert consumer.state == FeedState.STARTING
            assert daemon.stat()["session"] == SHOWN
            started = [entry for entry in daemon.log() if entry["event"] == "session_start"]
            assert [entry["session"] for entry in started] == [SHOWN]
            assert daemon.stop() == 0
