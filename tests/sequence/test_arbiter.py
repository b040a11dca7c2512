"""The arbiter against a fixed clock: whole traces, one test a failure mode."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from feedhandler import _core
from tests.sequence.model import SECOND
from tests.sequence.model import START_NS as NOW

SESSION = b"SESSION001"
OTHER = b"SESSION002"
WAIT = 1_000  # arbitration, ns
TIMEOUT = 50_000


def body(number: int) -> bytes:
    """Give message `number` bytes of its own."""
    return b"%d" % number


def packet(first: int, count: int, session: bytes = SESSION) -> bytes:
    """Make a data packet of messages first, first + 1, ..."""
    return _core.encode_mold_packet(session, first, [body(n) for n in range(first, first + count)])


def heartbeat(next_number: int, session: bytes = SESSION) -> bytes:
    """Make a heartbeat."""
    return _core.encode_mold_header(session, next_number, 0)


def end_of_session(next_number: int, session: bytes = SESSION) -> bytes:
    """Make an end-of-session packet."""
    return _core.encode_mold_header(session, next_number, 0xFFFF)


def messages(first: int, count: int) -> tuple[str, int, list[bytes]]:
    """Give the trace entry of those messages delivered in one call."""
    return ("messages", first, [body(n) for n in range(first, first + count)])


def request(server: int, first: int, count: int) -> tuple[str, int, int, int, bytes]:
    """Give the trace entry of a request."""
    return ("request", server, first, count, SESSION)


RECOVERING = ("state", "LIVE", "RECOVERING")
LIVE = ("state", "RECOVERING", "LIVE")
STALE = ("state", "RECOVERING", "STALE")


def started(upto: int = 3, **settings: Any) -> _core.Arbiter:
    """Make an arbiter that is LIVE and has messages 1 to `upto`."""
    options = {"lines": 2, "servers": 2, "arbitration_ns": WAIT, "timeout_ns": TIMEOUT, "retries": 1}
    arbiter = _core.Arbiter(**{**options, **settings})
    arbiter.on_timer(NOW)
    arbiter.on_packet(0, packet(1, upto), NOW)
    assert arbiter.state == "LIVE"
    return arbiter


# ---- faults read in the code of others ---------------------------------------------------------------------


def test_helix_partially_obsolete_packet_delivers_its_tail() -> None:
    """A packet whose first number is old still brings its new messages."""
    arbiter = started(3)
    assert arbiter.on_packet(1, packet(2, 4), NOW) == [messages(4, 2)]


def test_helix_request_carries_the_session_and_the_exact_count() -> None:
    """A request names the session and asks for the hole, not for 65,534 messages."""
    arbiter = started(3, arbitration_ns=0)
    assert arbiter.on_packet(0, packet(6, 1), NOW) == [
        ("gap_open", 4, 5),
        RECOVERING,
        ("request", 0, 4, 2, SESSION),
    ]


def test_helix_end_of_session_count_is_not_65535_messages() -> None:
    """Count 0xFFFF ends the session; there are no blocks to loop over."""
    arbiter = started(3)
    assert arbiter.on_packet(0, end_of_session(4), NOW) == [
        ("session_end", SESSION, 4),
        ("state", "LIVE", "ENDED"),
    ]
    assert arbiter.counters()["lines"][0]["malformed"] == 0


def test_nassau_packets_behind_a_gap_are_held_not_fetched_again() -> None:
    """Only the hole is asked for; what came after it is delivered from the hold."""
    arbiter = started(3, arbitration_ns=0)
    arbiter.on_packet(0, packet(6, 2), NOW)
    assert arbiter.on_packet(0, packet(8, 3), NOW) == []
    assert arbiter.on_reply(0, packet(4, 2), NOW) == [
        ("gap_closed", 4, 5),
        messages(4, 2),
        messages(6, 5),
        LIVE,
    ]
    assert arbiter.counters()["recovery"]["requests"] == 1


def test_nassau_gap_is_left_when_the_fill_overshoots_it() -> None:
    """A fill that ends beyond the hole closes it as well as one that ends exactly there."""
    arbiter = started(3)
    arbiter.on_packet(0, packet(6, 1), NOW)
    assert arbiter.on_packet(1, packet(2, 7), NOW) == [
        ("gap_closed", 4, 5),
        messages(4, 2),
        messages(6, 1),
        messages(7, 2),
        LIVE,
    ]


def test_nassau_one_dead_server_is_not_the_end() -> None:
    """A server that leaves 1 + retries requests unanswered is left for the next one, which is kept."""
    arbiter = started(3, arbitration_ns=0)
    arbiter.on_packet(0, packet(6, 1), NOW)
    assert arbiter.on_timer(NOW + TIMEOUT - 1) == []
    assert arbiter.on_timer(NOW + TIMEOUT) == [request(0, 4, 2)]
    assert arbiter.on_timer(NOW + 2 * TIMEOUT) == [request(1, 4, 2)]
    now = NOW + 2 * TIMEOUT + 1
    assert arbiter.on_reply(1, packet(4, 2), now) == [
        ("gap_closed", 4, 5),
        messages(4, 2),
        messages(6, 1),
        LIVE,
    ]
    assert arbiter.on_packet(0, packet(8, 1), now) == [("gap_open", 7, 7), RECOVERING, request(1, 7, 1)]
    counters = arbiter.counters()["recovery"]
    assert counters == {"requests": 4, "retries": 2, "timeouts": 2, "replies": 1, "useless_replies": 0}


def test_nassau_reply_of_another_session_is_refused() -> None:
    """A server that serves yesterday's session poisons nothing; another is asked at once."""
    arbiter = started(3, arbitration_ns=0)
    arbiter.on_packet(0, packet(6, 1), NOW)
    assert arbiter.on_reply(0, packet(4, 2, OTHER), NOW) == [request(1, 4, 2)]
    counters = arbiter.counters()
    assert counters["recovery"]["useless_replies"] == 1
    assert counters["gaps"]["open"] == 1


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda p: p[:-1], id="cut short"),
        pytest.param(lambda p: p[:21], id="cut in a length"),
        pytest.param(lambda p: p[:12], id="cut in the header"),
        pytest.param(lambda p: p + b"\0", id="trailing byte"),
        pytest.param(lambda p: p[:20] + struct.pack(">H", 9) + p[22:], id="length altered"),
        pytest.param(lambda p: p[:18] + struct.pack(">H", 3) + p[20:], id="count altered"),
        pytest.param(lambda p: p[:18] + struct.pack(">H", 0) + p[20:], id="heartbeat with a body"),
        pytest.param(lambda p: p[:18] + struct.pack(">H", 0xFFFF) + p[20:], id="end of session with a body"),
        pytest.param(lambda p: p[:10] + bytes(8) + p[18:], id="number 0"),
        pytest.param(lambda p: p[:10] + b"\xff" * 8 + p[18:], id="numbers past 2^64 - 1"),
    ],
)
def test_itchcpp_parse_error_moves_nothing_and_is_counted(damage: Any) -> None:
    """A damaged packet is refused whole, before the expected number moves: its other copy is delivered."""
    arbiter = started(3)
    assert arbiter.on_packet(0, damage(packet(4, 2)), NOW) == []
    assert arbiter.next_sequence == 4
    assert arbiter.counters()["lines"][0]["malformed"] == 1
    assert arbiter.on_packet(1, packet(4, 2), NOW) == [messages(4, 2)]


