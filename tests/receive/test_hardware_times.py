"""Times of a card's clock, as the kernel hands them over in each receive mode that can have them."""

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.frames import multicast_address, packet
from tests.support.netns import Veth
from tests.support.receiver import Receiver, digest
from tests.support.stamped_frames import StampedSender

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make network namespaces")

GROUP, PORT, TAI_NS = "239.77.9.1", 30001, 37_000_000_000
SETTINGS: dict[str, dict[str, Any]] = {
    "socket": {"mode": "socket"},
    "packet": {"mode": "packet"},
}


@pytest.fixture
def sender(pair: Veth) -> Iterator[StampedSender]:
    """Send with hardware times from the sender's namespace."""
    with StampedSender(pair.sender, pair.sender_device) as made:
        yield made


def receiver(pair: Veth, settings: dict[str, Any]) -> Receiver:
    """Receive the line in the receiver's namespace."""
    line = ("A", GROUP, PORT, pair.receiver_device, "")
    return Receiver([line], settings, prefix=pair.inside(pair.receiver))


def send(sender: StampedSender, payload: bytes, hardware_ns: int) -> None:
    """Send a datagram of the line."""
    sender.send(packet(payload, GROUP, PORT, "198.18.0.1"), multicast_address(GROUP), hardware_ns)


@pytest.mark.parametrize("mode", SETTINGS)
def test_time_of_the_card_is_handed_over_to_the_nanosecond(
    pair: Veth, sender: StampedSender, mode: str
) -> None:
    """As it came with the packet, in the scale of the card's clock."""
    with receiver(pair, SETTINGS[mode]) as running:
        base_ns = time.time_ns() + TAI_NS
        times = [base_ns + 1_000_003 * number for number in range(50)]
        for number, time_ns in enumerate(times):
            send(sender, b"%d" % number, time_ns)
        answer = running.until((0, b"49"))
    assert answer["got"][0] == [digest(b"%d" % number) for number in range(50)]
    assert answer["kinds"] == ["hardware"]
    assert answer["times"] == times
    assert answer["stats"][0]["timestamp_kind"] == "hardware"


@pytest.mark.parametrize("mode", SETTINGS)
def test_packets_without_one_have_the_kernels(pair: Veth, sender: StampedSender, mode: str) -> None:
    """Each packet by itself: one that was stamped lends its time to no other."""
    with receiver(pair, SETTINGS[mode]) as running:
        for number in range(20):
            for stamped in (True, False):
                before_ns = time.time_ns()
                send(sender, b"%d %d" % (number, stamped), before_ns + TAI_NS if stamped else 0)
                answer = running.until((0, b"%d %d" % (number, stamped)))
                after_ns = time.time_ns()
                assert answer["kinds"] == ["hardware" if stamped else "kernel"]
                if stamped:
                    assert answer["times"] == [before_ns + TAI_NS]
                else:
                    assert before_ns <= answer["times"][0] <= after_ns


@pytest.mark.parametrize("hardware_ns", [5_000_000_000, 4_294_967_295_999_999_999])
def test_time_of_a_clock_that_was_never_set_gives_way_to_the_kernels(
    pair: Veth, sender: StampedSender, hardware_ns: int
) -> None:
    """Seconds since the card was switched on, or anything; a socket has the kernel's time beside it."""
    with receiver(pair, SETTINGS["socket"]) as running:
        before_ns = time.time_ns()
        send(sender, b"early", hardware_ns)
        answer = running.until((0, b"early"))
    assert answer["kinds"] == ["kernel"]
    assert before_ns <= answer["times"][0] <= time.time_ns()
