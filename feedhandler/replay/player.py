"""Plays a source through the compiled pipeline and gathers what came out."""

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any, Protocol

from feedhandler import _core
from feedhandler.config._models import PUBLISHERS
from feedhandler.errors import UsageError
from feedhandler.exchange_time import days_of_hours, midnight_ns
from feedhandler.replay import pace
from feedhandler.replay.options import SCHEMAS, Group, ReplayOptions
from feedhandler.replay.source import Source

EPOCH_DAY = date(1970, 1, 1)
_PACKETS_AT_ONCE = 20_000  # so that Ctrl-C and the progress are looked at several times a second
_BYTES_AT_ONCE = 32 << 20  # of records that wait to be written
_CERTAINTY = 1e-15  # chance, for each request, that all its attempts are lost
LEAST_ATTEMPTS = 100
_MOST_ATTEMPTS = 100_000


class NothingToPlayError(UsageError):
    """A source has no packet of the period that is asked for."""


class RecordSink(Protocol):
    """Takes the records of a replay as they come."""

    def write(self, schema: str, records: bytes) -> None:
        """Take whole DBN records of one schema, back to back."""


@dataclass(frozen=True)
class Lines:
    """How the input is offered: the group of each line (a BinaryFILE has none), and how many lines.

    `days`: all that a capture has packets of.
    """

    groups: tuple[Group, ...]
    count: int
    days: tuple[date, ...] = ()


@dataclass(frozen=True)
class Played:
    """What came out of a replay. `counts` has the keys of `replay --json`, in order."""

    counts: dict[str, Any]
    symbols: list[tuple[int, str]]  # (instrument id, symbol)
    books: bytes  # the lines of --dump-books without the header
    failures: tuple[str, ...]  # why the exit status is 1 although nothing is unrecovered: one line each
    first_ns: int
    last_ns: int


def choose_lines(source: Source, options: ReplayOptions) -> Lines:
    """Choose the groups of a capture; UsageError when it has nothing to play."""
    if source.kind == "binary":
        if options.groups:
            raise UsageError(f'--group: "{source.path}" is a BinaryFILE, which has no groups')
        return Lines((), options.lines or 1)
    found = _core.capture_groups(source.data)
    seen = [(address, port) for address, port, *_ in found["groups"]]
    there = _what_is_there(seen, found["unknown_link"])
    days = tuple(days_of_hours(found["hours"]))
    groups = options.groups
    if not groups:
        groups = tuple(
            (address, port) for address, port, _, mold, multicast in found["groups"] if multicast and mold
        )
        if not groups:
            raise UsageError(f'FILE: "{source.path}" has no multicast MoldUDP64 packets{there}')
    for address, port in groups:
        if (address, port) not in seen:
            raise UsageError(f'--group: "{address}:{port}": no datagram for it in "{source.path}"{there}')
    if len(groups) == 1:
        return Lines(groups, options.lines or 1, days)
    if options.lines == 1:
        return Lines(groups[:1], 1, days)
    if len(groups) > _core.MAX_LINES:
        raise UsageError(
            f'FILE: "{source.path}" has {len(groups)} groups of MoldUDP64, at most {_core.MAX_LINES} are '
            "lines of one feed: use --group"
        )
    return Lines(groups, len(groups), days)


def _what_is_there(seen: list[Group], unknown_link: int) -> str:
    if not seen:
        return (
            f" ({unknown_link} frames of a link type that is not read)"
            if unknown_link
            else " (no UDP over IPv4 at all)"
        )
    names = [f"{address}:{port}" for address, port in seen[:4]]
    return f" (it has {', '.join(names)}{', ...' if len(seen) > 4 else ''})"


def source_notes(source: Source, end: dict[str, Any]) -> list[str]:
    """Return what was left out of a source, given how it ended: lines for stderr."""
    return [
        f'FILE: "{source.path}": {end[key]} {what} were left out'
        for key, what in (
            ("trailing", "bytes behind the end of the session"),
            ("cut", "frames that the snap length of the capture cut"),
            ("fragments", "IP fragments"),
        )
        if end[key]
    ]


def source_failures(source: Source, end: dict[str, Any]) -> tuple[str, ...]:
    """Return why a source was not played to its end: one line each."""
    failures = list(source.damage)
    if source.cut_at is not None:
        failures.append(f"the gzip stream ends too early, {source.cut_at} bytes of it were played")
    elif end["end"] == "truncated" and not source.damage:
        failures.append(f"ends inside the record at offset {end['offset']}; what lies before it was played")
    if end["end"] == "broken":
        failures.append(f"no record lies at offset {end['offset']}; what lies before it was played")
    return tuple(f'FILE: "{source.path}": {failure}' for failure in failures)


