"""One suite for every receive mode: the same traffic, the same outcome, or a counter that says why not."""

import os
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.support.frames import FrameSender, ethernet_address, fragments, multicast_address, packet
from tests.support.multicast import Sender
from tests.support.netns import Veth, add_link, inside, veth_pair, without_ipv6
from tests.support.receive_modes import CASES, DELIVERED, MODES, NOWHERE, Mode, Settings
from tests.support.receiver import LineText, Receiver, digest
from tests.support.wait import wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make network namespaces")

A, B, C, D = range(4)
GROUPS = ("239.77.1.1", "239.77.1.2", "239.77.1.1", "239.77.1.3")
PORTS = (30001, 30002, 30001, 30001)
ROUTER_ALERT = b"\x94\x04\x00\x00"
VLAN_5 = b"\x81\x00\x00\x05"


class Lab:
    """Two namespaces with two links, senders in one of them, and one mode's receivers in the other."""

    def __init__(self, mode: Mode, pair: Veth) -> None:
        self.mode, self.pair = mode, pair
        without_ipv6(pair.sender)
        without_ipv6(pair.receiver)
        self.links = (pair, add_link(pair))
        self.devices = [link.receiver_device for link in self.links]
        with inside(pair.sender):
            self.senders = [Sender(link.sender_address) for link in self.links]
        self.frames = FrameSender(pair.sender, pair.sender_device)
        first, second = self.devices
        # Two groups on one device, the first of them again on another, and one from one sender only.
        self.lines: list[LineText] = [
            ("A", GROUPS[A], PORTS[A], first, ""),
            ("B", GROUPS[B], PORTS[B], first, ""),
            ("C", GROUPS[C], PORTS[C], second, ""),
            ("D", GROUPS[D], PORTS[D], first, pair.sender_address),
        ]
        self._shared: Receiver | None = None

    def receiver(self, lines: Sequence[LineText], settings: Settings, **options: Any) -> Receiver:
        """Start one of its own; the shared one makes room."""
        self.end_shared()
        return self.another(lines, settings, **options)

    def another(
        self, lines: Sequence[LineText], settings: Settings, prefix: Sequence[str] = (), hold_ms: int = 0
    ) -> Receiver:
        """Start one beside those that run."""
        devices = list(dict.fromkeys(line[3] for line in lines))
        return Receiver(
            lines,
            settings(devices),
            prefix=[*self.pair.inside(self.pair.receiver), *prefix],
            env=self.mode.environment(),
            hold_ms=hold_ms,
        )

    @property
    def shared(self) -> Receiver:
        """The receiver of all lines, that many tests use."""
        if self._shared is None:
            self._shared = self.another(self.lines, self.mode.settings).wait_ready()
        return self._shared

    def end_shared(self) -> None:
        """End it, if it runs."""
        if self._shared is not None:
            self._shared.close()
            self._shared = None

    def send(self, line: int, payload: bytes) -> None:
        """Send a datagram on a line."""
        self.senders[line == C].send(payload, GROUPS[line], PORTS[line])

    def send_frame(self, ip: bytes, group: str, tag: bytes = b"") -> None:
        """Send an IPv4 packet to a group by the first link."""
        self.frames.send(ip, multicast_address(group), tag)

    def everything(self, running: Receiver, line: int = A) -> dict[str, Any]:
        """Return what has come when nothing more can: packets with numbers follow, until one is not lost."""
        answer = running.until()
        got, sent = answer["got"][line], 0

        def arrived() -> bool:
            nonlocal answer, sent
            self.send(line, b"last %d" % sent)
            sent += 1
            answer = running.until()
            got.extend(answer["got"][line])
            return got[-1:] == [digest(b"last %d" % (sent - 1))]

        wait_for(arrived, "packet after the others", interval_s=0.02)
        return dict(answer, got=got, sent_more=sent)

    def close(self) -> None:
        """Leave nothing behind."""
        self.end_shared()
        self.frames.close()
        for sender in self.senders:
            sender.close()