def test_jaybeams_every_message_has_its_own_number() -> None:
    """Message i has the packet's number plus i, also where a tail is delivered or a hole filled."""
    arbiter = started(3)
    arbiter.on_packet(0, packet(8, 3), NOW)
    arbiter.on_packet(1, packet(5, 2), NOW)
    assert arbiter.on_packet(1, packet(2, 8), NOW) == [
        messages(4, 1),
        messages(5, 2),
        ("gap_closed", 4, 7),
        messages(7, 1),
        messages(8, 3),
        LIVE,
    ]


def test_post_mortem_recovery_holds_in_the_burst_that_caused_the_loss() -> None:
    """While the burst goes on and the server loses every fifth datagram, nothing is lost or fetched twice."""
    arbiter = started(1, lines=2, servers=1, retries=20, requests_per_s=20_000, hold_messages=20_000)
    now, due = NOW, []
    lost_on_both = {n for n in range(2, 40_000) if n % 97 < 2}  # runs of two packets
    asked = replies = 0

    def take(trace: Any) -> None:
        nonlocal asked, replies
        for entry in trace:
            assert entry[0] not in ("gap_lost", "clear")
            if entry[0] == "request":
                asked += 1
                replies += asked % 5 != 0
                if asked % 5:
                    due.append((now + 20_000, entry[2], entry[3]))

    for number in range(2, 40_000):
        now += 1_000  # a million packets a second
        for line in range(2):
            if number not in lost_on_both:
                take(arbiter.on_packet(line, packet(number, 1), now))
        take(arbiter.on_timer(now))
        while due and due[0][0] <= now:
            _, first, count = due.pop(0)
            take(arbiter.on_reply(0, packet(first, count), now))
    for _ in range(1000):
        now += 10_000
        take(arbiter.on_timer(now))
        while due and due[0][0] <= now:
            _, first, count = due.pop(0)
            take(arbiter.on_reply(0, packet(first, count), now))
    counters = arbiter.counters()
    assert (arbiter.state, arbiter.next_sequence) == ("LIVE", 40_000)
    assert counters["gaps"]["recovered_rewind"] == counters["gaps"]["messages"] == len(lost_on_both)
    assert counters["recovery"]["useless_replies"] == 0
    assert counters["recovery"]["replies"] == replies


# ---- holes -------------------------------------------------------------------------------------------------


def test_heartbeat_reveals_a_lost_tail() -> None:
    """In quiet times the next packet that would show the loss does not come: the heartbeat shows it."""
    arbiter = started(3, arbitration_ns=0)
    assert arbiter.on_packet(0, heartbeat(4), NOW) == []
    assert arbiter.on_packet(0, heartbeat(6), NOW) == [("gap_open", 4, 5), RECOVERING, request(0, 4, 2)]
    assert arbiter.on_packet(1, heartbeat(5), NOW) == []


def test_gap_fill_after_end_of_session() -> None:
    """ENDED only when everything up to the end-of-session number is in."""
    arbiter = started(3, arbitration_ns=0)
    assert arbiter.on_packet(0, end_of_session(6), NOW) == [("gap_open", 4, 5), RECOVERING, request(0, 4, 2)]
    assert arbiter.on_packet(1, end_of_session(6), NOW) == []
    assert arbiter.on_reply(0, packet(4, 2), NOW) == [
        ("gap_closed", 4, 5),
        messages(4, 2),
        ("session_end", SESSION, 6),
        ("state", "RECOVERING", "ENDED"),
    ]


def test_data_beyond_the_end_of_session_takes_the_end_back() -> None:
    """An end that was none does not silence the feed."""
    arbiter = started(3)
    arbiter.on_packet(0, end_of_session(4), NOW)
    assert arbiter.on_packet(1, packet(4, 1), NOW) == [messages(4, 1), ("state", "ENDED", "LIVE")]
    assert arbiter.on_packet(0, end_of_session(3), NOW) == []
    assert arbiter.state == "LIVE"


