"""The runtime directory's side of `feedhandler check`."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from feedhandler.config import Config
from feedhandler.daemon._finding import Finding, error, ok, warning
from feedhandler.daemon._host_journal import file_system

BOOKS_BYTES = 64 << 20
"""Room for the books file and the channel file, generously; the rest of the channel's memory is the ring."""

IN_MEMORY = ("tmpfs", "ramfs", "hugetlbfs")


def look(config: Config, directory: Path) -> Iterator[Finding]:
    """Yield whether the channel's folder can be made, and whether its memory fits there."""
    existing = directory
    while not os.access(existing, os.F_OK):  # also below a directory that must not be looked into
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        remedy = "choose another by --runtime-dir or $FEEDHANDLER_RUNTIME_DIR, or let systemd make it"
        yield error("runtime directory", f"{directory} cannot be made or written by this user", remedy)
        return
    space = os.statvfs(existing)
    rings_mib = config.publish.ring_mib + (config.journal.ring_mib if config.journal.directory else 0)
    free, wanted = space.f_bavail * space.f_frsize, (rings_mib << 20) + BOOKS_BYTES
    held = _held(directory) if existing == directory else 0
    memory = _available()
    if free < wanted:
        text = f"{existing} has {free >> 20} MiB free, the channel needs up to {wanted >> 20}"
        yield error("runtime directory", text, "a smaller publish.ring_mib, or a larger tmpfs")
    elif memory < wanted:
        text = f"{memory >> 20} MiB of memory are available, the channel needs up to {wanted >> 20}"
        yield error("publish.ring_mib", text, "a smaller publish.ring_mib", "grep MemAvailable /proc/meminfo")
    else:
        yield ok("runtime directory", f"{directory} can be written, {free >> 20} MiB free")
        if free + held < 2 * wanted:
            text = f"{existing} has no room for {wanted >> 20} MiB twice: beside those of a run that crashed"
            remedy = "a larger tmpfs, or the next start may be refused"
            yield warning("runtime directory", text, remedy, f"df {existing}")
    yield _kind(existing)


def _held(directory: Path) -> int:
    """Return the bytes of the channel that is there; its daemon may be renaming and removing files."""
    size = 0
    with suppress(PermissionError):
        for file in directory.iterdir():
            with suppress(FileNotFoundError):
                size += file.stat().st_size
    return size


def _available() -> int:
    """Return the bytes of memory that the kernel can give without swapping; the channel's are all present."""
    found = re.search(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text())
    return int(found[1]) << 10 if found else 1 << 62


def _kind(existing: Path) -> Finding:
    system, show = file_system(existing), f"findmnt -T {existing}"
    if system.kind in IN_MEMORY:
        return ok("channel memory", f"{system.kind} at {system.mount_point}", show)
    text = f"{system.kind} at {system.mount_point} is a disk: after each write-back the receive thread faults"
    return warning("channel memory", text, "a runtime directory in /run or /dev/shm", show)
