"""A simulated day on the network: multicast lines, the re-request and the snapshot server behind them."""

import contextlib
import ipaddress
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from feedhandler import _core
from feedhandler.errors import RunError
from feedhandler.simulate.options import Line
from recovery.glimpse import GlimpseServer
from recovery.limits import Rate
from recovery.server import RequestHandler, RewindServer, ServerSettings
from recovery.store import MessageStore

_KEPT_MESSAGES = 1 << 24  # of a day without end, for re-requests
_KEPT_BYTES = 1 << 30
_RECORD_BYTES = 34  # mean of a day is 31 with the length; the store is sparse
_UNLIMITED = Rate(
    requests=1_000_000, bytes=1_000_000_000
)  # an exchange of one's own; limits are tested elsewhere


@dataclass(frozen=True)
class NetworkSettings:
    """How the day is sent. Times in seconds."""

    lines: tuple[Line, ...]
    interface: str = "127.0.0.1"  # an address or a device name
    ttl: int = 1
    session: str = "SIMULATED1"
    messages_per_s: int = 10_000
    burst: int = 1  # messages due at once
    lead_s: float = 0.0  # heartbeats before the first message
    linger_s: float = 3.0  # the end of session is repeated
    rewind: tuple[str, int] | None = None  # address of the re-request server; None: there is none
    drop_rewind: float = 0.0  # probability for a request, and for a reply
    same_faults: bool = False  # on all lines, packet by packet
    snapshot: tuple[str, int] | None = None  # address of the snapshot server; None: there is none
    seed: int = 1


class LossyHandler(RequestHandler):
    """Loses requests and replies, each with probability `share`; a lost request counts nowhere."""

    def __init__(
        self, store: MessageStore, settings: ServerSettings, now_s: float, share: float, seed: int
    ) -> None:
        super().__init__(store, settings, now_s)
        self._share = share
        self._random = random.Random(seed)  # noqa: S311  # faults, not secrets

    def handle(self, request: bytes | memoryview, host: str, now_s: float) -> bytes | None:
        """Answer as the server does, or not at all."""
        if self._random.random() < self._share:
            return None
        reply = super().handle(request, host, now_s)
        return None if self._random.random() < self._share else reply


class Transmission:
    """One simulated day on its way: a thread sends without the interpreter lock, another answers requests."""

    def __init__(self, exchange: _core.Exchange, settings: NetworkSettings, messages: int) -> None:
        self.settings = settings
        self.error: BaseException | None = None
        stored = settings.rewind is not None or settings.snapshot is not None
        self._store = _make_store(settings, messages) if stored else None
        try:
            self.server = self._make_server()
            self.snapshot_server = self._make_snapshot_server()
            targets = [
                _core.LineTarget(
                    line.name, line.group, line.port, settings.interface, settings.ttl, **line.faults
                )
                for line in settings.lines
            ]
            self.broadcast = _core.Broadcast(
                exchange,
                targets,
                session=settings.session,
                messages_per_s=settings.messages_per_s,
                burst=settings.burst,
                lead_ns=round(settings.lead_s * 1e9),
                linger_ns=round(settings.linger_s * 1e9),
                seed=settings.seed,
                same_faults=settings.same_faults,
                store=np.frombuffer(self._store.memory, np.uint8) if self._store is not None else None,
            )
        except RuntimeError as error:
            raise RunError(f"--send: {error}") from error

    def _make_server(self) -> RewindServer | None:
        if self._store is None or self.settings.rewind is None:
            return None
        limits = ServerSettings(client_rate=_UNLIMITED, total_rate=_UNLIMITED)
        try:
            server = RewindServer(self._store, self.settings.rewind, limits)
        except RunError as error:
            raise RunError(str(error).replace("gapfill.listen", "--rewind")) from error
        if self.settings.drop_rewind > 0:
            share, seed = self.settings.drop_rewind, self.settings.seed
            server.handler = LossyHandler(self._store, limits, time.monotonic(), share, seed)
        return server

    def _make_snapshot_server(self) -> GlimpseServer | None:
        if self._store is None or self.settings.snapshot is None:
            return None
        return GlimpseServer(self._store, self.settings.snapshot)

    def run(self, progress: Callable[[int], None] = lambda _: None) -> None:
        """Send until the day is over; `progress` gets the messages sent, some times a second.

        An interrupt (KeyboardInterrupt here, or `stop` from elsewhere) ends the session with what was sent.
        Raises RunError when the network refuses.
        """
        with self._serving():
            sender = threading.Thread(target=self._send, name="sender", daemon=True)
            sender.start()
            while sender.is_alive():
                try:
                    sender.join(0.1)
                except KeyboardInterrupt:
                    self.stop()
                progress(self.broadcast.messages)
        if self.error is not None:
            raise RunError(f"--send: {self.error}") from self.error

    def stop(self) -> None:
        """End the session soon, with what has been sent."""
        self.broadcast.stop()

    def _send(self) -> None:
        try:
            self.broadcast.run()
        except RuntimeError as error:
            self.error = error

    @contextlib.contextmanager
    def _serving(self) -> Iterator[None]:
        servers = [server for server in (self.server, self.snapshot_server) if server is not None]
        threads = [threading.Thread(target=server.run, name="server", daemon=True) for server in servers]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            for server, thread in zip(servers, threads, strict=True):
                server.stop()
                thread.join()
                server.close()

    def summary(self) -> dict[str, object]:
        """What was sent, by line, to compare with a receiver's counters. Exact once it is over."""
        broadcast = self.broadcast
        seconds = broadcast.sending_ns / 1e9
        out: dict[str, object] = {
            "session": self.settings.session,
            "messages": broadcast.messages,
            "packets": broadcast.packets,
            "next_sequence": broadcast.messages + 1,
            "elapsed_s": round(seconds, 3),
            "messages_per_s": round(broadcast.messages / seconds) if seconds > 0 else broadcast.messages,
            "lines": broadcast.counts,
        }
        if self.server is not None:
            counters = self.server.counters
            out["rewind"] = {
                "requests": counters.requests,
                "replies": counters.replies,
                "messages": counters.messages,
            }
        if self.snapshot_server is not None:
            served = self.snapshot_server.counters
            out["snapshot"] = {"snapshots": served.snapshots, "completed": served.completed}
        return out


def _make_store(settings: NetworkSettings, messages: int) -> MessageStore:
    kept = messages or _KEPT_MESSAGES
    size = messages * _RECORD_BYTES + (1 << 20) if messages else _KEPT_BYTES
    return MessageStore.create(session=settings.session.encode("ascii"), max_messages=kept, max_bytes=size)


def group_number(group: str) -> int:
    """Return an IPv4 address as the number that the core takes."""
    return int(ipaddress.IPv4Address(group))