def test_other_line_fills_the_hole_within_the_arbitration_wait() -> None:
    """What the slower line brings in time is never asked for."""
    arbiter = started(3)
    assert arbiter.on_packet(0, packet(6, 1), NOW) == [("gap_open", 4, 5), RECOVERING]
    assert arbiter.on_timer(NOW + WAIT - 1) == []
    assert arbiter.on_packet(1, packet(4, 3), NOW + WAIT - 1) == [
        ("gap_closed", 4, 5),
        messages(4, 2),
        messages(6, 1),
        LIVE,
    ]
    assert arbiter.on_timer(NOW + WAIT) == []
    counters = arbiter.counters()
    assert counters["gaps"]["recovered_line"] == 2
    assert counters["recovery"]["requests"] == 0


def test_messages_between_two_holes_are_delivered_when_the_first_closes() -> None:
    """A later hole may close first; the state stays RECOVERING until the last is closed."""
    arbiter = started(3)
    arbiter.on_packet(0, packet(5, 1), NOW)
    arbiter.on_packet(0, packet(7, 1), NOW)
    arbiter.on_packet(0, packet(9, 1), NOW)
    assert arbiter.on_packet(1, packet(6, 1), NOW) == [("gap_closed", 6, 6)]
    assert arbiter.on_packet(1, packet(4, 1), NOW) == [("gap_closed", 4, 4), messages(4, 1), messages(5, 3)]
    assert arbiter.state == "RECOVERING"
    assert arbiter.on_packet(1, packet(8, 1), NOW) == [
        ("gap_closed", 8, 8),
        messages(8, 1),
        messages(9, 1),
        LIVE,
    ]


def test_partial_reply_is_asked_for_the_rest_at_once() -> None:
    """A reply is one datagram; once it shows how many messages fit, several such requests fly at a time."""
    arbiter = started(3, arbitration_ns=0, requests_per_s=0)
    assert arbiter.on_packet(0, packet(14, 1), NOW)[-1] == request(0, 4, 10)
    assert arbiter.on_reply(0, packet(4, 2), NOW) == [
        messages(4, 2),
        request(0, 6, 2),
        request(0, 8, 2),
        request(0, 10, 2),
        request(0, 12, 2),
    ]
    assert arbiter.on_reply(0, packet(10, 2), NOW) == []
    assert arbiter.on_reply(0, packet(6, 2), NOW) == [messages(6, 2)]
    assert arbiter.on_reply(0, packet(12, 2), NOW) == []
    assert arbiter.on_reply(0, packet(8, 2), NOW) == [
        ("gap_closed", 4, 13),
        messages(8, 2),
        messages(10, 5),
        LIVE,
    ]


def test_requests_in_flight_stay_within_max_outstanding() -> None:
    """Several holes are asked for at a time, but not more than allowed; the lowest first."""
    arbiter = started(3, arbitration_ns=0, max_outstanding=2, requests_per_s=0)
    assert arbiter.on_packet(0, packet(5, 1), NOW)[-1] == request(0, 4, 1)
    assert arbiter.on_packet(0, packet(7, 1), NOW)[-1] == request(0, 6, 1)
    assert arbiter.on_packet(0, packet(9, 1), NOW) == [("gap_open", 8, 8)]
    assert arbiter.on_reply(0, packet(6, 1), NOW) == [("gap_closed", 6, 6), request(0, 8, 1)]


def test_requests_stay_within_requests_per_s() -> None:
    """A burst of max_outstanding may leave at once, then one every 1 / requests_per_s."""
    arbiter = started(3, arbitration_ns=0, max_outstanding=2, requests_per_s=1000)
    arbiter.on_packet(0, packet(5, 1), NOW)
    assert arbiter.on_reply(0, packet(4, 1), NOW)[-1] == LIVE
    assert arbiter.on_packet(0, packet(7, 1), NOW)[-1] == request(0, 6, 1)
    assert arbiter.on_reply(0, packet(6, 1), NOW)[-1] == LIVE
    assert arbiter.on_packet(0, packet(9, 1), NOW) == [("gap_open", 8, 8), RECOVERING]
    assert arbiter.next_deadline == NOW + 1_000_000
    assert arbiter.on_timer(NOW + 999_999) == []
    assert arbiter.on_timer(NOW + 1_000_000) == [request(0, 8, 1)]


def test_hole_over_65534_messages_is_split() -> None:
    """The count of a request is 16 bits and 0xFFFF is no count."""
    arbiter = started(3, arbitration_ns=0, requests_per_s=0)
    assert arbiter.on_packet(0, heartbeat(4 + 2 * 65_534 + 1), NOW) == [
        ("gap_open", 4, 4 + 2 * 65_534),
        RECOVERING,
        request(0, 4, 65_534),
        request(0, 4 + 65_534, 65_534),
        request(0, 4 + 2 * 65_534, 1),
    ]


def test_retry_asks_only_for_what_is_still_missing() -> None:
    """What a line brought meanwhile is not asked for again."""
    arbiter = started(3, arbitration_ns=0, requests_per_s=0)
    arbiter.on_packet(0, packet(14, 1), NOW)
    arbiter.on_packet(1, packet(8, 2), NOW)
    assert arbiter.on_timer(NOW + TIMEOUT) == [request(0, 4, 4), request(0, 10, 4)]


def test_request_is_dropped_when_a_line_brings_everything_it_asked_for() -> None:
    """No retry and no time-out for a hole that closed by itself; its reply is then useless."""
    arbiter = started(3, arbitration_ns=0)
    arbiter.on_packet(0, packet(6, 1), NOW)
    arbiter.on_packet(1, packet(4, 2), NOW)
    assert arbiter.on_timer(NOW + TIMEOUT) == []
    assert arbiter.on_reply(0, packet(4, 2), NOW + TIMEOUT) == []
    assert arbiter.counters()["recovery"] == {
        "requests": 1,
        "retries": 0,
        "timeouts": 0,
        "replies": 1,
        "useless_replies": 1,
    }


