"""A naive model of sequencing: sets of numbers, nothing shared with the code under test."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

SECOND = 1_000_000_000
START_NS = 1_700_000_000 * SECOND

Trace = list[tuple[Any, ...]]


def body(number: int) -> bytes:
    """Give message `number` bytes of its own; every seventh is empty."""
    return b"" if number % 7 == 0 else b"message %d" % number


@dataclass
class Session:
    """What is known of one session."""

    name: bytes
    base: int  # first number the feed must bring
    end: int  # one past the highest known number
    joined_late: bool  # books were never right
    got: set[int] = field(default_factory=set)
    lost: set[int] = field(default_factory=set)
    brought: dict[int, set[int]] = field(default_factory=dict)
    last_number: int | None = None  # end of session, exclusive

    def missing(self) -> set[int]:
        """Give the numbers known to exist and neither in nor given up."""
        return set(range(self.base, self.end)) - self.got - self.lost

    def next_sequence(self) -> int:
        """Give the first number that cannot be delivered yet."""
        return min(self.missing(), default=self.end)


class Model:
    """Follows the inputs of an arbiter that never runs out of room, and judges its traces."""

    def __init__(self, *, lines: int, from_beginning: bool = False) -> None:
        self.lines = lines
        self.from_beginning = from_beginning
        self.session: Session | None = None
        self.head_end = 0
        self.delivered = 0  # of this session
        self.position = 0  # next number to be seen by the sink
        self.state = "STARTING"
        self.counts: Counter[str] = Counter()
        self.line_counts = [Counter[str]() for _ in range(lines)]
        self.past_missing = [0] * lines
        self.open_holes: dict[tuple[int, int], str] = {}

    # ---- inputs: what the packet means, before the trace is looked at

    def data(self, line: int, first: int, count: int, session: bytes) -> None:
        """Take a data packet of a line."""
        self._begin(session, first)
        assert self.session
        numbers = set(range(first, first + count))
        fresh = {n for n in numbers if n >= self.session.base} - self.session.got - self.session.lost
        self.counts["recovered_line"] += len(fresh & self.session.missing())
        opened = range(self.session.end, first)
        self.counts["gap_messages"] += len(opened)
        self.session.got |= fresh
        self.session.end = max(self.session.end, first + count)
        if self.session.last_number is not None and self.session.end > self.session.last_number:
            self.session.last_number = None
        self.session.brought.setdefault(line, set()).update(numbers)
        self.line_counts[line].update(messages=count, won=len(fresh), late=count - len(fresh))

    def known_end(self, next_number: int, session: bytes, *, final: bool) -> None:
        """Take a heartbeat, or the end of the session."""
        self._begin(session, next_number)
        assert self.session
        self.counts["gap_messages"] += len(range(self.session.end, next_number))
        grown = next_number > self.session.end
        self.session.end = max(self.session.end, next_number)
        if final and next_number == self.session.end:
            self.session.last_number = next_number
        elif grown:
            self.session.last_number = None

    def reply(self, first: int, count: int) -> int:
        """Take a data packet of a server; give how many of its messages were missing."""
        if self.session is None:
            return 0
        fresh = set(range(first, first + count)) & self.session.missing()
        self.session.got |= fresh
        self.counts["recovered_rewind"] += len(fresh)
        return len(fresh)

    def _begin(self, session: bytes, first: int) -> None:
        if self.session is not None and self.session.name == session:
            return
        if self.session is None:
            base = 1 if self.from_beginning else first
            self.session = Session(session, base, base, joined_late=base != 1)
            self.head_end = first if self.from_beginning else 0
        else:
            for line in range(self.lines):
                self.past_missing[line] += self._missing_of(line)
            self.session = Session(session, 1, 1, joined_late=False)
            self.head_end = 0
        self.position = self.session.base

    def _missing_of(self, line: int) -> int:
        if self.session is None:
            return 0
        brought = self.session.brought.get(line, set())
        return len(set(range(self.session.base, self.session.next_sequence())) - brought)

    # ---- outputs

    def follow(self, trace: Trace) -> None:
        """Check a trace entry by entry: order, content, states."""
        for kind, *what in trace:
            getattr(self, "_on_" + kind)(*what)

    def _on_messages(self, first: int, bodies: list[bytes]) -> None:
        assert self.session
        assert first == self.position, "messages out of order"
        assert bodies == [body(n) for n in range(first, first + len(bodies))]
        assert set(range(first, first + len(bodies))) <= self.session.got
        self.position += len(bodies)
        self.delivered += len(bodies)

    def _on_clear(self, sequence: int) -> None:
        assert self.session
        if sequence == 0:
            self.position = 1
            return
        assert self.position <= sequence
        assert set(range(self.position, sequence + 1)) <= self.session.lost, "cleared past what was not lost"
        self.position = sequence + 1

    def _on_state(self, previous: str, state: str) -> None:
        assert previous == self.state
        assert state != previous
        self.state = state

    def _on_gap_open(self, first: int, last: int) -> None:
        assert self.session
        self.open_holes[first, last] = "open"
        self.counts["gaps"] += 1

    def _on_gap_closed(self, first: int, last: int) -> None:
        assert self.session
        assert self.open_holes.pop((first, last)) == "open", "closed although a part was lost"
        assert set(range(first, last + 1)) <= self.session.got

    def _on_gap_lost(self, first: int, last: int) -> None:
        assert self.session
        numbers = set(range(first, last + 1))
        assert numbers <= self.session.missing()
        self.session.lost |= numbers
        self.counts["unrecovered"] += len(numbers)
        hole = next(h for h in self.open_holes if h[0] <= first <= last <= h[1])
        self.open_holes[hole] = "lost"

    def _on_session_start(self, name: bytes, first: int) -> None:
        assert self.session
        assert (name, first) == (self.session.name, self.session.base)

    def _on_session_end(self, name: bytes, end: int) -> None:
        assert self.session
        assert (name, end) == (self.session.name, self.session.last_number)

    def _on_line_down(self, line: int) -> None:
        self.line_counts[line]["down"] = 1

    def _on_line_up(self, line: int) -> None:
        self.line_counts[line]["down"] = 0

    def _on_request(self, server: int, first: int, count: int, session: bytes) -> None:
        assert self.session
        assert session == self.session.name
        assert 1 <= count <= 0xFFFE
        assert set(range(first, first + count)) <= self.session.missing(), "asked for what is not missing"
        self.counts["requests"] += 1

    # ---- after every step

    def expected_state(self) -> str:
        """Derive the state from the sets."""
        session = self.session
        if session is None:
            return "STARTING"
        next_number = session.next_sequence()
        if session.last_number is not None and next_number == session.end:
            return "ENDED"
        if session.lost or session.joined_late:
            return "STALE"
        if next_number == session.end:
            return "LIVE"
        return "STARTING" if next_number < self.head_end else "RECOVERING"

    def check(self, arbiter: Any) -> None:
        """Compare everything that can be asked."""
        counters = arbiter.counters()
        gaps, recovery = counters["gaps"], counters["recovery"]
        check_identities(counters)
        if self.session is None:
            assert arbiter.next_sequence == 0
            assert arbiter.session == b""
            return
        assert arbiter.session == self.session.name
        assert arbiter.next_sequence == self.position == self.session.next_sequence()
        assert arbiter.state == self.state == self.expected_state()
        assert arbiter.held == len({n for n in self.session.got if n >= self.position})
        assert gaps["total"] == self.counts["gaps"]
        missing = self.session.missing()
        for hole in list(self.open_holes):
            if not missing & set(range(hole[0], hole[1] + 1)):
                assert self.open_holes.pop(hole) == "lost", "filled, but not closed"
        assert gaps["open"] == len(self.open_holes)
        assert gaps["messages"] == self.counts["gap_messages"]
        for name in ("recovered_line", "recovered_rewind", "unrecovered"):
            assert gaps[name] == self.counts[name], name
        four = sum(
            gaps[k] for k in ("recovered_line", "recovered_rewind", "recovered_snapshot", "unrecovered")
        )
        assert gaps["messages"] == four + len(missing)
        assert recovery["requests"] == self.counts["requests"]
        for line, expected in enumerate(self.line_counts):
            for name in ("messages", "won", "late", "down"):
                assert counters["lines"][line][name] == expected[name], (line, name)
            assert counters["lines"][line]["missing"] == self.past_missing[line] + self._missing_of(line)


def check_identities(counters: Any) -> None:
    """Check what holds whatever happened."""
    for line in counters["lines"]:
        assert line["won"] + line["late"] == line["messages"]
    gaps, recovery = counters["gaps"], counters["recovery"]
    four = sum(gaps[k] for k in ("recovered_line", "recovered_rewind", "recovered_snapshot", "unrecovered"))
    assert four <= gaps["messages"]
    assert (four == gaps["messages"]) == (gaps["open"] == 0)
    assert recovery["retries"] <= recovery["timeouts"] <= recovery["requests"]
    assert recovery["useless_replies"] <= recovery["replies"]
