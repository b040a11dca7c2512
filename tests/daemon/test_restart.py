"""A daemon that was killed starts again in the middle of the session, from its journal or a snapshot."""

import contextlib
import os
import signal
from collections.abc import Iterator
from math import inf
from pathlib import Path
from typing import Any

import pytest

from feedhandler import _core
from feedhandler.config import load
from feedhandler.daemon._restart import estimate
from feedhandler.journal.session import Held
from tests.e2e.test_live_snapshot import assert_books, send, snapshots, state_of
from tests.support.daemon import Daemon, running, write_config
from tests.support.exchange import Exchange, Line, RewindServer, packet, simulated_messages
from tests.support.multicast import free_ports
from tests.support.snapshot import model_of
from tests.support.wait import wait_for

SESSION = b"LIVETEST01"
STARTING, LIVE, RECOVERING, STALE, ENDED = range(5)
BEGINNING = 'channel.start = "beginning"\n'
SERVER = 'recovery.server = [{address = "127.0.0.1:1"}]\n'
SNAPSHOT = 'recovery.snapshot = {address = "127.0.0.1:2", username = "u", password_file = "/p"}\n'


@pytest.fixture(scope="module")
def day() -> list[bytes]:
    """One simulated day."""
    return simulated_messages(12_000)


class Site:
    """A channel with a journal, its exchange and servers; daemons come and go."""

    def __init__(
        self, folder: Path, day: list[bytes], server: type[RewindServer] = RewindServer, **tables: str
    ) -> None:
        ports = free_ports(2)
        self.lines = [Line(n, f"239.194.{os.getpid() % 250}.{i}", next(ports)) for i, n in enumerate("AB")]
        self.exchange = Exchange(day, self.lines, SESSION)
        self.server = server(SESSION, day, ("127.0.0.1", 0))
        self.folder, self.journal = folder, folder / "journal"
        extra = tables.pop("extra", "")
        self.config = write_config(
            folder,
            self.lines,
            [self.server.address],
            extra=extra + f'[journal]\ndirectory = "{self.journal}"\n' + tables.pop("journal", ""),
            recovery="timeout_ms = 20\nretries = 50\nmax_outstanding = 8\nrequests_per_s = 100000\n",
            **tables,
        )

    def run(self) -> contextlib.AbstractContextManager[Daemon]:
        """A daemon on this site's folder."""
        return running(self.config, self.folder / "run")

    def send(self, daemon: Daemon, upto: int) -> None:
        """Send up to message `upto`; wait until all is applied and in the journal."""
        self.exchange.send(upto + 1 - self.exchange.next)
        self.exchange.heartbeat()
        wait_for(lambda: daemon.reader.next_sequence == upto + 1, "all messages")
        wait_for(lambda: self.written(daemon) >= daemon.reader.counters()["lines"][0]["packets"], "journal")

    def written(self, daemon: Daemon) -> int:
        """Packets in the journal."""
        status = _core.journal_status(str(daemon.runtime_dir / daemon.channel)) or {}
        return int(status.get("packets", 0)) // 2

    def close(self) -> None:
        """Leave nothing behind."""
        self.exchange.close()
        self.server.close()


@contextlib.contextmanager
def site(folder: Path, day: list[bytes], **options: Any) -> Iterator[Site]:
    """A site, gone afterwards."""
    made = Site(folder, day, **options)
    try:
        yield made
    finally:
        made.close()


def logged(daemon: Daemon, event: str) -> dict[str, Any]:
    """Wait for an event in the log; return the newest."""
    found = wait_for(lambda: [e for e in daemon.log() if e["event"] == event], event)
    return dict(found[-1])


def test_killed_daemon_goes_on_from_its_journal_and_asks_for_what_it_missed(
    tmp_path: Path, day: list[bytes]
) -> None:
    """kill -9 twice, messages lost meanwhile: LIVE with right books each time, and to the end.

    It says that it took the journal, and why. Nothing that was missed is lost, nothing else is asked for:
    what the servers gave to the run before is in its journal.
    """
    with site(tmp_path, day, journal="segment_mib = 1\nsegment_s = 0.2\n") as here:
        for upto in (3000, 6000):
            with here.run() as daemon:
                here.send(daemon, upto)
                state_of(daemon, LIVE)
                daemon.stop(signal.SIGKILL)
            here.exchange.next += 300
        with here.run() as daemon:
            here.server.requests.clear()
            here.exchange.send(200)
            wait_for(lambda: daemon.reader.next_sequence == 6501, "all messages")
            state_of(daemon, LIVE)
            assert_books(daemon, model_of(day[:6500]))
            choice = logged(daemon, "restart")
            assert (choice["source"], choice["session"], choice["next"]) == ("journal", "LIVETEST01", 6001)
            assert "there is no snapshot server" in choice["reason"]
            assert logged(daemon, "restart_image")["first_to_apply"] == 6001
            gaps = daemon.stat()["gaps"]
            assert (gaps["recovered_rewind"], gaps["unrecovered"]) == (300, 0)
            assert here.server.requests[0] == (6000, 1)  # is it still the same run of the session?
            assert min(first for first, _ in here.server.requests[1:]) == 6001
            here.exchange.send(12_000)
            here.exchange.end()
            state_of(daemon, ENDED)
            assert_books(daemon, model_of(day))
            assert daemon.stop() == 0


