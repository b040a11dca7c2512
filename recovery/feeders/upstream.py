"""Holes that no line filled: asked for, one request at a time, at re-request servers further up."""

import contextlib
import socket
import time
from collections.abc import Sequence

from recovery.feeders.session import SessionFeeder
from recovery.selection import Health, answered, choose, timed_out
from recovery.server import HEADER

TIMEOUT_S = 0.5
_MAX_COUNT = 0xFFFE
_SCAN = 4 << 20  # numbers looked through in one turn: about 10 ms

Address = tuple[str, int]


class UpstreamFeeder:
    """Fills the store's holes up to the highest number that the lines told of; reveals none itself.

    A hole is asked for once it was open for a whole tick, so that the lines and reordering have had their
    time. What no server gives is passed over, and asked for again when all other holes have had their turn.
    """

    def __init__(self, feeder: SessionFeeder, servers: Sequence[Address]) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.requests = 0
        self.messages = 0
        self._feeder = feeder
        self._servers = list(servers)
        self._health = [Health()] * len(servers)
        self._tried: frozenset[int] = frozenset()  # for the hole at hand
        self._from = 1  # holes below had their turn
        self._asked: tuple[int, int, float] | None = None  # server, first number, deadline
        self._settled_end = 1  # known at the tick before: a hole above may still be filled by a line

    def tick(self, now_s: float) -> None:
        """Call about every quarter of a second."""
        if not self._servers:
            return
        if self._asked is not None and now_s >= self._asked[2]:
            server = self._asked[0]
            self._health[server] = timed_out(self._health[server], now_s)
            self._tried |= {server}
            self._asked = None
        if self._asked is None:
            self._ask(now_s)
        self._settled_end = self._feeder.known

    def receive_pending(self) -> None:
        """Take replies."""
        with contextlib.suppress(BlockingIOError):
            while True:
                payload, address = self.socket.recvfrom(65536)
                if address in self._servers:
                    self._on_reply(self._servers.index(address), payload)

    def _on_reply(self, server: int, payload: bytes) -> None:
        store, asked = self._feeder.store, self._asked
        if len(payload) < HEADER.size or asked is None:
            return
        session, sequence, count = HEADER.unpack_from(payload)
        if session != store.session or sequence + count > self._feeder.known:
            return
        with contextlib.suppress(ValueError):
            new = store.append_blocks(sequence, count, payload[HEADER.size :])
            self.messages += new
            if new and sequence == asked[1]:
                self._health[server] = answered()
                self._tried = frozenset()
                self._asked = None
                self._ask(time.monotonic())

    def _ask(self, now_s: float) -> None:
        hole = self._next_hole()
        if hole is None:
            return
        if hole[0] != self._from:
            self._tried = frozenset()
        server = choose(self._health, now_s, self._tried)
        if server is None:
            if len(self._tried) == len(self._servers):  # nobody has it: the next hole's turn
                self._tried = frozenset()
                self._from = hole[1]
            return
        self._from = hole[0]
        self._asked = (server, hole[0], now_s + TIMEOUT_S)
        self.requests += 1
        session = self._feeder.store.session
        request = HEADER.pack(session, hole[0], min(hole[1] - hole[0], _MAX_COUNT))
        with contextlib.suppress(OSError):  # unreachable is as good as silent
            self.socket.sendto(request, self._servers[server])

    def _next_hole(self) -> tuple[int, int] | None:
        """The next range to ask for, within what one turn may look through."""
        store = self._feeder.store
        lowest, end = store.complete_to, min(self._settled_end, self._feeder.known)
        begin = max(self._from, lowest)
        if begin >= end:
            begin = lowest
        window_end = min(end, begin + _SCAN)
        hole = store.next_missing(begin, window_end)
        if hole is None:
            self._from = window_end
        return hole

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()
