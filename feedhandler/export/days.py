"""The trading days of a journal or capture, and what holds each of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

from feedhandler import _core
from feedhandler.errors import UsageError
from feedhandler.exchange_time import day_of, days_of_hours, midnight_ns
from feedhandler.journal.segments import Segment, segments
from feedhandler.replay.source import Source, open_segments, open_source


@dataclass(frozen=True)
class Day:
    """One trading day (New York's) and the segments that may hold packets of it; none: the file itself."""

    day: date
    segments: tuple[Segment, ...] = ()

    @property
    def period_ns(self) -> tuple[int, int]:
        """Return UTC ns of its begin and end."""
        return midnight_ns(self.day), midnight_ns(self.day + timedelta(days=1))


class Input:
    """A journal's directory, a segment, or any file that a replay can read. Raises UsageError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._source: Source | None = None
        if path.is_dir():
            self.days = _days_of_segments(str(path), segments(path))
            return
        self._source = open_source(path)
        self.days = [Day(day) for day in _days_in(self._source)]

    @property
    def has_no_time(self) -> bool:
        """Tell whether it is a BinaryFILE, whose messages have no date."""
        return self._source is not None and self._source.kind == "binary"

    def open(self, day: Day) -> Source:
        """Return what holds the packets of a day, and perhaps others."""
        return self._source or open_segments(str(self._path), day.segments)


def _days_in(source: Source) -> list[date]:
    if source.kind == "binary":
        return []
    return days_of_hours(_core.capture_groups(source.data)["hours"])


def _days_of_segments(name: str, found: list[Segment]) -> list[Day]:
    """A segment's packets come before those of the next one; only of the last the end must be looked up."""
    if not found:
        raise UsageError(f'JOURNAL: "{name}" is a directory without segments of a journal')
    by_day: dict[date, list[Segment]] = {}
    for segment, following in pairwise(found):
        for day in _days_between(segment.start_ns, following.start_ns):
            by_day.setdefault(day, []).append(segment)
    for day in _days_in(open_segments(name, found[-1:])):
        by_day.setdefault(day, []).append(found[-1])
    return [Day(day, tuple(parts)) for day, parts in sorted(by_day.items())]


def _days_between(first_ns: int, last_ns: int) -> Iterator[date]:
    day, last = day_of(first_ns), day_of(last_ns)
    while day <= last:
        yield day
        day += timedelta(days=1)