@pytest.mark.parametrize(
    "reply",
    [heartbeat(9), end_of_session(9), packet(1, 3), packet(6, 1), packet(20, 3), b"", packet(4, 2)[:-1]],
    ids=["heartbeat", "end of session", "old", "held", "beyond all known", "empty", "malformed"],
)
def test_reply_without_a_missing_message_changes_nothing(reply: bytes) -> None:
    """Replies fill holes; they reveal none, end nothing and extend nothing."""
    arbiter = started(3, arbitration_ns=0)
    arbiter.on_packet(0, packet(6, 1), NOW)
    assert arbiter.on_reply(1, reply, NOW) == []
    counters = arbiter.counters()
    assert counters["recovery"]["useless_replies"] == counters["recovery"]["replies"] == 1
    assert counters["gaps"]["total"] == 1


# ---- lost for good -----------------------------------------------------------------------------------------


def test_all_servers_silent_gives_the_hole_up() -> None:
    """gap_lost and STALE at once, then the clear and what was held; a late copy is late."""
    arbiter = started(3, arbitration_ns=0, requests_per_s=0)
    arbiter.on_packet(0, packet(6, 2), NOW)
    trace = [arbiter.on_timer(NOW + n * TIMEOUT) for n in (1, 2, 3, 4)]
    assert trace == [
        [request(0, 4, 2)],
        [request(1, 4, 2)],
        [request(1, 4, 2)],
        [("gap_lost", 4, 5), STALE, ("clear", 5), messages(6, 2)],
    ]
    assert arbiter.on_packet(1, packet(4, 5), NOW + 4 * TIMEOUT) == [messages(8, 1)]
    counters = arbiter.counters()
    assert counters["gaps"]["unrecovered"] == 2
    assert counters["lines"][1]["late"] == 4
    assert counters["recovery"]["timeouts"] == 4


def test_part_of_a_hole_is_lost_and_the_rest_recovered() -> None:
    """One gap_lost for the range given up, inside its hole; the hole is then over without gap_closed."""
    arbiter = started(3, servers=1, retries=0, arbitration_ns=0, requests_per_s=0)
    arbiter.on_packet(0, packet(10, 1), NOW)  # hole 4-9
    arbiter.on_reply(0, packet(4, 2), NOW)  # replies bring two: 6-7 and 8-9 are asked for
    assert arbiter.on_reply(0, packet(8, 2), NOW + 1) == []
    assert arbiter.on_timer(NOW + TIMEOUT) == [
        ("gap_lost", 6, 7),
        STALE,
        ("clear", 7),
        messages(8, 3),
    ]
    assert arbiter.counters()["gaps"] == {
        "open": 0,
        "total": 1,
        "messages": 6,
        "recovered_line": 0,
        "recovered_rewind": 4,
        "recovered_snapshot": 0,
        "unrecovered": 2,
    }


def test_clear_comes_when_the_feed_reaches_the_lost_numbers() -> None:
    """STALE at once; the clear in its place, behind what an earlier hole still holds back."""
    arbiter = started(3, servers=1, retries=0, requests_per_s=0)
    arbiter.on_packet(0, packet(5, 1), NOW)  # hole 4
    arbiter.on_timer(NOW + WAIT)
    arbiter.on_packet(0, packet(8, 1), NOW + WAIT)  # hole 6-7
    assert arbiter.on_timer(NOW + 2 * WAIT) == [request(0, 6, 2)]
    arbiter.on_packet(0, packet(10, 1), NOW + 2 * WAIT)  # hole 9
    assert arbiter.on_timer(NOW + 3 * WAIT) == [request(0, 9, 1)]
    now = NOW + WAIT + TIMEOUT - 1
    # The server lives: only what it keeps to itself is lost.
    assert arbiter.on_reply(0, packet(9, 1), now) == [("gap_closed", 9, 9)]
    assert arbiter.on_timer(NOW + WAIT + TIMEOUT) == [
        ("gap_lost", 4, 4),
        STALE,
        ("clear", 4),
        messages(5, 1),
    ]
    assert arbiter.on_timer(NOW + 2 * WAIT + TIMEOUT) == [
        ("gap_lost", 6, 7),
        ("clear", 7),
        messages(8, 3),
    ]


def test_later_hole_is_lost_first() -> None:
    """STALE dominates RECOVERING; the books are cleared only when the feed gets there."""
    arbiter = started(3, servers=1, retries=0, max_outstanding=2, requests_per_s=0, arbitration_ns=0)
    arbiter.on_packet(0, packet(7, 1), NOW)  # hole 4-6
    arbiter.on_packet(0, packet(9, 1), NOW)  # hole 8
    assert arbiter.on_reply(0, packet(4, 1), NOW + 5)[-1] == request(0, 5, 1)
    assert arbiter.on_timer(NOW + TIMEOUT) == [("gap_lost", 8, 8), STALE, request(0, 6, 1)]
    assert arbiter.on_reply(0, packet(5, 2), NOW + TIMEOUT) == [
        ("gap_closed", 4, 6),
        messages(5, 2),
        messages(7, 1),
        ("clear", 8),
        messages(9, 1),
    ]
    assert arbiter.state == "STALE"


def test_without_servers_the_hole_is_lost_right_after_the_arbitration_wait() -> None:
    """There is nobody to ask."""
    arbiter = started(3, servers=0)
    assert arbiter.on_packet(0, packet(6, 1), NOW) == [("gap_open", 4, 5), RECOVERING]
    assert arbiter.next_deadline == NOW + WAIT
    assert arbiter.on_timer(NOW + WAIT) == [("gap_lost", 4, 5), STALE, ("clear", 5), messages(6, 1)]
    assert arbiter.on_packet(0, packet(8, 1), NOW + WAIT) == [("gap_open", 7, 7)]
    assert arbiter.on_timer(NOW + 2 * WAIT) == [("gap_lost", 7, 7), ("clear", 7), messages(8, 1)]


