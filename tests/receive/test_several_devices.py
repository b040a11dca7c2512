"""Lines on several devices, or on one device by several of its names: in all modes that take frames."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.support.daemon import environment
from tests.support.multicast import Sender
from tests.support.netns import Veth, add_link, inside, veth_pair
from tests.support.receive_modes import DPDK_PACKET, DPDK_XDP, PACKET, XDP, XDP_GENERIC, Mode

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make network namespaces")

GROUP, PORT = "239.77.5.1", 30001
MODES = [PACKET, XDP, XDP_GENERIC, DPDK_PACKET, DPDK_XDP]

# What one turn of the receive thread brings. DPDK starts once in a process.
TURN = """
import json, sys
from feedhandler import _core
lines, settings = json.loads(sys.argv[1]), json.loads(sys.argv[2])
source = _core.Source([_core.LineSettings(*line) for line in lines], settings)
print("ready", flush=True)
sys.stdin.readline()
source.poll()  # the first turn is another
print(json.dumps({
    "lines": sorted({line for line, *_ in source.poll()}),
    "buffer_bytes": [source.stats(i)["buffer_bytes"] for i in range(len(lines))],
}))
"""


class Turn:
    """A process that has opened lines, and takes a turn when it is told to."""

    def __init__(self, pair: Veth, mode: Mode, devices: list[str], lines: list[tuple[str, str, int, str]]):
        words = [sys.executable, "-c", TURN, json.dumps(lines), json.dumps(mode.settings(devices))]
        self.process = subprocess.Popen(
            [*pair.inside(pair.receiver), *words],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def take(self) -> dict[str, Any]:
        """Return what it brought."""
        output, _ = self.process.communicate("\n", timeout=30)
        return dict(json.loads(output))


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_a_busy_device_does_not_keep_the_others_waiting(mode: Mode) -> None:
    """Each turn takes of every line: else the other line's copy of a lost packet waits behind a backlog."""
    with veth_pair("fair") as first:
        second = add_link(first)
        devices = [link.receiver_device for link in (first, second)]
        lines = [(name, GROUP, PORT, device) for name, device in zip("AB", devices, strict=True)]
        turn = Turn(first, mode, devices, lines)
        with inside(first.sender):
            senders = Sender(first.sender_address), Sender(second.sender_address)
        for i in range(300):
            for sender in senders:
                sender.send(b"%d" % i, GROUP, PORT)
        assert turn.take()["lines"] == [0, 1]
        for sender in senders:
            sender.close()


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_one_device_by_several_names_is_one_device(mode: Mode) -> None:
    """An address with a label is reported as of "vR:1"; a device may have further names."""
    with veth_pair("name") as pair:
        device, names = pair.receiver_device, ("198.18.0.9", "feedB")
        for words in (
            f"addr add 198.18.0.9/24 dev {device} label {device}:1",
            f"link property add dev {device} altname feedB",
        ):
            subprocess.run(["ip", "-n", pair.receiver, *words.split()], check=True, timeout=30)
        lines = [(name, f"239.77.5.{i}", PORT, name) for i, name in enumerate((device, *names), start=1)]
        first, *others = Turn(pair, mode, [device], lines).take()["buffer_bytes"]
        assert others == [first, first]
        assert first > 0
