"""The socket source on loopback, unprivileged, and across a veth pair."""

import os
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from feedhandler import _core
from tests.support.multicast import Sender, free_port, free_ports
from tests.support.netns import veth_pair
from tests.support.wait import wait_for

GROUP_A, GROUP_B, GROUP_OTHER = "239.195.1.1", "239.195.1.2", "239.195.1.3"


def open_source(*lines: tuple[str, int], interface: str = "127.0.0.1", source: str = "") -> _core.Source:
    """Open one line for each (group, port)."""
    return _core.Source(
        [_core.LineSettings(f"L{i}", group, port, interface, source) for i, (group, port) in enumerate(lines)]
    )


def receive(source: _core.Source, count: int) -> list[tuple[int, bytes]]:
    """Return (line, payload) of the next `count` datagrams."""
    found: list[tuple[int, bytes]] = []

    def enough() -> bool:
        found.extend((line, payload) for line, payload, _, _ in source.poll())
        return len(found) >= count

    wait_for(enough, f"{count} datagrams")
    return found


@pytest.fixture
def sender() -> Iterator[Sender]:
    """Send from loopback."""
    with Sender() as made:
        yield made


def test_every_datagram_of_every_line_arrives_whole_and_in_order(sender: Sender) -> None:
    """Sizes from nothing to the largest there is, on three lines, more than one batch holds."""
    ports = list(free_ports(3))
    lines = list(zip((GROUP_A, GROUP_B, GROUP_OTHER), ports, strict=True))
    source = open_source(*lines)
    sizes = [0, 1, 20, 1472, 65507] + [i % 1400 for i in range(95)]
    sent: dict[int, list[bytes]] = {0: [], 1: [], 2: []}
    for i, size in enumerate(sizes):
        for line, (group, port) in enumerate(lines):
            payload = bytes([i, line]).ljust(size, b".")[:size]
            sender.send(payload, group, port)
            sent[line].append(payload)
    got: dict[int, list[bytes]] = {0: [], 1: [], 2: []}
    for line, payload in receive(source, 3 * len(sizes)):
        got[line].append(payload)
    assert got == sent


def test_first_packets_come_in_order_of_arrival(sender: Sender) -> None:
    """The feed starts with the first packet it is given: a line's place in the list must not decide which."""
    port_a, port_b = free_ports(2)
    source = open_source((GROUP_A, port_a), (GROUP_B, port_b))
    for number, (group, port) in enumerate([(GROUP_B, port_b), (GROUP_A, port_a), (GROUP_B, port_b)]):
        sender.send(b"%d" % number, group, port)
    assert receive(source, 3) == [(1, b"0"), (0, b"1"), (1, b"2")]


def test_other_group_on_the_same_port_stays_out(sender: Sender) -> None:
    """Another process joins another group on the port: the kernel must not mix it into the line."""
    port = free_port()
    neighbour = open_source((GROUP_OTHER, port))
    source = open_source((GROUP_A, port))
    sender.send(b"other", GROUP_OTHER, port)
    sender.send(b"unicast", "127.0.0.1", port)
    sender.send(b"ours", GROUP_A, port)
    assert receive(source, 1) == [(0, b"ours")]
    assert receive(neighbour, 1) == [(0, b"other")]
    assert source.poll() == []


def test_wrong_port_stays_out(sender: Sender) -> None:
    """The group on another port is not the line."""
    port, other = free_ports(2)
    source = open_source((GROUP_A, port))
    sender.send(b"wrong", GROUP_A, other)
    sender.send(b"right", GROUP_A, port)
    assert receive(source, 1) == [(0, b"right")]


def test_two_receivers_of_one_group_both_get_all(sender: Sender) -> None:
    """A second receiver on the machine, a capture tool say, takes nothing away."""
    port = free_port()
    sources = [open_source((GROUP_A, port)) for _ in range(2)]
    sender.send(b"x", GROUP_A, port)
    for source in sources:
        assert receive(source, 1) == [(0, b"x")]


