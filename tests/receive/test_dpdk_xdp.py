"""What is special to DPDK's driver net_af_xdp: the filter that we give it, and what it leaves on a device."""

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.capabilities import nobody_with
from tests.support.multicast import Sender
from tests.support.netns import Veth, inside, veth_pair
from tests.support.receive_modes import DPDK_XDP, XDP, Settings
from tests.support.receiver import LineText, Receiver, digest
from tests.support.xdp import leave_program, program_on, set_two_queues

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make network namespaces")

GROUP, PORT = "239.77.7.1", 30001
ASKED = DPDK_XDP.clean
assert ASKED is not None


@pytest.fixture
def pair() -> Iterator[Veth]:
    """Two namespaces: what is left on a device is gone with it."""
    with veth_pair("dpx") as made:
        yield made


def receiver(
    pair: Veth, *prefix: str, settings: Settings = DPDK_XDP.settings, ports: int = 1, **table: Any
) -> Receiver:
    """Receive the group by so many ports, each a line."""
    device = pair.receiver_device
    lines: list[LineText] = [(f"L{n}", GROUP, PORT + n, device, "") for n in range(ports)]
    return Receiver(lines, settings([device]) | table, prefix=[*pair.inside(pair.receiver), *prefix])


def test_program_knows_each_of_two_hundred_lines(pair: Veth) -> None:
    """Its jumps reach past all of them; the kernel's verifier takes it."""
    with inside(pair.sender):
        sender = Sender(pair.sender_address)
    with sender, receiver(pair, ports=200) as running:
        for n in range(201):
            sender.send(b"%d" % n, GROUP, PORT + n)
        last = [(n, b"%d" % n) for n in range(200)]
        assert running.until(*last)["got"] == [[digest(payload)] for _, payload in last]


def test_queues_that_the_driver_does_not_read_are_refused(pair: Veth) -> None:
    """A line's packets would come by them; the remedy that is named works."""
    set_two_queues(pair)
    line = receiver(pair).failure()
    assert line == (
        f'RuntimeError: receive.mode "dpdk" on {pair.receiver_device}: 2 receive queues, of which net_af_xdp '
        f"reads 1: ethtool -L {pair.receiver_device} rx 1"
    )
    with inside(pair.receiver):
        assert os.system(line.rpartition(": ")[2]) == 0
    with inside(pair.sender):  # a veth does with XDP only while its peer sends by no more queues
        assert os.system(f"ethtool -L {pair.sender_device} tx 1") == 0
    with receiver(pair):
        pass


def test_program_is_gone_with_a_receiver_that_ends_in_order(pair: Veth) -> None:
    """And was there before."""
    with receiver(pair):
        assert program_on(pair)["prog"]["id"] > 0
    assert program_on(pair) == {}


def kill(running: Receiver) -> None:
    """Give it no chance to tidy up."""
    running.wait_ready().process.kill()
    running.process.communicate()


def test_remedy_that_is_named_for_a_leftover_works(pair: Veth) -> None:
    """`ip link` does what the setting does."""
    kill(receiver(pair))
    line = receiver(pair).failure()
    assert line.endswith(f"or ip link set {pair.receiver_device} xdp off")
    with inside(pair.receiver):
        assert os.system(line.rpartition(" or ")[2]) == 0
    with receiver(pair):
        pass


def test_unprivileged_receiver_removes_nothing_whose_name_it_cannot_read(pair: Veth) -> None:
    """Not when asked to, either: it may be anybody's. The remedy is named."""
    kill(receiver(pair))
    left = program_on(pair)
    line = receiver(pair, *nobody_with(DPDK_XDP.capabilities), settings=ASKED).failure()
    assert line == (
        f'RuntimeError: receive.mode "dpdk" on {pair.receiver_device}: XDP program {left["prog"]["id"]} '
        "is there already, and only CAP_SYS_ADMIN may read its name: "
        f"ip link set {pair.receiver_device} xdp off takes it off, if a feedhandler that was killed left it"
    )
    assert program_on(pair) == left


