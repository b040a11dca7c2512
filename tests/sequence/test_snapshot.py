"""Repair by snapshot in the arbiter: whole traces, one test a failure mode."""

from __future__ import annotations

from typing import Any

from feedhandler import _core
from tests.sequence.test_arbiter import (
    NOW,
    RECOVERING,
    STALE,
    end_of_session,
    messages,
    packet,
    request,
    started,
)

MS = 1_000_000
REPAIRED = ("state", "STALE", "LIVE")


def lossy(**settings: Any) -> _core.Arbiter:
    """An arbiter without re-request servers that has 1 to 3 and gives up at once."""
    return started(3, servers=0, arbitration_ns=0, snapshot=True, **settings)


def test_what_is_lost_for_good_is_repaired() -> None:
    """gap_lost, snapshot_begin, the splice, snapshot_end, LIVE; what came meanwhile is held until then."""
    arbiter = lossy()
    assert arbiter.on_packet(0, packet(6, 2), NOW) == [
        ("gap_open", 4, 5),
        RECOVERING,
        ("gap_lost", 4, 5),
        STALE,
        ("clear", 5),
        messages(6, 2),
        ("snapshot_begin", 8),
        ("start_snapshot",),
    ]
    assert arbiter.on_packet(0, packet(8, 2), NOW) == []
    assert arbiter.on_packet(1, packet(8, 4), NOW) == []
    assert arbiter.held == 4
    assert arbiter.on_snapshot(10, NOW) == [
        messages(8, 2),
        ("splice", 10, 2),
        ("snapshot_end", 10),
        messages(10, 2),
        REPAIRED,
    ]
    assert arbiter.on_packet(0, packet(12, 1), NOW) == [messages(12, 1)]
    gaps = arbiter.counters()["gaps"]
    assert (gaps["recovered_snapshot"], gaps["unrecovered"], gaps["open"]) == (2, 0, 0)


def test_the_offset_moves_the_first_message_to_apply() -> None:
    """Some exchanges may mean by G the last message that the snapshot contains."""
    arbiter = lossy(first_to_apply_offset=1)
    arbiter.on_packet(0, packet(6, 1), NOW)
    arbiter.on_packet(0, packet(7, 3), NOW)
    assert ("splice", 9, 2) in arbiter.on_snapshot(8, NOW)


def test_a_snapshot_ahead_of_the_lines_waits_for_them() -> None:
    """Nothing between the lines and the snapshot is taken for loss, and no packet is applied twice."""
    arbiter = lossy()
    arbiter.on_packet(0, packet(6, 1), NOW)
    assert arbiter.on_snapshot(9, NOW) == []
    assert arbiter.on_packet(0, packet(7, 1), NOW) == []
    assert arbiter.on_packet(0, packet(8, 3), NOW) == [
        messages(7, 2),
        ("splice", 9, 2),
        ("snapshot_end", 9),
        messages(9, 2),
        REPAIRED,
    ]


def test_a_snapshot_older_than_what_was_delivered_is_refused() -> None:
    """Never a book without the messages between; another is tried after a pause."""
    arbiter = lossy()
    arbiter.on_packet(0, packet(6, 2), NOW)
    assert arbiter.on_snapshot(7, NOW) == [("snapshot_end", 0)]
    assert arbiter.state == "STALE"
    assert arbiter.on_packet(0, packet(8, 1), NOW) == [messages(8, 1)]
    assert arbiter.next_deadline == NOW + 100 * MS
    assert arbiter.on_timer(NOW + 100 * MS) == [("snapshot_begin", 9), ("start_snapshot",)]


def test_a_failed_load_lets_the_feed_go_on_stale() -> None:
    """What was held is delivered; the pause doubles with each failure."""
    arbiter = lossy()
    arbiter.on_packet(0, packet(6, 1), NOW)
    arbiter.on_packet(0, packet(7, 2), NOW)
    assert arbiter.on_snapshot_failed(NOW) == [("snapshot_end", 0), messages(7, 2)]
    now = NOW
    for pause in (100, 200, 400):
        assert arbiter.next_deadline == now + pause * MS
        now += pause * MS
        assert arbiter.on_timer(now) == [("snapshot_begin", 9), ("start_snapshot",)]
        assert arbiter.on_snapshot_failed(now) == [("snapshot_end", 0)]
        assert arbiter.state == "STALE"