def test_source_specific_join_keeps_other_senders_out() -> None:
    """With `source` only that sender's datagrams come in, by address and by device name."""
    port = free_port()
    by_address = open_source((GROUP_A, port), source="127.0.0.2")
    by_name = open_source((GROUP_A, port), interface="lo", source="127.0.0.2")
    with Sender("127.0.0.1") as wrong, Sender("127.0.0.2") as right:
        wrong.send(b"wrong", GROUP_A, port)
        right.send(b"right", GROUP_A, port)
    assert receive(by_address, 1) == [(0, b"right")]
    assert receive(by_name, 1) == [(0, b"right")]


def test_datagrams_carry_the_kernels_receive_time(sender: Sender) -> None:
    """The timestamp is the kernel's, in UTC ns, between sending and reading."""
    port = free_port()
    source = open_source((GROUP_A, port))
    before = time.time_ns()
    sender.send(b"x", GROUP_A, port)
    select.select(source.fds(), [], [], 10)
    [(_, _, ts_recv_ns, kind)] = source.poll()
    assert kind == "kernel"
    assert before <= ts_recv_ns <= time.time_ns()
    assert source.stats(0)["timestamp_kind"] == "kernel"


def test_kernel_drops_are_counted_also_at_the_end_of_a_burst(sender: Sender) -> None:
    """What the socket buffer could not take is counted exactly, though no later datagram tells it."""
    port = free_port()
    source = open_source((GROUP_A, port))
    shrink_buffer(source.fds()[0])
    for _ in range(200):
        sender.send(b"x" * 1000, GROUP_A, port)
    arrived = len(source.poll())
    assert 0 < arrived < 200
    assert source.stats(0)["kernel_drops"] == 200 - arrived


def shrink_buffer(fd: int) -> None:
    """Give the socket the smallest receive buffer."""
    with socket.socket(fileno=os.dup(fd)) as duplicate:
        duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)


def test_granted_buffer_is_what_the_kernel_says() -> None:
    """The size reported is the one granted, not the one asked for."""
    source = open_source((GROUP_A, free_port()))
    stats = source.stats(0)
    with socket.socket(fileno=os.dup(source.fds()[0])) as duplicate:
        assert stats["buffer_bytes"] == duplicate.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


def test_unprivileged_receiver_gets_the_capped_buffer_and_says_so() -> None:
    """Without CAP_NET_ADMIN the buffer is capped by net.core.rmem_max; the line still works."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to drop its capabilities")
    program = (
        "import os; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "from feedhandler import _core\n"
        f"s = _core.Source([_core.LineSettings('A', '{GROUP_A}', {free_port()}, '127.0.0.1')])\n"
        "print(s.stats(0)['buffer_forced'], s.stats(0)['buffer_bytes'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", preload_core() + program], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    forced, granted = done.stdout.split()
    with open("/proc/sys/net/core/rmem_max") as file:  # noqa: PTH123
        assert (forced, int(granted)) == ("False", min(2 * int(file.read()), 128 << 20))


def preload_core() -> str:
    """Return code that imports the compiled module while still root: its folder may be closed to others."""
    return f"import sys; sys.path[:0] = {sys.path!r}\nfrom feedhandler import _core\n"


@pytest.mark.parametrize(
    ("group", "interface", "reason"),
    [(GROUP_A, "nope0", "No such device"), (GROUP_A, "192.0.2.1", "No such device")],
)
def test_join_that_fails_names_line_group_and_interface(group: str, interface: str, reason: str) -> None:
    """The message is enough to find the cause."""
    with pytest.raises(RuntimeError, match=f"line L0: join {group} on {interface}: {reason}"):
        open_source((group, free_port()), interface=interface)


def test_poll_without_traffic_returns_nothing_at_once() -> None:
    """The source never blocks."""
    assert open_source((GROUP_A, free_port())).poll() == []


def test_joined_lines_receive_across_a_veth_pair() -> None:
    """Between two namespaces, joined by device name and by address: all arrive, in order."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to make network namespaces")
    with veth_pair("rx") as pair:
        enter_namespace = f"/run/netns/{pair.receiver}"
        program = (
            "import os, ctypes, select, sys\n"
            f"sys.path[:0] = {sys.path!r}\n"
            f"fd = os.open('{enter_namespace}', os.O_RDONLY)\n"
            "assert ctypes.CDLL(None, use_errno=True).setns(fd, 0x40000000) == 0\n"
            "from feedhandler import _core\n"
            f"s = _core.Source([_core.LineSettings('A', '239.77.1.1', 30001, '{pair.receiver_device}'),"
            f" _core.LineSettings('B', '239.77.1.2', 30002, '{pair.receiver_address}')])\n"
            "print('ready', flush=True)\n"
            "got = [[], []]\n"
            "while min(map(len, got)) < 500:\n"
            "    assert select.select(s.fds(), [], [], 20)[0], got\n"
            "    for line, payload, _, _ in s.poll(): got[line].append(int(payload))\n"
            "print(got == [list(range(500))] * 2)\n"
        )
        receiver = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        try:
            assert receiver.stdout is not None
            assert receiver.stdout.readline() == "ready\n"
            send_from_namespace(pair.sender, pair.sender_address)
            assert receiver.communicate(timeout=60)[0] == "True\n"
        finally:
            receiver.kill()
            receiver.wait()


