"""The thread that tidies a journal, beside the writing one and a disk that fails."""

import errno
import fcntl
import os
import threading
from pathlib import Path

import pytest
import structlog
import zstandard

from feedhandler.errors import RunError
from feedhandler.journal import archive
from feedhandler.journal.archive import Archivist, Limits, apply_limits
from feedhandler.journal.segments import PACKED, PLAIN, parse, segment_path, segments
from feedhandler.journal.writer import locked
from tests.support.wait import wait_for

HOUR_NS = 3_600_000_000_000


def finished(directory: Path, count: int) -> list[Path]:
    """Make segments of 1,000 bytes, an hour each."""
    paths = [segment_path(directory, "live", (i + 1) * HOUR_NS).with_suffix("") for i in range(count)]
    for path in paths:
        path.write_bytes(bytes(1000))
    return paths


def test_a_segment_compressed_while_limits_are_applied_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other thread puts `.pcap.zst` in its place between the listing and the look at its size."""
    paths = finished(tmp_path, 3)

    def listed_too_early(directory: Path) -> list:
        found = segments(directory)
        paths[0].rename(paths[0].with_name(paths[0].name.replace(PLAIN, PACKED)))
        return found

    monkeypatch.setattr(archive, "segments", listed_too_early)
    apply_limits(tmp_path, Limits(bytes=1500), structlog.get_logger())
    kept = [segment.path for path in tmp_path.iterdir() if (segment := parse(path))]
    assert paths[1] not in kept
    assert paths[2] in kept


def test_a_disk_that_fails_is_told_once_a_look_and_not_without_end(tmp_path: Path) -> None:
    """The directory is gone, as when a mount is: the archivist says so and waits for the next look."""
    with structlog.testing.capture_logs() as entries:
        archivist = Archivist(
            tmp_path / "gone", Limits(), structlog.get_logger(), packing=True, sync_s=3600.0
        )
        archivist.start()
        try:
            wait_for(lambda: entries, "warning")
            wait_for(lambda: not archivist._wake.is_set(), "end of the look", timeout_s=5)
        finally:
            archivist.stop()
    assert {entry["event"] for entry in entries} == {"journal_archive_failed"}
    assert len(entries) <= 4


def test_file_named_after_no_time_of_the_calendar_is_no_segment(tmp_path: Path) -> None:
    """Month 13, day 32: somebody else's file. The limits are kept all the same."""
    stray = tmp_path / "live-20261332T000000.000000000Z.pcap"
    stray.write_bytes(b"")
    [old] = finished(tmp_path, 1)
    apply_limits(tmp_path, Limits(age_s=3600), structlog.get_logger())
    assert (stray.exists(), old.exists()) == (True, False)


def test_file_system_without_locks_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal cannot know that it is alone."""

    def refuse(_descriptor: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(RunError, match="No locks available"),
        locked(tmp_path, threading.Event()),
    ):
        pass


def test_segment_that_cannot_be_compressed_keeps_no_other_from_it(tmp_path: Path) -> None:
    """One that is longer than it says, and one that cannot be read: a warning each, the next one is done."""
    lying, unreadable, good = finished(tmp_path, 3)
    lying.unlink()
    lying.symlink_to("/proc/cpuinfo")  # of length 0, it says
    unreadable.unlink()
    unreadable.mkdir()
    with structlog.testing.capture_logs() as entries:
        archivist = Archivist(tmp_path, Limits(), structlog.get_logger(), packing=True, sync_s=3600.0)
        archivist.start()
        try:
            packed = good.with_name(good.name.replace(PLAIN, PACKED))
            wait_for(packed.exists, "the copy", timeout_s=5)
            wait_for(lambda: not good.exists(), "the removal", timeout_s=5)
        finally:
            archivist.stop()
    assert zstandard.decompress(packed.read_bytes()) == bytes(1000)
    assert [(e["event"], e["file"]) for e in entries] == [
        ("journal_archive_failed", str(path)) for path in (lying, unreadable)
    ]
    assert [e["reason"] for e in entries][1] == "Is a directory"
    assert not list(tmp_path.glob("*.tmp"))
