"""The whole way in one command, and that its verdict can say no."""

import dataclasses
import json
import subprocess
import sys
from typing import Any

import pytest

from feedhandler import FeedState
from feedhandler.demo.scenario import DemoSettings, Outcome
from feedhandler.demo.verdict import verdict

SETTINGS = DemoSettings(seconds=10, rate=1000)


def good_outcome() -> Outcome:
    gaps = {"open": 0, "total": 3, "recovered_line": 5, "recovered_rewind": 7, "unrecovered": 0}
    return Outcome(
        killed_at_ns=1_000,
        restarted_at_ns=2_000,
        refused={name: {"at_ns": 1_500, "reason": "feed DEAD"} for name in ("strategy", "risk")},
        resumed={name: {"at_ns": 2_500} for name in ("strategy", "risk")},
        final_state=FeedState.ENDED,
        stat={"gaps": gaps, "messages": SETTINGS.messages},
        stat_before_kill={"gaps": dict(gaps)},
        compared_books=4,
        exchange={"lines": {"A": {"lost_messages": 3}, "B": {"lost_messages": 4}}},
    )


def test_a_good_outcome_is_held_throughout() -> None:
    """Every promise is held when everything went right."""
    assert all(check.held for check in verdict(SETTINGS, good_outcome()))


@pytest.mark.parametrize(
    ("change", "promise"),
    [
        (
            {"exchange": {"lines": {"A": {"lost_messages": 3}, "B": {"lost_messages": 0}}}},
            "both lines lost packets",
        ),
        ({"wrong_books": ["AAPL"]}, "every book is right"),
        ({"compared_books": 0}, "every book is right"),
        ({"final_state": FeedState.STALE}, "the session ended complete"),
        ({"refused": {}}, "strategy refused when the daemon died"),
        ({"resumed": {}}, "risk acted again once the books were right"),
        (
            {"stat": {"gaps": good_outcome().stat["gaps"], "messages": 1}},
            "every message was applied, in order",
        ),
        (
            {"stat_before_kill": {"gaps": {**good_outcome().stat["gaps"], "unrecovered": 1}}},
            "every hole was found and filled",
        ),
    ],
)
def test_a_broken_promise_is_told(change: dict[str, Any], promise: str) -> None:
    """Each promise is told as broken when what it stands on fails."""
    checks = verdict(SETTINGS, dataclasses.replace(good_outcome(), **change))
    assert promise in [check.promise for check in checks if not check.held]


def test_the_demo_holds_its_promises() -> None:
    """Exchange, daemon, strategy and risk process on loopback: every promise is held, exit status 0."""
    command = [sys.executable, "-c", "from feedhandler.cli import main; main()", "demo", "--json"]
    done = subprocess.run(
        [*command, "--seconds", "8", "--rate", "10000"],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    answer = json.loads(done.stdout)
    assert answer["held"] is True
    assert len(answer["checks"]) == 9
