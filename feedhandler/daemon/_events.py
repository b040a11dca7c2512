"""Words for the feed's events in the log."""

from typing import Any

from structlog.typing import FilteringBoundLogger

from feedhandler import _core
from feedhandler.config import Config
from feedhandler.names import HEALTH_NAMES, STEP_NAMES

STATES = ("STARTING", "LIVE", "RECOVERING", "STALE", "ENDED")

# Numbers of EventType in core/event.hpp: (event, level, which of the event's fields belong to it)
_EVENTS: dict[int, tuple[str, str, tuple[str, ...]]] = {
    1: ("state", "info", ("state", "previous")),
    2: ("gap_open", "info", ("first", "last")),
    3: ("gap_closed", "info", ("first", "last")),
    4: ("gap_lost", "error", ("first", "last")),
    5: ("line_down", "warning", ("line",)),
    6: ("line_up", "info", ("line",)),
    7: ("session_start", "info", ("session", "next_sequence")),
    8: ("session_end", "info", ("session", "next_sequence")),
    9: ("snapshot_begin", "info", ("next_sequence",)),
    10: ("snapshot_end", "info", ("first_to_apply",)),
    12: ("server", "info", ("server", "health", "previous_health", "left_s")),
    13: ("escalation", "info", ("step", "previous_step", "next_sequence", "missing")),
}
_GOOD = (HEALTH_NAMES.index("untried"), HEALTH_NAMES.index("answered"))
_ASKING = tuple(STEP_NAMES.index(name) for name in ("none", "other_line", "request", "retry"))


REPAIRS_LOGGED_AT_ONCE = 50
"""Of events about holes that were repaired so many a call are logged; `feedhandler gaps` has the holes."""


def log_events(log: FilteringBoundLogger, feed: _core.Feed, config: Config) -> None:
    """Log what has happened to the feed since the last call."""
    events, repairs = feed.events(), 0
    for event in events:
        repairs += _is_repair(event)
        if _is_repair(event) and repairs > REPAIRS_LOGGED_AT_ONCE:
            continue
        name, level, fields = _EVENTS.get(event["type"], ("event", "info", ("type",)))
        if name == "state" and STATES[event["state"]] == "STALE":
            level = "warning"
        if name == "snapshot_end" and not event["first"]:
            level = "warning"
        if (name == "server" and event["now"] not in _GOOD) or (
            name == "escalation" and event["now"] not in _ASKING
        ):
            level = "warning"
        getattr(log, level)(
            name, ts=event["ts_ns"], **{field: _value(event, field, config) for field in fields}
        )
    if failure := feed.take_snapshot_failure():
        log.warning("snapshot_failed", reason=failure)
    if repairs > REPAIRS_LOGGED_AT_ONCE:
        log.warning("holes open and close too often to log each", not_logged=repairs - REPAIRS_LOGGED_AT_ONCE)


def _is_repair(event: dict[str, Any]) -> bool:
    """Tell whether the event is one of those that come with each hole and need nobody's attention."""
    passing = {STATES.index("LIVE"), STATES.index("RECOVERING")}
    return (
        event["type"] in (2, 3)
        or (event["type"] == 1 and {event["state"], event["previous"]} == passing)
        or (event["type"] == 13 and {event["now"], event["before"]} <= set(_ASKING))
    )


def _value(event: dict[str, Any], field: str, config: Config) -> Any:
    if field in ("state", "previous"):
        return STATES[event[field]]
    if field == "line":
        return config.line[event["line"]].name
    if field == "session":
        return event["session"].rstrip()
    if field == "server":
        return config.recovery.server[event["line"]].address
    if field in ("health", "previous_health"):
        return HEALTH_NAMES[event["now" if field == "health" else "before"]]
    if field == "left_s":
        return round((event["first"] - event["ts_ns"]) / 1e9, 3) if event["first"] else 0.0
    if field in ("step", "previous_step"):
        return STEP_NAMES[event["now" if field == "step" else "before"]]
    if field == "missing":
        return event["last"]
    return event["first"] if field in ("next_sequence", "first_to_apply") else event[field]
