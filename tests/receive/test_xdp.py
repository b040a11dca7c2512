"""What is special to AF_XDP; what all receive modes have in common is in test_conformance.py."""

import contextlib
import json
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.capabilities import nobody_with
from tests.support.daemon import COMMAND, environment
from tests.support.multicast import Sender
from tests.support.netns import Veth, inside, veth_pair
from tests.support.receiver import LineText, Receiver, digest
from tests.support.wait import wait_for
from tests.support.xdp import leave_program, program_on, set_two_queues

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make network namespaces")

GROUPS, PORT = ("239.77.6.1", "239.77.6.2"), 30001
NEEDED = ("net_raw", "net_admin", "bpf")
HUGE_PAGES = Path("/proc/sys/vm/nr_hugepages")
HUGE_PAGE_FRAMES = (2 << 20) // 2048


def settings(**table: Any) -> dict[str, Any]:
    """Return the table [receive] with this in [receive.xdp]; `spin` belongs to it itself."""
    return {"mode": "xdp", "spin": table.pop("spin", True), "xdp": table}


def lines(device: str, count: int = 1) -> list[LineText]:
    """Return so many lines of a device."""
    return [(name, group, PORT, device, "") for name, group in zip("AB", GROUPS[:count], strict=False)]


def receiver(pair: Veth, what: dict[str, Any], *prefix: str, count: int = 1, device: str = "") -> Receiver:
    """Receive lines in the receiver's namespace."""
    device = device or pair.receiver_device
    return Receiver(lines(device, count), what, prefix=[*pair.inside(pair.receiver), *prefix])


def refusal(pair: Veth, what: dict[str, Any], *prefix: str, device: str = "") -> str:
    """Return the line that says why such a receiver cannot be."""
    return receiver(pair, what, *prefix, device=device).failure().removeprefix("RuntimeError: ")


