"""Where channels live: the runtime directory, and a channel's folder in it."""

import os
from pathlib import Path

from feedhandler.errors import UsageError

SYSTEM_RUNTIME_DIR = Path("/run/feedhandler")


def runtime_dir(option: str | os.PathLike[str] | None = None) -> Path:
    """Return the runtime directory: the option, else the environment's or the system's.

    Order: `option`, $FEEDHANDLER_RUNTIME_DIR, $RUNTIME_DIRECTORY (systemd; its first entry),
    $XDG_RUNTIME_DIR/feedhandler, /run/feedhandler when writable, /tmp/feedhandler-UID.
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
    return Path(f"/tmp/feedhandler-{os.getuid()}")  # noqa: S108  the contract's last resort; created 0700


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
