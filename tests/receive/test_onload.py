"""Receive mode onload, against a stand-in for Onload's library over sockets of the kernel.

What this shows is that the contract of Onload's interface is kept, also where its answers are awkward. It
says nothing about Onload on a card.
"""

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import environment
from tests.support.multicast import Sender, free_port, free_ports
from tests.support.onload import preloaded
from tests.support.receiver import LineText, Receiver, digest

NOT_IN_PROCESS = "Onload is not in this process: it was not started under `onload`"
NO_SOCKET = (
    "Onload is there but accelerates no socket: "
    "is its kernel module loaded, and may this user open /dev/onload?"
)
LEFT_TO_KERNEL = (
    "Onload left its socket to the kernel when it was bound or joined: is its interface one that Onload "
    "accelerates?"
)
UNACCELERATED = {
    "absent": (None, NOT_IN_PROCESS),
    "stub": ("stub", NOT_IN_PROCESS),
    "no_module": ("no_module", NO_SOCKET),
    "handed_over": ("handed_over", LEFT_TO_KERNEL),
    "other_device": ("other_device", LEFT_TO_KERNEL),
}
PATHS = {
    "copies": ({}, {}),
    "zero copy": ({"zero_copy": True}, {}),
    "zero copy that there is not": ({"zero_copy": True}, {"zc": "enosys"}),
}


def two_lines() -> list[LineText]:
    """Return two lines on loopback."""
    a, b = free_ports(2)
    return [("A", "239.195.21.1", a, "127.0.0.1", ""), ("B", "239.195.21.2", b, "127.0.0.1", "")]


def receiver(
    lines: Sequence[LineText],
    onload: Mapping[str, Any],
    env: Mapping[str, str],
    *,
    spin: bool = True,
    hold_ms: int = 0,
) -> Receiver:
    """Start one in the mode."""
    return Receiver(lines, {"mode": "onload", "spin": spin, "onload": dict(onload)}, env=env, hold_ms=hold_ms)


def send(line: LineText, payloads: Sequence[bytes], address: str = "127.0.0.1") -> list[str]:
    """Send on a line; return what stands for the payloads."""
    with Sender(address) as sender:
        for payload in payloads:
            sender.send(payload, line[1], line[2])
    return [digest(payload) for payload in payloads]


@pytest.mark.parametrize("why", UNACCELERATED)
def test_line_that_is_not_accelerated_is_refused_with_the_reason(why: str) -> None:
    """By default the mode is not had by the kernel; which line, and what is missing, is one line."""
    mode, reason = UNACCELERATED[why]
    refused = receiver(two_lines(), {}, preloaded(_=mode) if mode else {})
    expected = f"line A: not accelerated, and receive.onload.require is true: {reason}"
    assert refused.failure() == f"RuntimeError: {expected}"


@pytest.mark.parametrize("why", UNACCELERATED)
@pytest.mark.parametrize("zero_copy", [False, True])
def test_line_that_is_not_accelerated_and_need_not_be_goes_by_the_kernel(why: str, zero_copy: bool) -> None:
    """All arrives; what it is is said: not accelerated, kernel's time, counted as brought by the kernel."""
    mode, _ = UNACCELERATED[why]
    lines = two_lines()
    settings = {"require": False, "zero_copy": zero_copy, "stack": "feed"}
    with receiver(lines, settings, preloaded(_=mode) if mode else {}) as running:
        sent = send(lines[0], [b"%d" % i for i in range(100)])
        answer = running.until((0, b"99"))
    assert answer["got"] == [sent, []]
    assert answer["kinds"] == ["kernel"]
    assert answer["counters"]["by_kernel"] == 100
    assert [stats["accelerated"] for stats in answer["stats"]] == [False, False]
    assert [stats["zero_copy"] for stats in answer["stats"]] == [False, False]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("spin", [True, False])
