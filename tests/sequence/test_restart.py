"""A restart in the middle of a session: held from the first packet, until an image of what precedes comes."""

from __future__ import annotations

from typing import Any

from feedhandler import _core
from tests.sequence.test_arbiter import (
    NOW,
    SESSION,
    TIMEOUT,
    body,
    end_of_session,
    heartbeat,
    messages,
    packet,
    request,
)

HELD = [("session_start", SESSION, 10), ("snapshot_begin", 10), ("start_snapshot",)]
LATE = ("state", "STARTING", "RECOVERING")
LIVE = ("state", "RECOVERING", "LIVE")


def restarting(**settings: Any) -> _core.Arbiter:
    """An arbiter that is told of a restart, before its first packet."""
    options = {"lines": 2, "servers": 1, "timeout_ns": TIMEOUT, "retries": 0, "restart": True}
    return _core.Arbiter(**{**options, **settings})


def joined(**settings: Any) -> _core.Arbiter:
    """It has joined at number 10 and holds 10 to 12."""
    arbiter = restarting(**settings)
    assert arbiter.on_packet(0, packet(10, 3), NOW) == HELD
    assert (arbiter.state, arbiter.held) == ("STARTING", 3)
    return arbiter


def reply(first: int, count: int) -> bytes:
    """A server's answer."""
    return _core.encode_mold_packet(SESSION, first, [body(n) for n in range(first, first + count)])


def test_what_lies_between_the_image_and_the_first_packet_is_asked_for() -> None:
    """The books are right as of the image: RECOVERING; LIVE with the last message between, each one once."""
    arbiter = joined()
    assert arbiter.on_image(6, NOW) == [
        ("gap_open", 6, 9),
        ("splice", 6, 0),
        ("snapshot_end", 6),
        LATE,
        request(0, 6, 4),
    ]
    assert arbiter.on_packet(0, packet(13, 1), NOW) == []
    assert arbiter.on_reply(0, reply(6, 4), NOW) == [
        ("gap_closed", 6, 9),
        messages(6, 4),
        messages(10, 4),
        LIVE,
    ]
    gaps = arbiter.counters()["gaps"]
    assert (gaps["messages"], gaps["recovered_rewind"], gaps["unrecovered"]) == (4, 4, 0)
    assert [line["missing"] for line in arbiter.counters()["lines"]] == [0, 4]


def test_the_journal_may_end_where_the_lines_go_on() -> None:
    """Nothing was missed: LIVE at once."""
    arbiter = joined()
    assert arbiter.on_image(10, NOW) == [
        ("splice", 10, 0),
        ("snapshot_end", 10),
        messages(10, 3),
        ("state", "STARTING", "LIVE"),
    ]


def test_a_heartbeat_alone_starts_it() -> None:
    """A quiet feed tells its next number; that is enough."""
    arbiter = restarting()
    assert arbiter.on_packet(0, heartbeat(10), NOW) == HELD
    assert arbiter.on_image(10, NOW) == [
        ("splice", 10, 0),
        ("snapshot_end", 10),
        ("state", "STARTING", "LIVE"),
    ]


def test_holes_behind_the_first_packet_stay_holes() -> None:
    """A loss while the image is loaded is repaired with the rest, and nothing is delivered before it."""
    arbiter = joined()
    assert arbiter.on_packet(0, packet(15, 1), NOW)[0] == ("gap_open", 13, 14)
    assert arbiter.on_image(8, NOW)[0] == ("gap_open", 8, 9)
    assert arbiter.on_reply(0, reply(8, 2), NOW) == [("gap_closed", 8, 9), messages(8, 2), messages(10, 3)]
    assert arbiter.state == "RECOVERING"
    assert arbiter.on_packet(1, packet(13, 2), NOW)[-1] == LIVE