def ip(namespace: str, *words: str) -> str:
    """Run `ip` in a namespace."""
    command = ["ip", "-n", namespace, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout


def exchange(running: Receiver, sender: Sender, sent: Sequence[bytes]) -> dict[str, Any]:
    """Send on line A, return the answer when the last one is there."""
    for payload in sent:
        sender.send(payload, GROUPS[0], PORT)
    return running.until((0, sent[-1]))


@pytest.mark.parametrize("spin", [True, False])
@pytest.mark.parametrize("attach", ["native", "generic"])
def test_both_ways_to_attach_bring_everything_in_order(
    pair: Veth, sender: Sender, attach: str, spin: bool
) -> None:
    """5,000 packets of all sizes on two lines; all by the filter; told as it was granted."""
    sent: tuple[list[str], list[str]] = ([], [])
    got: tuple[list[str], list[str]] = ([], [])
    with receiver(pair, settings(attach=attach, spin=spin), count=2) as running:
        assert set(program_on(pair)) > {"prog"}
        for first in range(0, 2500, 250):
            for i in range(first, first + 250):
                for line, group in enumerate(GROUPS):
                    payload = (b"%d %d " % (i, line) * 184)[: 1472 - i * 37 % 1460]
                    sender.send(payload, group, PORT)
                    sent[line].append(digest(payload))
            marks = [(line, b"mark %d" % first) for line in range(2)]
            for line, mark in marks:
                sender.send(mark, GROUPS[line], PORT)
                sent[line].append(digest(mark))
            answer = running.until(*marks)
            for line in range(2):
                got[line].extend(answer["got"][line])
    assert got == sent
    assert answer["counters"]["by_kernel"] == 0
    for stats in answer["stats"]:
        assert (stats["attached"], stats["queues"], stats["zero_copy"]) == (attach, 1, False)
        assert stats["buffer_bytes"] == 4096 * 2048
        assert stats["busy_poll"] == stats["prefer_busy_poll"] == (spin and attach == "native")


def test_busy_poll_can_be_switched_off(pair: Veth, sender: Sender) -> None:
    """It is told, and packets come all the same."""
    with receiver(pair, settings(busy_poll=False)) as running:
        assert exchange(running, sender, [b"x"])["stats"][0]["busy_poll"] is False


def test_loopback_takes_the_generic_way(pair: Veth) -> None:
    """Its driver has no other: "auto" finds that out, "native" says so."""
    assert re.fullmatch(
        r'receive\.mode "xdp" on lo: native attachment \(receive\.xdp\.attach\): Operation not supported',
        refusal(pair, settings(attach="native"), device="lo"),
    )
    with inside(pair.receiver):
        sender = Sender("127.0.0.1")
    with sender, receiver(pair, settings(), device="lo") as running:
        sent = [b"%d" % i for i in range(1000)]
        answer = exchange(running, sender, sent)
        assert answer["got"] == [[digest(payload) for payload in sent]]
        assert answer["stats"][0]["attached"] == "generic"
        assert answer["counters"]["by_kernel"] == 0


def test_zero_copy_that_is_demanded_is_refused_where_there_is_none(pair: Veth) -> None:
    """In one line with the option; and no program stays."""
    line = refusal(pair, settings(zero_copy="on"))
    assert line == (
        f'receive.mode "xdp" on {pair.receiver_device}: queue 0: zero-copy (receive.xdp.zero_copy): '
        "Operation not supported"
    )
    assert program_on(pair) == {}


def test_queue_that_is_not_there_is_refused(pair: Veth) -> None:
    """By number and option."""
    assert "queue 7 is not there (receive.xdp.queues)" in refusal(pair, settings(queues=[0, 7]))


def test_killed_receiver_leaves_no_program(pair: Veth) -> None:
    """The kernel takes it off with the process."""
    with receiver(pair, settings()) as running:
        assert program_on(pair)
        running.process.kill()
        running.process.wait()
        wait_for(lambda: not program_on(pair), "device without program", interval_s=0.02)


@pytest.mark.parametrize(
    ("first", "second"),
    [("native", "generic"), ("generic", "native"), ("native", "auto"), ("generic", "auto")],
)
def test_a_device_with_a_program_is_refused_by_its_name(
    pair: Veth, sender: Sender, first: str, second: str
) -> None:
    """Whichever way either is attached; the first goes on undisturbed."""
    with receiver(pair, settings(attach=first)) as running:
        line = refusal(pair, settings(attach=second))
        assert line.startswith(
            f'receive.mode "xdp" on {pair.receiver_device}: XDP program {program_on(pair)["prog"]["id"]} '
            f'"fh_lines" of process {running.process.pid} ('
        )
        assert line.endswith('use another device, or mode "packet" beside it')
        exchange(running, sender, [b"still here"])
        assert program_on(pair)["prog"]["name"] == "fh_lines"


def test_program_that_others_left_is_named_with_what_removes_it(pair: Veth, sender: Sender) -> None:
    """It has no process; the command that is named works."""
    leave_program(pair)
    line = refusal(pair, settings())
    number, remedy = program_on(pair)["prog"]["id"], f"ip link set {pair.receiver_device} xdp off"
    assert line == (
        f'receive.mode "xdp" on {pair.receiver_device}: XDP program {number} "fh_lines" is there '
        f"already, of no process that can be seen: {remedy} removes what another left behind"
    )
    ip(pair.receiver, *remedy.split()[1:])
    with receiver(pair, settings()) as running:
        exchange(running, sender, [b"x"])


@pytest.mark.parametrize("attach", ["native", "generic"])
def test_other_modes_beside_it_get_all_groups_but_its_own(pair: Veth, sender: Sender, attach: str) -> None:
    """What its filter takes never reaches the kernel; everything else does."""
    device, others = pair.receiver_device, ({"mode": "packet"}, {"mode": "socket"})
    both = [*lines(device), ("B", GROUPS[1], PORT, device, "")]
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(receiver(pair, settings(attach=attach)))
        beside = [
            stack.enter_context(Receiver(both, other, prefix=pair.inside(pair.receiver))) for other in others
        ]
        for number in range(100):
            sender.send(b"ours %d" % number, GROUPS[0], PORT)
            sender.send(b"theirs %d" % number, GROUPS[1], PORT)
        assert len(running.until((0, b"ours 99"))["got"][0]) == 100
        for one in beside:
            got = one.until((1, b"theirs 99"))["got"]
            assert (got[0], len(got[1])) == ([], 100)


@pytest.mark.parametrize("attach", ["native", "generic"])
def test_drops_of_the_fewest_frames_are_counted(pair: Veth, sender: Sender, attach: str) -> None:
    """Who stands still keeps 64 frames and is told of every other one."""
    with receiver(pair, settings(attach=attach, frames=64)) as running:
        running.stop()
        for number in range(1000):
            sender.send(b"%d" % number, GROUPS[0], PORT)
        running.go_on()
        answer = running.until((0, b"63"))
        assert answer["got"] == [[digest(b"%d" % number) for number in range(64)]]
        assert answer["counters"]["device_drops"] == 1000 - 64
        assert answer["stats"][0]["kernel_drops"] == 1000 - 64
        exchange(running, sender, [b"after"])


def test_link_that_was_down_brings_packets_again(pair: Veth, sender: Sender) -> None:
    """Program, socket and membership outlive it, and nothing is lost silently before or after."""
    device = pair.receiver_device
    with receiver(pair, settings(spin=False)) as running:
        exchange(running, sender, [b"before"])
        ip(pair.receiver, "link", "set", device, "down")
        ip(pair.receiver, "link", "set", device, "up")
        ip(pair.receiver, "route", "replace", "239.0.0.0/8", "dev", device)

        def arrives() -> bool:
            sender.send(b"after", GROUPS[0], PORT)
            return digest(b"after") in running.until()["got"][0]

        wait_for(arrives, "packet after the link was up again", interval_s=0.02)
        assert running.until()["counters"]["by_kernel"] == 0
        assert program_on(pair)["prog"]["name"] == "fh_lines"


def huge_pages_free() -> int:
    """Return how many the machine has to give."""
    return int(re.findall(r"HugePages_Free: *(\d+)", Path("/proc/meminfo").read_text())[0])


@contextlib.contextmanager
def more_huge_pages(count: int) -> Iterator[None]:
    """Have so many more for a while."""
    before = int(HUGE_PAGES.read_text())
    HUGE_PAGES.write_text(str(before + count))
    try:
        assert huge_pages_free() >= count
        yield
    finally:
        HUGE_PAGES.write_text(str(before))


def test_frames_lie_in_huge_pages_when_there_are_some(pair: Veth, sender: Sender) -> None:
    """And in small ones when there are too few; it is told which."""
    sent = [b"%d" % number for number in range(3000)]
    with more_huge_pages(8), receiver(pair, settings(frames=4 * HUGE_PAGE_FRAMES)) as running:
        answer = exchange(running, sender, sent)
        assert answer["stats"][0]["huge_pages"] is True
        assert answer["got"] == [[digest(payload) for payload in sent]]
    too_many = 1 << (huge_pages_free() * HUGE_PAGE_FRAMES + 4095).bit_length()
    with receiver(pair, settings(frames=too_many)) as running:
        answer = exchange(running, sender, sent)
        assert answer["stats"][0]["huge_pages"] is False
        assert answer["stats"][0]["buffer_bytes"] == too_many * 2048
        assert answer["got"] == [[digest(payload) for payload in sent]]


def test_memory_beyond_the_limit_is_refused_with_the_remedies(pair: Veth) -> None:
    """Without CAP_IPC_LOCK the frames count against RLIMIT_MEMLOCK."""
    line = refusal(pair, settings(frames=4096), "prlimit", "--memlock=1048576", *nobody_with(NEEDED))
    assert "8192 KiB for frames are beyond RLIMIT_MEMLOCK" in line
    assert "CAP_IPC_LOCK" in line
    assert "receive.xdp.frames" in line


def set_mtu(pair: Veth, mtu: int) -> None:
    """Set it on both ends."""
    ip(pair.sender, "link", "set", pair.sender_device, "mtu", str(mtu))
    ip(pair.receiver, "link", "set", pair.receiver_device, "mtu", str(mtu))


@pytest.mark.parametrize(("mtu", "attached"), [(3000, "native"), (9000, "generic")])
def test_larger_frames_come_too(pair: Veth, sender: Sender, mtu: int, attached: str) -> None:
    """By the filter as far as a buffer goes, else by the kernel; beyond what a driver can, generically."""
    set_mtu(pair, mtu)
    try:
        if mtu == 9000:
            line = refusal(pair, settings(attach="native"))
            assert "native attachment (receive.xdp.attach): the MTU is too large" in line
        with receiver(pair, settings()) as running:
            sizes = [size for size in (1472, 2972, 3840 - 42, 3840 - 41, 8972) if size <= mtu - 28]
            sent = [bytes([number]) * size for number, size in enumerate(sizes)]
            for payload in sent:
                sender.send(payload, GROUPS[0], PORT)
            answer = running.until(*((0, payload) for payload in sent))
        assert sorted(answer["got"][0]) == sorted(map(digest, sent))
        assert answer["stats"][0]["attached"] == attached
        assert answer["counters"]["by_kernel"] == sum(size + 42 > 3840 for size in sizes)
        assert answer["counters"]["device_drops"] == 0
    finally:
        set_mtu(pair, 1500)


@pytest.mark.parametrize("queues", [[], [0]])
def test_every_queue_has_a_ring_and_one_without_comes_by_the_kernel(queues: list[int]) -> None:
    """Two queues, many senders: all is delivered, whichever queues are read past the kernel."""
    with veth_pair("xdq") as pair:
        set_two_queues(pair)
        with contextlib.ExitStack() as stack, receiver(pair, settings(queues=queues)) as running:
            sent = [b"%d" % number for number in range(160)]
            with inside(pair.sender):
                senders = [stack.enter_context(Sender(pair.sender_address)) for _ in range(32)]
            for number, payload in enumerate(sent):
                senders[number % len(senders)].send(payload, GROUPS[0], PORT)
            answer = running.until(*((0, payload) for payload in sent))
        assert sorted(answer["got"][0]) == sorted(map(digest, sent))
        assert answer["stats"][0]["queues"] == len(queues or [0, 1])
        assert (answer["counters"]["by_kernel"] > 0) == (queues == [0])
        assert answer["counters"]["by_kernel"] < len(sent)


def check(pair: Veth, tmp_path: Path) -> dict[str, Any]:
    """Return the finding of `feedhandler check` about the mode."""
    config = tmp_path / "feed.toml"
    config.write_text(
        f'[channel]\nname = "x"\n[[line]]\nname = "A"\ngroup = "{GROUPS[0]}"\nport = {PORT}\n'
        f'interface = "{pair.receiver_device}"\n[receive]\nmode = "xdp"\n[metrics]\nlisten = ""\n'
    )
    command = [*pair.inside(pair.receiver), *COMMAND, "check", "--config", str(config), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment())
    [found] = [one for one in json.loads(done.stdout)["findings"] if one["check"] == "receive.mode"]
    return dict(found)


def test_check_says_what_can_be_had_or_who_has_it(pair: Veth, tmp_path: Path) -> None:
    """It attaches for a moment and leaves nothing."""
    found = check(pair, tmp_path)
    assert (found["status"], found["text"]) == ("ok", "xdp can be had, native, 8 MiB a device")
    assert program_on(pair) == {}
    with receiver(pair, settings()):
        found = check(pair, tmp_path)
    assert found["status"] == "error"
    assert '"fh_lines" of process' in found["text"]