def test_accelerated_lines_deliver_all_in_order_and_say_so(path: str, spin: bool) -> None:
    """Nothing counts as brought by the kernel; software's times are the process's own, not the kernel's."""
    settings, answers = PATHS[path]
    lines = two_lines()
    with receiver(lines, settings, preloaded(**answers), spin=spin) as running:
        running.stop()  # more than one turn can take wait then: it must end Onload's, and go on with the next
        sent = [send(line, [b"%d %s" % (i, line[0].encode()) for i in range(500)]) for line in lines]
        running.go_on()
        answer = running.until((0, b"499 A"), (1, b"499 B"))
    assert answer["got"] == sent
    assert answer["kinds"] == ["user"]
    assert answer["counters"]["by_kernel"] == 0
    assert [stats["accelerated"] for stats in answer["stats"]] == [True, True]
    # That there is no receiving without a copy shows at the first try.
    assert [stats["zero_copy"] for stats in answer["stats"]] == [path == "zero copy"] * 2


@pytest.mark.parametrize("empty", [False, True])
def test_what_waits_at_the_kernels_side_of_a_socket_comes_too(empty: bool) -> None:
    """Every third datagram: in order, whole, counted; also where an empty queue there is told by a 0."""
    answers = {"kernel_every": 3} | ({"kernel_empty": 1} if empty else {})
    lines = two_lines()
    with receiver(lines, {"zero_copy": True}, preloaded(**answers)) as running:
        running.stop()
        sent = send(lines[0], [b"%d" % i for i in range(300)])
        running.go_on()
        answer = running.until((0, b"299"))
    assert answer["got"][0] == sent
    assert answer["counters"]["by_kernel"] == 100
    assert answer["stats"][0]["zero_copy"]


def test_who_tells_onload_to_keep_every_socket_sees_what_came_by_the_kernel() -> None:
    """A user's EF_MCAST_JOIN_HANDOVER=0 holds: "accelerated" is what Onload says, the counter is true."""
    lines = two_lines()
    env = preloaded(_="other_device") | {"EF_MCAST_JOIN_HANDOVER": "0"}
    with receiver(lines, {"zero_copy": True}, env) as running:
        sent = send(lines[0], [b"%d" % i for i in range(50)])
        answer = running.until((0, b"49"))
    assert answer["got"][0] == sent
    assert answer["stats"][0]["accelerated"]
    assert answer["counters"]["by_kernel"] == 50
    assert answer["kinds"] == ["kernel"]


@pytest.mark.parametrize("interface", ["127.0.0.1", "lo"])
@pytest.mark.parametrize("path", PATHS)
def test_other_senders_are_refused_though_onload_knows_no_senders(path: str, interface: str) -> None:
    """It takes everybody's packets of a group joined for one sender: they are counted, none comes in."""
    settings, answers = PATHS[path]
    line = ("A", "239.195.21.3", free_port(), interface, "127.0.0.2")
    with receiver([line], settings, preloaded(**answers)) as running:
        send(line, [b"wrong %d" % i for i in range(100)])
        sent = send(line, [b"right %d" % i for i in range(100)], "127.0.0.2")
        send(line, [b"wrong again"])
        sent += send(line, [b"last"], "127.0.0.2")
        answer = running.until((0, b"last"))
    assert answer["got"] == [sent]
    assert answer["counters"]["other_traffic"] == 101


