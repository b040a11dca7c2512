"""Plays a scenario: the real pipeline and snapshot client in one process, on a virtual clock.

Whenever a reader could see something new, after every message and every event, the promise is checked: while
the state is LIVE the published table is what the naive model has after the same number of messages of the
lossless stream.
"""

from __future__ import annotations

import heapq
import itertools
import struct
import weakref
from collections.abc import Callable
from typing import Any

from feedhandler import _core
from tests.faults.exchange import RewindServer, SnapshotServer, arrivals, schedule
from tests.faults.scenario import (
    ARBITRATION_NS,
    IMAGE_NS,
    LINE_DOWN_NS,
    LOGIN_NS,
    MS,
    RETRIES,
    TIMEOUT_NS,
    Scenario,
)
from tests.faults.stream import LOCATES, stream
from tests.support.dbn_rows import tuples

SECOND = 1_000_000_000
START_NS = 1_700_000_000 * SECOND
FIRST = stream(b"MATRIX0001", 1)
NEXT = stream(b"MATRIX0002", 2, 40)
F_MAYBE_BAD_BOOK = 4

Entry = tuple[int, tuple[Any, ...]]  # ns, what the arbiter did
ORDINARY_START: list[Entry] = [
    (0, ("session_start", FIRST.session, 1)),
    (0, ("state", "STARTING", "LIVE")),
]


class World:
    """One run. `trace` has everything but the messages."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.trace: list[Entry] = []
        self.seen: list[str] = []  # states, as a reader of the published one saw them
        self.checks = 0  # comparisons made while LIVE
        self.stream = FIRST
        self.sent: dict[bytes, int] = {FIRST.session: 0, NEXT.session: 0}
        self.servers = [RewindServer(kind, FIRST.session) for kind in scenario.server_kinds]
        self.snapshots = SnapshotServer(scenario.snapshot)
        self.download: _core.SnapshotDownload | None = None
        self.now = 0
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        watch = weakref.WeakMethod(self._watch)  # a cycle through compiled code is never collected
        self.pipeline = _core.Pipeline(
            lambda sequence, state: watch()(sequence, state),  # type: ignore[misc]
            lines=2,
            servers=len(self.servers),
            session="" if scenario.rolls else FIRST.session.decode(),
            start=scenario.start,
            line_down_ns=LINE_DOWN_NS,
            arbitration_ns=ARBITRATION_NS,
            timeout_ns=TIMEOUT_NS,
            retries=RETRIES,
            hold_messages=4096,
            snapshot=scenario.snapshot != "none",
        )

    # ---- time

    def at(self, ns: int, call: Callable[[], None]) -> None:
        """Put a call on the agenda."""
        heapq.heappush(self._agenda, (ns, next(self._order), call))

    def run(self) -> None:
        """Play until the horizon."""
        sent = schedule(self.scenario, FIRST, NEXT)
        for each in sent:
            self.at(each.ns, lambda payload=each.payload: self._note_sent(payload))  # type: ignore[misc]
        for ns, line, payload in sorted(arrivals(self.scenario, sent)):
            self.at(ns, lambda line=line, payload=payload: self._on_packet(line, payload))  # type: ignore[misc]
        begin_ns = self.scenario.zero_ns if self.scenario.late else 0
        while True:
            timer_ns = max(self.now, begin_ns, self.pipeline.next_deadline - START_NS)
            due_ns = self._agenda[0][0] if self._agenda else self.scenario.horizon_ns
            if min(timer_ns, due_ns) >= self.scenario.horizon_ns:
                break
            self.now = min(timer_ns, due_ns)
            if due_ns <= timer_ns:
                heapq.heappop(self._agenda)[2]()
            else:
                self._take(self.pipeline.on_timer(START_NS + self.now))
        self._check_records()

    # ---- the exchange

    def _note_sent(self, payload: bytes) -> None:
        session, first, count = struct.unpack_from(">10sQH", payload)
        if count in (0, 0xFFFF):
            return
        self.sent[session] = first + count - 1
        source = FIRST if session == FIRST.session else NEXT
        for number in range(first, first + count):
            for server in self.servers:
                server.store(session, number, source.messages[number])

    def _on_packet(self, line: int, payload: bytes) -> None:
        self._take(self.pipeline.on_packet(line, payload, START_NS + self.now))

    def _request(self, server: int, first: int, count: int, session: bytes) -> None:
        reply = self.servers[server].answer(struct.pack(">10sQH", session, first, count))
        if reply is None:
            return
        self.at(
            self.now + reply[0],
            lambda: self._take(self.pipeline.on_reply(server, reply[1], START_NS + self.now)),
        )

    # ---- snapshots: bytes as the loader's socket would carry them

    def _load(self) -> None:
        session = self.pipeline.session.decode().strip()
        download = _core.SnapshotDownload("user", "secret", session, 0, START_NS + self.now)
        self.download = download
        login = download.take_output()

        def connect() -> None:
            answer, image, whole = self.snapshots.connect(
                self.stream, self.sent[self.stream.session], login, self.now / 1e9
            )
            self.at(begun_ns + LOGIN_NS, lambda: self._feed(download, answer))
            self.at(begun_ns + LOGIN_NS + IMAGE_NS, lambda: self._feed(download, image, closed=not whole))

        begun_ns = self.now
        self.at(begun_ns + LOGIN_NS // 2, connect)

    def _feed(self, download: _core.SnapshotDownload, data: bytes, *, closed: bool = False) -> None:
        if download is not self.download:
            return
        download.on_bytes(data, START_NS + self.now)
        if download.done:
            self._take(self.pipeline.on_snapshot(download, START_NS + self.now))
        elif download.failure or closed:
            self.download = None
            self._take(self.pipeline.on_snapshot_failed(START_NS + self.now))

    # ---- what it does

    def _take(self, trace: list[tuple[Any, ...]]) -> None:
        for kind, *what in trace:
            self.trace.append((self.now, (kind, *what)))
            if kind == "request":
                self._request(*what)
            elif kind == "start_snapshot":
                self._load()

    # ---- the promise

    def _watch(self, sequence: int, state: str) -> None:
        """Look at the published table as after message `sequence`: LIVE means equal to the model's."""
        session = self.pipeline.session
        if session:
            self.stream = NEXT if session == NEXT.session else FIRST
        if self.seen[-1:] != [state]:
            self.seen.append(state)
        if state != "LIVE":
            return
        self.checks += 1
        for locate in LOCATES:
            view = self.pipeline.view(locate)
            found = ([], [], "") if view is None else (view["bids"], view["asks"], view["trading_status"])
            assert found == self.stream.books[sequence][locate], (
                f"{self.scenario}: LIVE at {self.now / MS:.3f} ms after message {sequence}, "
                f"and the book of {locate} is wrong"
            )
            assert view is None or not view["incomplete"]

    def _check_records(self) -> None:
        """Check that a record without the flag is one that the lossless stream gives."""
        taken = self.pipeline.take_records()
        lossless = {name: FIRST.records[name] | NEXT.records[name] for name in FIRST.records}
        for schema in ("mbo", "mbp-1", "mbp-10"):
            flags = 8 if schema == "mbo" else 7
            for record in tuples(schema, taken[schema]):
                assert record[flags] & F_MAYBE_BAD_BOOK or record in lossless[schema], (
                    f"{self.scenario}: not flagged, and no record of the lossless stream: {record}"
                )

    # ---- what came of it

    def time_to_live_ns(self) -> int | None:
        """Return how long after it was left, or the start, LIVE was reached for good; None: not yet.

        The end of a session counts as LIVE where the books are complete then.
        """
        left_ns = None if self.scenario.starts_before else self.scenario.zero_ns
        back_ns: int | None = None
        lost = False
        for ns, (kind, *what) in self.trace:
            if kind == "gap_lost":
                lost = True
            elif kind == "snapshot_end" and what[0]:
                lost = False
            elif kind == "state":
                if what[0] == "LIVE":
                    left_ns = ns if left_ns is None else left_ns
                    back_ns = None
                if what[1] == "LIVE" or (what[1] == "ENDED" and not lost):
                    back_ns = ns
        if back_ns is None or left_ns is None:
            return None if back_ns is None else 0
        return back_ns - left_ns


