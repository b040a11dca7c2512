"""The arbiter under random loss, duplicates, reordering, re-packetisation, lost replies and timers."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from feedhandler import _core
from tests.sequence.model import SECOND, START_NS, Model, Trace, body, check_identities

LINES = 3
SESSIONS = [b"SESSION%03d" % i for i in range(9)]


def packet(session: bytes, first: int, count: int) -> bytes:
    """Make a data packet."""
    return _core.encode_mold_packet(session, first, [body(n) for n in range(first, first + count)])


class Feed(RuleBasedStateMachine):
    """An exchange whose packets arrive in any order, any number of times, cut anywhere, or never."""

    roomy = True  # the hold never fills: the model predicts everything
    slice_messages = 2048  # no delivery is cut

    @initialize(
        servers=st.integers(0, 3),
        beginning=st.booleans(),
        first=st.sampled_from([1, 1, 1, 5, 40]),
        arbitration_ns=st.sampled_from([0, 1000]),
        retries=st.integers(0, 2),
        outstanding=st.integers(1, 5),
        rate=st.sampled_from([0, 1000]),
        hold=st.sampled_from([0, 1, 7, 30]),
    )
    def start(
        self,
        servers: int,
        beginning: bool,
        first: int,
        arbitration_ns: int,
        retries: int,
        outstanding: int,
        rate: int,
        hold: int,
    ) -> None:
        """Begin with an exchange that has sent some messages already."""
        self.servers = servers
        self.arbiter = _core.Arbiter(
            lines=LINES,
            servers=servers,
            start="beginning" if beginning else "live",
            arbitration_ns=arbitration_ns,
            timeout_ns=5_000,
            retries=retries,
            max_outstanding=outstanding,
            requests_per_s=rate,
            hold_messages=4096 if self.roomy else hold,
            line_down_ns=SECOND,
            slice_messages=self.slice_messages,
        )
        self.model = Model(lines=LINES, from_beginning=beginning)
        self.sessions = iter(SESSIONS)
        self.session = next(self.sessions)
        self.sent = first  # next number the exchange gives out
        self.over = False
        self.now = START_NS
        self.requests: list[tuple[int, int, int]] = []
        self.asked: dict[int, list[int]] = {}  # by server, of this session
        self.delivered: dict[bytes, list[int]] = {}

    def take(self, trace: Trace) -> None:
        """Note what the arbiter did, and does at once when it is let."""
        self.note(trace)
        if self.slice_messages == Feed.slice_messages:
            return
        for _ in range(10_000):
            if self.arbiter.next_deadline > self.now:
                return
            self.note(self.arbiter.on_timer(self.now))
        raise AssertionError("the deadline does not move")

    def note(self, trace: Trace) -> None:
        """Note what the arbiter did."""
        for entry in trace:
            if entry[0] == "session_start":
                self.asked = {}
            elif entry[0] == "request":
                self.requests.append((entry[1], entry[2], entry[3]))
                self.asked.setdefault(entry[1], []).extend([entry[2], entry[2] + entry[3]])
        if self.roomy:
            self.model.follow(trace)
            return
        for entry in trace:
            if entry[0] == "session_start":
                self.delivered[entry[1]] = []
                self.position = entry[2]
            elif entry[0] == "messages":
                assert entry[1] == self.position, "messages out of order"
                assert entry[2] == [body(n) for n in range(entry[1], entry[1] + len(entry[2]))]
                self.position += len(entry[2])
            elif entry[0] == "clear" and entry[1]:
                assert entry[1] >= self.position
                self.position = entry[1] + 1

    @precondition(lambda self: not self.over)
    @rule(
        line=st.integers(0, LINES - 1), skip=st.sampled_from([0, 0, 0, 0, 1, 3, 9]), count=st.integers(1, 6)
    )
    def new_packet(self, line: int, skip: int, count: int) -> None:
        """Send the next packet, `skip` messages having gone into the void before it."""
        first = self.sent + skip
        self.sent = first + count
        self.model.data(line, first, count, self.session)
        self.take(self.arbiter.on_packet(line, packet(self.session, first, count), self.now))

    @rule(line=st.integers(0, LINES - 1), back=st.integers(1, 25), count=st.integers(1, 12))
    def old_packet(self, line: int, back: int, count: int) -> None:
        """Bring old messages, cut into packets differently."""
        first = max(1, self.sent - back)
        count = min(count, self.sent - first)
        lines = self.arbiter.counters()["lines"]
        if count == 0 or (first == 1 and all(of_line["down"] for of_line in lines)):  # it would begin anew
            return
        self.model.data(line, first, count, self.session)
        self.take(self.arbiter.on_packet(line, packet(self.session, first, count), self.now))

    @rule(line=st.integers(0, LINES - 1))
    def heartbeat(self, line: int) -> None:
        """Say what the next number is."""
        self.model.known_end(self.sent, self.session, final=False)
        self.take(
            self.arbiter.on_packet(line, _core.encode_mold_header(self.session, self.sent, 0), self.now)
        )

    @rule(line=st.integers(0, LINES - 1))
    def end_of_session(self, line: int) -> None:
        """End the session; the exchange repeats this."""
        self.over = True
        self.model.known_end(self.sent, self.session, final=True)
        self.take(
            self.arbiter.on_packet(line, _core.encode_mold_header(self.session, self.sent, 0xFFFF), self.now)
        )

    @precondition(lambda self: self.over and self.arbiter.state == "ENDED")
    @rule(line=st.integers(0, LINES - 1), skip=st.sampled_from([0, 0, 2]))
    def rollover(self, line: int, skip: int) -> None:
        """Begin the next session, perhaps with a lost head."""
        name = next(self.sessions, None)
        if name is None:
            return
        self.session, self.sent, self.over, self.requests = name, 1, False, []
        self.new_packet(line, skip, 2)

    @precondition(lambda self: self.requests)
    @rule(
        which=st.integers(0, 20),
        count=st.integers(0, 9),
        early=st.sampled_from([0, 0, 0, 2]),
        keep=st.booleans(),
    )
    def reply(self, which: int, count: int, early: int, keep: bool) -> None:
        """Answer a request with some of what was asked, or with what was not; perhaps again later."""
        server, first, asked = self.requests[which % len(self.requests)]
        if not keep:
            self.requests.remove((server, first, asked))
        first = max(1, first - early)
        count = min(count, self.sent - first)
        if first >= min(self.asked[server]):  # else a lie: nothing of it is used
            self.model.reply(first, count)
        payload = packet(self.session, first, count)
        self.take(self.arbiter.on_reply(server, payload, self.now))

    @rule(wait_ns=st.sampled_from([1, 999, 1000, 5_000, 100_000, 2 * SECOND]))
    def wait(self, wait_ns: int) -> None:
        """Let time pass, looking at the clock whenever asked to."""
        until = self.now + wait_ns
        for _ in range(10_000):
            deadline = self.arbiter.next_deadline
            if deadline > until:
                break
            self.now = max(self.now, deadline)
            self.take(self.arbiter.on_timer(self.now))
        else:
            raise AssertionError("the deadline does not move")
        self.now = until
        self.take(self.arbiter.on_timer(self.now))

    @rule(line=st.integers(0, LINES - 1), damage=st.integers(0, 3))
    def garbage(self, line: int, damage: int) -> None:
        """Bring a packet that is none: nothing may change but a counter."""
        good = packet(self.session, self.sent, 2)
        bad = [good[:-1], good + b"x", good[:19], good[:18] + b"\0\1" + good[20:]][damage]
        before = self.arbiter.counters()["lines"][line]["malformed"]
        assert self.arbiter.on_packet(line, bad, self.now) == []
        assert self.arbiter.counters()["lines"][line]["malformed"] == before + 1

    @precondition(lambda self: self.arbiter.state != "ENDED" and self.arbiter.session)
    @rule(line=st.integers(0, LINES - 1))
    def foreign(self, line: int) -> None:
        """Bring a packet of another session."""
        before = self.arbiter.counters()["lines"][line]["foreign_session"]
        assert self.arbiter.on_packet(line, packet(b"ELSEWHERE!", 1, 3), self.now) == []
        assert self.arbiter.counters()["lines"][line]["foreign_session"] == before + 1

    @invariant()
    def agrees(self) -> None:
        """Compare with the model after every step."""
        if not hasattr(self, "arbiter"):
            return
        if self.roomy:
            self.model.check(self.arbiter)
            return
        counters = self.arbiter.counters()
        check_identities(counters)
        if self.arbiter.next_sequence:
            assert self.arbiter.next_sequence == self.position
        if self.arbiter.state == "LIVE":
            assert counters["gaps"]["open"] == 0
            assert self.arbiter.held == 0

    def teardown(self) -> None:
        """Let the servers answer everything: whatever was sent is delivered or reported lost."""
        if not hasattr(self, "arbiter") or not self.arbiter.session:
            return
        self.heartbeat(0)
        for _ in range(2_000):
            if self.arbiter.next_sequence >= self.sent:
                break
            if self.requests:
                self.reply(0, 4, 0, False)
            else:
                self.wait(100_000)
        assert self.arbiter.next_sequence == self.sent
        assert self.arbiter.held == 0
        self.agrees()


class SlicedFeed(Feed):
    """The same with every delivery from the hold cut into slices of three."""

    slice_messages = 3


class CrampedFeed(Feed):
    """The same with a hold that fills at once: what finds no room must be asked for, never forgotten."""

    roomy = False


TestFeed: Any = Feed.TestCase
TestFeed.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestSlicedFeed: Any = SlicedFeed.TestCase
TestSlicedFeed.settings = settings(max_examples=50, stateful_step_count=60, deadline=None)
TestCrampedFeed: Any = CrampedFeed.TestCase
TestCrampedFeed.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)
