"""Behind a bridge that snoops, as switches do: only who joins, and goes on saying so, gets anything."""

import contextlib
import json
import os
import select
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.multicast import Sender
from tests.support.netns import Veth, inside, receivers_on_bridge
from tests.support.receive_modes import MODES, Mode
from tests.support.receiver import Receiver
from tests.support.wait import wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make network namespaces")

GROUP, PORT = "239.77.3.1", 30001
PACKETS, SECONDS = 400, 8.0


@pytest.fixture(scope="module")
def no_join(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the library that swallows joins."""
    library = tmp_path_factory.mktemp("preload") / "no_join.so"
    source = Path(__file__).resolve().parent.parent / "support" / "no_join.c"
    subprocess.run(
        ["gcc", "-O1", "-shared", "-fPIC", "-o", str(library), str(source)], check=True, timeout=60
    )
    return library


def receiver(mode: Mode, pair: Veth, preload: str = "") -> Receiver:
    """Receive the line by this mode, in the namespace of this port."""
    env = mode.environment()
    if preload:
        env["LD_PRELOAD"] = ":".join(filter(None, (preload, env.get("LD_PRELOAD", ""))))
    line = ("A", GROUP, PORT, pair.receiver_device, "")
    prefix = pair.inside(pair.receiver)
    return Receiver([line], mode.settings([pair.receiver_device]), prefix=prefix, env=env)


def ports_with_members(pair: Veth) -> set[str]:
    """Return the bridge's ports on which the group was joined."""
    command = ["bridge", "-n", pair.sender, "-j", "mdb", "show"]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    return {e["port"] for table in json.loads(text) for e in table.get("mdb", []) if e["grp"] == GROUP}


def floods(sender: Sender, listener: socket.socket) -> bool:
    """Does a datagram come out at a port where nobody joined its group?"""
    sender.send(b"probe", GROUP, PORT + 1)
    while select.select([listener], [], [], 0.05)[0]:
        if b"probe" in listener.recv(2048):
            return True
    return False


def test_lines_are_received_for_longer_than_a_membership_lasts_and_not_without_one(no_join: Path) -> None:
    """All modes at once, 8 s: 400 of 400 for who joins; next to nothing for the same without its joins."""
    with contextlib.ExitStack() as stack:
        pairs = stack.enter_context(receivers_on_bridge("snoop", 2 * len(MODES), snooping=True))
        joined, silent = pairs[: len(MODES)], pairs[len(MODES) :]
        receivers = [receiver(mode, pair) for mode, pair in zip(MODES, joined, strict=True)]
        receivers += [receiver(mode, pair, str(no_join)) for mode, pair in zip(MODES, silent, strict=True)]
        for each in receivers:
            stack.enter_context(each)
        with inside(pairs[0].sender):
            sender = stack.enter_context(Sender(pairs[0].sender_address))
        with inside(silent[0].receiver):
            listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL
            stack.enter_context(listener)
        expected = {pair.sender_device for pair in joined}
        wait_for(lambda: ports_with_members(pairs[0]) == expected, "membership of each port")
        wait_for(lambda: not floods(sender, listener), "end of the flooding")
        started = time.monotonic()
        for i in range(PACKETS):
            due = started + i * SECONDS / PACKETS
            time.sleep(max(0.0, due - time.monotonic()))
            sender.send(b"%d" % i, GROUP, PORT)
        last = (0, b"%d" % (PACKETS - 1))
        names = [mode.name for mode in MODES]
        of_joined, of_silent = receivers[: len(MODES)], receivers[len(MODES) :]
        got = {name: len(r.until(last)["got"][0]) for name, r in zip(names, of_joined, strict=True)}
        assert got == dict.fromkeys(names, PACKETS)
        got = {name: len(r.until()["got"][0]) for name, r in zip(names, of_silent, strict=True)}
        assert all(count < PACKETS // 10 for count in got.values()), got
