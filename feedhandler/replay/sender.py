"""Sends a source's packets out on the network, with faults, and serves re-requests for them."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from feedhandler import _core
from feedhandler.devices import address_of, device_names, device_of, is_here
from feedhandler.errors import RunError, UsageError
from feedhandler.exchange_time import midnight_ns
from feedhandler.replay import pace
from feedhandler.replay.options import Group, ReplayOptions, parse_group
from feedhandler.replay.player import EPOCH_DAY, choose_lines, source_failures, source_notes
from feedhandler.replay.source import Source
from recovery.limits import Rate
from recovery.server import RewindServer, ServerSettings
from recovery.store import MessageStore

_PACKETS_AT_ONCE = 64  # due at once: as many go out before the clock is looked at again
_END_REPEAT_S = 0.5  # as exchanges do for a short while
_END_REPEATS = 3
_QUIET_S = 3.0  # the re-request server stays until nobody has asked for so long
_UNLIMITED = Rate(requests=10_000_000, bytes=10_000_000_000)


@dataclass(frozen=True)
class Endpoint:
    """Where a line's packets go."""

    name: str
    group: Group


def parse_endpoints(option: str, text: str) -> tuple[Endpoint, ...]:
    """Return the lines of NAME=GROUP:PORT,NAME=GROUP:PORT; UsageError names the option."""
    endpoints = []
    for part in text.split(","):
        name, equals, group = part.strip().partition("=")
        if not equals or not name.strip():
            raise UsageError(
                f'{option}: "{text}": "{part}" is not NAME=GROUP:PORT; use A=GROUP:PORT,B=GROUP:PORT'
            )
        endpoints.append(Endpoint(name.strip(), parse_group(option, group.strip())))
    if len({e.name for e in endpoints}) < len(endpoints) or len({e.group for e in endpoints}) < len(
        endpoints
    ):
        raise UsageError(f'{option}: "{text}": two lines with one name, or one group')
    if len(endpoints) > _core.MAX_LINES:
        raise UsageError(f'{option}: "{text}": more than {_core.MAX_LINES} lines')
    return tuple(endpoints)


