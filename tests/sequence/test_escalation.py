"""When re-requests are given up for a snapshot: the estimate alone, and whole traces of the arbiter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from feedhandler import _core
from tests.sequence.model import START_NS
from tests.sequence.test_arbiter import NOW, RECOVERING, STALE, messages, packet, started

MS = 1_000_000
SAMPLE = 50 * MS
CAPACITY = 100_000


@dataclass
class Race:
    """A hole of `hole` messages while the feed goes on, in samples of 50 ms; all that is held has `CAPACITY`.

    The naive truth: messages filled and brought one sample after the other, nothing estimated.
    """

    hole: int
    feed: int  # messages a sample that the lines bring
    fill: int  # messages a sample that servers bring

    def states(self) -> Any:
        """Yield (missing, recovered, end, waiting) at each sample, until nothing is missing."""
        missing, recovered, end, held, refused = self.hole, 0, self.hole + 1, 0, 0
        while missing + refused > 0:
            yield missing + refused, recovered, end, held + refused
            filled = min(self.fill, missing)
            missing, recovered, end = missing - filled, recovered + filled, end + self.feed
            taken = min(self.feed, CAPACITY - held)
            held, refused = held + taken, refused + self.feed - taken
            if missing == 0:  # all that was held goes on; what found no room is the next hole
                missing, held, refused = refused, 0, 0

    def wins(self, samples: int = 5000) -> bool:
        """Tell whether the hole closes, and all that became missing meanwhile."""
        return all(i != samples for i, _ in enumerate(self.states()))

    def overflows(self) -> bool:
        """Tell whether the hold is full before the hole is closed."""
        closed = self.hole / self.fill if self.fill else float("inf")
        return self.feed * closed > CAPACITY


def verdict(race: Race, samples: int = 2000) -> int | None:
    """Return the sample at which the estimate gives up, None: it never does."""
    escalation, now = _core.Escalation(), START_NS
    for i, (missing, recovered, end, waiting) in enumerate(race.states()):
        if escalation.hopeless(now, missing, recovered, end, waiting, CAPACITY):
            return i
        if i == samples:
            return None
        now += SAMPLE
    return None


races = st.builds(
    Race, hole=st.integers(1, 200_000), feed=st.integers(0, 50_000), fill=st.integers(1_000, 60_000)
)


@given(races)
def test_never_given_up_when_the_servers_are_faster_than_the_feed(race: Race) -> None:
    """However full the hold: it ends well. By a tenth: else it takes for ever."""
    assume(race.fill >= 1.1 * race.feed)
    assert race.wins()
    assert verdict(race) is None


@given(races)
def test_never_given_up_when_all_that_waits_fits(race: Race) -> None:
    """A slow server is good enough when the hold has room for what comes until the hole is closed."""
    needed = (race.hole // race.fill + 2) * race.feed
    assume(needed <= CAPACITY)
    assert race.wins()
    assert verdict(race) is None


@st.composite
def lost_races(draw: st.DrawFn) -> Race:
    """A feed faster than the servers and a hold too small, each by a tenth at least: a sample is a sample.

    The hole outlives the three samples that a decision takes.
    """
    feed = draw(st.integers(100, 50_000))
    fill = draw(st.integers(0, int(feed / 1.1)))
    smallest = max(1001, int(1.1 * CAPACITY * fill / feed) + 1, 3 * fill + 1)
    return Race(draw(st.integers(smallest, smallest + 200_000)), feed, fill)


@given(lost_races())
def test_given_up_before_the_hold_is_full_when_the_feed_outruns_the_servers(race: Race) -> None:
    """The snapshot is not put off until the hold is full; a decision takes three samples."""
    assert race.overflows()
    given_up = verdict(race)
    assert given_up is not None
    assert given_up <= max(3, CAPACITY // race.feed)


def test_one_bad_sample_is_not_enough() -> None:
    """A moment in which no reply came, while the hold is more than half full."""
    escalation, capacity = _core.Escalation(), 10_000
    assert not escalation.hopeless(NOW, 5_000, 0, 20_000, 6_000, capacity)
    assert not escalation.hopeless(NOW + SAMPLE, 5_000, 0, 20_100, 6_100, capacity)
    assert not escalation.hopeless(NOW + 2 * SAMPLE, 1_000, 4_000, 20_200, 6_200, capacity)
    assert not escalation.hopeless(NOW + 3 * SAMPLE, 1_000, 4_000, 20_300, 6_300, capacity)
    assert escalation.hopeless(NOW + 4 * SAMPLE, 1_000, 4_000, 20_400, 6_400, capacity)


class Burst:
    """A hole, then `feed` messages a millisecond; the server fills `fill` a millisecond."""

    def __init__(self, hole: int, feed: int, fill: int, **settings: Any) -> None:
        options = {"servers": 1, "retries": 1_000_000, "timeout_ns": 10 * MS, "requests_per_s": 0}
        self.arbiter = started(
            3, **{**options, "arbitration_ns": 0, "snapshot": True, "with_recovery": True, **settings}
        )
        self.feed, self.fill = feed, fill
        self.now, self.next = NOW, 4 + hole
        self.asked: list[tuple[int, int]] = []
        self.told: list[Any] = []
        self.take(self.arbiter.on_packet(0, packet(self.next, 1), self.now))
        self.next += 1

    def take(self, trace: list[Any]) -> None:
        """Note requests, and events but those of servers; messages only by number and count."""
        for entry in trace:
            if entry[0] == "request":
                self.asked.append((entry[2], entry[3]))
            elif entry[0] == "messages":
                self.told.append(("messages", entry[1], len(entry[2])))
            elif entry[0] != "server":
                self.told.append(entry)

    def run(self, milliseconds: int) -> None:
        """Let time pass."""
        for _ in range(milliseconds):
            self.now += MS
            self.take(self.arbiter.on_packet(0, packet(self.next, self.feed), self.now))
            self.next += self.feed
            if self.asked and self.fill:
                self.asked.sort()
                first, count = self.asked.pop(0)
                self.take(self.arbiter.on_reply(0, packet(first, min(count, self.fill)), self.now))
            self.take(self.arbiter.on_timer(self.now))
            while self.arbiter.next_deadline <= self.now:  # what was held, slice by slice
                self.take(self.arbiter.on_timer(self.now))
            if self.arbiter.state != "RECOVERING":
                return


def test_too_slow_a_server_is_left_for_the_snapshot_before_the_hold_is_full() -> None:
    """1,000 messages a second against 100,000: the whole trace, and no message twice or out of order."""
    burst = Burst(hole=5_000, feed=100, fill=1, hold_messages=40_000)
    burst.run(1_000)
    arbiter = burst.arbiter
    assert (burst.now - NOW) // MS == 100
    filled = arbiter.counters()["gaps"]["recovered_rewind"]
    assert 0 < filled < 200
    held = burst.next - 5_004
    snapshot = [e for e in burst.told if e[0] != "messages"]
    assert snapshot == [
        ("gap_open", 4, 5_003),
        RECOVERING,
        ("escalation", "none", "request"),
        ("escalation", "request", "hopeless"),
        ("gap_lost", 4 + filled, 5_003),
        STALE,
        ("clear", 5_003),
        ("escalation", "hopeless", "stale"),
        ("snapshot_begin", burst.next),
        ("start_snapshot",),
        ("escalation", "stale", "snapshot"),
    ]
    delivered = [e for e in burst.told if e[0] == "messages"]
    assert sum(e[2] for e in delivered) == filled + held
    burst.told.clear()
    burst.take(arbiter.on_packet(0, packet(burst.next, 10), burst.now))
    burst.take(arbiter.on_snapshot(burst.next + 4, burst.now))
    assert burst.told == [
        ("messages", burst.next, 4),
        ("splice", burst.next + 4, 5_000 - filled),
        ("snapshot_end", burst.next + 4),
        ("messages", burst.next + 4, 6),
        ("state", "STALE", "LIVE"),
        ("escalation", "snapshot", "none"),
    ]
    escalation = arbiter.counters()["escalation"]
    assert (escalation["hopeless"], escalation["snapshot"], escalation["snapshot_failed"]) == (1, 1, 0)


def test_fast_server_is_not_left() -> None:
    """The same hole, filled faster than the feed grows: closed, no snapshot."""
    burst = Burst(hole=5_000, feed=10, fill=60, hold_messages=40_000)
    burst.run(1_000)
    assert burst.arbiter.state == "LIVE"
    assert burst.arbiter.counters()["escalation"]["snapshot"] == 0
    assert burst.arbiter.counters()["gaps"]["recovered_rewind"] == 5_000


def test_few_messages_missing_behind_a_dead_server_and_a_full_hold() -> None:
    """However few are missing, however many retries are left: a hold that fills up is a reason."""
    burst = Burst(hole=3, feed=100, fill=0, hold_messages=10_000)
    burst.run(1_000)
    assert ("gap_lost", 4, 6) in burst.told
    assert ("start_snapshot",) in burst.told
    assert (burst.now - NOW) // MS < 200


def test_quiet_feed_behind_a_dead_server_is_not_hurried() -> None:
    """Nothing waits: the server is asked until its retries are over."""
    burst = Burst(hole=2_000, feed=1, fill=0, hold_messages=10_000, retries=39)
    burst.run(1_000)
    assert (burst.now - NOW) // MS == 400
    assert burst.arbiter.counters()["escalation"]["hopeless"] == 0
    assert ("start_snapshot",) in burst.told


def test_without_a_snapshot_server_nothing_is_given_up_early() -> None:
    """Half a repair is worth waiting for when there is no whole one."""
    burst = Burst(hole=5_000, feed=100, fill=1, hold_messages=10_000, snapshot=False)
    burst.run(300)
    assert burst.arbiter.state == "RECOVERING"
    assert burst.arbiter.counters()["gaps"]["unrecovered"] == 0


def test_failed_snapshots_alternate_with_stale() -> None:
    """Each try and each failure is told; what came meanwhile is delivered, flagged."""
    arbiter = started(3, servers=0, arbitration_ns=0, snapshot=True, with_recovery=True)
    assert arbiter.on_packet(0, packet(6, 1), NOW) == [
        ("gap_open", 4, 5),
        RECOVERING,
        ("gap_lost", 4, 5),
        STALE,
        ("clear", 5),
        messages(6, 1),
        ("snapshot_begin", 7),
        ("start_snapshot",),
        ("escalation", "none", "snapshot"),
    ]
    arbiter.on_packet(0, packet(7, 1), NOW)
    assert arbiter.on_snapshot_failed(NOW) == [
        ("snapshot_end", 0),
        messages(7, 1),
        ("escalation", "snapshot", "stale"),
    ]
    assert arbiter.on_timer(NOW + 100 * MS) == [
        ("snapshot_begin", 8),
        ("start_snapshot",),
        ("escalation", "stale", "snapshot"),
    ]
    assert arbiter.counters()["escalation"]["snapshot_failed"] == 1
