"""A snapshot that fails, at each point at which it can: another try, and never a half-built book.

The server is a script: what it sends on each connection, byte for byte.
"""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from feedhandler.consumer import Consumer, FeedState
from recovery.glimpse import StoreImages
from recovery.soupbintcp import packet
from recovery.store import MessageStore
from tests.e2e.test_live_snapshot import SESSION, STALE, assert_books, one_line, state_of
from tests.support.daemon import running, write_config
from tests.support.exchange import Exchange, simulated_messages
from tests.support.snapshot import model_of, soup_packets
from tests.support.wait import wait_for

ACCEPTED = packet(b"A", SESSION.rjust(10) + b"1".rjust(20))
LOGIN_BYTES = 49
Spoil = Callable[[bytes], bytes]


def without_end(image: bytes) -> bytes:
    """All but G."""
    return image[: -len(packet(b"S", b"G" + bytes(20)))]


def with_end(image: bytes, number: bytes) -> bytes:
    """Another number in G."""
    return without_end(image) + packet(b"S", b"G" + number.rjust(20))


def order_twice(image: bytes) -> bytes:
    """The last order comes again."""
    last = [payload for _, payload in soup_packets(image) if payload[:1] in (b"A", b"F")][-1]
    return without_end(image) + packet(b"S", last) + image[len(without_end(image)) :]


def with_deletion(image: bytes) -> bytes:
    """A message of the feed that has no place in a snapshot."""
    return without_end(image) + packet(b"S", b"D" + bytes(18)) + image[len(without_end(image)) :]


CASES: list[list[tuple[str, Spoil]]] = [
    [
        ("login refused: S", lambda _: packet(b"J", b"S")),
        ("cut: the server closed", lambda _: b""),
        ("protocol error: unexpected packet of type 83", lambda image: image),  # 'S' before the login
        ('session \\"YESTERDAY1\\"', lambda _: packet(b"A", b"YESTERDAY1" + b"1".rjust(20))),
    ],
    [
        ("cut: the server closed", lambda _: ACCEPTED),
        ("cut: the server closed", lambda image: ACCEPTED + image[: len(image) // 2]),
        ("cut: the server closed", lambda image: ACCEPTED + without_end(image)),
        ("cut: the server closed", lambda image: (ACCEPTED + image)[:-1]),
    ],
    [
        ("contradicts itself", lambda image: ACCEPTED + order_twice(image)),
        ("contradicts itself", lambda image: ACCEPTED + with_deletion(image)),
        ("contradicts itself", lambda image: ACCEPTED + with_end(image, b"0")),
        ("the server ended the session", lambda image: ACCEPTED + without_end(image) + packet(b"Z")),
    ],
    [
        (
            "",
            lambda image: ACCEPTED + with_end(image, b"1000"),
        ),  # older than what was applied: no fault of it
        ("", lambda image: ACCEPTED + with_end(image, b"1")),
    ],
]


class Script:
    """Sends one answer a connection; the last waits until it is let go."""

    def __init__(self, answers: Sequence[bytes]) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.connections = 0
        self.go = threading.Event()
        self._answers = answers
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        for answer in self._answers:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.connections += 1
            with connection, contextlib.suppress(OSError):
                wanted = LOGIN_BYTES
                while wanted:
                    wanted -= len(connection.recv(wanted))
                if self.connections == len(self._answers):
                    self.go.wait(30)
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(4096):
                    pass

    def close(self) -> None:
        """End the thread, whatever it waits for."""
        self.go.set()
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self._thread.join()


@contextlib.contextmanager
def scripted(answers: Sequence[bytes]) -> Iterator[Script]:
    """A script that is over when the test is."""
    script = Script(answers)
    try:
        yield script
    finally:
        script.close()


@pytest.fixture(scope="module")
def day() -> list[bytes]:
    """One simulated day."""
    return simulated_messages(6_000)


@pytest.mark.parametrize("cases", CASES, ids=["login", "cut", "content", "older"])
def test_another_try_and_never_a_half_built_book(
    tmp_path: Path, day: list[bytes], cases: list[tuple[str, Spoil]]
) -> None:
    """STALE through every failure, each told with its reason; then a whole one: LIVE with right books."""
    known = 4_000
    with MessageStore.create(session=SESSION) as store:
        for number, message in enumerate(day[:known], 1):
            store.append(number, message)
        told = StoreImages(store).image()
    assert told is not None
    image = told[1]
    lines = one_line()
    with scripted([*(spoil(image) for _, spoil in cases), ACCEPTED + image]) as script:
        (tmp_path / "password").write_text("secret\n")
        text = (
            f'[recovery.snapshot]\naddress = "127.0.0.1:{script.socket.getsockname()[1]}"\n'
            f'username = "user"\npassword_file = "{tmp_path / "password"}"\n'
        )
        config = write_config(tmp_path, lines, extra=text)
        with (
            running(config, tmp_path / "run") as daemon,
            contextlib.closing(Exchange(day, lines, SESSION)) as exchange,
            Consumer("live", schemas=["event"], runtime_dir=daemon.runtime_dir) as consumer,
        ):
            exchange.send(3_000)
            wait_for(lambda: consumer.state == FeedState.LIVE, "LIVE")
            exchange.next += 10  # on no line
            exchange.send(known - 3_010)
            exchange.heartbeat()
            wait_for(lambda: script.connections == len(cases) + 1, "the last try", 30)
            assert consumer.state == FeedState.STALE
            assert daemon.stat()["escalation"]["snapshot_failed"] == len(cases)
            script.go.set()
            state_of(daemon, 1)
            exchange.send(len(day) - known)
            wait_for(lambda: daemon.reader.next_sequence == len(day) + 1, "arrival")
            assert_books(daemon, model_of(day))
            events = [row for batch in consumer.poll(timeout_s=1.0) for row in batch.records]
            counts = daemon.stat()
    trace = [(int(e["type"]), int(e["first"]), int(e["state"])) for e in events if e["type"] in (1, 9, 10)]
    begins = [first for kind, first, _ in trace if kind == 9]
    assert begins == sorted(begins)
    live, begin, end = (1, 0, 1), 9, 10
    rest = trace[trace.index((1, 0, STALE)) + 1 :]
    assert [(kind, first if kind == end else 0, state) for kind, first, state in rest] == [
        *[(begin, 0, STALE), (end, 0, STALE)] * len(cases),
        (begin, 0, STALE),
        (end, known + 1, STALE),
        live,
    ]
    assert counts["gaps"]["recovered_snapshot"] == 10
    assert counts["escalation"]["snapshot"] == len(cases) + 1
    log = daemon.log_path.read_text()
    for reason in {reason for reason, _ in cases if reason}:
        assert log.count(reason) == sum(one == reason for one, _ in cases), reason
