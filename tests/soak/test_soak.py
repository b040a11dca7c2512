"""The soak in short, and proof that its checker sees what it is there to see; in long: make soak."""

from __future__ import annotations

from typing import Any

import pytest

from tests.soak.runner import Soak, play, processors

HAPPENED = ("packets_dropped", "holes", "holes_lost", "recovered_line", "recovered_rewind", "snapshots")
HAPPENED += ("snapshots_failed", "rollovers", "late_starts", "useless_replies")  # fmt: skip


def run(schedules: int, messages: int, *words: str, seed: int = 1, jobs: int = 1) -> dict[str, Any]:
    """Play some schedules, at most a minute."""
    return play(Soak(seed, jobs, messages), 60, schedules, lambda soak, seconds: None, *words)


@pytest.mark.timeout(600)
def test_no_book_is_wrong_while_live_in_seeded_fault_schedules() -> None:
    """Every message compared, in schedules in which everything happened that the soak is made of."""
    result = run(60, 40_000, jobs=processors())
    assert result["wrong"] == []
    assert result["schedules"] == 60
    assert result["books_compared"] > result["live_messages"] > 600_000
    assert result["mbp10_records_compared"] > 300_000
    assert [name for name in HAPPENED if result[name] < 10] == []


@pytest.mark.parametrize(
    ("sabotage", "seen"),
    [
        ("level", "level at rank 0"),
        ("skip", "its last change was by"),
        ("state", "is known to exist"),
        ("flag", "F_MAYBE_BAD_BOOK"),
        ("splice", "the book of instrument"),
        ("clear", "the book of instrument"),
    ],
)
def test_the_checker_sees(sabotage: str, seen: str) -> None:
    """The feed handler is broken in one place: the checker must say so, with the command that repeats it."""
    result = run(12, 20_000, "--sabotage", sabotage)
    (wrong,) = result["wrong"]
    assert seen in wrong["what"]
    assert wrong["repeat"] == f"python -m tests.soak --seed {wrong['seed']} --schedules 1 --messages 20000"
    again = run(1, 20_000, "--sabotage", sabotage, seed=wrong["seed"])
    assert again["wrong"] == [wrong]
