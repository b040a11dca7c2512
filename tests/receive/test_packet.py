"""What is special to AF_PACKET rings; what all receive modes have in common is in test_conformance.py."""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dpkt
import pytest

from feedhandler import _core
from tests.support.daemon import COMMAND, environment
from tests.support.frames import FrameSender, multicast_address, packet
from tests.support.multicast import Sender
from tests.support.netns import Veth, inside
from tests.support.receiver import Receiver, digest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make network namespaces")

GROUP, PORT = "239.77.2.1", 30001
SETTINGS = {"mode": "packet", "packet": {"ring_mib": 1}}
FRAMES = (1 << 20) // 1600
"""Of a ring of 1 MiB at an MTU of 1500, each with 84 bytes for headers and tag, in steps of 64."""


def receiver(pair: Veth, *prefix: str) -> Receiver:
    """Receive one line in the receiver's namespace."""
    line = ("A", GROUP, PORT, pair.receiver_device, "")
    return Receiver([line], SETTINGS, prefix=[*pair.inside(pair.receiver), *prefix])


def set_mtu(pair: Veth, mtu: int) -> None:
    """Set it on both ends."""
    for namespace, device in (
        (pair.sender, pair.sender_device),
        (pair.receiver, pair.receiver_device),
    ):
        subprocess.run(
            ["ip", "-n", namespace, "link", "set", device, "mtu", str(mtu)], check=True, timeout=30
        )


def test_ring_holds_as_many_frames_as_the_document_says(pair: Veth, sender: Sender) -> None:
    """A receiver that stands still loses what is beyond, and tells how many."""
    with receiver(pair) as running:
        running.stop()
        for _ in range(FRAMES + 50):
            sender.send(b"x", GROUP, PORT)
        running.go_on()
        got = running.until()["got"][0]
        while len(got) < FRAMES:
            got += running.until()["got"][0]
        sender.send(b"last", GROUP, PORT)
        answer = running.until((0, b"last"))
        assert len(got) + len(answer["got"][0]) == FRAMES + 1
        assert answer["counters"]["device_drops"] == answer["stats"][0]["kernel_drops"] == 50


def test_frames_of_others_take_no_room_in_the_ring(pair: Veth, sender: Sender) -> None:
    """The filter is the kernel's: a busy neighbour cannot push the line out."""
    with receiver(pair) as running:
        running.stop()
        for _ in range(2 * FRAMES):
            sender.send(b"x", "239.77.2.2", PORT)
            sender.send(b"x", GROUP, PORT + 1)
        sender.send(b"ours", GROUP, PORT)
        running.go_on()
        answer = running.until((0, b"ours"))
        assert len(answer["got"][0]) == 1
        assert not any(answer["counters"].values())


def test_jumbo_frames_fit_and_those_of_a_raised_mtu_are_counted(pair: Veth, sender: Sender) -> None:
    """The ring is laid out for the device's MTU at the start."""
    try:
        set_mtu(pair, 9000)
        with receiver(pair) as running:
            sender.send(b"x" * 8972, GROUP, PORT)
            assert len(running.until((0, b"x" * 8972))["got"][0]) == 1
            set_mtu(pair, 9500)
            sender.send(b"x" * 9472, GROUP, PORT)
            sender.send(b"after", GROUP, PORT)
            answer = running.until((0, b"after"))
            assert len(answer["got"][0]) == 1
            assert {name: n for name, n in answer["counters"].items() if n} == {"bad_frames": 1}
    finally:
        set_mtu(pair, 1500)


def test_datagrams_of_this_host_are_taken_once(pair: Veth) -> None:
    """On the loopback device each passes twice, out and in; what goes out by another did not come in."""
    with inside(pair.receiver):
        senders = [Sender("127.0.0.1"), Sender(pair.receiver_address)]
    lines = [("A", GROUP, PORT, "127.0.0.1", ""), ("B", GROUP, PORT, pair.receiver_device, "")]
    with Receiver(lines, SETTINGS, prefix=pair.inside(pair.receiver)) as running:
        for i in range(10):
            senders[1].send(b"out", GROUP, PORT)
            senders[0].send(b"%d" % i, GROUP, PORT)
        answer = running.until((0, b"9"))
        assert answer["got"] == [[digest(b"%d" % i) for i in range(10)], []]
    for sender in senders:
        sender.close()


