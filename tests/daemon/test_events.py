"""What of the feed's events reaches the log."""

from pathlib import Path

import structlog

from feedhandler.config import load
from feedhandler.daemon._events import REPAIRS_LOGGED_AT_ONCE, log_events
from tests.support.daemon import write_config
from tests.support.exchange import Line


class Events:
    """Stands in for the feed's queue."""

    def __init__(self, *events: dict) -> None:
        self._events = list(events)

    def take_snapshot_failure(self) -> str:
        """No snapshot failed."""
        return ""

    def events(self) -> list[dict]:
        """Return what is queued."""
        return self._events


def event(kind: int, **fields: object) -> dict:
    """Return an event as the compiled feed gives it."""
    base = {"ts_ns": 1, "state": 0, "previous": 0, "first": 0, "last": 0, "line": 255, "session": ""}
    return base | {"type": kind} | fields


def logged(tmp_path: Path, *events: dict) -> list[dict]:
    """Return the log's entries for these events."""
    config = load(write_config(tmp_path, [Line("A", "239.1.1.1", 1)]), {})
    with structlog.testing.capture_logs() as entries:
        log_events(structlog.get_logger(), Events(*events), config)
    return list(entries)


def test_each_event_is_logged_in_words_with_its_weight(tmp_path: Path) -> None:
    """Names, not numbers; what was lost is an error, what is stale or silent a warning."""
    found = logged(
        tmp_path,
        event(7, session="S000000001", first=1),
        event(1, state=1, previous=0),
        event(2, first=5, last=9),
        event(4, first=5, last=9),
        event(1, state=3, previous=2),
        event(5, line=0),
    )
    assert found == [
        {"event": "session_start", "log_level": "info", "ts": 1, "session": "S000000001", "next_sequence": 1},
        {"event": "state", "log_level": "info", "ts": 1, "state": "LIVE", "previous": "STARTING"},
        {"event": "gap_open", "log_level": "info", "ts": 1, "first": 5, "last": 9},
        {"event": "gap_lost", "log_level": "error", "ts": 1, "first": 5, "last": 9},
        {"event": "state", "log_level": "warning", "ts": 1, "state": "STALE", "previous": "RECOVERING"},
        {"event": "line_down", "log_level": "warning", "ts": 1, "line": "A"},
    ]


def test_thousands_of_repaired_holes_do_not_flood_the_log_nor_hide_a_loss(tmp_path: Path) -> None:
    """Beyond a number they are only counted; a loss among them is logged all the same."""
    hole = [event(2), event(1, state=2, previous=1), event(3), event(1, state=1, previous=2)]
    found = logged(tmp_path, *hole * 1000, event(4, first=5, last=9), *hole * 1000)
    assert len(found) == REPAIRS_LOGGED_AT_ONCE + 2
    assert [entry["event"] for entry in found[-2:]] == [
        "gap_lost",
        "holes open and close too often to log each",
    ]
    assert found[-1]["not_logged"] == 8000 - REPAIRS_LOGGED_AT_ONCE
