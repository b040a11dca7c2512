"""What a journal holds of the session that is on, for a daemon that starts again in its middle."""

import datetime
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from zoneinfo import ZoneInfo

import zstandard

from feedhandler import _core
from feedhandler.journal.segments import PACKED, DamagedError, Segment, contents_of, readable, segments

EXCHANGE_TIME = ZoneInfo("America/New_York")
_TIMES_PACKED = 5
"""How much larger a compressed segment is taken to be when it does not say so."""


class UselessError(Exception):
    """The journal cannot tell the books of the session; the text says why."""


@dataclass(frozen=True)
class OpenSegment:
    """A segment with its file, which stays readable when the journal renames, compresses or removes it."""

    segment: Segment
    file: BinaryIO

    def size(self) -> int:
        """Return its bytes, unpacked."""
        if self.segment.kind != PACKED:
            return readable(self.segment, self.file)[0]
        self.file.seek(0)
        size = zstandard.frame_content_size(self.file.read(18))
        return size if size > 0 else _TIMES_PACKED * self.file.seek(0, 2)

    def chunks(self) -> Iterator[bytes]:
        """Yield its bytes from the start. Raises DamagedError behind what could be read."""
        self.file.seek(0)
        return contents_of(self.segment, self.file)


@dataclass(frozen=True)
class Held:
    """A session of today that the journal has from number 1 on."""

    session: bytes
    segments: Sequence[OpenSegment]
    bytes: int
    next: int
    """One past the highest number, by whatever packet told it."""
    last_ns: int
    """When its last packet was received, UTC."""
    messages_per_s: float
    message_bytes: float
    """Mean, with framing."""

    @property
    def name(self) -> str:
        """The session as text, blanks cut."""
        return _text(self.session)


def day_of(time_ns: int) -> datetime.date:
    """Return the exchange's date at a time in UTC ns."""
    return datetime.datetime.fromtimestamp(time_ns / 1e9, EXCHANGE_TIME).date()


def of_today(directory: Path, channel: str, now_ns: int) -> bool:
    """Tell, from names and times of files alone, whether a channel's journal was written today."""
    with suppress(OSError):
        return any(
            segment.channel == channel and day_of(segment.path.stat().st_mtime_ns) == day_of(now_ns)
            for segment in segments(directory)
        )
    return False


def open_all(directory: Path, channel: str) -> list[OpenSegment]:
    """Open the segments of a channel, in the order of their packets. Raises OSError."""
    out = []
    for segment in segments(directory):
        with suppress(FileNotFoundError):  # too old to be kept
            if segment.channel == channel:
                out.append(OpenSegment(segment, segment.path.open("rb")))
    return out


def find(opened: Sequence[OpenSegment], now_ns: int, session: str = "") -> Held:
    """Return what the journal holds of the session that is on; `session`: the only one it may be.

    Raises UselessError.
    """
    for index in reversed(range(len(opened))):
        there = _survey(opened[index])
        seen = [found for found in there if session in ("", _text(found["session"]))]
        if seen:
            break
        if there and max(day_of(found["last_ns"]) for found in there) < day_of(now_ns):
            raise UselessError(f"it holds nothing of session {session} today")  # older ones do not either
    else:
        raise UselessError("it holds no packets of a session")
    newest = max(seen, key=lambda found: found["packets"])  # a stray packet makes no session
    if day_of(newest["last_ns"]) != day_of(now_ns):
        raise UselessError("its last packets are of another day")
    if newest["ended"]:
        raise UselessError(f"session {_text(newest['session'])} has ended in it")
    begin = _beginning(opened[: index + 1], newest)
    used = opened[begin:]  # the last ones may hold replies only
    seconds = max((newest["last_ns"] - newest["first_ns"]) / 1e9, 1.0)
    return Held(
        newest["session"],
        used,
        sum(one.size() for one in used),
        newest["next"],
        newest["last_ns"],
        (newest["next"] - newest["first"]) / seconds,
        newest["bytes"] / max(newest["messages"], 1),
    )


def _beginning(opened: Sequence[OpenSegment], newest: dict[str, Any]) -> int:
    """Return the index of the segment in which the session begins."""
    first = newest["first"]
    for index in reversed(range(len(opened))):
        head = next(iter(_survey(opened[index], chunks=1)), None) if index < len(opened) - 1 else newest
        if head is not None and head["session"] != newest["session"]:
            return index
        if head is not None and (first := head["first"]) == 1:
            return index
    if first != 1:
        raise UselessError(f"it begins at number {first}")
    return 0


def _survey(one: OpenSegment, chunks: int | None = None) -> list[dict[str, Any]]:
    survey = _core.JournalSurvey()
    with suppress(DamagedError, ValueError):  # what lies before the damage is what there is
        for count, chunk in enumerate(one.chunks()):
            if count == chunks:
                break
            survey.read(chunk)
    return survey.sessions()


def _text(session: bytes) -> str:
    return session.decode("ascii", "replace").rstrip()
