"""Where channels live: the runtime directory, and a channel's folder in it."""

import os
import stat
from pathlib import Path

from feedhandler.errors import UsageError

SYSTEM_RUNTIME_DIR = Path("/run/feedhandler")


def runtime_dir(option: str | os.PathLike[str] | None = None) -> Path:
    """Return the runtime directory: the option, else the environment's or the system's.

    Order: `option`, $FEEDHANDLER_RUNTIME_DIR, $RUNTIME_DIRECTORY (systemd; its first entry),
    $XDG_RUNTIME_DIR/feedhandler, /run/feedhandler when writable, /tmp/feedhandler-UID (mode 0700).
    Raises UsageError if the last is one that others may write.
    """
    if option:
        return Path(option)
    if value := os.environ.get("FEEDHANDLER_RUNTIME_DIR"):
        return Path(value)
    if value := os.environ.get("RUNTIME_DIRECTORY"):
        return Path(value.split(":")[0])
    if value := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(value) / "feedhandler"
    if os.access(SYSTEM_RUNTIME_DIR, os.W_OK):
        return SYSTEM_RUNTIME_DIR
    return _private(Path(f"/tmp/feedhandler-{os.getuid()}"))  # noqa: S108  the last resort; created 0700


def _private(path: Path) -> Path:
    """Return the directory if it is not there yet or nobody else can write it: anyone may make it in /tmp.

    Raises UsageError otherwise: books that lie there may be anybody's.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return path
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise UsageError(
            f'runtime directory: "{path}" is not a directory of your own with mode 0700; remove it'
        )
    return path


def channel_dir(channel: str, option: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of a channel given by name (looked up in the runtime directory) or by path.

    A name that is not in the runtime directory is looked up in /run/feedhandler too, unless the option or
    $FEEDHANDLER_RUNTIME_DIR says where to look: a consumer may read there what it may not write.
    Raises UsageError when there is no such channel.
    """
    if "/" in channel:
        candidates = [Path(channel)]
    else:
        candidates = [runtime_dir(option) / channel]
        if not option and not os.environ.get("FEEDHANDLER_RUNTIME_DIR"):
            candidates.append(SYSTEM_RUNTIME_DIR / channel)
    for path in candidates:
        if (path / "channel").exists():
            return path
    raise UsageError(f'CHANNEL: "{channel}": no such channel in {candidates[0].parent}')
