"""A short run of the check that benchmarks/verify_live.py makes for a minute."""

import os

import pytest

from benchmarks.verify_live import verify


@pytest.mark.parametrize("network", ["loopback", "veth"])
def test_hundred_thousand_messages_a_second_with_loss_on_both_lines_add_up(network: str) -> None:
    """No message lost, each line's counters as the sender says, every book right whenever it was LIVE."""
    if network == "veth" and os.geteuid() != 0:
        pytest.skip("needs root, to make network namespaces")
    result = verify(network, seconds=2, rate=100_000)
    assert result["wrong"] == []
    assert result["checked"]["live_reads"] > 10_000
    assert result["checked"]["books_at_end"] == 500


def test_no_book_is_wrong_while_live_when_only_snapshots_repair_it() -> None:
    """What both lines lose is lost for good, again and again; the checker is a process of its own."""
    result = verify("loopback", seconds=2, rate=20_000, repair="snapshot")
    assert result["wrong"] == []
    assert result["checked"]["live_reads"] > 1000
    assert result["stat"]["gaps"]["recovered_snapshot"] > 0


def test_the_checker_beside_the_daemon_sees_a_wrong_level() -> None:
    """Its own history is wrong by one share of one order: it must tell of the reads of that book."""
    result = verify("loopback", seconds=1, rate=20_000, checker_words=["--alter", "5000"])
    assert any("the book of instrument" in wrong for wrong in result["wrong"])