class LyingServer(RewindServer):
    """Its first answer has the right bytes under numbers that are still to come."""

    lies = 0

    def reply(self, first: int, count: int) -> bytes:
        """Answer, once with what was not asked for."""
        if self.lies:
            return super().reply(first, count)
        self.lies += 1
        return packet(self.session, first + 1500, self.messages[first - 1 : first - 1 + count])


def test_answer_that_was_not_believed_is_not_believed_when_the_journal_is_read(
    tmp_path: Path, day: list[bytes]
) -> None:
    """Only what the run before took from a server is in its journal."""
    with site(tmp_path, day, server=LyingServer) as here:
        with here.run() as daemon:
            here.send(daemon, 1000)
            here.exchange.next += 20
            here.send(daemon, 2000)
            here.send(daemon, 4000)
            state_of(daemon, LIVE)
            assert here.server.lies == 1
            daemon.stop(signal.SIGKILL)
        with here.run() as daemon:
            here.exchange.heartbeat()
            state_of(daemon, LIVE)
            assert logged(daemon, "restart_image")["first_to_apply"] == 4001
            assert_books(daemon, model_of(day[:4000]))


def test_useless_journal_of_a_start_at_the_beginning_costs_time_only(
    tmp_path: Path, day: list[bytes]
) -> None:
    """It has no number 1: everything is asked for, as without one."""
    with site(tmp_path, day) as here:
        here.exchange.next = 1001
        with here.run() as daemon:
            here.exchange.send(1000)
            wait_for(lambda: here.written(daemon) >= 125, "journal")
            assert daemon.reader.state == STALE
            daemon.stop(signal.SIGKILL)
        here.config.write_text(here.config.read_text().replace("[channel]", '[channel]\nstart = "beginning"'))
        with here.run() as daemon:
            here.exchange.heartbeat()
            state_of(daemon, LIVE)
            assert_books(daemon, model_of(day[:2000]))
            choice = logged(daemon, "restart")
            assert (choice["source"], choice["reason"]) == (
                "beginning",
                "the journal cannot tell: it begins at number 1001",
            )


def with_snapshots(folder: Path, port: int) -> str:
    """The snapshot server's table."""
    (folder / "password").write_text("secret\n")
    return (
        f'[recovery.snapshot]\naddress = "127.0.0.1:{port}"\n'
        f'username = "user"\npassword_file = "{folder / "password"}"\n'
    )


def test_a_journal_of_minutes_is_left_for_a_snapshot(tmp_path: Path, day: list[bytes]) -> None:
    """The hole would take longer to fill than a snapshot to load: the snapshot is taken, and said so."""
    with snapshots() as (server, store):
        store.reset(SESSION)
        with site(tmp_path, day, extra=with_snapshots(tmp_path, server.address[1])) as here:
            slow = here.config.read_text().replace("requests_per_s = 100000", "requests_per_s = 1")
            here.config.write_text(slow)
            with here.run() as daemon:
                send(here.exchange, store, 5000)
                wait_for(lambda: here.written(daemon) >= 625, "journal")
                daemon.stop(signal.SIGKILL)
            with here.run() as daemon:
                wait_for(lambda: [e for e in daemon.log() if e["event"] == "restart"], "the choice")
                send(here.exchange, store, 6000)
                state_of(daemon, LIVE)
                assert_books(daemon, model_of(day[:6000]))
                assert logged(daemon, "restart")["source"] == "snapshot"
                assert server.counters.snapshots == 1


def test_a_snapshot_that_cannot_be_had_gives_way_to_the_journal(tmp_path: Path, day: list[bytes]) -> None:
    """Nobody listens at the snapshot server's address: the journal after all."""
    with site(tmp_path, day, extra=with_snapshots(tmp_path, next(free_ports(1)))) as here:
        slow = here.config.read_text().replace("requests_per_s = 100000", "requests_per_s = 5")
        here.config.write_text(slow)
        with here.run() as daemon:
            here.send(daemon, 5000)
            daemon.stop(signal.SIGKILL)
        with here.run() as daemon:
            here.exchange.next += 40
            here.exchange.send(40)
            wait_for(lambda: daemon.reader.next_sequence == 5081, "all messages")
            state_of(daemon, LIVE)
            assert_books(daemon, model_of(day[:5080]))
            assert logged(daemon, "restart")["source"] == "snapshot"
            failed = logged(daemon, "restart_failed")
            assert (failed["source"], failed["instead"]) == ("snapshot", "journal")