def odd_frames(sender: str, count: int) -> Iterator[bytes]:
    """Yield frames of two lines and near them: headers damaged or rare, lengths and sums right or not."""
    chance = random.Random(5)
    for number in range(count):
        group = chance.choice([GROUP, "239.77.2.2", "239.77.2.3"])
        options = b"\x01" * 4 * chance.choice([0, 0, 0, 1, 10])
        address = chance.choice([sender, sender, "198.18.0.9"])
        made = bytearray(
            packet(b"%d" % number, group, chance.choice([PORT, PORT + 1]), address, options=options)
        )
        for _ in range(chance.choice([0, 0, 1, 2])):
            made[chance.randrange(len(made))] ^= 1 << chance.randrange(8)
        if chance.random() < 0.3:
            made[6:8] = chance.choice([b"\x20\0", b"\0\x10", b"\x40\0", b"\x80\0"])  # MF, offset, DF, evil
        if chance.random() < 0.5:
            header = 4 * max(made[0] & 0xF, 5)
            made[10:12] = b"\0\0"
            made[10:12] = dpkt.in_cksum(bytes(made[:header])).to_bytes(2, "big")
        ethertype = chance.choice([b"\x08\0"] * 9 + [b"\x08\x06"])
        cut = chance.choice([None] * 9 + [-1])
        yield (multicast_address(group) + b"\2\0\0\0\0\1" + ethertype + bytes(made))[:cut]


def test_filter_keeps_out_no_datagram_of_a_line(pair: Veth) -> None:
    """4,000 frames: what arrives is what the lines, one with a sender, take of them without a filter."""
    lines = [
        ("A", GROUP, PORT, pair.receiver_device, ""),
        ("B", "239.77.2.2", PORT, pair.receiver_device, pair.sender_address),
    ]
    table = _core.FrameLines([_core.LineSettings(*line) for line in lines])
    frames = FrameSender(pair.sender, pair.sender_device)
    expected: list[list[str]] = [[], []]
    got: list[list[str]] = [[], []]
    with Receiver(lines, SETTINGS, prefix=pair.inside(pair.receiver)) as running:
        for number, frame in enumerate([*odd_frames(pair.sender_address, 4000), None]):
            if number % 250 == 0:  # the ring is small
                end = b"end %d" % number
                frames.send(packet(end, GROUP, PORT, pair.sender_address), multicast_address(GROUP))
                expected[0].append(digest(end))
                for line, more in zip(got, running.until((0, end))["got"], strict=True):
                    line.extend(more)
            if frame is None:
                break
            frames.socket.send(frame)
            if taken := table.take(frame):
                expected[taken[0]].append(digest(taken[1]))
    frames.close()
    assert got == expected
    assert min(map(len, expected)) > 100


def test_net_raw_is_all_it_needs(pair: Veth, sender: Sender) -> None:
    """As nobody with that one capability it receives."""
    only = [
        *("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"),
        *("--inh-caps=-all,+net_raw", "--ambient-caps=-all,+net_raw", "--bounding-set=-all,+net_raw"),
    ]
    with receiver(pair, *only) as running:
        sender.send(b"x", GROUP, PORT)
        running.until((0, b"x"))


def test_missing_capability_is_named(pair: Veth) -> None:
    """One line: the mode, the device, what it needs."""
    refused = receiver(pair, "setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw")
    assert refused.failure() == (
        'RuntimeError: receive.mode "packet" on vR: AF_PACKET socket (needs CAP_NET_RAW): '
        "Operation not permitted"
    )


CONFIG = """\
[channel]
name = "checked"
[[line]]
name = "A"
group = "239.77.2.1"
port = 30001
interface = "vR"
[receive]
mode = "packet"
[metrics]
listen = ""
"""


