"""A daemon that starts in the middle of a session: where its books come from, decided, said and done.

The receive thread holds packets meanwhile. This is a thread beside it that reads the journal of the run
before, estimates what is faster, has the books made, and takes the next source when one fails.
"""

import socket
import struct
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from feedhandler import _core
from feedhandler.config import Config
from feedhandler.daemon._feed import trading_days
from feedhandler.errors import RunError, UsageError
from feedhandler.journal import session as journal
from feedhandler.journal.segments import DamagedError
from feedhandler.journal.writer import locked

LOOK_S, IDLE_LOOK_S = 0.02, 0.2
FIRST_PACKET_S = 0.1
"""So long the choice waits for it: it tells how much was missed."""
LOCK_TIMEOUT_S = 2.0
PATIENCE = 2.0
"""The journal is local and there: it is left when it takes so many times as long as what else there is."""

REPLAY_BYTES_S = 200e6
SNAPSHOT_BYTES_S = 50e6
"""What is expected before anything was measured, and on the slow side."""
LOGIN_S = 0.05
ROUND_TRIP_S = 0.001
ORDER_BYTES = 40
REPLY_BYTES = 1400
MANY_ORDERS = 5_000_000
ANSWER_S = 0.1
ATTEMPTS = 3
_HEADER = struct.Struct(">10sQH")  # MoldUDP64: session, number, count


@dataclass(frozen=True)
class Costs:
    """Estimates: seconds until the books are right, and what they rest on."""

    journal_s: float
    other_s: float
    reason: str


def other_source(config: Config) -> str:
    """Return what there is without a journal: "snapshot", "beginning" (all by re-requests) or "none"."""
    if config.channel.start == "beginning":
        return "beginning"
    return "snapshot" if config.recovery.snapshot else "none"


def estimate(held: journal.Held, config: Config, missed: int, orders: int) -> Costs:
    """Compare the journal with what there is beside it; `orders`: live in the books of the run before, or 0.

    Replaying takes the journal's bytes at an expected rate; then the `missed` messages are asked for, as fast
    as requests may leave.
    """
    fill_s = 1 / _asked_per_s(held, config) if config.recovery.server else float("inf")
    journal_s = held.bytes / REPLAY_BYTES_S + (missed * fill_s if missed else 0.0)
    words = f"the journal: {journal_s:.2f} s, {held.bytes / 1e6:.1f} MB and {missed} messages to ask for"
    other = other_source(config)
    if other == "snapshot":
        most = orders or min(held.next, MANY_ORDERS)
        other_s = snapshot_s(most)
        words += f"; a snapshot: {other_s:.2f} s, {'' if orders else 'at most '}{most} orders"
    elif other == "beginning":
        other_s = held.next * fill_s
        words += f"; all by re-requests: {other_s:.2f} s"
    else:
        other_s = float("inf")
        words += "; there is no snapshot server"
    return Costs(journal_s, other_s, words)


def snapshot_s(orders: int) -> float:
    """Return how long a snapshot of so many orders is expected to take."""
    return LOGIN_S + orders * ORDER_BYTES / SNAPSHOT_BYTES_S


def _asked_per_s(held: journal.Held, config: Config) -> float:
    most_per_s = config.recovery.max_outstanding / ROUND_TRIP_S
    requests_per_s = min(config.recovery.requests_per_s or most_per_s, most_per_s)
    return requests_per_s * max(1.0, REPLY_BYTES / max(held.message_bytes, 1.0))


def orders_before(directory: Path) -> tuple[bytes, int]:
    """Return (session, live orders) of the run before, whose counters lie in the channel's folder."""
    try:
        counters = _core.ChannelReader(str(directory)).counters()
        return counters["session"].ljust(10).encode(), counters["feed"]["orders"]
    except (UsageError, RunError):  # none ran before, or one of another version
        return b"", 0