@pytest.fixture(scope="module", params=MODES, ids=[mode.name for mode in MODES])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Each mode has namespaces of its own."""
    with veth_pair("conf") as pair:
        made = Lab(request.param, pair)
        yield made
        made.close()


def moved(before: dict[str, Any], after: dict[str, Any]) -> Counter[str]:
    """Return by how much the counters grew; other traffic only when it is asked for."""
    return Counter(after["counters"]) - Counter(before["counters"])


def test_everything_is_delivered_once_and_in_order(lab: Lab) -> None:
    """20,000 packets of all sizes on two lines, not faster than they are taken."""
    running, sent = lab.shared, ([], [])
    got: tuple[list[str], list[str]] = ([], [])
    before = running.until()
    for first in range(0, 10_000, 500):
        for i in range(first, first + 500):
            for line in (A, B):
                size = 1472 - i * 37 % 1473
                payload = (b"%d %d " % (i, line) * 184)[:size]
                lab.send(line, payload)
                sent[line].append(digest(payload))
        marks = [(line, b"mark %d" % first) for line in (A, B)]
        for line, mark in marks:
            lab.send(line, mark)
            sent[line].append(digest(mark))
        answer = running.until(*marks)
        for line in (A, B):
            got[line].extend(answer["got"][line])
        assert answer["got"][C:] == [[], []]
    assert got == sent
    assert all(count == 0 for name, count in moved(before, answer).items() if name != "other_traffic")
    assert all(stats["kernel_drops"] == 0 for stats in answer["stats"])
    assert all(lab.mode.granted.items() <= stats.items() for stats in answer["stats"])


def test_one_group_on_two_devices_is_two_lines(lab: Lab) -> None:
    """What comes by one device is that device's line's."""
    for line in (A, C, C, A, D):
        lab.send(line, b"by %d" % line)
    got = lab.shared.until((A, b"by 0"), (C, b"by 2"), (D, b"by 3"))["got"]
    lab.send(A, b"end")
    rest = lab.shared.until((A, b"end"))["got"]
    found = [first + later for first, later in zip(got, rest, strict=True)]
    assert found == [
        [digest(b"by 0")] * 2 + [digest(b"end")],
        [],
        [digest(b"by 2")] * 2,
        [digest(b"by 3")],
    ]


@pytest.mark.parametrize("case", CASES)
def test_frames_that_are_no_plain_datagrams_of_a_line_are_taken_or_counted(lab: Lab, case: str) -> None:
    """Three of each; what becomes of them is the mode's, and stated in its table."""
    running, sender = lab.shared, lab.pair.sender_address
    payloads = [b"odd%d" % number * 50 for number in range(3)]
    before = running.until()
    refused_by_kernel = udp_checksum_errors(lab.pair.receiver)
    count, line = 3, A
    for number, payload in enumerate(payloads):
        if case == "other group":
            lab.send_frame(packet(payload, "239.77.1.9", PORTS[A], sender), "239.77.1.9")
        elif case == "other port":
            lab.send_frame(packet(payload, GROUPS[A], 30009, sender), GROUPS[A])
        elif case == "unicast":
            to = ethernet_address(lab.pair.receiver, lab.pair.receiver_device)
            lab.frames.send(packet(payload, lab.pair.receiver_address, PORTS[A], sender), to)
        elif case == "other sender":
            line = D
            lab.send_frame(packet(payload, GROUPS[D], PORTS[D], "198.18.0.9"), GROUPS[D])
        elif case == "fragment":
            count = 6
            for part in fragments(packet(payload, GROUPS[A], PORTS[A], sender), 104, number):
                lab.send_frame(part, GROUPS[A])
        elif case == "options":
            lab.send_frame(packet(payload, GROUPS[A], PORTS[A], sender, options=ROUTER_ALERT), GROUPS[A])
        elif case == "vlan":
            lab.send_frame(packet(payload, GROUPS[A], PORTS[A], sender), GROUPS[A], VLAN_5)
        elif case == "bad checksum":
            lab.send_frame(packet(payload, GROUPS[A], PORTS[A], sender, bad_checksum=True), GROUPS[A])
    fate = set(lab.mode.fate[case].split("+")) - {NOWHERE}
    end = b"end " + case.encode()
    expected = [*(payloads if DELIVERED in fate else []), end]
    lab.send(line, end)
    after = running.until(*((line, payload) for payload in expected))
    got, wanted = after["got"][line], [digest(payload) for payload in expected]
    # What comes by the kernel may be overtaken by what does not.
    if "by_kernel" in fate:
        got, wanted = sorted(got), sorted(wanted)
    assert got == wanted
    counters = fate - {DELIVERED}
    counted = moved(before, after)
    if "other_traffic" not in counters:
        del counted["other_traffic"]  # the kernel says something by itself now and then
    assert counted == dict.fromkeys(counters, count if counters != {"by_kernel"} else 3)
    if case == "bad checksum" and not lab.mode.past_kernel:
        assert udp_checksum_errors(lab.pair.receiver) == refused_by_kernel + 3


def udp_checksum_errors(namespace: str) -> int:
    """Return how many datagrams the kernel of a namespace has refused for their checksum."""
    done = subprocess.run(
        [*Veth.inside(namespace), "cat", "/proc/net/snmp"], capture_output=True, text=True, check=True
    )
    names, values = (line.split() for line in done.stdout.splitlines() if line.startswith("Udp: "))
    return int(values[names.index("InCsumErrors")])


def test_empty_poll_returns_at_once_and_a_packet_wakes_who_waits(lab: Lab) -> None:
    """No packet, no waiting: else the answer would not come. Modes with descriptors can be slept on."""
    answer = lab.shared.until()
    answer = lab.shared.until()
    assert answer["got"] == [[]] * 4

    def woke() -> bool:  # not each time: our question may have woken it first
        lab.send(A, b"wake up")
        return bool(lab.shared.until((A, b"wake up"))["woken"] > answer["woken"])

    if answer["fds"]:
        wait_for(woke, "receiver woken by a packet")