def test_check_opens_the_lines_in_this_mode(pair: Veth, tmp_path: Path) -> None:
    """With the capability: ok and the ring; without: an error and the remedy."""
    path = tmp_path / "feed.toml"
    path.write_text(CONFIG)

    def finding(*prefix: str) -> str:
        done = subprocess.run(
            [*pair.inside(pair.receiver), *prefix, *COMMAND, "check", "--config", str(path)],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )
        lines = done.stdout.splitlines()
        at = next(i for i, line in enumerate(lines) if "receive.mode" in line)
        return " ".join(" ".join(lines[at : at + 2]).split())

    assert finding().startswith("ok receive.mode: packet can be had, 16 MiB a device")
    without = finding("setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw")
    assert without.startswith(
        'ERROR receive.mode: receive.mode "packet" on vR: AF_PACKET socket (needs CAP_NET'
    )
    assert "-> systemd/mode-packet.conf gives the unit what this mode needs" in without


SEALED = """
import ctypes, os, sys
from feedhandler import _core
source = _core.Source([_core.LineSettings("A", "239.77.2.1", 30001, "vR")], {"mode": sys.argv[1]})
print("ready", flush=True)
sys.stdin.readline()
write = os.write
ctypes.CDLL(None).prctl(22, 1, 0, 0, 0)  # PR_SET_SECCOMP, SECCOMP_MODE_STRICT: read, write and nothing else
n = len(source.poll()) + len(source.poll())
write(1, b"%d" % n)
"""


@pytest.mark.parametrize(("mode", "output"), [("packet", "20"), ("socket", "")])
def test_poll_makes_no_system_call(pair: Veth, sender: Sender, mode: str, output: str) -> None:
    """In a process that the kernel kills for any; a socket's poll is killed."""
    sealed = subprocess.Popen(
        [*pair.inside(pair.receiver), sys.executable, "-c", SEALED, mode],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert sealed.stdout is not None
        assert sealed.stdout.readline() == "ready\n"
        for _ in range(20):
            sender.send(b"x", GROUP, PORT)
        assert sealed.communicate("go\n", timeout=60)[0] == output
        assert sealed.returncode < 0  # the end of a process is a system call too
    finally:
        sealed.kill()
        sealed.wait()


WAITING = """
import select, subprocess, sys, time
from feedhandler import _core
source = _core.Source([_core.LineSettings("A", "239.77.2.1", 30001, "vR")], {"mode": "packet"})
link = ["ip", "link", "set", "vR"]
subprocess.run([*link, "down"], check=True)
print(bool(select.select(source.fds(), [], [], 10)[0]))
source.counters()  # as the feed does ten times a second
print(bool(select.select(source.fds(), [], [], 0.05)[0]))
subprocess.run([*link, "up"], check=True)
subprocess.run(["ip", "route", "replace", "239.0.0.0/8", "dev", "vR"], check=True)
"""


def test_link_that_is_down_does_not_keep_a_waiting_loop_awake(pair: Veth) -> None:
    """The error that it leaves on the socket is taken away with the next look at the statistics."""
    done = subprocess.run(
        [*pair.inside(pair.receiver), sys.executable, "-c", WAITING],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "True\nFalse\n", done.stderr


def test_a_ring_of_fewer_frames_than_a_turn_takes_hands_each_out_once(pair: Veth) -> None:
    """On the loopback device a frame may have 64 KiB: 1 MiB holds 15, a turn takes 32 of a line."""
    with inside(pair.receiver):
        source = _core.Source([_core.LineSettings("A", GROUP, PORT, "127.0.0.1")], SETTINGS)
        sender = Sender("127.0.0.1")
    for turn in range(4):
        sent = [b"%d" % (100 * turn + i) for i in range(15)]
        for payload in sent:
            sender.send(payload, GROUP, PORT)
        got = [payload for _ in range(3) for _, payload, _, _ in source.poll()]
        assert got == sent
    sender.close()
