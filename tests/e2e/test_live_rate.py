"""A short run of the check that benchmarks/verify_live.py makes for a minute."""

import os

import pytest

from benchmarks.verify_live import verify


@pytest.mark.parametrize("network", ["loopback", "veth"])
def test_hundred_thousand_messages_a_second_with_loss_on_both_lines_add_up(network: str) -> None:
    """No message lost, each line's counters as the sender says, every book as in a replay without faults."""
    if network == "veth" and os.geteuid() != 0:
        pytest.skip("needs root, to make network namespaces")
    assert verify(network, seconds=2, rate=100_000)["wrong"] == []