def test_holes_before_the_snapshot_are_covered_and_holes_behind_it_are_not() -> None:
    """A hole that the snapshot ends in is lost up to it; the rest is still recovered."""
    arbiter = lossy(first_to_apply_offset=0)
    arbiter.on_packet(0, packet(6, 1), NOW)
    trace = arbiter.on_packet(0, packet(9, 1), NOW)  # 7 and 8 are lost while the snapshot loads
    assert ("gap_lost", 7, 8) in trace
    assert arbiter.on_snapshot(8, NOW) == [("snapshot_end", 0), ("clear", 8), messages(9, 1)]
    assert arbiter.state == "STALE"


def test_an_open_hole_before_the_snapshot_is_given_up() -> None:
    """The servers were still being asked: the snapshot makes it needless."""
    arbiter = started(3, snapshot=True, retries=0, servers=1, max_outstanding=1)
    arbiter.on_packet(0, packet(6, 1), NOW)
    arbiter.on_timer(NOW + 1_000)
    arbiter.on_timer(NOW + 51_000)  # 4 and 5 are given up: the snapshot begins at 7
    assert arbiter.state == "STALE"
    arbiter.on_packet(0, packet(9, 2), NOW + 52_000)
    assert arbiter.on_snapshot(10, NOW + 53_000) == [
        ("gap_lost", 7, 8),
        ("clear", 8),
        messages(9, 1),
        ("splice", 10, 4),
        ("snapshot_end", 10),
        messages(10, 1),
        REPAIRED,
    ]


def test_late_start_is_starting_until_the_snapshot() -> None:
    """First packet in mid-day: STARTING, never LIVE or STALE before."""
    arbiter = _core.Arbiter(lines=1, snapshot=True)
    trace = arbiter.on_packet(0, packet(500, 2), NOW)
    assert trace[1:] == [messages(500, 2), ("snapshot_begin", 502), ("start_snapshot",)]
    assert arbiter.state == "STARTING"
    arbiter.on_packet(0, packet(502, 2), NOW)
    assert arbiter.on_snapshot(503, NOW) == [
        messages(502, 1),
        ("splice", 503, 0),
        ("snapshot_end", 503),
        messages(503, 1),
        ("state", "STARTING", "LIVE"),
    ]


def test_the_session_ends_only_when_repaired() -> None:
    """End of session while the snapshot loads: STALE until the splice, then ENDED."""
    arbiter = lossy()
    arbiter.on_packet(0, packet(6, 1), NOW)
    assert arbiter.on_packet(0, end_of_session(7), NOW) == []
    trace = arbiter.on_snapshot(7, NOW)
    assert trace[:2] == [("splice", 7, 2), ("snapshot_end", 7)]
    assert arbiter.state == "ENDED"


def test_the_session_ends_unrepaired_when_no_snapshot_can_be_had() -> None:
    """After eight failures nobody waits any longer."""
    arbiter = lossy()
    arbiter.on_packet(0, packet(6, 1), NOW)
    arbiter.on_packet(0, end_of_session(7), NOW)
    now = NOW
    for _ in range(7):
        assert arbiter.state == "STALE"
        arbiter.on_snapshot_failed(now)
        while ("start_snapshot",) not in arbiter.on_timer(now):
            now = arbiter.next_deadline
    assert arbiter.state == "STALE"
    arbiter.on_snapshot_failed(now)
    assert arbiter.state == "ENDED"
    assert arbiter.counters()["gaps"]["unrecovered"] == 2


def test_a_full_hold_costs_another_repair_and_no_wrong_book() -> None:
    """What found no room behind the snapshot is a hole again."""
    arbiter = lossy(hold_messages=4)
    arbiter.on_packet(0, packet(6, 1), NOW)
    for first in range(7, 17, 2):
        arbiter.on_packet(0, packet(first, 2), NOW)  # 11 to 16 find no room
    trace = arbiter.on_snapshot(9, NOW)
    assert ("splice", 9, 2) in trace
    assert ("gap_lost", 11, 16) in trace
    assert arbiter.state == "STALE"
    assert ("splice", 17, 6) in arbiter.on_snapshot(17, NOW)
    assert arbiter.state == "LIVE"


