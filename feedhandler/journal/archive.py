"""Finished segments: compressed, and removed when they are too many or too old; beside the writing."""

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import zstandard
from structlog.typing import FilteringBoundLogger

from feedhandler.journal.segments import CHUNK, PACKED, PART, PLAIN, Segment, extent, segments

UNFINISHED = ".tmp"
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_COMPRESSION_LEVEL = 3
_NICE = 10


@dataclass(frozen=True)
class Limits:
    """What is kept: bytes over all segments and seconds since a segment's first packet; 0 = no limit."""

    bytes: int = 0
    age_s: float = 0


def sync_directory(directory: Path) -> None:
    """Bring names to disk, not only what they name."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def repair(directory: Path, log: FilteringBoundLogger) -> None:
    """Finish what a writer that died has left: cut torn tails, remove half-made copies."""
    for path in directory.glob(f"*{PACKED}{UNFINISHED}"):
        path.unlink()
    for segment in segments(directory):
        if segment.kind == PART:
            _finish(segment, log)
        elif segment.kind == PLAIN and segment.named(PACKED).exists():
            segment.path.unlink()  # the copy has its name only once it is whole and on disk
    sync_directory(directory)


def _finish(segment: Segment, log: FilteringBoundLogger) -> None:
    with segment.path.open("rb") as file:
        size, packets = extent(file)
    if packets == 0:
        segment.path.unlink()
        log.warning("journal_segment_empty", segment=segment.path.name)
        return
    with segment.path.open("r+b") as file:
        file.seek(size)
        torn = any(file.read(CHUNK))
        file.truncate(size)
        os.fsync(file.fileno())
    segment.path.rename(segment.named(PLAIN))
    log.warning(
        "journal_segment_repaired", segment=segment.path.name, packets=packets, bytes=size, torn_tail=torn
    )


def apply_limits(directory: Path, limits: Limits, log: FilteringBoundLogger, coming_bytes: int = 0) -> None:
    """Remove the oldest finished segments until the limits hold, with room for `coming_bytes` more."""
    kept: list[tuple[Segment, int]] = []
    for segment in segments(directory):
        with suppress(FileNotFoundError):  # compressed or removed meanwhile: two threads work here
            kept.append((segment, segment.path.stat().st_size))
    total = coming_bytes + sum(size for _, size in kept)
    oldest_ns = time.time_ns() - round(limits.age_s * 1e9)
    for segment, size in kept:
        too_much = limits.bytes and total > limits.bytes
        too_old = limits.age_s and segment.start_ns < oldest_ns
        if segment.kind == PART or not (too_much or too_old):
            continue
        with suppress(FileNotFoundError):
            segment.path.unlink()
        total -= size
        log.info("journal_segment_removed", segment=segment.path.name, reason="age" if too_old else "size")


def compress(segment: Segment, abandon: threading.Event) -> bool:
    """Put `.pcap.zst` in the place of a finished segment; False when told to abandon it. Raises OSError."""
    unfinished = segment.path.with_name(segment.named(PACKED).name + UNFINISHED)
    compressor = zstandard.ZstdCompressor(level=_COMPRESSION_LEVEL, write_checksum=True)
    try:
        packed = compressor.compressobj(size=segment.path.stat().st_size)
        with segment.path.open("rb") as source, unfinished.open("wb") as out:
            while chunk := source.read(CHUNK):
                if abandon.is_set():
                    return False
                out.write(packed.compress(chunk))
            out.write(packed.flush())
            out.flush()
            os.fsync(out.fileno())
        unfinished.chmod(segment.path.stat().st_mode & 0o777)
        unfinished.rename(segment.named(PACKED))
        sync_directory(segment.path.parent)
        segment.path.unlink()
    finally:
        unfinished.unlink(missing_ok=True)
    return True


class Archivist:
    """A thread that compresses, keeps the limits and syncs the open segment, all of it aside from writing."""

    def __init__(
        self, directory: Path, limits: Limits, log: FilteringBoundLogger, *, packing: bool, sync_s: float
    ) -> None:
        self._directory, self._limits, self._log = directory, limits, log
        self._packing, self._sync_s = packing, sync_s
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._abandon = threading.Event()
        self._copying = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="archivist", daemon=True)

    def start(self) -> None:
        """Begin, with what is there already."""
        self._wake.set()
        self._thread.start()

    def segment_finished(self) -> None:
        """Say that there is something to do."""
        self._wake.set()

    @contextmanager
    def giving_way(self) -> Iterator[None]:
        """Keep the disk free of a half-made copy, which is made again after the next segment."""
        self._abandon.set()
        with self._copying:
            self._abandon.clear()
            yield

    def stop(self) -> None:
        """End soon; what is half compressed is thrown away and done at the next start."""
        self._stop.set()
        self._abandon.set()
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        while not self._stop.is_set():
            asked = self._wake.wait(self._sync_s or None)
            self._wake.clear()
            if self._sync_s:
                self._attempt(self._sync)
            if asked and not self._stop.is_set():
                self._attempt(self._tidy)

    def _attempt(self, work: Callable[[], None]) -> None:
        try:
            work()
        except OSError as error:
            self._tell(error, self._directory)
        except Exception:  # noqa: BLE001  whatever it was: this thread goes on, and somebody hears of it
            self._log.exception("journal_archive_failed", file=str(self._directory))

    def _tell(self, error: OSError, path: Path) -> None:
        """The disk is full, or worse: the next segment's opening will tell."""
        file = str(error.filename or path)
        self._log.warning("journal_archive_failed", file=file, reason=error.strerror)

    def _tidy(self) -> None:
        apply_limits(self._directory, self._limits, self._log)
        if not self._packing:
            return
        for segment in segments(self._directory):
            if self._stop.is_set():
                return
            if segment.kind == PLAIN and not self._pack(segment):
                return

    def _pack(self, segment: Segment) -> bool:
        """Return False when what comes behind it has to wait for the next look."""
        try:
            with self._copying:
                whole = compress(segment, self._abandon)
        except FileNotFoundError:  # removed meanwhile
            return True
        except zstandard.ZstdError as error:
            self._log.warning("journal_archive_failed", file=str(segment.path), reason=str(error))
            return True
        except OSError as error:
            self._tell(error, segment.path)
            return error.errno not in NO_SPACE
        if not whole and not self._stop.is_set():
            self._log.info("journal_copy_abandoned", segment=segment.path.name)
        return whole

    def _sync(self) -> None:
        for segment in segments(self._directory)[-1:]:
            if segment.kind == PART:
                with suppress(FileNotFoundError):
                    descriptor = os.open(segment.path, os.O_RDWR)
                    try:
                        os.fdatasync(descriptor)
                    finally:
                        os.close(descriptor)