def test_dead_servers_cost_one_round_of_retries_not_one_a_hole() -> None:
    """When nobody answered for a whole round, every hole that was due at its beginning is given up."""
    arbiter = started(3, servers=1, retries=0, max_outstanding=1, requests_per_s=0, arbitration_ns=0)
    for number in range(5, 25, 2):
        arbiter.on_packet(0, packet(number, 1), NOW)
    trace = arbiter.on_timer(NOW + TIMEOUT)
    assert [e for e in trace if e[0] == "gap_lost"] == [("gap_lost", n, n) for n in range(4, 24, 2)]
    assert arbiter.next_sequence == 24


# ---- room --------------------------------------------------------------------------------------------------


def test_full_hold_loses_nothing_silently() -> None:
    """What finds no room is a hole itself as soon as there is room, and never LIVE in between."""
    arbiter = started(3, hold_messages=2, arbitration_ns=0, requests_per_s=0)
    arbiter.on_packet(0, packet(5, 2), NOW)
    assert arbiter.on_packet(0, packet(7, 2), NOW) == []
    assert arbiter.counters()["lines"][0]["messages"] == 5  # what was not kept was not brought
    assert arbiter.on_reply(0, packet(4, 1), NOW) == [
        ("gap_closed", 4, 4),
        messages(4, 1),
        messages(5, 2),
        ("gap_open", 7, 8),
        request(0, 7, 2),
    ]
    assert arbiter.on_reply(0, packet(7, 2), NOW) == [("gap_closed", 7, 8), messages(7, 2), LIVE]


def test_requests_ask_only_for_what_the_hold_can_keep() -> None:
    """Beyond the next number in turn, only as much is asked for as there is room for."""
    arbiter = started(3, hold_messages=3, arbitration_ns=0, requests_per_s=0)
    arbiter.on_packet(0, packet(5, 1), NOW)
    assert arbiter.on_packet(0, heartbeat(16), NOW) == [("gap_open", 6, 15), request(0, 6, 2)]


def test_datagram_full_of_empty_messages() -> None:
    """The most messages that one datagram can carry, each consuming its number, in turn and held."""
    count = (65_507 - 20) // 2
    payload = _core.encode_mold_packet(SESSION, 5, [b""] * count)
    arbiter = started(3)
    assert arbiter.on_packet(0, payload, NOW) == [("gap_open", 4, 4), RECOVERING]
    trace = arbiter.on_packet(0, packet(4, 1), NOW)
    assert trace[:2] == [("gap_closed", 4, 4), messages(4, 1)]
    while arbiter.next_deadline <= NOW:
        trace += arbiter.on_timer(NOW)
    assert sum(len(e[2]) for e in trace[2:-1]) == count
    assert arbiter.next_sequence == 5 + count
    again = _core.encode_mold_packet(SESSION, 5 + count, [b""] * count)
    assert arbiter.on_packet(0, again, NOW) == [("messages", 5 + count, [b""] * count)]


def test_held_messages_keep_the_time_they_were_received_at() -> None:
    """The receive time is the packet's own, not that of the one which closed the hole."""
    arbiter = started(3, with_timestamps=True)
    arbiter.on_packet(0, packet(5, 1), NOW, ts_recv_ns=50)
    arbiter.on_packet(0, packet(6, 1), NOW, ts_recv_ns=60)
    trace = arbiter.on_packet(1, packet(4, 1), NOW, ts_recv_ns=70)
    assert [(e[1], e[3]) for e in trace if e[0] == "messages"] == [(4, 70), (5, 50), (6, 60)]


# ---- start and sessions ------------------------------------------------------------------------------------


def test_live_join_in_mid_session_is_stale() -> None:
    """Without a snapshot the books of a late joiner are never right."""
    arbiter = _core.Arbiter()
    assert arbiter.on_packet(0, packet(5, 1), NOW) == [
        ("session_start", SESSION, 5),
        ("state", "STARTING", "STALE"),
        messages(5, 1),
    ]


def test_start_at_the_beginning_recovers_the_head() -> None:
    """STARTING, and the packets held, until everything before the first one is in."""
    arbiter = _core.Arbiter(start="beginning", servers=1, arbitration_ns=0)
    assert arbiter.on_packet(0, packet(5, 1), NOW) == [
        ("session_start", SESSION, 1),
        ("gap_open", 1, 4),
        request(0, 1, 4),
    ]
    assert arbiter.state == "STARTING"
    assert arbiter.on_reply(0, packet(1, 4), NOW) == [
        ("gap_closed", 1, 4),
        messages(1, 4),
        messages(5, 1),
        ("state", "STARTING", "LIVE"),
    ]


def test_start_at_the_beginning_without_the_head_is_stale() -> None:
    """Nobody has what came before: the books are cleared and marked."""
    arbiter = _core.Arbiter(start="beginning", servers=0, arbitration_ns=0)
    assert arbiter.on_packet(0, packet(5, 1), NOW) == [
        ("session_start", SESSION, 1),
        ("gap_open", 1, 4),
        ("gap_lost", 1, 4),
        ("state", "STARTING", "STALE"),
        ("clear", 4),
        messages(5, 1),
    ]