def test_journal_of_another_session_is_not_believed(tmp_path: Path, day: list[bytes]) -> None:
    """The lines carry a new session, in its middle: STALE, as without a journal; no book of the old one."""
    with site(tmp_path, day) as here:
        with here.run() as daemon:
            here.send(daemon, 2000)
            daemon.stop(signal.SIGKILL)
        here.exchange.session = b"LIVETEST02"
        with here.run() as daemon:
            here.exchange.send(500)
            state_of(daemon, STALE)
            wait_for(lambda: daemon.reader.next_sequence == 2501, "all messages")
            reasons = [e.get("reason") for e in daemon.log() if e["event"] == "restart_failed"]
            assert reasons
            assert set(reasons) <= {
                "the lines carry another session",
                "its books are not those of the session on the lines",
                "500 messages were missed, and no server says what precedes them",
            }


@pytest.mark.parametrize("server", ["answers", "is silent", "is not there"])
@pytest.mark.parametrize("upto", [500, 2500])
def test_journal_of_an_earlier_run_of_the_session_is_not_believed(
    tmp_path: Path, day: list[bytes], server: str, upto: int
) -> None:
    """The exchange began anew under the same name while no daemon ran: no book of the old run, ever.

    Whether the new run is below or beyond the number that the journal ends with when the daemon starts.
    """
    anew = simulated_messages(6000, seed=2)
    with site(tmp_path, day) as here:
        with here.run() as daemon:
            here.send(daemon, 2000)
            daemon.stop(signal.SIGKILL)
        here.server.messages, here.server.silent = anew, server == "is silent"
        if server == "is not there":
            here.config.write_text(
                here.config.read_text().replace(f":{here.server.address[1]}", f":{next(free_ports(1))}")
            )
        exchange = Exchange(anew, here.lines, SESSION)
        exchange.next = upto + 1
        with here.run() as daemon, contextlib.closing(exchange):
            exchange.send(100)
            wait_for(lambda: daemon.reader.counters()["lines"][0]["packets"], "the first packets")
            exchange.send(5900 - upto)
            wait_for(lambda: daemon.reader.next_sequence == 6001, "all messages")
            state_of(daemon, STALE)
            assert LIVE not in [e["state"] for e in daemon.log() if e["event"] == "state"]
            [failed] = [e["reason"] for e in daemon.log() if e["event"] == "restart_failed"]
            assert failed.split(", ")[0] in (
                "number 2000 is another message now: the numbers have begun again",
                "its books are not those of the session on the lines",
                f"{upto - 2000} messages were missed",
            )


def test_journal_of_a_session_without_servers_is_held_against_the_lines(
    tmp_path: Path, day: list[bytes]
) -> None:
    """Where they overlap, or meet: LIVE at once, with right books."""
    with site(tmp_path, day) as here:
        text = here.config.read_text()
        at = text.index("[[recovery.server]]")
        here.config.write_text(text[:at] + text[text.index("[publish]") :])
        for upto in (2000, 2600):
            with here.run() as daemon:
                here.send(daemon, upto)
                daemon.stop(signal.SIGKILL)
            here.exchange.next -= 100 * (upto == 2600)  # the lines lag behind the journal
        with here.run() as daemon:
            here.exchange.send(600)
            state_of(daemon, LIVE)
            wait_for(lambda: daemon.reader.next_sequence == 3101, "all messages")
            assert_books(daemon, model_of(day[:3100]))


HELD = Held(
    b"LIVETEST01", (), bytes=40_000_000, next=1_000_001, last_ns=0, messages_per_s=0, message_bytes=35
)


@pytest.mark.parametrize(
    ("table", "missed", "orders", "journal_s", "other_s"),
    [
        ("", 0, 0, 0.2, inf),
        ("", 10_000, 0, inf, inf),
        (SERVER, 10_000, 0, 0.2 + 10_000 / 40_000, inf),
        (SNAPSHOT, 0, 250_000, 0.2, 0.25),
        (SNAPSHOT, 0, 0, 0.2, 0.05 + 1_000_001 * 40 / 50e6),
        (SNAPSHOT, 10, 250_000, inf, 0.25),
        (SERVER + BEGINNING, 40_000, 0, 1.2, 1_000_001 / 40_000),
    ],
)
def test_estimates_rest_on_what_is_known(
    tmp_path: Path, table: str, missed: int, orders: int, journal_s: float, other_s: float
) -> None:
    """Bytes to replay and messages to ask for, against the orders of a snapshot or everything by requests."""
    path = tmp_path / "feed.toml"
    path.write_text(f'channel.name = "x"\n{table}[[line]]\nname = "A"\ngroup = "239.1.1.1"\nport = 1\n')
    costs = estimate(HELD, load(path), missed, orders)
    assert costs.journal_s == pytest.approx(journal_s)
    assert costs.other_s == pytest.approx(other_s)
    assert f"{missed} messages to ask for" in costs.reason