def test_datagrams_of_all_sizes_stay_as_they_are_until_the_next_poll() -> None:
    """In one buffer or in many, kept or put together: the stand-in overwrites what it is given back."""
    sizes = [0, 1, 20, 1472, 1824, 1825, 3648, 9000, 65507] + [i * 131 % 5000 for i in range(400)]
    payloads = [(b"%d " % i * (size // 2 + 1))[:size] for i, size in enumerate(sizes)]
    lines = two_lines()
    with receiver(lines, {"zero_copy": True}, preloaded(), hold_ms=3) as running:
        sent = send(lines[0], [*payloads, b"the end"])
        answer = running.until((0, b"the end"))
    assert answer["got"][0] == sent
    assert answer["stats"][0]["zero_copy"]


def test_socket_that_is_no_longer_onloads_goes_on_by_the_kernel() -> None:
    """Refused in the middle: the rest comes by recvmmsg, the line says that it is not accelerated."""
    lines = two_lines()
    with receiver(lines, {"zero_copy": True}, preloaded(zc="lost")) as running:
        sent = send(lines[0], [b"%d" % i for i in range(250)])
        answer = running.until((0, b"249"))
    assert answer["got"][0] == sent
    assert not answer["stats"][0]["accelerated"]
    assert answer["counters"]["by_kernel"] == 150


@pytest.mark.parametrize("zero_copy", [False, True])
def test_times_of_the_card_are_hardware_times(zero_copy: bool) -> None:
    """The third of SO_TIMESTAMPING's times, in nanoseconds."""
    lines = two_lines()
    env = preloaded(hardware_ns=37_000_000_000)  # a clock that keeps TAI
    with receiver(lines, {"zero_copy": zero_copy}, env) as running:
        before = time.time_ns()
        send(lines[0], [b"when"])
        answer = running.until((0, b"when"))
    assert answer["kinds"] == ["hardware"]
    assert before <= answer["times"][0] - 37_000_000_000 <= time.time_ns()
    assert answer["stats"][0]["timestamp_kind"] == "hardware"


@pytest.mark.parametrize("zero_copy", [False, True])
def test_card_whose_clock_was_never_set_tells_no_time(zero_copy: bool) -> None:
    """It counts from when it was switched on: the software's time is taken."""
    lines = two_lines()
    env = preloaded(hardware_ns=-1_500_000_000_000_000_000)
    with receiver(lines, {"zero_copy": zero_copy}, env) as running:
        before = time.time_ns()
        send(lines[0], [b"when"])
        answer = running.until((0, b"when"))
    assert answer["kinds"] == ["user"]
    assert before <= answer["times"][0] <= time.time_ns()


@pytest.mark.parametrize(
    ("spin", "set_spin"), [(True, "type=1 spin=1"), (False, "type=0 spin=0")], ids=["spin", "sleep"]
)
def test_stack_is_named_before_its_sockets_and_spinning_set_by_the_thread(
    tmp_path: Path, spin: bool, set_spin: str
) -> None:
    """A thread that means to sleep must not spin, whatever the profile says."""
    lines = two_lines()
    env = preloaded(log=tmp_path / "calls")
    with receiver(lines, {"stack": "feed"}, env, spin=spin) as running:
        send(lines[0], [b"x"])
        running.until((0, b"x"))
    calls = [line.split(" thread=")[0] for line in (tmp_path / "calls").read_text().splitlines()]
    assert calls == [
        "stack_opt_set_int EF_MCAST_JOIN_HANDOVER=1",
        "stack_opt_set_int EF_MCAST_JOIN_BINDTODEVICE=1",
        "set_stackname who=0 scope=2 name=feed",
        "fd_stat 1",
        "fd_stat 1",
        f"thread_set_spin {set_spin}",
    ]


def test_stack_name_that_onload_refuses_is_named(tmp_path: Path) -> None:
    """The configuration allows no such name; Onload has the last word."""
    refused = receiver(two_lines(), {"stack": "much-too-long"}, preloaded())
    assert refused.failure() == 'RuntimeError: receive.onload.stack: "much-too-long": File name too long'


def test_buffers_are_given_back_before_their_socket_is_closed() -> None:
    """The stand-in ends a process that does not; so it does with one that gives back what it never kept."""
    line = ("A", "239.195.21.1", free_port(), "127.0.0.1", "")
    program = (
        "import select\n"
        "from feedhandler import _core\n"
        f"settings = {{'mode': 'onload', 'onload': {{'zero_copy': True}}}}\n"
        f"source = _core.Source([_core.LineSettings(*{line})], settings)\n"
        "print('ready', flush=True)\n"
        "assert select.select(source.fds(), [], [], 20)[0]\n"
        "print(len(source.poll()), source.stats(0)['zero_copy'])\n"
        "del source\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], env=environment(**preloaded()), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        send(line, [b"kept"])
        assert process.communicate(timeout=60)[0] == "1 True\n"
        assert process.returncode == 0
