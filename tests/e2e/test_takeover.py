"""A hot pair of real daemons under a running feed: killed, hung, STALE, restarted, again and again."""

import os

import pytest

from benchmarks.verify_takeover import verify

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make namespaces")


def check(network: str, transport: str, times: int, seed: int) -> None:
    """Nothing lost, nothing twice, in order: byte for byte the lossless stream."""
    result = verify(times, network, transport, messages=16_000, rate=3000, seed=seed)
    assert result["wrong"] == []
    if transport == "shm":  # of ZeroMQ: at most so many, and a busy machine makes it more
        assert result["lost"] == 0
    assert min(result.get("delivered_from", [1])) > 0
    counts = {kind: len(found) for kind, found in result["samples"].items()}
    faults = ("SIGKILL", "SIGSTOP", "STALE")
    assert counts["no fault"] == sum(counts.get(kind, 0) for kind in faults) == times


def test_takeovers_lose_nothing_and_repeat_nothing() -> None:
    """On loopback, in shared memory: the stream of mbo records is the lossless one."""
    check("loopback", "shm", 5, 3)


@as_root
def test_takeovers_between_two_hosts() -> None:
    """Each daemon in a network namespace of its own, on one bridge with the exchange."""
    check("veth", "shm", 3, 4)


@as_root
def test_takeovers_between_two_hosts_over_zmq() -> None:
    """A subscriber of both hosts' publishers: each topic is the lossless one."""
    check("veth", "zmq", 2, 5)
