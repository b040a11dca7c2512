"""The journal's loop: packets from shared memory into segments, until told to stop or the daemon is gone."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from feedhandler import _core
from feedhandler.errors import RunError
from feedhandler.journal.archive import NO_SPACE, Archivist, Limits, apply_limits, repair, sync_directory
from feedhandler.journal.segments import PLAIN, parse, segment_path, segments
from feedhandler.stop import Stop

PAUSE_S = 0.002
LOOK_S = 0.5  # between looks at the daemon, the clock and the losses
DRAIN_S = 0.35  # the daemon waits half a second for its helpers
LOCK_TIMEOUT_S = 10.0
LOCK_LOOK_S = 0.01
_DEAD = 255


@dataclass(frozen=True)
class Settings:
    """Where the segments go, when a new one begins, what is kept."""

    directory: Path
    segment_bytes: int = 256 << 20
    segment_s: float = 3600.0
    retain: Limits = Limits()  # noqa: RUF009  frozen
    compress: bool = True
    sync_s: float = 1.0


@contextmanager
def locked(directory: Path, stop: Stop, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
    """Hold the directory: one journal writes into it.

    Raises RunError when another does, and goes on doing so.
    """
    path = directory / "lock"
    try:
        directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise RunError(f'journal.directory: "{directory}": {error.strerror}') from error
    try:
        deadline_s = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:  # perhaps that of the daemon before, which is about to end
                if time.monotonic() > deadline_s:
                    raise RunError(f'journal.directory: "{directory}": another journal writes here') from None
                if stop.wait(LOCK_LOOK_S):
                    raise RunError("stopped before it began") from None
            except OSError as error:  # no locks on this file system
                raise RunError(f'journal.directory: "{directory}": {error.strerror}') from error
        yield
    finally:
        os.close(descriptor)


class JournalWriter:
    """One run of the journal of a channel whose files lie in `folder`. The directory must be locked."""

    def __init__(self, folder: Path, settings: Settings, log: FilteringBoundLogger) -> None:
        self._reader = _core.ChannelReader(str(folder))
        self._channel = self._reader.info()["channel"]
        self._journal = _core.Journal(str(folder))
        self._settings, self._log = settings, log
        self._archivist = Archivist(
            settings.directory, settings.retain, log, packing=settings.compress, sync_s=settings.sync_s
        )
        self._open: Path | None = None
        self._last_ns = 0  # the start of the newest segment
        self._lost = self._journal.counters()["lost_packets"]
        self._looked_s = 0.0

    def run(self, stop: Stop) -> None:
        """Write until told to stop, then what is left in the ring. Raises RunError when the disk refuses."""
        journal = self._journal
        try:
            repair(self._settings.directory, self._log)
            self._last_ns = max((s.start_ns for s in segments(self._settings.directory)), default=0)
            self._archivist.start()
            try:
                self._log.info("journal_started", directory=str(self._settings.directory), pid=os.getpid())
                self._write(stop)
                self._close()
            finally:
                self._archivist.stop()
        except OSError as error:
            journal.set_state("failed")
            self._tell_lost()
            reason = error.strerror or str(error)
            self._log.error("journal_stopped", reason=reason, file=error.filename, **journal.counters())
            raise RunError(f'journal.directory: "{self._settings.directory}": {reason}') from error
        except Exception:
            journal.set_state("failed")
            raise
        journal.set_state("stopped")
        self._tell_lost()
        self._log.info("journal_ended", **journal.counters())

    def _write(self, stop: Stop) -> None:
        deadline_s = 0.0
        while True:
            moved = self._journal.pump()
            now_s = time.monotonic()
            if self._journal.waiting:
                self._rotate()
            elif not moved and deadline_s:
                return
            elif not moved:
                stop.wait(PAUSE_S)
            if now_s - self._looked_s >= LOOK_S:
                self._looked_s = now_s
                self._tell_lost()
                self._close_if_old()
                if not deadline_s and self._reader.state == _DEAD:
                    deadline_s = now_s + DRAIN_S
            if stop.is_set() and not deadline_s:
                deadline_s = now_s + DRAIN_S
            if deadline_s and now_s > deadline_s:
                return

    def _rotate(self) -> None:
        self._close()
        settings = self._settings
        apply_limits(settings.directory, settings.retain, self._log, coming_bytes=settings.segment_bytes)
        # Names must sort as the packets came, whatever the clock has done.
        self._last_ns = max(self._journal.waiting_ns, self._last_ns + 1)
        path = segment_path(settings.directory, self._channel, self._last_ns)
        try:
            self._begin(path)
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            with self._archivist.giving_way():  # packets go before copies
                self._begin(path)
        self._open = path
        sync_directory(settings.directory)
        self._archivist.segment_finished()  # not before: its copy could take the room of this segment

    def _begin(self, path: Path) -> None:
        settings = self._settings
        self._journal.open(str(path), settings.segment_bytes, round(settings.segment_s * 1e9))

    def _close(self) -> None:
        if self._open is None:
            return
        self._journal.close()
        segment = parse(self._open)
        if segment is not None:
            self._open.rename(segment.named(PLAIN))
        self._open = None
        sync_directory(self._settings.directory)

    def _close_if_old(self) -> None:
        """A segment is over after its time although nothing comes any more."""
        age_ns = time.time_ns() - self._journal.segment_first_ns
        if self._open and self._journal.segment_packets and age_ns > self._settings.segment_s * 1e9:
            self._close()
            self._archivist.segment_finished()

    def _tell_lost(self) -> None:
        lost = self._journal.counters()["lost_packets"]
        if lost != self._lost:
            self._log.error("journal_lapped", lost_packets=lost - self._lost, lost_packets_total=lost)
            self._lost = lost