def ask(server: tuple[str, int], session: bytes, number: int) -> bytes | None:
    """Return the message of that number as a re-request server has it (MoldUDP64); None: it does not say."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line, suppress(OSError):
        line.settimeout(ANSWER_S)
        line.connect(server)
        for _ in range(ATTEMPTS):
            line.send(_HEADER.pack(session, number, 1))
            with suppress(TimeoutError):
                reply = line.recv(65_535)
                if len(reply) >= _HEADER.size + 2 and _HEADER.unpack_from(reply)[:2] == (session, number):
                    at = _HEADER.size + 2
                    return reply[at : at + int.from_bytes(reply[at - 2 : at])]
    return None


class Restart:
    """The thread. It ends when the session's books are made, or need not be."""

    def __init__(self, config: Config, directory: Path, log: FilteringBoundLogger) -> None:
        """Tell whether there is anything to restart from: see `possible`."""
        self._config, self._log = config, log
        self._journal = Path(config.journal.directory).absolute()
        now_ns = time.time_ns()
        self.possible = bool(config.journal.directory) and journal.of_today(
            self._journal, config.channel.name, now_ns
        )
        self._orders = orders_before(directory) if self.possible else (b"", 0)
        self._surveyed = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, feed: _core.Feed) -> None:
        """Start, beside the feed that runs."""
        if not self.possible:
            self._surveyed.set()
            return
        self._thread = threading.Thread(target=self._run, args=(feed,), name="restart", daemon=True)
        self._thread.start()

    def journal_is_free(self) -> bool:
        """Tell whether a journal may write: not before its past was looked at."""
        return self._surveyed.is_set()

    def stop(self) -> None:
        """End soon."""
        self._stop.set()
        if self._thread:
            self._thread.join()

    def _run(self, feed: _core.Feed) -> None:
        with ExitStack() as files:
            try:
                held, costs = self._look(feed, files)
                self._restart(feed, held, costs)
            except Exception as error:  # noqa: BLE001  whatever it is: the feed must not wait for ever
                feed.restart_by("nothing")
                self._log.error("restart_failed", reason=f"{type(error).__name__}: {error}")
            finally:
                self._surveyed.set()

    def _look(self, feed: _core.Feed, files: ExitStack) -> tuple[journal.Held | None, Costs]:
        config, now_ns = self._config, time.time_ns()
        try:
            with ExitStack() as stack:
                try:  # the journal of the run before may still be writing its last packets
                    stack.enter_context(locked(self._journal, self._stop, LOCK_TIMEOUT_S))
                except (UsageError, RunError) as error:
                    self._log.warning("restart_journal_busy", reason=str(error))
                opened = journal.open_all(self._journal, config.channel.name)
                for one in opened:
                    files.callback(one.file.close)
                held = journal.find(opened, now_ns, config.channel.session)
        except (journal.UselessError, OSError) as error:
            return None, Costs(float("inf"), 0.0, f"the journal cannot tell: {error}")
        finally:
            self._surveyed.set()
        orders = self._orders[1] if self._orders[0] == held.session else 0
        return held, estimate(held, config, self._missed(feed, held), orders)

    def _missed(self, feed: _core.Feed, held: journal.Held) -> int:
        """Return how many messages lie between journal and lines; while no packet has come, by the rate."""
        deadline_s = time.monotonic() + FIRST_PACKET_S
        while feed.restart_state == "waiting":
            if time.monotonic() > deadline_s or self._stop.wait(LOOK_S / 10):
                return max(0, round(held.messages_per_s * (time.time_ns() - held.last_ns) / 1e9))
        return max(0, feed.restart_first - held.next)

    def _restart(self, feed: _core.Feed, held: journal.Held | None, costs: Costs) -> None:
        other = other_source(self._config)
        sources = ["journal", other]
        if costs.journal_s > PATIENCE * costs.other_s:
            sources.reverse()
        if held is None:
            sources = [other]
        self._log.info(
            "restart",
            source=sources[0],
            reason=costs.reason,
            **(
                {"session": held.session.decode("ascii", "replace").rstrip(), "next": held.next}
                if held
                else {}
            ),
        )
        while sources and not self._is_over(feed):
            source = sources.pop(0)
            if source == "journal" and held is not None:
                failure = self._by_journal(feed, held)
            else:
                failure = self._by(feed, "snapshot" if source == "snapshot" else "nothing")
            if not failure or self._is_over(feed):
                break
            self._log.warning(
                "restart_failed", source=source, reason=failure, instead=sources[0] if sources else "none"
            )
        else:
            feed.restart_by("nothing")
        if self._wait(feed) == "over":
            feed.drop_image()

    def _is_over(self, feed: _core.Feed) -> bool:
        return self._stop.is_set() or feed.restart_state == "over"

    def _by(self, feed: _core.Feed, choice: str) -> str:
        feed.restart_by(choice)
        return "" if self._wait(feed) != "failed" else "no snapshot could be loaded"

    def _wait(self, feed: _core.Feed) -> str:
        """Wait until the feed has what it needs, or what was chosen failed."""
        while (state := feed.restart_state) not in ("over", "failed"):
            if self._stop.wait(LOOK_S if state == "wanted" else IDLE_LOOK_S):
                break
        return state

    def _by_journal(self, feed: _core.Feed, held: journal.Held) -> str:
        """Replay the journal; return why that came to nothing."""
        started_s = time.monotonic()
        days = [day for day, _ in trading_days(self._config.channel.trading_day)]
        midnight_ns = max((day for day in days if day <= time.time_ns()), default=days[0])
        image = _core.JournalImage(held.session, midnight_ns)
        done = 0
        for one in held.segments:
            image.begin_segment()
            try:
                for chunk in one.chunks():
                    image.read(chunk)
                    done += len(chunk)
                    failure = self._not_worth_it(feed, held, image, done, time.monotonic() - started_s)
                    if failure:
                        return failure
            except (DamagedError, ValueError) as error:  # what follows is a hole that can be asked for
                self._log.warning("restart_journal_damaged", file=one.segment.path.name, reason=str(error))
        if image.failure:
            return f"the journal cannot tell: {image.failure}"
        facts = {"first_to_apply": image.next_sequence, "orders": image.orders, "bytes": done}
        self._log.info("restart_image", took_s=round(time.monotonic() - started_s, 3), **facts)
        if failure := self._contradiction(feed, held.session, image):
            return failure
        feed.restart_by_journal(image)
        return "" if self._wait(feed) != "failed" else "its books are not those of the session on the lines"

    def _contradiction(self, feed: _core.Feed, session: bytes, image: _core.JournalImage) -> str:
        """Return why what follows on the lines may not follow on the journal; "": it does.

        An exchange that begins anew under the same name looks the same but for the messages themselves: a
        server is asked for the last one. Where the lines overlap with the journal, the feed looks itself.
        """
        number = image.next_sequence - 1
        for server in self._config.recovery.server:
            found = ask(server.host_port, session, number)
            if found is not None:
                same = found == image.last_message
                return "" if same else f"number {number} is another message now: the numbers have begun again"
        while feed.restart_state == "waiting":
            if self._stop.wait(LOOK_S):
                return "not needed any more"
        missed = feed.restart_first - image.next_sequence
        return f"{missed} messages were missed, and no server says what precedes them" if missed > 0 else ""

    def _not_worth_it(
        self, feed: _core.Feed, held: journal.Held, image: _core.JournalImage, done: int, took_s: float
    ) -> str:
        if self._is_over(feed):
            return "not needed any more"
        if feed.restart_state == "wanted" and feed.restart_session != held.session:
            return "the lines carry another session"
        left_s = took_s * (held.bytes - done) / done
        by_snapshot_s = snapshot_s(image.orders)
        if other_source(self._config) == "snapshot" and left_s > PATIENCE * by_snapshot_s and took_s > 0.2:
            return f"{left_s:.1f} s more to replay, a snapshot takes about {by_snapshot_s:.1f} s"
        return ""