def test_first_sequence_makes_a_lost_head_a_hole() -> None:
    """A replay knows the first number of its input."""
    arbiter = _core.Arbiter(first_sequence=1, arbitration_ns=WAIT)
    assert arbiter.on_packet(0, packet(3, 1), NOW) == [
        ("session_start", SESSION, 1),
        ("gap_open", 1, 2),
        ("state", "STARTING", "RECOVERING"),
    ]
    arbiter = _core.Arbiter(first_sequence=100, arbitration_ns=WAIT)
    assert arbiter.on_packet(0, packet(103, 1), NOW) == [
        ("session_start", SESSION, 100),
        ("state", "STARTING", "STALE"),
        ("gap_open", 100, 102),
    ]


def test_rollover_after_the_end_of_the_session() -> None:
    """The first packet of another session starts it at number 1; the old one does not come back."""
    arbiter = started(3, arbitration_ns=0)
    assert arbiter.on_packet(0, packet(1, 1, OTHER), NOW) == []
    arbiter.on_packet(0, end_of_session(4), NOW)
    assert arbiter.on_packet(0, packet(2, 1, OTHER), NOW) == [
        ("clear", 0),
        ("session_start", OTHER, 1),
        ("gap_open", 1, 1),
        ("state", "ENDED", "RECOVERING"),
        ("request", 0, 1, 1, OTHER),
    ]
    assert arbiter.on_packet(1, end_of_session(4), NOW) == []
    arbiter.on_packet(1, packet(1, 1, OTHER), NOW)
    arbiter.on_packet(1, end_of_session(3, OTHER), NOW)
    assert arbiter.on_packet(1, packet(4, 1), NOW) == []
    counters = arbiter.counters()["lines"]
    assert [line["foreign_session"] for line in counters] == [1, 2]
    assert [line["missing"] for line in counters] == [1, 3 + 1]


def test_rollover_makes_books_right_again() -> None:
    """STALE ends with the session."""
    arbiter = _core.Arbiter()
    arbiter.on_packet(0, packet(5, 1), NOW)
    arbiter.on_packet(0, end_of_session(6), NOW)
    assert arbiter.on_packet(0, packet(1, 1, OTHER), NOW) == [
        ("clear", 0),
        ("session_start", OTHER, 1),
        ("state", "ENDED", "LIVE"),
        messages(1, 1),
    ]


def test_configured_session_is_never_left() -> None:
    """Neither before its first packet nor after its end is another taken."""
    arbiter = _core.Arbiter(session="SESSION001")
    assert arbiter.on_packet(0, packet(1, 1, OTHER), NOW) == []
    assert arbiter.session == b""
    arbiter.on_packet(0, packet(1, 1), NOW)
    arbiter.on_packet(0, end_of_session(2), NOW)
    assert arbiter.on_packet(0, packet(1, 1, OTHER), NOW) == []
    assert arbiter.counters()["lines"][0]["foreign_session"] == 2


def all_down(arbiter: _core.Arbiter, now: int = NOW + 3 * SECOND) -> int:
    """Let both lines fall silent; give the time."""
    assert arbiter.on_timer(now) == [("line_down", 0), ("line_down", 1)]
    return now


@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("first", [packet(1, 2), heartbeat(1)])
def test_number_1_again_after_all_lines_were_down_starts_the_session_anew(first: bytes, ended: bool) -> None:
    """The exchange began again under the same name: the books of before are cleared, nothing is late."""
    arbiter = started(9)
    if ended:
        arbiter.on_packet(0, end_of_session(10), NOW)
    now = all_down(arbiter)
    trace = arbiter.on_packet(0, first, now)
    delivered = [messages(1, 2)] if first == packet(1, 2) else []
    state = [("state", "ENDED", "LIVE")] if ended else []
    assert trace == [("line_up", 0), ("clear", 0), ("session_start", SESSION, 1), *state, *delivered]
    if not delivered:
        assert arbiter.on_packet(0, packet(1, 2), now) == [messages(1, 2)]
    assert arbiter.on_packet(1, packet(1, 4), now) == [("line_up", 1), messages(3, 2)]
    assert (arbiter.state, arbiter.next_sequence) == ("LIVE", 5)
    counters = arbiter.counters()["lines"]
    assert [line["late"] for line in counters] == [0, 2]
    assert [line["missing"] for line in counters] == [2, 9]  # of the second run; of the first


def test_sequence_restart_with_a_hole_open_gives_the_hole_up_first() -> None:
    """What the first run still owed is lost; nothing of it reaches the books of the second."""
    arbiter = started(3, servers=1, arbitration_ns=10 * SECOND)
    arbiter.on_packet(0, packet(6, 2), NOW)
    now = all_down(arbiter)
    assert arbiter.on_packet(0, packet(1, 1), now) == [
        ("line_up", 0),
        ("gap_lost", 4, 5),
        STALE,
        ("clear", 5),
        messages(6, 2),
        ("clear", 0),
        ("session_start", SESSION, 1),
        ("state", "STALE", "LIVE"),
        messages(1, 1),
    ]
    assert arbiter.on_reply(0, packet(4, 2), now) == []
    gaps = arbiter.counters()["gaps"]
    assert (gaps["open"], gaps["unrecovered"], arbiter.held) == (0, 2, 0)


def test_sequence_restart_of_which_the_first_packet_but_one_is_lost_is_recovered() -> None:
    """The hole of the new run is asked for in the new run's numbers."""
    arbiter = started(9, arbitration_ns=0)
    now = all_down(arbiter)
    arbiter.on_packet(0, packet(1, 1), now)
    assert arbiter.on_packet(0, packet(4, 1), now) == [("gap_open", 2, 3), RECOVERING, request(0, 2, 2)]