def attempts(drop_rewind: float) -> int:
    """How often a request is sent: until it is as good as certain that one got through."""
    through = (1 - drop_rewind) ** 2  # the chance of one attempt
    if through in (0, 1):
        return LEAST_ATTEMPTS
    return min(max(LEAST_ATTEMPTS, math.ceil(math.log(_CERTAINTY) / math.log1p(-through))), _MOST_ATTEMPTS)


class Player:
    """One replay. `sink` None: records are counted, not kept.

    `period_ns`: only packets from its first to before its second time, UTC. Raises UsageError when the source
    has nothing to play. `notes` are lines for stderr.
    """

    def __init__(
        self,
        source: Source,
        options: ReplayOptions,
        sink: RecordSink | None = None,
        *,
        period_ns: tuple[int, int] | None = None,
        dataset: str = "XNAS.ITCH",
    ) -> None:
        self.source = source
        self.options = options
        self.notes: list[str] = []
        self._sink = sink
        self.lines = choose_lines(source, options)
        faults = options.faults
        begin_ns, end_ns = period_ns or (-(2**63), 2**63 - 1)
        self._replay = _core.Replay(
            source.data,
            begin_ns=begin_ns,
            end_ns=end_ns,
            publisher_id=PUBLISHERS[dataset],
            exchange=dataset.partition(".")[0],
            binary=source.kind == "binary",
            groups=list(self.lines.groups),
            lines=self.lines.count,
            drop=faults.drop,
            duplicate=faults.duplicate,
            reorder=faults.reorder,
            corrupt=faults.corrupt,
            drop_burst=faults.drop_burst,
            rewind=options.rewind,
            snapshot=options.snapshot,
            drop_rewind=options.drop_rewind,
            attempts=attempts(options.drop_rewind),
            seed=options.seed,
            schema_mask=sum(1 << SCHEMAS.index(schema) for schema in set(options.schemas)),
            keep_records=sink is not None,
            symbols=list(options.symbols),
        )
        given = [options.trading_day] if options.trading_day else []
        own = list(self.lines.days) or given or [EPOCH_DAY]
        self._replay.scan([midnight_ns(day) for day in own])
        if source.kind != "binary" and not self._replay.sessions:
            raise NothingToPlayError(
                f'FILE: "{source.path}" has no well-formed MoldUDP64 packet in the groups chosen'
            )
        if source.kind == "binary" and not given:
            self.notes.append(
                "--date: not given for a BinaryFILE, which has no date: times count from 1970-01-01"
            )
        self._replay.start([midnight_ns(day) for day in given or own])
        self.notes += source_notes(source, self._replay.input_end())

    def play(self, speed: float | None = None, progress: Callable[[int, int], None] | None = None) -> Played:
        """Play everything; `speed` 1 is the original pace, None as fast as possible.

        `progress` is called several times a second with (packets played, all packets).
        """
        replay = self._replay
        started_ns = time.monotonic_ns()
        first_ns = replay.next_packet_ns
        more = True
        while more:
            pace.wait(replay.next_packet_ns, first_ns, started_ns, speed)
            more = replay.step(_PACKETS_AT_ONCE, pace.due_ns(first_ns, started_ns, speed), _BYTES_AT_ONCE)
            self._drain()
            if progress is not None:
                progress(replay.packets_played, replay.packets)
        return self._gather(first_ns, time.monotonic_ns() - started_ns)

    def symbols(self) -> list[tuple[int, str]]:
        """Return (instrument id, symbol) of the instruments named so far."""
        return [(instrument_id, symbol.decode("latin-1")) for instrument_id, symbol in self._replay.symbols()]

    def _drain(self) -> None:
        if self._sink is None:
            return
        for bit, schema in enumerate(SCHEMAS):
            if records := self._replay.take(bit):
                self._sink.write(schema, records)

    def _gather(self, first_ns: int, elapsed_ns: int) -> Played:
        replay = self._replay
        counts: dict[str, Any] = dict(replay.counts())
        records = counts.pop("records")
        counts["records"] = {
            schema: records[SCHEMAS.index(schema)] for schema in SCHEMAS if schema in self.options.schemas
        }
        for key in ("orders", "state"):
            counts[key] = counts.pop(key)
        books = replay.books()
        failures = source_failures(self.source, replay.input_end())
        symbols = self.symbols()
        counts["books_sha256"] = hashlib.sha256(books).hexdigest()
        elapsed_s = elapsed_ns / 1e9
        counts["elapsed_s"] = round(elapsed_s, 6)
        counts["messages_per_s"] = round(counts["messages"] / elapsed_s) if elapsed_s > 0 else 0
        return Played(counts, symbols, books, failures, first_ns, replay.clock_ns)
