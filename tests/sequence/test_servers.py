"""Health of re-request servers: a bad one is left and tried again later; the clock is the test's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedhandler import _core
from tests.sequence.test_arbiter import (
    LIVE,
    NOW,
    OTHER,
    RECOVERING,
    STALE,
    TIMEOUT,
    heartbeat,
    messages,
    packet,
    request,
    started,
)

SECOND = 1_000_000_000
REST = SECOND


def watched(**settings: Any) -> _core.Arbiter:
    """A LIVE arbiter that has 1 to 3, asks at once, and tells of servers and steps."""
    return started(3, **{"arbitration_ns": 0, "with_recovery": True, "requests_per_s": 0, **settings})


def server(index: int, previous: str, health: str, left_ns: int = 0) -> tuple[str, int, str, str, int]:
    """Give the trace entry of a change of health."""
    return ("server", index, previous, health, left_ns)


def step(previous: str, now: str) -> tuple[str, str, str]:
    """Give the trace entry of an escalation."""
    return ("escalation", previous, now)


def lose(arbiter: _core.Arbiter, count: int, now: int) -> list[Any]:
    """Lose `count` messages and bring the one behind them."""
    return arbiter.on_packet(0, packet(arbiter.next_sequence + count, 1), now)


def requests(trace: list[Any]) -> list[tuple[int, int]]:
    """Server and first number of each request."""
    return [(entry[1], entry[2]) for entry in trace if entry[0] == "request"]


def test_silent_server_is_left_for_the_next_and_tried_again_beside_it() -> None:
    """Every step is told. The trial is a copy, for which no repair waits; its answer clears the server."""
    arbiter = watched()
    assert lose(arbiter, 2, NOW) == [
        ("gap_open", 4, 5),
        RECOVERING,
        request(0, 4, 2),
        step("none", "request"),
    ]
    assert arbiter.on_timer(NOW + TIMEOUT) == [
        request(0, 4, 2),
        server(0, "untried", "silent"),
        step("request", "retry"),
    ]
    now = NOW + 2 * TIMEOUT
    assert arbiter.on_timer(now) == [
        request(1, 4, 2),
        ("server", 0, "silent", "silent", REST),
        step("retry", "next_server"),
    ]
    assert arbiter.on_reply(1, packet(4, 2), now) == [
        ("gap_closed", 4, 5),
        messages(4, 2),
        messages(6, 1),
        LIVE,
        server(1, "untried", "answered"),
        step("next_server", "none"),
    ]
    assert requests(lose(arbiter, 1, now + REST - 1)) == [(1, 7)]
    arbiter.on_reply(1, packet(7, 1), now + REST - 1)
    assert requests(lose(arbiter, 1, now + REST)) == [(1, 9), (0, 9)]
    assert arbiter.on_reply(1, packet(9, 1), now + REST)[0] == ("gap_closed", 9, 9)
    assert arbiter.on_reply(0, packet(9, 1), now + REST) == [server(0, "silent", "answered")]
    assert requests(lose(arbiter, 1, now + REST)) == [(0, 11)]
    counters = arbiter.counters()
    zeros = dict.fromkeys(_core.counter_descriptions()["servers"], 0)
    assert counters["servers"] == [
        {**zeros, "requests": 4, "answered": 1, "silent": 2, "left": 1, "health": 1},
        {**zeros, "requests": 3, "answered": 3, "health": 1},
    ]
    assert counters["escalation"] == {
        "other_line": 0, "request": 4, "retry": 1, "next_server": 1, "hopeless": 0, "snapshot": 0, "stale": 0,
        "snapshot_failed": 0,
    }  # fmt: skip


def test_failed_trials_double_the_rest_up_to_a_minute() -> None:
    """One request a trial, however long the server stays away."""
    arbiter = watched(retries=0)
    lose(arbiter, 1, NOW)
    now = NOW + TIMEOUT
    assert server(0, "untried", "silent", REST) in arbiter.on_timer(now)
    arbiter.on_reply(1, packet(4, 1), now)
    for rest_s in (1, 2, 4, 8, 16, 32, 60, 60):
        now += rest_s * SECOND
        first = arbiter.next_sequence
        assert requests(lose(arbiter, 1, now - 1)) == [(1, first)]
        arbiter.on_reply(1, packet(first, 1), now - 1)
        first = arbiter.next_sequence
        assert requests(lose(arbiter, 1, now)) == [(1, first), (0, first)]
        arbiter.on_reply(1, packet(first, 1), now)
        now += TIMEOUT
        arbiter.on_timer(now)
        assert arbiter.state == "LIVE"


def test_refused_server_is_left_at_once() -> None:
    """A host that says that nobody listens is believed: no time-out is waited for."""
    arbiter = watched()
    lose(arbiter, 1, NOW)
    assert arbiter.on_refused(0, NOW + 10) == [
        request(1, 4, 1),
        server(0, "untried", "refused", REST),
        step("request", "next_server"),
    ]
    counters = arbiter.counters()
    assert (counters["servers"][0]["refused"], counters["recovery"]["timeouts"]) == (1, 1)


def test_only_server_that_refuses_is_asked_again_as_if_it_were_silent() -> None:
    """It may be starting anew: the hole is not given up before 1 + retries requests."""
    arbiter = watched(servers=1)
    lose(arbiter, 1, NOW)
    assert arbiter.on_refused(0, NOW + 10) == [server(0, "untried", "refused", REST)]
    assert requests(arbiter.on_timer(NOW + TIMEOUT)) == [(0, 4)]
    assert arbiter.on_reply(0, packet(4, 1), NOW + TIMEOUT + 1)[0] == ("gap_closed", 4, 4)


@pytest.mark.parametrize(
    "lie",
    [
        pytest.param(packet(4, 2, OTHER), id="another session"),
        pytest.param(packet(3, 3), id="numbers from before what was asked"),
        pytest.param(packet(400, 2), id="numbers that nobody asked for"),
        pytest.param(packet(4, 2)[:-1], id="truncated"),
        pytest.param(packet(4, 2) + b"x", id="longer than it says"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_lying_server_is_left_at_once_and_nothing_of_it_is_used(lie: bytes) -> None:
    """Another server is asked for the same; what the liar says is neither delivered nor held."""
    arbiter = watched()
    lose(arbiter, 2, NOW)
    assert arbiter.on_reply(0, lie, NOW + 10) == [
        request(1, 4, 2),
        server(0, "untried", "lying", REST),
        step("request", "next_server"),
    ]
    assert (arbiter.next_sequence, arbiter.held) == (4, 1)
    assert arbiter.on_reply(1, packet(4, 2), NOW + 20)[1] == messages(4, 2)
    counters = arbiter.counters()
    assert counters["servers"][0]["lying"] == counters["recovery"]["useless_replies"] == 1


def test_answer_to_the_session_before_is_no_lie() -> None:
    """A datagram that was on its way when the session changed."""
    arbiter = started(3, arbitration_ns=0, with_recovery=True)
    arbiter.on_packet(0, _core.encode_mold_header(b"SESSION001", 4, 0xFFFF), NOW)
    assert arbiter.state == "ENDED"
    arbiter.on_packet(0, packet(1, 2, OTHER), NOW)
    assert arbiter.on_reply(0, packet(4, 2), NOW) == []
    assert arbiter.on_reply(0, packet(4, 2, b"SESSION003"), NOW) == [server(0, "untried", "lying", REST)]


def test_heartbeat_as_an_answer_says_nothing_of_the_server() -> None:
    """Neither data nor a lie."""
    arbiter = watched()
    lose(arbiter, 1, NOW)
    assert arbiter.on_reply(0, heartbeat(6), NOW) == []


def test_late_server_is_used_and_left_for_a_faster_one() -> None:
    """What comes late fills the hole all the same; late on five requests in a row is as bad as silent."""
    arbiter = watched(retries=4)
    now, asked = NOW, []
    for _ in range(6):
        first = arbiter.next_sequence
        asked.append(requests(lose(arbiter, 1, now))[0][0])
        if asked[-1] == 1:
            break
        arbiter.on_timer(now + TIMEOUT)
        trace = arbiter.on_reply(0, packet(first, 1), now + TIMEOUT + TIMEOUT // 2)
        assert trace[0] == ("gap_closed", first, first)
        assert arbiter.counters()["servers"][0]["health"] == 2
        now += 10 * TIMEOUT
    assert asked == [0, 0, 0, 0, 0, 1]
    assert arbiter.counters()["servers"][0]["late"] == 5


def test_server_that_loses_some_answers_is_kept() -> None:
    """Every second request has to be repeated: an answer in time clears what was held against it."""
    arbiter = watched(retries=4)
    now = NOW
    for i in range(40):
        first = arbiter.next_sequence
        assert requests(lose(arbiter, 1, now)) == [(0, first)]
        if i % 2:
            now += TIMEOUT
            assert requests(arbiter.on_timer(now)) == [(0, first)]
        arbiter.on_reply(0, packet(first, 1), now + 1)
        now += TIMEOUT
    assert arbiter.counters()["servers"][0]["left"] == 0


def test_silence_on_many_requests_at_once_counts_once() -> None:
    """One lost moment of the network is no proof that a server is dead."""
    arbiter = watched(retries=4, max_outstanding=64)
    for _ in range(20):
        arbiter.on_packet(0, packet(arbiter.counters()["gaps"]["total"] * 2 + 5, 1), NOW)
    assert len(requests(arbiter.on_timer(NOW + TIMEOUT))) == 20
    assert arbiter.counters()["servers"][0]["left"] == 0


def test_all_servers_bad_are_asked_all_the_same_before_the_hole_is_lost() -> None:
    """Each of them 1 + retries times, as if health were unknown."""
    arbiter = watched(retries=1)
    lose(arbiter, 1, NOW)
    now, asked = NOW, [0]
    while arbiter.state != "STALE":
        now = arbiter.next_deadline
        asked += [index for index, _ in requests(arbiter.on_timer(now))]
    assert asked == [0, 0, 1, 1]
    first = arbiter.next_sequence
    asked = [index for index, _ in requests(lose(arbiter, 1, now))]
    while arbiter.next_sequence == first:
        asked += [index for index, _ in requests(arbiter.on_timer(arbiter.next_deadline))]
    assert asked == [0, 0, 1, 1]


def test_dead_first_server_with_endless_retries_is_left_after_eight_rounds() -> None:
    """`retries` without bound must not keep the feed from the server that has it."""
    arbiter = watched(retries=1_000_000)
    lose(arbiter, 1, NOW)
    asked = [0]
    while asked[-1] == 0:
        asked += [index for index, _ in requests(arbiter.on_timer(arbiter.next_deadline))]
    assert asked == [0] * 8 + [1]


def test_lost_for_good_is_the_last_step() -> None:
    """No snapshot server: stale, and it stays so."""
    arbiter = watched(servers=1, retries=0)
    lose(arbiter, 1, NOW)
    assert arbiter.on_timer(NOW + TIMEOUT) == [
        ("gap_lost", 4, 4),
        STALE,
        ("clear", 4),
        messages(5, 1),
        server(0, "untried", "silent", REST),
        step("request", "stale"),
    ]
    assert requests(lose(arbiter, 1, NOW + TIMEOUT)) == [(0, 6)]
    assert arbiter.counters()["escalation"]["stale"] == 1


def test_the_other_line_alone_makes_no_event_but_a_count() -> None:
    """gap_open and gap_closed tell it already."""
    arbiter = watched(arbitration_ns=1_000)
    assert lose(arbiter, 1, NOW) == [("gap_open", 4, 4), RECOVERING]
    assert arbiter.on_packet(1, packet(4, 1), NOW) == [
        ("gap_closed", 4, 4),
        messages(4, 1),
        messages(5, 1),
        LIVE,
    ]
    assert arbiter.counters()["escalation"]["other_line"] == 1


def test_as_many_requests_in_flight_as_the_configuration_allows() -> None:
    """1,024 holes, 1,024 requests at once; the next leaves when one is answered."""
    arbiter = started(1, servers=1, arbitration_ns=0, max_outstanding=1024, requests_per_s=0)
    sent = []
    for hole in range(1025):
        sent += requests(arbiter.on_packet(0, packet(3 + 2 * hole, 1), NOW))
    assert sent == [(0, 2 + 2 * hole) for hole in range(1024)]
    assert requests(arbiter.on_reply(0, packet(700, 1), NOW)) == [(0, 2050)]


class Truth:
    """What a server does with requests from now on."""

    def __init__(self, kinds: list[str]) -> None:
        self.kinds = kinds

    def answer(self, index: int, first: int, count: int) -> tuple[int, bytes] | None:
        """Delay and datagram of the answer, None: silence."""
        kind = self.kinds[index]
        if kind in ("silent", "refused"):
            return None
        if kind == "lying":
            return 10, packet(first, count, OTHER)
        return (TIMEOUT * 2 if kind == "late" else 10), packet(first, count)


@given(
    kinds=st.lists(st.sampled_from(["good", "silent", "refused", "lying", "late"]), min_size=1, max_size=4),
    retries=st.integers(0, 3),
    holes=st.integers(1, 12),
)
def test_one_good_server_is_enough(kinds: list[str], retries: int, holes: int) -> None:
    """Whatever the others do: nothing is lost, and once they are known the good one is asked first."""
    arbiter = started(3, servers=len(kinds), arbitration_ns=0, retries=retries, requests_per_s=0)
    truth, now = Truth(kinds), NOW
    good = kinds.index("good") if "good" in kinds else None
    for _ in range(holes):
        first = arbiter.next_sequence
        todo = list(lose(arbiter, 1, now))
        due: list[tuple[int, int, bytes]] = []
        began = now
        while arbiter.next_sequence == first:
            for entry in todo:
                if entry[0] == "request":
                    answer = truth.answer(entry[1], entry[2], entry[3])
                    if kinds[entry[1]] == "refused":
                        due.append((now, entry[1], b"refused"))
                    elif answer:
                        due.append((now + answer[0], entry[1], answer[1]))
            due.sort()
            if due and due[0][0] <= arbiter.next_deadline:
                now, index, payload = due.pop(0)
                refused = payload == b"refused"
                todo = arbiter.on_refused(index, now) if refused else arbiter.on_reply(index, payload, now)
            else:
                now = arbiter.next_deadline
                todo = arbiter.on_timer(now)
            assert now - began < 100 * TIMEOUT
        now += TIMEOUT * 4
        for _, index, payload in due:
            if payload != b"refused":
                arbiter.on_reply(index, payload, now)
    counters = arbiter.counters()
    if good is not None:
        assert counters["gaps"]["unrecovered"] == 0
        assert counters["servers"][good]["left"] == 0
    for index, kind in enumerate(kinds):
        assert counters["servers"][index]["left"] <= 1, "tried again too soon"
        if kind in ("refused", "lying") and counters["servers"][index]["requests"]:
            assert counters["servers"][index]["resting"] == 1