@pytest.mark.parametrize(
    ("why", "line", "late"),
    [
        ("a line still speaks", 0, packet(1, 2)),
        ("the line lags: it never brought a message", 1, packet(1, 2)),
        ("it is not number 1", 0, packet(2, 2)),
        ("it is all that there was", 0, packet(1, 9)),
        ("an end of session begins nothing", 0, end_of_session(1)),
    ],
)
def test_late_copies_start_nothing_anew(why: str, line: int, late: bytes) -> None:
    """Late they are, however late: the books stay as they are."""
    arbiter = started(9)
    if why == "a line still speaks":
        arbiter.on_packet(1, heartbeat(10), NOW + 2 * SECOND)
        assert arbiter.on_timer(NOW + 3 * SECOND) == [("line_down", 0)]
    else:
        all_down(arbiter)
    trace = arbiter.on_packet(line, late, NOW + 3 * SECOND)
    assert [entry for entry in trace if entry[0] != "line_up"] == []
    assert (arbiter.state, arbiter.next_sequence) == ("LIVE", 10)


def test_other_session_starts_without_an_end_once_the_old_one_is_let_go() -> None:
    """Its day is over and its lines are silent: what it owed is lost, the other one starts at number 1."""
    arbiter = started(3, arbitration_ns=10 * SECOND)
    arbiter.on_packet(0, packet(6, 1), NOW)
    now = all_down(arbiter)
    assert arbiter.on_packet(0, packet(1, 2, OTHER), now) == []
    arbiter.let_session_go()
    assert arbiter.on_packet(0, packet(1, 2, OTHER), now) == [
        ("line_up", 0),
        ("gap_lost", 4, 5),
        STALE,
        ("clear", 5),
        messages(6, 1),
        ("clear", 0),
        ("session_start", OTHER, 1),
        ("state", "STALE", "LIVE"),
        messages(1, 2),
    ]
    assert arbiter.on_packet(1, packet(7, 1), now) == []
    assert [line["foreign_session"] for line in arbiter.counters()["lines"]] == [1, 1]


def test_session_that_was_let_go_and_speaks_again_is_kept() -> None:
    """A line that comes back with it takes the permission away: a stray of another session is foreign."""
    arbiter = started(3)
    now = all_down(arbiter)
    arbiter.let_session_go()
    arbiter.on_packet(0, packet(4, 1), now)
    assert arbiter.on_packet(1, packet(1, 1, OTHER), now) == []
    assert arbiter.on_packet(0, packet(5, 1), now) == [messages(5, 1)]


def test_configured_session_that_was_let_go_starts_anew_but_gives_way_to_no_other() -> None:
    """The same rule as for its end."""
    arbiter = started(9, session="SESSION001")
    now = all_down(arbiter)
    arbiter.let_session_go()
    assert arbiter.on_packet(0, packet(1, 1, OTHER), now) == []
    assert ("session_start", SESSION, 1) in arbiter.on_packet(1, packet(1, 1), now)


def test_rollover_while_a_snapshot_is_loaded_drops_it() -> None:
    """The books it brings are those of the session that is left."""
    arbiter = _core.Arbiter(lines=2, snapshot=True, line_down_ns=3 * SECOND)
    arbiter.on_timer(NOW)
    assert arbiter.on_packet(0, packet(5, 2), NOW) == [
        ("session_start", SESSION, 5),
        messages(5, 2),
        ("snapshot_begin", 7),
        ("start_snapshot",),
    ]
    assert arbiter.on_packet(0, packet(7, 2), NOW) == []  # held for the splice
    now = all_down(arbiter)
    arbiter.let_session_go()
    trace = arbiter.on_packet(0, packet(1, 1, OTHER), now)
    assert trace == [
        ("line_up", 0),
        ("snapshot_end", 0),
        messages(7, 2),
        ("clear", 0),
        ("session_start", OTHER, 1),
        ("state", "STARTING", "LIVE"),
        messages(1, 1),
    ]
    assert arbiter.on_snapshot(7, now) == []
    assert arbiter.state == "LIVE"


def test_damaged_packet_of_another_session_is_malformed_not_foreign() -> None:
    """Malformed is counted whatever the session."""
    arbiter = started(3)
    arbiter.on_packet(0, packet(4, 1, OTHER)[:-1], NOW)
    counters = arbiter.counters()["lines"][0]
    assert (counters["malformed"], counters["foreign_session"]) == (1, 0)


# ---- forged numbers ----------------------------------------------------------------------------------------


def test_forged_number_far_ahead_opens_no_hole() -> None:
    """One header beyond max_gap_messages is not believed; the feed goes on."""
    arbiter = started(3)
    far = 2**63
    assert arbiter.on_packet(0, packet(far, 1), NOW) == []
    assert arbiter.on_packet(1, packet(far, 1), NOW) == []  # a duplicate confirms nothing
    assert arbiter.on_packet(0, packet(4, 1), NOW) == [messages(4, 1)]
    assert [line["malformed"] for line in arbiter.counters()["lines"]] == [1, 1]


def test_far_number_that_goes_on_is_believed_and_given_up_at_once() -> None:
    """The second packet confirms the first; an astronomic hole costs no more than a small one."""
    arbiter = started(3, servers=0)
    far = 2**63
    arbiter.on_packet(0, packet(far, 2), NOW)
    assert arbiter.on_packet(0, packet(far + 2, 1), NOW) == [("gap_open", 4, far + 1), RECOVERING]
    assert arbiter.on_timer(NOW + WAIT) == [
        ("gap_lost", 4, far + 1),
        STALE,
        ("clear", far + 1),
        messages(far + 2, 1),
    ]
    assert arbiter.counters()["lines"][0]["missing"] == far - 4 + 2


