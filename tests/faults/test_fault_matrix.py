"""The fault matrix: each row of matrix.toml is a test, and a row of docs/fault-matrix.md."""

from __future__ import annotations

import pytest

from tests.faults import document
from tests.faults.matrix import Row, load, missing_combinations, observe
from tests.faults.scenario import Scenario
from tests.faults.stream import LOCATES
from tests.faults.world import FIRST, World

ROWS = load()


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_fault(row: Row) -> None:
    """The whole event trace, the states a consumer saw, the time to LIVE; no wrong book at any instant."""
    found = observe(row.scenario)
    assert list(found.trace) == list(row.trace)
    assert found == row


def test_rows_cover_every_cause_time_and_line_and_every_pair_of_the_rest() -> None:
    """A word added to the tables of scenario.py asks for its rows; none is there twice."""
    assert missing_combinations(ROWS) == []
    scenarios = [row.scenario for row in ROWS]
    assert len(set(scenarios)) == len(scenarios)


def test_document_is_what_the_rows_say() -> None:
    """`python -m tests.faults.document` was run after the last change."""
    assert document.FILE.read_text() == document.text(), "run: python -m tests.faults.document"


def test_checker_sees_a_wrong_book() -> None:
    """A server that tells another price is the one lie that nobody can see: the checker must see it."""
    world = World(Scenario("loss", "quiet", "both", "good", "none"))
    assert FIRST.messages[90][:1] == b"A"
    ask = world.servers[0].answer

    def cheat(request: bytes) -> tuple[int, bytes] | None:
        reply = ask(request)
        assert reply is not None
        return reply[0], reply[1][:-4] + (1_000_100).to_bytes(4, "big")  # the price of an A

    world.servers[0].answer = cheat  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match=r"LIVE at .* is wrong"):
        world.run()


def test_nearly_every_message_changes_a_book() -> None:
    """Else a lost message could go unnoticed by the comparison."""
    same = sum(FIRST.books[n] == FIRST.books[n - 1] for n in FIRST.messages)
    assert same <= 1 + len(LOCATES)  # the day's opening and the directory