def test_times_are_of_the_kind_that_the_mode_has(lab: Lab) -> None:
    """And lie between sending and reading, if there are any."""
    lab.shared.until()
    before = time.time_ns()
    lab.send(A, b"when")
    answer = lab.shared.until((A, b"when"))
    assert answer["kinds"] == [lab.mode.time_kind]
    if lab.mode.time_kind != "none":
        assert before <= answer["times"][0] <= time.time_ns()


def groups_joined(pair: Veth) -> set[str]:
    """Return the groups that the receiver's kernel says it is in, by its first device."""
    command = ["ip", "-n", pair.receiver, "maddr", "show", "dev", pair.receiver_device]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    return set(re.findall(r"inet +(\S+)", text))


def test_groups_are_joined_while_it_runs_and_left_with_it(lab: Lab) -> None:
    """Switches ask the kernel, whatever takes the packets."""
    assert lab.shared.until()["missing"] == []
    ours = set(GROUPS)
    assert groups_joined(lab.pair) >= ours
    lab.end_shared()
    assert groups_joined(lab.pair) & ours == set()


@pytest.mark.parametrize("size", ["small", "large"])
def test_drops_are_counted_to_the_packet(lab: Lab, size: str) -> None:
    """The receiver stands still: what came and what was dropped are what was sent; then it goes on."""
    settings = lab.mode.small if size == "small" else lab.mode.large
    prefix = lab.mode.small_prefix if size == "small" else ()
    sent = [b"%d" % i for i in range(20_000 if size == "small" else lab.mode.large_room)]
    with lab.receiver(lab.lines[:1], settings, prefix=prefix) as running:
        running.stop()
        for payload in sent:
            lab.send(A, payload)
        running.go_on()
        answer = lab.everything(running)
    dropped = len(sent) + answer["sent_more"] - len(answer["got"])
    assert (dropped >= 4000) == (size == "small")
    assert answer["stats"][A]["kernel_drops"] == dropped
    assert answer["counters"]["device_drops"] == (dropped if lab.mode.past_kernel else 0)
    places = {digest(payload): i for i, payload in enumerate(sent)}
    found = [places[text] for text in answer["got"] if text in places]
    assert found == sorted(set(found))
    assert size == "small" or len(found) == len(sent)


def test_payloads_stay_as_they_are_until_the_next_poll(lab: Lab) -> None:
    """The smallest ring goes round many times while the receiver still looks at what it was given."""
    sent = [b"%06d" % i * 40 for i in range(3000)]
    places = {digest(payload): i for i, payload in enumerate(sent)}
    prefix = lab.mode.small_prefix
    with lab.receiver(lab.lines[:1], lab.mode.small, prefix=prefix, hold_ms=5) as running:
        for payload in sent:
            lab.send(A, payload)
        answer = lab.everything(running)
    found = [places[text] for text in answer["got"] if text in places]
    assert len(answer["got"]) - len(found) <= answer["sent_more"], "payloads that nobody sent"
    assert found == sorted(set(found))
    assert found


def test_killed_receiver_is_followed_by_another_at_once(lab: Lab) -> None:
    """Kill -9: what it held is gone with it, or is named, and removed when that is asked for."""
    settings = lab.mode.settings
    with lab.receiver(lab.lines[:2], settings) as first:
        lab.send(A, b"first")
        first.until((A, b"first"))
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
    if lab.mode.left_behind:
        refused = lab.receiver(lab.lines[:2], settings)
        assert re.search(lab.mode.left_behind, refused.failure())
        assert lab.mode.clean is not None
        settings = lab.mode.clean
    with lab.receiver(lab.lines[:2], settings) as second:
        lab.send(A, b"second")
        lab.send(B, b"second")
        assert second.until((A, b"second"), (B, b"second"))["got"] == [[digest(b"second")]] * 2


def test_two_channels_on_one_device(lab: Lab) -> None:
    """Two processes: both receive all of their lines, or the second one is told that the device is taken."""
    with lab.receiver(lab.lines[:2], lab.mode.settings) as one:
        other = lab.another(lab.lines[1:2], lab.mode.settings)
        if lab.mode.refused:
            assert re.search(lab.mode.refused, other.failure())
        else:
            with other:
                lab.send(A, b"to one")
                lab.send(B, b"to both")
                assert other.until((0, b"to both"))["got"] == [[digest(b"to both")]]
                assert one.until((A, b"to one"), (B, b"to both"))["got"] == [
                    [digest(b"to one")],
                    [digest(b"to both")],
                ]
        lab.send(A, b"still here")  # whatever became of the other
        one.until((A, b"still here"))