def test_far_number_is_not_confirmed_by_another_session() -> None:
    """After the end, two strays of two sessions do not make either of them the next one."""
    arbiter = started(3)
    arbiter.on_packet(0, end_of_session(4), NOW)
    far = 2**40
    assert arbiter.on_packet(0, packet(far, 1, OTHER), NOW) == []
    assert arbiter.on_packet(0, packet(far + 1, 1, b"SESSION--9"), NOW) == []
    assert arbiter.on_packet(0, packet(far + 2, 1, b"SESSION--9"), NOW) != []


def test_held_messages_near_the_last_number_are_delivered() -> None:
    """Reaching for the next numbers in turn does not wrap either."""
    last = 2**64 - 1
    arbiter = started(3, servers=0, max_gap_messages=0)
    arbiter.on_packet(0, packet(last - 3, 2), NOW)
    assert arbiter.on_timer(NOW + WAIT)[-1] == messages(last - 3, 2)


def test_numbers_up_to_the_last_of_64_bits() -> None:
    """The end of the number space does not wrap."""
    last = 2**64 - 1
    arbiter = _core.Arbiter()
    arbiter.on_packet(0, packet(last - 2, 2), NOW)
    assert arbiter.next_sequence == last
    assert arbiter.on_packet(0, packet(last, 1), NOW) == []
    assert arbiter.counters()["lines"][0]["malformed"] == 1


def test_number_0_is_refused_whatever_is_expected() -> None:
    """Also before the first packet of a configured session, and while a hole is open."""
    arbiter = _core.Arbiter(session="SESSION001", lines=1)
    assert arbiter.on_packet(0, packet(0, 1), NOW) == []
    arbiter.on_packet(0, packet(1, 1), NOW)
    arbiter.on_packet(0, packet(3, 1), NOW)
    assert arbiter.on_packet(0, packet(0, 4), NOW) == []
    assert arbiter.counters()["lines"][0]["malformed"] == 2


# ---- lines -------------------------------------------------------------------------------------------------


def test_silent_line_is_down_until_it_speaks_again() -> None:
    """line_down after line_down_ns of silence, once; line_up with the next good packet."""
    arbiter = started(3, line_down_ns=3 * SECOND)
    arbiter.on_packet(0, heartbeat(4), NOW + 2 * SECOND)
    assert arbiter.on_timer(NOW + 3 * SECOND - 1) == []
    assert arbiter.on_timer(NOW + 3 * SECOND) == [("line_down", 1)]
    assert arbiter.on_timer(NOW + 4 * SECOND) == []
    assert [line["down"] for line in arbiter.counters()["lines"]] == [0, 1]
    assert arbiter.on_packet(1, packet(4, 1, OTHER), NOW + 4 * SECOND) == []  # not this feed
    assert arbiter.on_packet(1, packet(4, 1), NOW + 4 * SECOND) == [("line_up", 1), messages(4, 1)]
    assert arbiter.on_timer(NOW + 5 * SECOND) == [("line_down", 0)]
    assert arbiter.next_deadline == NOW + 7 * SECOND


def test_line_that_never_spoke_is_down() -> None:
    """Silence counts from the first look at the clock."""
    arbiter = _core.Arbiter(lines=1, line_down_ns=SECOND)
    assert arbiter.on_timer(NOW) == []
    assert arbiter.on_timer(NOW + SECOND) == [("line_down", 0)]


def test_missing_is_taken_back_by_a_late_copy_and_not_by_a_duplicate() -> None:
    """Per line: each number once, however often and late it comes."""
    arbiter = started(3)
    arbiter.on_packet(0, packet(6, 1), NOW)
    arbiter.on_packet(1, packet(4, 3), NOW)

    def missing() -> list[int]:
        return [line["missing"] for line in arbiter.counters()["lines"]]

    assert missing() == [2, 3]
    arbiter.on_packet(0, packet(4, 1), NOW)
    assert missing() == [1, 3]
    arbiter.on_packet(0, packet(4, 1), NOW)
    assert missing() == [1, 3]
    arbiter.on_packet(1, packet(1, 6), NOW)
    assert missing() == [1, 0]


def test_gap_history_tells_what_became_of_each_hole() -> None:
    """One entry a hole: when, what, by whom, how many requests."""
    arbiter = started(3, arbitration_ns=0, requests_per_s=0)
    arbiter.on_packet(0, packet(7, 1), NOW)
    arbiter.on_packet(1, packet(4, 1), NOW + 5)
    arbiter.on_reply(0, packet(5, 2), NOW + 9)
    arbiter.on_packet(0, packet(9, 1), NOW + 20)
    assert arbiter.history() == [
        {
            "opened_ns": NOW,
            "closed_ns": NOW + 9,
            "first": 4,
            "last": 6,
            "recovered_line": 1,
            "recovered_rewind": 2,
            "unrecovered": 0,
            "requests": 1,
        },
        {
            "opened_ns": NOW + 20,
            "closed_ns": 0,
            "first": 8,
            "last": 8,
            "recovered_line": 0,
            "recovered_rewind": 0,
            "unrecovered": 0,
            "requests": 1,
        },
    ]


def test_every_event_tells_the_state_it_leads_to() -> None:
    """A gap is told as RECOVERING, a loss as STALE, the end of the session as ENDED."""
    arbiter = started(servers=0, arbitration_ns=0)
    arbiter.take_event_states()
    trace = arbiter.on_packet(0, packet(5, 1), NOW + 1)  # 4 is missing, and nobody can be asked
    kinds = [entry[0] for entry in trace if entry[0] not in ("messages", "clear")]
    assert kinds == ["gap_open", "state", "gap_lost", "state"]
    assert arbiter.take_event_states() == ["RECOVERING", "RECOVERING", "STALE", "STALE"]
    trace = arbiter.on_packet(0, end_of_session(6), NOW + 2)
    assert [entry[0] for entry in trace] == ["session_end", "state"]
    assert arbiter.take_event_states() == ["ENDED", "ENDED"]
