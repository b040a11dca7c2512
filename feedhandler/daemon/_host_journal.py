"""The journal's side of `feedhandler check`: can it be written, and does the disk hold what is to be kept?"""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from feedhandler.config import Config, Journal
from feedhandler.daemon._finding import Finding, error, ok, warning
from feedhandler.journal.segments import segments

KEY = "journal.directory"
_MEMORY = ("tmpfs", "ramfs")
_COPYING = ("btrfs", "zfs", "bcachefs", "nilfs2")  # reserved space is not what an overwrite uses
_NETWORK = ("nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "9p")


class FileSystem(NamedTuple):
    """Where a path lies."""

    mount_point: Path
    kind: str


def look(config: Config) -> Iterator[Finding]:
    """Yield what is wrong with the journal's directory; nothing when none is configured."""
    journal = config.journal
    if not journal.directory:
        return
    directory = existing = Path(journal.directory).absolute()
    while not os.access(existing, os.F_OK):  # also below a directory that must not be looked into
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.R_OK | os.W_OK | os.X_OK):
        text = f"{directory} cannot be made or written by this user: nothing is journaled, the feed runs"
        yield error(KEY, text, "make it and give it to the daemon's user (StateDirectory= in the unit)")
        return
    system = file_system(existing)
    yield ok(KEY, f"{directory} can be written, {system.kind} at {system.mount_point}")
    yield from _taken(directory)
    yield from _kind(system)
    yield from _space(journal, directory, existing)


def file_system(path: Path, mountinfo: str = "/proc/self/mountinfo") -> FileSystem:
    """Return the file system of a path: the mount with the longest fitting name, of those the newest."""
    path = path.resolve()
    best = FileSystem(Path("/"), "unknown")
    for line in Path(mountinfo).read_text().splitlines():
        before, _, after = line.partition(" - ")
        mounted_at = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), before.split()[4])
        mount_point = Path(mounted_at)
        fits = path == mount_point or mount_point in path.parents
        if fits and len(mount_point.parts) >= len(best.mount_point.parts):
            best = FileSystem(mount_point, after.split()[0])
    return best


def _taken(directory: Path) -> Iterator[Finding]:
    try:
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:  # no journal was ever here
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        text = f"a journal is writing into {directory}: no other one can"
        remedy = "another directory, unless it is that of this channel's running daemon"
        yield warning(KEY, text, remedy, f"fuser -v {directory}/lock")
    finally:
        os.close(descriptor)


def _kind(system: FileSystem) -> Iterator[Finding]:
    if system.kind in _MEMORY:
        yield warning(KEY, f"{system.kind} is memory: the journal is gone with the power", "put it on a disk")
    elif system.kind in _COPYING:
        text = f"{system.kind} copies what is overwritten: a full disk can kill the journal, not only stop it"
        yield warning(KEY, text, "put it on ext4 or XFS, or keep enough of the disk free")
    elif system.kind in _NETWORK:
        yield warning(KEY, f"{system.kind} is a network file system", "put it on a local disk")


def _space(journal: Journal, directory: Path, existing: Path) -> Iterator[Finding]:
    space = os.statvfs(existing)
    free = space.f_bavail * space.f_frsize
    held = _size(directory) if directory.is_dir() else 0
    room = f"{_gib(free)} free, {_gib(held)} of segments there"
    key, limit = "journal.retain_gib", round(journal.retain_gib * (1 << 30))
    segment = journal.segment_mib << 20
    if free + held < 2 * segment:  # one that is written, one that is being compressed
        remedy = "a smaller journal.segment_mib, or a larger disk"
        yield error("journal.segment_mib", f"{room}: no place for two segments of {_gib(segment)}", remedy)
    elif not limit:
        text = f"0: segments are never removed for their size ({room}); a full disk stops the journal"
        yield warning(key, text, f"retain_gib = {_fitting(free + held)}")
    elif free + held < limit:
        text = f"{journal.retain_gib:g} GiB are to be kept, the disk has {room}: it is full before"
        yield warning(key, text, f"retain_gib = {_fitting(free + held)}, or a larger disk")
    else:
        yield ok(key, f"{room}; at most {journal.retain_gib:g} GiB are kept")


def _size(directory: Path) -> int:
    """Return the bytes of all segments; the journal may be compressing and removing them meanwhile."""
    size = 0
    for segment in segments(directory):
        with suppress(FileNotFoundError):
            size += segment.path.stat().st_size
    return size


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB" if size >= 1 << 30 else f"{size >> 20} MiB"


def _fitting(size: int) -> str:
    """Return nine tenths of a size, as a value of retain_gib."""
    return f"{0.9 * size / (1 << 30):.3g}"