def test_unprivileged_receiver_knows_that_another_one_runs(pair: Veth) -> None:
    """Of the same user, it sees which."""
    unprivileged = nobody_with((*DPDK_XDP.capabilities, "ipc_lock"))
    with receiver(pair, *unprivileged) as running:
        line = receiver(pair, *unprivileged, settings=ASKED).failure()
        assert re.search(r"XDP program \d+ of process \d+ \(.+\) is there already, in use", line)
        with inside(pair.sender), Sender(pair.sender_address) as sender:
            sender.send(b"x", GROUP, PORT)
        running.until((0, b"x"))


@pytest.mark.parametrize("runs", [True, False])
def test_program_of_others_is_never_removed(pair: Veth, runs: bool) -> None:
    """Whether its process runs or not."""
    with contextlib.ExitStack() as stack:
        if runs:
            stack.enter_context(receiver(pair, settings=XDP.settings))
        else:
            leave_program(pair)
        there = program_on(pair)
        line = receiver(pair, settings=ASKED).failure()
        of = r" of process \d+ \(.+\)" if runs else ""
        assert re.search(rf'XDP program {there["prog"]["id"]} "fh_lines"{of} is there already$', line)
        assert program_on(pair) == there


def with_arguments(pair: Veth, more: str, device: str = "") -> Settings:
    """Return settings whose port has more arguments; `device`: of the lines, where it is another one."""

    def settings(devices: Any) -> dict[str, Any]:
        table = DPDK_XDP.settings([pair.receiver_device])
        [port] = table["dpdk"]["ports"].values()
        return table | {"dpdk": table["dpdk"] | {"ports": {device or pair.receiver_device: port + more}}}

    return settings


def test_program_of_others_outlives_a_port_with_a_program_of_its_own(pair: Veth, tmp_path: Path) -> None:
    """The driver takes off whatever is on the device when it cannot put its own there."""
    own = tmp_path / "own.o"
    own.write_bytes(b"not one")
    leave_program(pair)
    there = program_on(pair)
    line = receiver(pair, settings=with_arguments(pair, f",xdp_prog={own}")).failure()
    assert re.search(rf'XDP program {there["prog"]["id"]} "fh_lines" is there already$', line)
    assert program_on(pair) == there


def test_of_two_that_start_together_one_receives(pair: Veth) -> None:
    """Neither sees a program on the device; the one that fails would take the other's off."""
    with contextlib.ExitStack() as stack:
        running, refused = [], []
        for one in (receiver(pair), receiver(pair)):
            stack.callback(one.close)
            running.append(one)
        for one in list(running):
            try:
                one.wait_ready()
            except AssertionError as why:
                running.remove(one)
                refused.append(str(why))
        [only] = running
        assert re.search("a feedhandler that has just started takes it|in use by a feedhandler", refused[0])
        with inside(pair.sender), Sender(pair.sender_address) as sender:
            sender.send(b"x", GROUP, PORT)
        only.until((0, b"x"))


def test_device_of_the_port_counts_where_the_lines_have_another(pair: Veth) -> None:
    """Lines are joined by a device above it: what is on the port's own is neither overlooked nor removed."""
    words = f"link add link {pair.receiver_device} name above type macvlan mode bridge"
    subprocess.run(["ip", "-n", pair.receiver, *words.split()], check=True, timeout=30)
    subprocess.run(["ip", "-n", pair.receiver, "link", "set", "above", "up"], check=True, timeout=30)
    leave_program(pair)
    there = program_on(pair)
    settings = with_arguments(pair, "", "above")([])
    line = Receiver([("A", GROUP, PORT, "above", "")], settings, prefix=pair.inside(pair.receiver)).failure()
    assert re.search(rf'{pair.receiver_device}: XDP program {there["prog"]["id"]} "fh_lines" is there', line)
    assert program_on(pair) == there
