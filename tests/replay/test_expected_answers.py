"""The committed captures give the answers that an independent model worked out."""

import json
from pathlib import Path

import pytest

from tests.support.replay_files import play

PCAPS = Path(__file__).resolve().parents[2] / "pcaps"
ANSWERS = sorted(PCAPS.glob("*.expected.json"))


def test_there_are_answers() -> None:
    """So that the test below cannot pass by finding none."""
    assert len(ANSWERS) >= 9


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda path: path.name.removesuffix(".expected.json"))
def test_replay_gives_the_expected_answer(answer: Path) -> None:
    """Every key but the two that depend on the machine."""
    counts = play(answer.with_name(answer.name.removesuffix(".expected.json"))).counts
    del counts["elapsed_s"], counts["messages_per_s"]
    assert counts == json.loads(answer.read_text())