def lines_of(world: World) -> list[str]:
    """Return the trace as a reader sees it: one line an instant, ms from the fault, names as in the docs.

    An ordinary start before the fault is left out.
    """
    out: list[str] = []
    trace = world.trace
    if world.scenario.starts_before and trace[:2] == ORDINARY_START:
        trace = trace[2:]
    for ns, group in itertools.groupby(trace, key=lambda entry: entry[0]):
        words = [word for _, what in group if (word := _word(what))]
        out.append(f"{(ns - world.scenario.zero_ns) / MS:+.3f} " + ", ".join(words))
    return out


def _word(what: tuple[Any, ...]) -> str:
    kind, *rest = what
    if kind == "state":
        return str(rest[1])
    if kind == "request":
        server, first, count, _ = rest
        return f"request {server + 1}: {first}-{first + count - 1}"
    if kind in ("gap_open", "gap_closed", "gap_lost"):
        return f"{kind} {rest[0]}-{rest[1]}"
    if kind in ("line_down", "line_up"):
        return f"{kind} {'AB'[rest[0]]}"
    if kind == "start_snapshot":
        return ""  # snapshot_begin says it
    if kind == "server":
        number, _, health, left_ns = rest
        return f"server {number + 1} {health}" + (f", left for {left_ns / SECOND:g} s" if left_ns else "")
    if kind == "escalation":
        return f"step {rest[1]}"
    if kind in ("session_start", "session_end"):
        return f"{kind} {rest[0].decode()} {rest[1]}"
    return f"{kind} {rest[0]}"