def test_busy_polling_is_reported_by_the_napi_id_that_was_seen() -> None:
    """A veth pair has a NAPI only with `gro on` behind and `tso off` before it; else the id stays 0."""
    if os.geteuid() != 0 or not shutil.which("ethtool"):
        pytest.skip("needs root and ethtool, to give a veth pair a NAPI")
    with veth_pair("napi") as pair:
        for namespace, words in ((pair.receiver, ["vR", "gro", "on"]), (pair.sender, ["vS", "tso", "off"])):
            command = [*pair.inside(namespace), "ethtool", "-K", *words]
            subprocess.run(command, check=True, capture_output=True, timeout=30)
        program = preload_core() + (
            "import select\n"
            f"line = _core.LineSettings('A', '239.77.1.1', 30001, '{pair.receiver_device}')\n"
            "s = _core.Source([line], {'spin': True})\n"
            "print('ready', flush=True)\n"
            "assert select.select(s.fds(), [], [], 20)[0]\n"
            "s.poll()\n"
            "stats = s.stats(0)\n"
            "print(stats['napi_id'] > 0, stats['busy_poll'], stats['prefer_busy_poll'])\n"
        )
        receiver = subprocess.Popen(
            [*pair.inside(pair.receiver), sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
        )
        try:
            assert receiver.stdout is not None
            assert receiver.stdout.readline() == "ready\n"
            send_from_namespace(pair.sender, pair.sender_address)
            assert receiver.communicate(timeout=60)[0] == "True True True\n"
        finally:
            receiver.kill()
            receiver.wait()


def send_from_namespace(namespace: str, address: str) -> None:
    """Send 500 numbers to both groups from within the namespace."""
    program = (
        "import socket\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        f"s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton('{address}'))\n"
        "for i in range(500):\n"
        "    for line in (1, 2): s.sendto(b'%d' % i, (f'239.77.1.{line}', 30000 + line))\n"
    )
    subprocess.run(["ip", "netns", "exec", namespace, sys.executable, "-c", program], check=True, timeout=60)


def test_clock_follows_a_stepped_system_clock_without_running_backwards() -> None:
    """Small errors are slewed, a jump ahead is taken, a jump back only slows the clock down."""
    clock = _core.FeedClock(monotonic_ns=0, realtime_ns=10**18)
    second = 10**9
    clock.anchor(second, 10**18 + second + 10_000_000)  # 10 ms ahead: 1 ms a second is made up
    assert clock.now_ns() == 10**18 + second + 1_000_000
    clock.anchor(2 * second, 10**18 + 3602 * second)
    assert clock.now_ns() == 10**18 + 3602 * second
    previous = clock.now_ns()
    for i in range(3, 8000):  # an hour back: half speed until it agrees
        clock.anchor(i * second, 10**18 + i * second)
        assert clock.now_ns() > previous
        previous = clock.now_ns()
    assert abs(clock.now_ns() - (10**18 + 7999 * second)) <= second
