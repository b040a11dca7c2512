"""What the arbiter announces of packets that wait: just what is next, and nothing changes by it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sequence.test_arbiter import NOW, OTHER, SESSION, body, heartbeat, packet, started

MOST = 64  # messages announced together


def bodies(first: int, end: int) -> list[bytes]:
    """Messages first .. end - 1."""
    return [body(number) for number in range(first, end)]


def test_packets_in_order_are_announced_together() -> None:
    """A burst of one line."""
    assert started(2).look_ahead([packet(3, 2), packet(5, 1), packet(6, 3)]) == (3, bodies(3, 9))


def test_the_other_lines_copies_are_not_announced_again() -> None:
    """Line A's packets, then line B's."""
    both = [packet(3, 2), packet(5, 1), packet(3, 2), packet(5, 1)]
    assert started(2).look_ahead(both) == (4, bodies(3, 6))


def test_nothing_behind_a_hole_is_announced() -> None:
    """Number 5 is missing: what is behind it will be held."""
    assert started(2).look_ahead([packet(3, 2), packet(6, 1), packet(7, 1)]) == (3, bodies(3, 5))


def test_nothing_is_announced_while_a_hole_is_open() -> None:
    """What comes is held."""
    core = started(2)
    core.on_packet(0, packet(5, 1), NOW)
    assert core.look_ahead([packet(6, 1), packet(7, 1)]) == (2, [])


def test_a_foreign_session_heartbeats_and_garbage_are_passed_over() -> None:
    """They are counted when they come through on_packet."""
    waiting = [packet(3, 1, OTHER), heartbeat(3), b"short", packet(3, 1) + b"x", packet(3, 1)]
    assert started(2).look_ahead(waiting) == (5, bodies(3, 4))


def test_a_packet_that_does_not_fit_waits_for_the_next_turn() -> None:
    """As many whole packets as there is room for; one that is larger than the room goes alone."""
    assert started(2).look_ahead([packet(3, MOST), packet(3 + MOST, 1)]) == (1, bodies(3, 3 + MOST))
    assert started(2).look_ahead([packet(3, MOST + 1), packet(4 + MOST, 1)]) == (1, [])


def test_a_lone_packet_is_not_announced() -> None:
    """Its own on_messages asks for what it needs."""
    assert started(2).look_ahead([packet(3, 4)]) == (1, [])


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 30), st.booleans()), min_size=1, max_size=30),
    st.integers(1, 10),
)
def test_looking_ahead_changes_no_trace(packets: list[tuple[int, int, bool]], at_a_time: int) -> None:
    """The same packets with and without it."""
    payloads = [packet(first, count, OTHER if foreign else SESSION) for first, count, foreign in packets]
    plain, ahead = started(), started()
    for start in range(0, len(payloads), at_a_time):
        waiting = payloads[start : start + at_a_time]
        while waiting:
            count, _ = ahead.look_ahead(waiting)
            assert 1 <= count <= len(waiting)
            for payload in waiting[:count]:
                assert ahead.on_packet(0, payload, NOW) == plain.on_packet(0, payload, NOW)
            waiting = waiting[count:]
    assert ahead.counters() == plain.counters()
