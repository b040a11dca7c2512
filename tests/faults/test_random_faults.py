"""Several faults at a time, servers and snapshots of any kind: the promise, the rules, and that it ends."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faults.rules import Judge
from tests.faults.scenario import (
    CAUSES,
    LINES,
    MORE_SNAPSHOTS,
    MS,
    PACKETS,
    SERVERS,
    SNAPSHOTS,
    Fault,
    Scenario,
)
from tests.faults.world import World

HORIZON_NS = 1500 * MS  # the last fault is over, and every repair that can succeed has
REPAIRING = ("good", "cut, then good")


@dataclass(frozen=True)
class Storm(Scenario):
    """Any faults, any two servers."""

    hits: tuple[Fault, ...] = ()
    kinds: tuple[str, ...] = ()

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What happens to the lines, in order."""
        return self.hits

    @property
    def server_kinds(self) -> tuple[str, ...]:
        """The servers, in order of preference."""
        return self.kinds


hits = st.lists(
    st.builds(Fault, st.sampled_from(list(CAUSES)), st.integers(1, PACKETS), st.sampled_from(LINES)),
    max_size=6,
)
kinds = st.lists(st.sampled_from([kind for kind in SERVERS if kind != "none"]), max_size=3)
snapshots = st.sampled_from([*SNAPSHOTS, *MORE_SNAPSHOTS])
whens = st.sampled_from(["burst", "start", "end"])
causes = st.sampled_from(["loss", "loss", "late start", "late beginning"])


@settings(max_examples=200, deadline=None)
@given(hits, kinds, snapshots, whens, causes)
def test_any_faults_end_as_the_rules_say_and_no_book_is_wrong(
    hits: list[Fault], kinds: list[str], snapshot: str, when: str, cause: str
) -> None:
    """LIVE when everything came or a snapshot did; else STALE. `World` compares the books while LIVE."""
    storm = Storm(cause, when, "both", "", snapshot, HORIZON_NS, tuple(hits), tuple(kinds))
    world = World(storm)
    world.run()
    judge = Judge(storm)
    judge.follow(world.trace)
    assert not judge.missing(), "a hole is neither closed nor given up"
    assert not judge.loading or snapshot not in REPAIRING
    right = "ENDED" if storm.over else "LIVE"
    if not judge.lost or (storm.over and snapshot == "none"):
        assert judge.state == right
    else:
        assert snapshot not in REPAIRING
        joined_late = storm.start == "live" and world.seen == ["STARTING"]
        assert judge.state == ("STARTING" if joined_late else "STALE")
