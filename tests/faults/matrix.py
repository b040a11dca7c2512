"""The rows of the fault matrix: `matrix.toml`, one scenario a row, with the trace that the docs promise.

`python -m tests.faults.matrix accept` writes what the program does now into the rows, for a reviewer to read
as a difference; it refuses what breaks the promise or a rule of `rules.py`.
"""

from __future__ import annotations

import itertools
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from tests.faults import rules
from tests.faults.scenario import (
    CAUSES,
    HORIZON_NS,
    LINES,
    MS,
    SERVER_LEVELS,
    SNAPSHOTS,
    WHENS,
    Scenario,
)
from tests.faults.world import World, lines_of

FILE = Path(__file__).with_name("matrix.toml")
NEVER = "never"


@dataclass(frozen=True)
class Row:
    """A scenario and what must come of it."""

    scenario: Scenario
    states: str  # that a consumer saw, in order
    time_to_live: str  # ms, or NEVER; 0 when LIVE was never left
    trace: tuple[str, ...]

    def __str__(self) -> str:
        return str(self.scenario)


def load() -> list[Row]:
    """Return the rows in their order."""
    out = []
    for row in tomllib.loads(FILE.read_text())["row"]:
        scenario = Scenario(*row["what"].split(" / "), horizon_ns=row.get("until_ms", HORIZON_NS // MS) * MS)
        out.append(Row(scenario, row["states"], row["time_to_live"], tuple(row["trace"].split("\n")[:-1])))
    return out


def observe(scenario: Scenario) -> Row:
    """Play a scenario, judge it by the rules, and return what came of it."""
    world = World(scenario)
    world.run()
    rules.check(world)
    assert world.checks or "LIVE" not in world.seen, "nothing was compared while LIVE"
    took_ns = world.time_to_live_ns()
    states = " ".join(world.seen[1:] if scenario.starts_before else world.seen)
    time_to_live = NEVER if took_ns is None else f"{took_ns / MS:.3f}"
    return Row(scenario, states, time_to_live, tuple(lines_of(world)))


# ---- what the rows must cover

LOSING = rules.LOSING


def missing_combinations(rows: list[Row]) -> list[tuple[str, ...]]:
    """Return what no row covers: of cause, time and line; and pairs of all factors for loss on both lines."""
    have = {(row.scenario.cause, row.scenario.when, row.scenario.line) for row in rows}
    out = [wanted for wanted in itertools.product(CAUSES, WHENS, LINES) if wanted not in have]
    factors = (LOSING, tuple(WHENS), SERVER_LEVELS, tuple(SNAPSHOTS))
    seen = set()
    for row in rows:
        s = row.scenario
        if s.line == "both":
            for pair in itertools.combinations(enumerate((s.cause, s.when, s.servers, s.snapshot)), 2):
                seen.add(pair)
    for (i, first), (j, second) in itertools.combinations(enumerate(factors), 2):
        out += [(a, b) for a, b in itertools.product(first, second) if ((i, a), (j, b)) not in seen]
    return out


# ---- writing them

HEAD = """\
# The fault matrix: each row is a test, and a row of docs/fault-matrix.md, which is generated from this file.
# what:  cause / when / line / re-request servers / snapshot server, in the words of scenario.py
# trace: milliseconds from the fault (the moment at which the packet hit first would arrive on line A), then
#        what happened at that instant. An ordinary start of the session before the fault is not repeated.
"""


def text_of(rows: list[Row]) -> str:
    """Return the file's text."""
    out = [HEAD]
    for row in rows:
        until = row.scenario.horizon_ns
        out += [
            "[[row]]",
            f'what = "{row}"',
            *([f"until_ms = {until // MS}"] if until != HORIZON_NS else []),
            f'states = "{row.states}"',
            f'time_to_live = "{row.time_to_live}"',
            "trace = '''",
            *row.trace,
            "'''",
            "",
        ]
    return "\n".join(out)


def accept() -> int:
    """Write what happens now into the rows; returns how many changed."""
    before = load()
    now = [observe(row.scenario) for row in before]
    FILE.write_text(text_of(now))
    return sum(a != b for a, b in zip(before, now, strict=True))


if __name__ == "__main__":
    if sys.argv[1:] != ["accept"]:
        sys.exit(__doc__)
    print(f"{accept()} rows changed: read the difference before you believe it")
