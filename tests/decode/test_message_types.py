"""The type and length table, and what is skipped."""

import pytest

from feedhandler import _core
from tests.support import itch_messages as itch
from tests.support.model_book import LENGTHS


def test_all_23_types_have_the_length_of_the_specification():
    """Against a table written from the specification for the tests."""
    assert _core.itch_message_lengths == LENGTHS
    assert len(LENGTHS) == 23


@pytest.mark.parametrize("kind", sorted(LENGTHS))
@pytest.mark.parametrize("extra", [-1, 1])
def test_known_type_of_wrong_length_is_malformed_and_its_number_consumed(kind, extra):
    """One byte short, one byte long: skipped, counted, no record."""
    core = _core.BookNormalizer()
    message = kind.encode() + bytes(LENGTHS[kind] + extra - 1)
    core.apply(1, [message, itch.add(1, "B", 100, 10)])
    counters = core.counters()
    assert (counters["malformed_messages"], counters["unknown_messages"], counters["messages"]) == (1, 0, 2)
    assert counters["orders"] == 1


@pytest.mark.parametrize("kind", [b"Z", b"z", b"\x00", b"\xff", b"a", b"G"])
def test_unknown_type_is_skipped_by_its_framed_length_and_counted(kind):
    """Whatever its length."""
    core = _core.BookNormalizer()
    core.apply(1, [kind + bytes(n) for n in (0, 35, 60)])
    assert core.counters()["unknown_messages"] == 3
    assert core.counters()["malformed_messages"] == 0


def test_zero_length_block_consumes_a_number_and_nothing_else():
    """Neither unknown nor malformed."""
    core = _core.BookNormalizer()
    core.apply(1, [b"", b"", itch.add(1, "B", 100, 10)])
    counters = core.counters()
    assert counters == {
        "messages": 3, "malformed_messages": 0, "unknown_messages": 0, "unknown_orders": 0,
        "refused_orders": 0, "orders": 1,
    }  # fmt: skip
    assert core.view(1)["sequence"] == 3


@pytest.mark.parametrize("kind", sorted(LENGTHS))
def test_every_known_type_passes_and_none_but_adds_leaves_an_order(kind):
    """Zero-filled messages of the right length, all fields at their smallest."""
    core = _core.BookNormalizer()
    core.apply(1, [kind.encode() + bytes(LENGTHS[kind] - 1)])
    counters = core.counters()
    assert counters["malformed_messages"] == counters["unknown_messages"] == 0
    assert counters["orders"] == (kind in "AF")
    assert core.audit() == ""