def test_a_journal_ahead_of_the_slower_line_waits_for_it() -> None:
    """What the books contain already is applied before them, flagged, never after."""
    arbiter = joined()
    assert arbiter.on_image(14, NOW) == []
    assert arbiter.on_packet(0, packet(13, 3), NOW) == [
        messages(10, 4),
        ("splice", 14, 0),
        ("snapshot_end", 14),
        messages(14, 2),
        ("state", "STARTING", "LIVE"),
    ]


def test_a_server_that_is_silent_leaves_it_stale() -> None:
    """The books of the journal are cleared where the hole begins to matter, and never LIVE."""
    arbiter = joined()
    arbiter.on_image(6, NOW)
    assert arbiter.on_timer(NOW + TIMEOUT) == [
        ("gap_lost", 6, 9),
        ("state", "RECOVERING", "STALE"),
        ("clear", 9),
        messages(10, 3),
    ]


def test_without_an_image_it_is_a_late_start() -> None:
    """No snapshot server: STALE, as without a journal."""
    arbiter = joined()
    assert arbiter.on_snapshot_failed(NOW) == [
        ("snapshot_end", 0),
        messages(10, 3),
        ("state", "STARTING", "STALE"),
    ]
    assert arbiter.on_packet(0, packet(13, 1), NOW) == [messages(13, 1)]


def test_without_an_image_a_snapshot_server_is_asked_later() -> None:
    """STARTING, and the pause of a failed load."""
    arbiter = joined(snapshot=True)
    assert arbiter.on_snapshot_failed(NOW) == [("snapshot_end", 0), messages(10, 3)]
    assert arbiter.state == "STARTING"
    assert arbiter.on_timer(NOW + 100_000_000) == [("snapshot_begin", 13), ("start_snapshot",)]
    assert arbiter.on_snapshot(13, NOW)[-1] == ("state", "STARTING", "LIVE")


def test_without_an_image_a_start_at_the_beginning_asks_for_everything() -> None:
    """As without a journal: STARTING until everything before the first packet is recovered."""
    arbiter = joined(start="beginning")
    assert arbiter.on_snapshot_failed(NOW) == [("snapshot_end", 0), ("gap_open", 1, 9), request(0, 1, 9)]
    assert arbiter.state == "STARTING"
    assert arbiter.on_reply(0, reply(1, 9), NOW) == [
        ("gap_closed", 1, 9),
        messages(1, 9),
        messages(10, 3),
        ("state", "STARTING", "LIVE"),
    ]


def test_a_snapshot_older_than_the_first_packet_will_do() -> None:
    """Nothing was delivered yet: what lies between is asked for."""
    arbiter = joined(snapshot=True)
    assert arbiter.on_snapshot(9, NOW)[:2] == [("gap_open", 9, 9), ("splice", 9, 0)]


def test_number_1_needs_no_restart() -> None:
    """A session that begins is LIVE at once, whatever a journal holds."""
    arbiter = restarting()
    assert arbiter.on_packet(0, packet(1, 2), NOW) == [
        ("session_start", SESSION, 1),
        ("state", "STARTING", "LIVE"),
        messages(1, 2),
    ]


def test_the_next_session_is_not_a_restart() -> None:
    """Only the first session of a daemon may be known to a journal."""
    arbiter = joined()
    arbiter.on_image(10, NOW)
    arbiter.on_packet(0, end_of_session(13), NOW)
    assert arbiter.state == "ENDED"
    trace = arbiter.on_packet(0, packet(3, 1, b"SESSION002"), NOW)
    assert ("start_snapshot",) not in trace
    assert ("gap_open", 1, 2) in trace


def test_end_of_session_waits_for_the_image() -> None:
    """The session ends while the journal is read: not ENDED before the books are right."""
    arbiter = joined()
    assert arbiter.on_packet(0, end_of_session(13), NOW) == []
    assert arbiter.state == "STARTING"
    assert arbiter.on_image(10, NOW)[-1] == ("state", "STARTING", "ENDED")