class Sender:
    """One sending of a source. Raises UsageError when there is nothing to send; `notes` are for stderr."""

    def __init__(
        self,
        source: Source,
        options: ReplayOptions,
        endpoints: tuple[Endpoint, ...],
        interface: str,
        rewind: Group | None,
    ) -> None:
        lines = choose_lines(source, replace(options, lines=min(len(endpoints), 2)))
        if len(lines.groups) > 1 and len(lines.groups) != len(endpoints):
            raise UsageError(
                f'--send: {len(endpoints)} lines, but "{source.path}" has {len(lines.groups)} groups: '
                "name as many lines, or choose with --group"
            )
        faults = options.faults
        self._endpoints = endpoints
        self._interface = interface
        self._rewind = rewind
        self._source = source
        self._packets = _core.ReplayPackets(
            source.data,
            binary=source.kind == "binary",
            groups=list(lines.groups),
            lines=len(endpoints),
            drop=faults.drop,
            duplicate=faults.duplicate,
            reorder=faults.reorder,
            corrupt=faults.corrupt,
            drop_burst=faults.drop_burst,
            seed=options.seed,
        )
        days = [options.trading_day or EPOCH_DAY] if source.kind == "binary" else lines.days
        self._packets.scan([midnight_ns(day) for day in days])
        if not self._packets.sessions:
            raise UsageError(
                f'FILE: "{source.path}" has no well-formed MoldUDP64 packet in the groups chosen'
            )
        self.notes = source_notes(source, self._packets.input_end())
        self._packets.start()

    def send(self, speed: float | None, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
        """Send everything; returns what was sent, dropped and asked for. `speed` 1 is the original pace."""
        sessions = self._packets.sessions
        with contextlib.ExitStack() as stack:
            self._sockets = [stack.enter_context(self._open(endpoint)) for endpoint in self._endpoints]
            store = None
            server = None
            if self._rewind is not None:
                store = stack.enter_context(_empty_store(self._packets))
                server = stack.enter_context(_serve(store, self._rewind))
            started_ns = time.monotonic_ns()
            first_ns = self._packets.next_packet_ns
            for index in range(len(sessions)):
                self._packets.open_session()
                if store is not None:
                    self._fill(store, index)
                while self._packets.next_packet_ns != pace.FOREVER_NS and not self._packets.at_new_session:
                    pace.wait(self._packets.next_packet_ns, first_ns, started_ns, speed)
                    until_ns = pace.due_ns(first_ns, started_ns, speed)
                    self._put(self._packets.take(_PACKETS_AT_ONCE, until_ns))
                    if progress is not None:
                        progress(self._packets.packets_played, self._packets.packets)
                self._end_session(server)
        return self._counts(server, time.monotonic_ns() - started_ns)

    def failures(self) -> tuple[str, ...]:
        """Why the exit status is 1: one line each."""
        return source_failures(self._source, self._packets.input_end())

    def _open(self, endpoint: Endpoint) -> socket.socket:
        address = address_of(self._interface) or self._interface
        if not is_here(address) or device_of(address) == address:
            lacking = f"is no address of this machine or device that has one (devices: {device_names()})"
            raise UsageError(f'--interface: "{self._interface}" {lacking}')
        out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
            out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
            out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
            out.connect(endpoint.group)
        except OSError as error:
            out.close()
            raise UsageError(f'--interface: "{self._interface}": {error.strerror or error}') from error
        return out

    def _put(self, packets: list[tuple[int, bytes]]) -> None:
        for line, payload in packets:
            try:
                self._sockets[line].send(payload)
            except OSError as error:
                raise RunError(f'--send: line "{self._endpoints[line].name}": {error.strerror}') from error

    def _fill(self, store: MessageStore, session: int) -> None:
        store.reset(self._packets.sessions[session][0])
        for first, count, blocks in self._packets.runs(session):
            store.append_blocks(first, count, blocks)

    def _end_session(self, server: RewindServer | None) -> None:
        """Tell the end until nobody asks for anything any more."""
        quiet_since, asked = time.monotonic(), 0
        for repeat in range(1_000_000):
            self._put(self._packets.end_session())
            time.sleep(_END_REPEAT_S)
            if server is not None and server.counters.requests > asked:
                quiet_since, asked = time.monotonic(), server.counters.requests
            if repeat + 1 >= _END_REPEATS and (server is None or time.monotonic() - quiet_since >= _QUIET_S):
                return

    def _counts(self, server: RewindServer | None, elapsed_ns: int) -> dict[str, Any]:
        faults = self._packets.counts()
        sent = dict(zip((e.name for e in self._endpoints), faults.pop("delivered"), strict=True))
        sessions = self._packets.sessions
        counts: dict[str, Any] = {
            "packets": self._packets.packets,
            "messages": sum(end - first for _, first, end in sessions),
            "sent": sent,
            **faults,
        }
        if server is not None:
            counts["rewind_requests"] = server.counters.requests
            counts["rewind_replies"] = server.counters.replies
        counts["elapsed_s"] = round(elapsed_ns / 1e9, 6)
        return counts


def _empty_store(packets: _core.ReplayPackets) -> MessageStore:
    """Make a store with room for the largest session."""
    sessions = packets.sessions
    longest = max(sum(len(blocks) for _, _, blocks in packets.runs(i)) for i in range(len(sessions)))
    return MessageStore.create(
        max_messages=max(end - first for _, first, end in sessions) + 1, max_bytes=2 * longest + (1 << 20)
    )


@contextlib.contextmanager
def _serve(store: MessageStore, address: Group) -> Iterator[RewindServer]:
    """Answer re-requests from the store on a thread of its own."""
    try:
        server = RewindServer(store, address, ServerSettings(client_rate=_UNLIMITED, total_rate=_UNLIMITED))
    except RunError as error:
        raise RunError(str(error).replace("gapfill.listen", "--rewind")) from error
    thread = threading.Thread(target=server.run, name="rewind", daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join()
        server.close()
