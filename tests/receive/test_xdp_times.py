"""Times that the filter of mode "xdp" writes before a frame, and the function it asks the driver by."""

import os
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedhandler import _core
from tests.support.capabilities import nobody_with
from tests.support.multicast import Sender
from tests.support.netns import Veth, inside
from tests.support.receiver import Receiver
from tests.support.wait import wait_for
from tests.support.xdp import BTF, DRIVER_TIMES, TIME_FUNCTION

GROUP, PORT = "239.77.13.1", 30001

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make network namespaces")
needs_function = pytest.mark.skipif(not DRIVER_TIMES, reason="needs a kernel whose drivers can be asked")


def receiver(pair: Veth, *prefix: str, device: str = "", **xdp: Any) -> Receiver:
    """Receive the line in the receiver's namespace."""
    line = ("A", GROUP, PORT, device or pair.receiver_device, "")
    return Receiver([line], {"mode": "xdp", "xdp": xdp}, prefix=[*pair.inside(pair.receiver), *prefix])


@needs_root
@pytest.mark.parametrize("attach", ["native", "generic"])
def test_each_packet_has_the_time_at_which_the_filter_saw_it(pair: Veth, attach: str) -> None:
    """Taken by the kernel before the receiver looked, however late that was; not its predecessor's."""
    with inside(pair.sender):
        sender = Sender(pair.sender_address)
    with sender, receiver(pair, attach=attach) as running:
        sent_ns = []
        running.stop()
        for number in range(200):  # more than a turn: frames are used again
            sent_ns.append(time.time_ns())
            sender.send(b"%d" % number, GROUP, PORT)
        looked_ns = time.time_ns() + 50_000_000
        wait_for(lambda: time.time_ns() > looked_ns, "a receiver that looks late")
        running.go_on()
        answer = running.until((0, b"199"))
        assert answer["kinds"] == ["kernel"]
        for before_ns, time_ns in zip(sent_ns, answer["times"], strict=True):
            assert before_ns <= time_ns < looked_ns
        assert answer["times"] == sorted(answer["times"])
        stats = answer["stats"][0]
        assert (stats["timestamp_kind"], stats["attached"]) == ("kernel", attach)
        assert stats["frame_times"] == ("driver" if attach == "native" and DRIVER_TIMES else "kernel")


@needs_root
@needs_function
def test_driver_is_asked_with_no_more_privileges_than_the_mode_needs(pair: Veth) -> None:
    """Capabilities of the table in docs/receive-modes.md."""
    with receiver(pair, *nobody_with(("net_raw", "net_admin", "bpf")), frames=64) as running:
        assert running.until()["stats"][0]["frame_times"] == "driver"


@needs_root
def test_device_whose_driver_has_no_times_is_not_asked(pair: Veth) -> None:
    """The filter without that function takes its place."""
    with receiver(pair, device="lo") as running:
        stats = running.until()["stats"][0]
    assert (stats["attached"], stats["frame_times"]) == ("generic", "kernel")


@needs_function
def test_function_of_the_running_kernel_is_found() -> None:
    """By its whole name only."""
    btf = BTF.read_bytes()
    assert _core.btf_function(btf, TIME_FUNCTION) > 0
    assert _core.btf_function(btf, TIME_FUNCTION[:-1]) == 0
    assert _core.btf_function(btf, "x" + TIME_FUNCTION) == 0
    assert _core.btf_function(btf[: len(btf) // 2], TIME_FUNCTION) == 0


@given(noise=st.binary(max_size=200), header=st.booleans())
def test_noise_has_no_functions(noise: bytes, header: bool) -> None:
    """Nothing is read beyond its end."""
    start = b"\x9f\xeb\x01\0\x18\0\0\0" if header else b""
    assert _core.btf_function(start + noise, TIME_FUNCTION) == 0