def test_a_hole_that_had_to_wait_while_a_snapshot_was_loaded_is_asked_for_afterwards() -> None:
    """While all is held and the hold is full no request can help; the failed load makes room for them."""
    arbiter = started(3, snapshot=True, servers=1, retries=0, arbitration_ns=0, hold_messages=2)
    arbiter.on_packet(0, packet(5, 1), NOW)
    arbiter.on_timer(NOW + 50 * MS)  # 4 is given up: the snapshot begins at 6
    arbiter.on_packet(0, packet(7, 2), NOW + 51 * MS)
    assert arbiter.held == 2
    assert arbiter.on_snapshot_failed(NOW + 52 * MS) == [("snapshot_end", 0), request(0, 6, 1)]


# ---- in slices: the receive thread never stops for long ----------------------------------------------------


def test_what_was_held_is_delivered_in_slices_while_packets_are_taken() -> None:
    """The rest is due at once, by the timer; LIVE only behind the last; packets in between wait."""
    arbiter = started(3, servers=0, slice_messages=4, arbitration_ns=1_000)
    arbiter.on_packet(0, packet(5, 10), NOW)
    assert arbiter.on_packet(1, packet(4, 1), NOW) == [("gap_closed", 4, 4), messages(4, 1), messages(5, 4)]
    assert arbiter.next_deadline <= NOW
    assert arbiter.on_packet(0, packet(15, 1), NOW) == []
    assert arbiter.on_timer(NOW) == [messages(9, 4)]
    assert arbiter.state == "RECOVERING"
    assert arbiter.on_packet(0, packet(17, 1), NOW) == [("gap_open", 16, 16)]
    assert arbiter.on_timer(NOW) == [messages(13, 3)]
    assert arbiter.state == "RECOVERING"
    assert arbiter.on_packet(1, packet(16, 1), NOW) == [
        ("gap_closed", 16, 16),
        messages(16, 1),
        messages(17, 1),
        ("state", "RECOVERING", "LIVE"),
    ]


def test_books_are_exchanged_in_slices_and_nothing_is_delivered_between_them() -> None:
    """STALE until the last slice and all that was held; neither packets nor a late failure disturb it."""
    arbiter = lossy(splice_slices=3, slice_messages=2)
    arbiter.on_packet(0, packet(6, 1), NOW)
    arbiter.on_packet(0, packet(7, 4), NOW)
    assert arbiter.on_snapshot(8, NOW) == [messages(7, 1), ("splice", 8, 2)]
    assert arbiter.on_packet(0, packet(11, 1), NOW) == []
    assert arbiter.on_packet(0, packet(14, 1), NOW)[0] == ("gap_open", 12, 13)
    assert arbiter.on_snapshot_failed(NOW) == []
    assert arbiter.next_deadline <= NOW
    assert arbiter.on_timer(NOW) == [("splice", 8, 0)]
    assert arbiter.on_timer(NOW) == [("splice", 8, 0), ("snapshot_end", 8), messages(8, 2)]
    assert arbiter.state == "STALE"
    gaps = arbiter.counters()["gaps"]
    assert (gaps["recovered_snapshot"], gaps["unrecovered"]) == (2, 2)


def test_messages_before_a_snapshot_in_slices() -> None:
    """More than a slice was held before the number of G: the splice waits for the last of them."""
    arbiter = lossy(slice_messages=2)
    arbiter.on_packet(0, packet(6, 1), NOW)
    arbiter.on_packet(0, packet(7, 6), NOW)
    assert arbiter.on_snapshot(12, NOW) == [messages(7, 2)]
    assert arbiter.on_timer(NOW) == [messages(9, 2)]
    assert arbiter.on_timer(NOW) == [
        messages(11, 1),
        ("splice", 12, 2),
        ("snapshot_end", 12),
        messages(12, 1),
        REPAIRED,
    ]
