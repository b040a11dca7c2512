"""The settings of network devices, read from this kernel and compared with the ethtool command."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from feedhandler.daemon._ethtool import Coalescing, read_settings
from tests.support.netns import Veth, inside, veth_pair

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make network namespaces")


@pytest.fixture
def pair() -> Iterator[Veth]:
    """Two namespaces joined by a veth pair."""
    with veth_pair("E") as made:
        yield made


def ethtool(namespace: str, *words: str) -> str:
    """Run the command there."""
    command = [*Veth.inside(namespace), "ethtool", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout


def test_merging_is_seen_when_it_is_switched(pair: Veth) -> None:
    """GRO of one end, on and off and on again; the other end keeps its own."""
    with inside(pair.receiver):
        for switch in ("off", "on", "off"):
            ethtool(pair.receiver, "-K", pair.receiver_device, "gro", switch)
            assert read_settings(pair.receiver_device).gro == (switch == "on")
            assert read_settings(pair.receiver_device).lro is False
        assert read_settings(pair.receiver_device).ring is None  # a veth pair has none
        assert read_settings("nope0") == (None, None, None, None)


def test_waiting_for_more_packets_is_seen_when_it_is_set(pair: Veth) -> None:
    """By a tap device, whose driver keeps what it is told; one namespace does not see another's devices."""
    tap = ["ip", "-n", pair.receiver, "tuntap", "add", "tapE", "mode", "tap"]
    subprocess.run(tap, check=True, timeout=30)
    with inside(pair.receiver):
        assert read_settings("tapE").coalescing == Coalescing(0, 0, adaptive=False)
        ethtool(pair.receiver, "-C", "tapE", "rx-frames", "16")
        assert read_settings("tapE").coalescing == Coalescing(0, 16, adaptive=False)
    with inside(pair.sender):
        assert read_settings("tapE") == (None, None, None, None)


def test_every_device_of_this_machine_is_read_as_by_the_command() -> None:
    """Ring sizes and waits, where the drivers have any; the command's word against ours."""
    compared = 0
    for device in sorted(path.name for path in Path("/sys/class/net").iterdir()):
        settings = read_settings(device)
        done = subprocess.run(["ethtool", "-g", device], capture_output=True, text=True, timeout=30)
        sizes = [int(n) for n in re.findall(r"^RX:\s*(\d+)", done.stdout, re.MULTILINE)]
        assert ([settings.ring.most, settings.ring.size] if settings.ring else []) == sizes, device
        done = subprocess.run(["ethtool", "-c", device], capture_output=True, text=True, timeout=30)
        waits = re.search(r"^rx-usecs:\s*(\d+)", done.stdout, re.MULTILINE)
        assert bool(waits) == bool(settings.coalescing), device
        if waits and settings.coalescing:
            assert settings.coalescing.usecs == int(waits[1])
        compared += 1
    assert compared > 0  # the loopback at least
