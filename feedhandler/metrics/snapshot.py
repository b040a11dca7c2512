"""A channel's counters at one moment, as `stat --json` prints them."""

import time
from pathlib import Path
from typing import Any

from feedhandler import _core

STATE_NAMES = {0: "STARTING", 1: "LIVE", 2: "RECOVERING", 3: "STALE", 4: "ENDED", 255: "DEAD"}
"""By the state's number; 255 is told by the reader."""


def snapshot(reader: "_core.ChannelReader") -> dict[str, Any]:
    """Return state and counters of a channel, in the layout of `stat --json`.

    The counters are one copy that the receive thread made, at most some milliseconds ago: they add up. Of a
    dead daemon they are its last ones, and `uptime_s` ends with them.
    """
    info, counters = reader.info(), reader.counters()
    state = STATE_NAMES[reader.state]
    end_ns = counters["ts_ns"] if state == "DEAD" else time.time_ns()
    names, mask = _core.schema_names[:-1], info["schema_mask"]
    published = [name for index, name in enumerate(names) if mask >> index & 1]
    return {
        "channel": info["channel"],
        "state": state,
        "session": counters["session"],
        "next_sequence": counters["next_sequence"],
        "uptime_s": round(max(0, end_ns - info["epoch"]) / 1e9, 3),
        "lines": dict(zip(info["lines"], counters["lines"], strict=True)),
        "receive": counters["receive"],
        "clock": counters["clock"],
        "gaps": counters["gaps"],
        "recovery": counters["recovery"],
        "escalation": counters["escalation"],
        "servers": dict(zip(info["servers"], counters["servers"], strict=True)),
        **counters["feed"],
        "records": {name: counters["records"][name] for name in published},
        "consumers": reader.consumers(),
    }


def journal_status(folder: Path) -> dict[str, Any] | None:
    """Return state and counters of the channel's journal, None when it has none.

    `state`: "writing", "stopped" (in good order), "failed" (disk full: the log says why), "none" (not started
    yet), or "dead" when a process that should write has died.
    """
    status: dict[str, Any] | None = _core.journal_status(str(folder))
    if status is None:
        return None
    pid = status.pop("pid")
    if status["state"] == "writing" and not Path(f"/proc/{pid}").exists():
        status["state"] = "dead"
    return status


def open_reader(folder: Path) -> "_core.ChannelReader":
    """Return a reader of the channel whose files lie in `folder`."""
    return _core.ChannelReader(str(folder))
