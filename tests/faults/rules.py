"""What docs/states.md, docs/sequencing.md and docs/recovery.md say about traces, as a judge of any trace.

Knows nothing of how the arbiter works: it reads a trace from the front, keeps what the documents say matters,
and fails at the first entry that they do not allow.
"""

from __future__ import annotations

from tests.faults.scenario import ARBITRATION_NS, LINE_DOWN_NS, RETRIES, Scenario
from tests.faults.world import SECOND, Entry, World

LOSING = ("loss", "burst loss", "corruption", "line dead", "wrong session")
EIGHT_TRIES_NS = 13 * SECOND + 100_000_000  # pauses of 100 ms, 200 ms, ... 6.4 s between eight failed loads
HELPFUL = ("good", "slow", "lossy")


# What may be said of a server of each kind.
HEALTH = {
    "good": {"answered"},
    "silent": {"silent"},
    "slow": {"silent", "late"},
    "lossy": {"silent", "late", "answered"},
    "wrong session": {"lying", "silent"},
    "wrong numbers": {"lying", "silent"},
    "wrong bytes": {"lying", "silent"},
    "truncated": {"lying", "silent"},
}


class Judge:
    """Follows one trace."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.state = "STARTING"
        self.holes: dict[tuple[int, int], set[int]] = {}  # numbers missing yet
        self.opened_ns: dict[tuple[int, int], int] = {}
        self.damaged: set[tuple[int, int]] = set()  # a part was given up
        self.asked: dict[int, dict[int, int]] = {}  # number: server: how often
        self.lost = False  # for good, or never seen, and no snapshot came since
        self.loading = False
        self.dead_ns = -1  # when the servers were last taken for dead
        self.over = False
        self.down: set[int] = set()
        self.health: dict[int, str] = {}

    def follow(self, trace: list[Entry]) -> None:
        """Judge a whole trace."""
        for at, (ns, (kind, *what)) in enumerate(trace):
            follower = trace[at + 1] if at + 1 < len(trace) else (0, ("",))
            getattr(self, f"on_{kind}")(ns, *what, follower)

    def missing(self) -> bool:
        """Whether a hole is open. One given up in part may be or not: nothing tells its end."""
        return bool(self.holes.keys() - self.damaged)

    # ---- states

    def on_state(self, _ns: int, before: str, state: str, _next: Entry) -> None:
        """A state is what the events before it say."""
        assert before == self.state != state
        self.state = state
        missing = self.missing()
        if state == "LIVE":
            assert not missing, "LIVE with a hole open"
            assert not self.lost, "LIVE although messages were lost for good"
            assert not self.loading, "LIVE while a snapshot is loaded: messages wait for it"
        elif state == "RECOVERING":
            assert missing or self.damaged, "RECOVERING with nothing to recover"
            assert not self.lost, "STALE dominates RECOVERING"
        elif state == "STALE":
            assert self.lost, "STALE with nothing lost"
        elif state == "ENDED":
            assert self.over
            assert not missing, "ENDED with a hole open"
        else:
            raise AssertionError("nothing leads back to STARTING")

    def on_session_start(self, _ns: int, session: bytes, first: int, _next: Entry) -> None:
        """A new session starts with empty books: right from number 1 on."""
        assert self.state in ("STARTING", "ENDED")
        assert session.startswith(b"MATRIX"), "a foreign session was taken"
        self.over = False
        self.lost = first != 1
        self.holes.clear()
        self.damaged.clear()

    def on_session_end(self, _ns: int, _session: bytes, _next: int, follower: Entry) -> None:
        """The state follows at once."""
        assert follower[1][2] == "ENDED"
        self.over = True

    # ---- holes

    def on_gap_open(self, ns: int, first: int, last: int, follower: Entry) -> None:
        """RECOVERING at once, unless the books are not right anyway."""
        assert first <= last
        self.holes[first, last] = set(range(first, last + 1))
        self.opened_ns[first, last] = ns
        if self.state == "LIVE":
            assert follower == (ns, ("state", "LIVE", "RECOVERING"))

    def on_gap_closed(self, _ns: int, first: int, last: int, _next: Entry) -> None:
        """The hole was announced, and nothing of it was given up."""
        assert (first, last) in self.holes
        assert (first, last) not in self.damaged
        self.holes.pop((first, last))

    def on_gap_lost(self, ns: int, first: int, last: int, follower: Entry) -> None:
        """Given up after every server was asked as often as told, or because a snapshot makes it needless.

        When they answered nothing they are taken for dead, and other holes are given up at that instant too.
        """
        hole = self._hole(first)
        lost = set(range(first, last + 1))
        assert lost <= self.holes[hole]
        assert ns >= self.opened_ns[hole] + ARBITRATION_NS or self.loading
        if not self.loading:
            assert "good" not in self.scenario.server_kinds, "given up although a server has it and says so"
            if all(self._asked_enough(number) for number in lost):
                self.dead_ns = ns
            assert ns == self.dead_ns, "given up before every server was asked as often as told"
        self.holes[hole] -= lost
        self.damaged.add(hole)
        self.lost = True
        if self.state in ("LIVE", "RECOVERING"):
            assert follower == (ns, ("state", self.state, "STALE"))

    def _asked_enough(self, number: int) -> bool:
        times = self.asked.get(number, {})
        return all(times.get(server, 0) > RETRIES for server in range(len(self.scenario.server_kinds)))

    def on_request(self, ns: int, server: int, first: int, count: int, session: bytes, _next: Entry) -> None:
        """Only for what is missing, not before the other line had its time, not more often than told."""
        assert session.startswith(b"MATRIX")
        assert 1 <= count <= 0xFFFE
        hole = self._hole(first)
        assert first + count - 1 <= hole[1]
        assert ns >= self.opened_ns[hole] + ARBITRATION_NS
        for number in range(first, first + count):
            times = self.asked.setdefault(number, {})
            times[server] = times.get(server, 0) + 1

    def _hole(self, number: int) -> tuple[int, int]:
        return next(hole for hole in self.holes if hole[0] <= number <= hole[1])

    # ---- what is told beside

    def on_server(self, _ns: int, server: int, before: str, health: str, left_ns: int, _next: Entry) -> None:
        """A server is judged by what it is, and left for a while, at most a minute."""
        allowed = HEALTH[self.scenario.server_kinds[server]]
        assert before == self.health.get(server, "untried")
        assert health in allowed, f"a server that is {self.scenario.server_kinds[server]} is called {health}"
        assert 0 <= left_ns <= 60 * SECOND
        self.health[server] = health

    def on_escalation(self, _ns: int, before: str, now: str, _next: Entry) -> None:
        """What the feed does about its loss."""
        assert before != now
        if now == "none":
            assert not self.missing()
            assert not self.lost
        elif now == "snapshot":
            assert self.loading
        elif now == "stale":
            assert self.lost
            assert not self.loading
        else:
            assert self.missing() or self.damaged

    # ---- snapshots

    def on_snapshot_begin(self, _ns: int, _next_number: int, follower: Entry) -> None:
        """Only when there is no other way any more, and one at a time."""
        assert self.scenario.snapshot != "none"
        assert self.lost
        assert not self.loading
        assert follower[1][0] == "start_snapshot"
        self.loading = True

    def on_start_snapshot(self, _ns: int, _next: Entry) -> None:
        """Told by snapshot_begin."""
        assert self.loading

    def on_snapshot_end(self, _ns: int, first: int, _next: Entry) -> None:
        """0: it was no use. Else the books are right up to there, and what is lost before it is repaired."""
        assert self.loading
        self.loading = False
        if first:
            assert self.scenario.snapshot in ("good", "cut, then good")
            assert all(last >= first for _, last in self.holes.keys() - self.damaged)
            self.lost = False

    # ---- lines

    def on_line_down(self, ns: int, line: int, _next: Entry) -> None:
        """Silent for as long as told."""
        assert ns >= LINE_DOWN_NS
        assert line not in self.down
        self.down.add(line)

    def on_line_up(self, _ns: int, line: int, _next: Entry) -> None:
        """It was down."""
        self.down.remove(line)


def expected_end(scenario: Scenario) -> str:
    """Return the state at the horizon: who had everything, and who could give what was lost."""
    over = scenario.when == "end"
    right = "ENDED" if over else "LIVE"
    if not lost_on_the_lines(scenario) or any(kind in HELPFUL for kind in scenario.server_kinds):
        return right
    if scenario.snapshot in ("good", "cut, then good"):
        return right
    if over and (scenario.snapshot == "none" or scenario.horizon_ns >= EIGHT_TRIES_NS):
        return "ENDED"  # all that is missing was given up, and nobody waits for a snapshot any longer
    return "STALE"


def lost_on_the_lines(scenario: Scenario) -> bool:
    """Whether no line brings some message in time."""
    if scenario.when == "recovery":
        return True  # packet 15
    if scenario.line != "both" or scenario.cause == "duplicate":
        return False
    if scenario.cause == "reorder":  # where it does not come in time, it is given up without servers only
        return scenario.when in ("quiet", "start") and scenario.servers == "none"
    return scenario.cause in LOSING


def check(world: World) -> None:
    """Judge the whole run: its trace, and where it ended."""
    judge = Judge(world.scenario)
    judge.follow(world.trace)
    assert judge.state == world.pipeline.state == world.seen[-1]
    if world.scenario.cause in (*LOSING, "reorder", "duplicate"):
        assert judge.state == expected_end(world.scenario)
    visible = [what[2] for _, what in world.trace if what[0] == "state"]
    assert world.seen == ["STARTING", *visible], "a reader saw other states than the events tell"
