"""A hot pair of real daemons under a running feed: killed, hung, restarted, again and again."""

import os

import pytest

from benchmarks.verify_takeover import verify


def check(network: str, times: int, seed: int) -> None:
    """Nothing lost, nothing twice, in order: byte for byte the lossless stream."""
    result = verify(times, network, messages=24_000, rate=3000, seed=seed)
    assert result["wrong"] == []
    assert result["lost"] == 0
    assert min(result["delivered_from"]) > 0
    counts = {kind: found["count"] for kind, found in result["interruption_ms"].items()}
    assert counts["SIGKILL"] + counts["SIGSTOP"] == counts["no fault"] == times


def test_takeovers_lose_nothing_and_repeat_nothing() -> None:
    """SIGKILL and SIGSTOP in turn, on loopback: the stream of mbo records is the lossless one."""
    check("loopback", 14, 3)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make namespaces")
def test_takeovers_between_two_hosts() -> None:
    """Each daemon in a network namespace of its own, on one bridge with the exchange."""
    check("veth", 6, 4)
