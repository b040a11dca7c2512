"""A re-request server of one's own: a store, what feeds it, and the server over it, until told to stop."""

import ipaddress
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType

from structlog.typing import FilteringBoundLogger

from feedhandler.config import Gapfill, GapfillConfig
from feedhandler.daemon._notify import notify, watchdog_interval_s
from feedhandler.errors import RunError, UsageError
from recovery.feeders.binaryfile import feed_binaryfile
from recovery.feeders.capture import feed_capture
from recovery.feeders.lines import LineSocket
from recovery.feeders.session import SessionFeeder
from recovery.feeders.upstream import UpstreamFeeder
from recovery.limits import Rate
from recovery.server import RewindServer, ServerSettings
from recovery.store import WHOLE_SESSION_BYTES, WHOLE_SESSION_MESSAGES, MessageStore

LOADING_US = 300_000_000  # the service manager waits so long for the next sign that a file is being read
TICK_S = 0.25
REPORT_S = 10.0
# of a bounded store: how many numbers it has room for; ITCH has about 33 with framing
_BYTES_PER_MESSAGE = 16


def run(config: GapfillConfig, log: FilteringBoundLogger) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises UsageError or RunError, with one line, when it cannot start.
    """
    settings = config.gapfill
    session = settings.session.ljust(10).encode() if settings.session else b""
    with _naming_the_table():
        store = _store(settings, log)
    with store:
        feeder = SessionFeeder(store, session)
        with _naming_the_table():
            if settings.source == "binaryfile":
                feed_binaryfile(store, settings.file)
            elif settings.source in ("capture", "journal"):
                feed_capture(feeder, settings.file, lambda: notify(f"EXTEND_TIMEOUT_USEC={LOADING_US}"))
        server = RewindServer(store, _endpoint(settings.listen), server_settings(settings))
        with server:
            lines = [LineSocket(line, index, feeder) for index, line in enumerate(config.line)]
            for line in lines:
                server.watch(line.socket, line.receive_pending)
            upstream = UpstreamFeeder(feeder, [up.host_port for up in config.upstream])
            server.watch(upstream.socket, upstream.receive_pending)
            _serve(server, feeder, upstream, log)
            for line in lines:
                line.close()
            upstream.close()


@contextmanager
def _naming_the_table() -> Iterator[None]:
    """The store and the feeders know of a file; the user wrote it under gapfill."""
    try:
        yield
    except (UsageError, RunError) as error:
        raise type(error)(f"gapfill.{error}") from error


def server_settings(settings: Gapfill) -> ServerSettings:
    """Return what the file says about whom to answer and how much."""
    return ServerSettings(
        max_payload=settings.max_payload,
        allow=tuple(ipaddress.IPv4Network(network) for network in settings.allow),
        client_rate=Rate(settings.client_requests_per_s, settings.client_bytes_per_s),
        total_rate=Rate(settings.requests_per_s, settings.bytes_per_s),
        max_clients=settings.max_clients,
    )


def _endpoint(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def _store(settings: Gapfill, log: FilteringBoundLogger) -> MessageStore:
    """Open the store of an earlier run when the lines feed it; else make one."""
    max_bytes = settings.store_mib << 20 or WHOLE_SESSION_BYTES
    max_messages = max_bytes // _BYTES_PER_MESSAGE if settings.store_mib else WHOLE_SESSION_MESSAGES
    path = settings.store or None
    if path and settings.source == "lines" and Path(path).exists():
        store = MessageStore.open(path, writable=True)
        if store.max_bytes == max_bytes:
            log.info("store_continued", path=path, messages=len(store), **_held(store))
            return store
        store.close()
        log.warning("store_replaced", path=path, reason="gapfill.store_mib has changed")
    return MessageStore.create(path, max_messages=max_messages, max_bytes=max_bytes)


def _serve(
    server: RewindServer, feeder: SessionFeeder, upstream: UpstreamFeeder, log: FilteringBoundLogger
) -> None:
    received: list[int] = []

    def stop(signal_number: int, _frame: FrameType | None) -> None:
        received.append(signal_number)  # the log takes a lock, which the interrupted thread may hold
        server.stop()

    reporter = _Housekeeping(server, feeder, upstream, log)
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        log.info("serving", listen="{}:{}".format(*server.address), **_held(feeder.store))
        notify(f"READY=1\nSTATUS={reporter.status()}")
        server.run(each_s=TICK_S, tick=reporter.tick)
        notify("STOPPING=1")
        log.info("stopped", signal=signal.Signals(received[0]).name, **reporter.counters())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _held(store: MessageStore) -> dict[str, object]:
    return {"session": store.session.decode(errors="replace"), "next_sequence": store.next_sequence}


class _Housekeeping:
    """What happens now and then: holes asked for, and systemd and the log told how it goes.

    From the loop itself.
    """

    def __init__(
        self, server: RewindServer, feeder: SessionFeeder, upstream: UpstreamFeeder, log: FilteringBoundLogger
    ) -> None:
        self._server, self._feeder, self._upstream, self._log = server, feeder, upstream, log
        self._watchdog = watchdog_interval_s() is not None
        self._due = time.monotonic() + REPORT_S
        self._told: dict[str, object] = {}
        self._status = ""

    def counters(self) -> dict[str, object]:
        feed = {f"feed_{name}": value for name, value in asdict(self._feeder.counters).items()}
        up = {"upstream_requests": self._upstream.requests, "upstream_messages": self._upstream.messages}
        return asdict(self._server.counters) | {"clients": len(self._server.handler.clients)} | feed | up

    def status(self) -> str:
        store, counters = self._feeder.store, self._server.counters
        session = store.session.decode(errors="replace") or "no session"
        return f"{session} to {store.next_sequence - 1}, {counters.replies} of {counters.requests} answered"

    def tick(self, now_s: float) -> None:
        self._upstream.tick(now_s)
        if self._watchdog:
            notify("WATCHDOG=1")
        if (status := self.status()) != self._status:
            self._status = status
            notify(f"STATUS={status}")
        if now_s >= self._due:
            self._due = now_s + REPORT_S
            if (counters := self.counters()) != self._told:
                self._told = counters
                self._log.info("counters", **counters, **_held(self._feeder.store))
