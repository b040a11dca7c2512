"""What only packets tell of a line: who stamps them, and by which NAPI they come."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon, running, write_config
from tests.support.exchange import Line
from tests.support.frames import multicast_address, packet
from tests.support.multicast import Sender
from tests.support.netns import Veth, inside, veth_pair
from tests.support.stamped_frames import StampedSender
from tests.support.wait import wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make network namespaces")

LINE = Line("A", "239.77.12.1", 30001)
HARDWARE = 3
HEARTBEAT = b"SESSION001" + (1).to_bytes(8, "big") + bytes(2)


@pytest.fixture
def pair() -> Iterator[Veth]:
    """Two namespaces."""
    with veth_pair("facts") as made:
        yield made


@pytest.fixture
def daemon(pair: Veth, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Daemon]:
    """Run a daemon in the receiver's namespace, in the receive mode asked for."""
    mode = f'mode = "{getattr(request, "param", "socket")}"\n'
    config = write_config(tmp_path, [LINE], interface=pair.receiver_device, receive=mode)
    with running(config, tmp_path / "run", prefix=pair.inside(pair.receiver)) as made:
        yield made


def line(daemon: Daemon) -> dict[str, Any]:
    """Return the line's counters."""
    return dict(daemon.stat()["lines"]["A"])


def test_napi_that_brings_a_line_is_a_counter_and_not_in_the_log(pair: Veth, daemon: Daemon) -> None:
    """Before the first packet nobody knows; a veth pair has one with GRO behind and no TSO before it."""
    if not shutil.which("ethtool"):
        pytest.skip("needs ethtool, to give a veth pair a NAPI")
    [joined] = [entry for entry in daemon.log() if entry["event"] == "joined"]
    assert not {"napi_id", "timestamp_kind", "kernel_drops"} & set(joined)
    assert joined["buffer_bytes"] > 0
    for namespace, words in ((pair.receiver, ["vR", "gro", "on"]), (pair.sender, ["vS", "tso", "off"])):
        command = [*pair.inside(namespace), "ethtool", "-K", *words]
        subprocess.run(command, check=True, capture_output=True, timeout=30)
    assert line(daemon)["napi_id"] == 0
    with inside(pair.sender):
        sender = Sender(pair.sender_address)
    with sender:
        sender.send(HEARTBEAT, LINE.group, LINE.port)
        wait_for(lambda: line(daemon)["napi_id"] > 0, "the NAPI")


@pytest.mark.parametrize("daemon", ["socket", "packet"], indirect=True)
def test_times_of_a_card_whose_clock_cannot_be_compared_are_told_and_not_trusted(
    pair: Veth, daemon: Daemon
) -> None:
    """The kind is that of each packet; with no clock of the device to look at, nobody knows what it tells."""
    heartbeat = packet(HEARTBEAT, LINE.group, LINE.port, pair.sender_address)
    with StampedSender(pair.sender, pair.sender_device) as sender:
        for number, stamped in enumerate((True, False, True), 1):
            sender.send(heartbeat, multicast_address(LINE.group), time.time_ns() if stamped else 0)
            wait_for(lambda: line(daemon)["packets"] == number, "the packet")  # noqa: B023  waited for here
            assert (line(daemon)["timestamp_kind"] == HARDWARE) == stamped
        sender.send(heartbeat, multicast_address(LINE.group), 5 * 10**9)  # its clock was never set
        wait_for(lambda: line(daemon)["packets"] == 4, "the packet")
    found = line(daemon)
    assert found["hardware_times"] == 2
    assert found["kernel_times"] + found["user_times"] == 2
    assert found["bad_times"] >= 2
