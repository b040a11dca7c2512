"""The filter of mode "xdp" as the kernel runs it, frame by frame, against a reading in Python."""

import os
import socket
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from feedhandler import _core
from tests.support.frames import fragments, multicast_address, packet

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to load programs into the kernel")

PASS, TO_SOCKET = 2, 4
LARGEST = 1792
SENDER = "198.18.0.1"
LINES = {("239.77.1.1", 30001), ("239.77.1.2", 30001), ("239.77.1.1", 30002)}
ETHERNET = multicast_address("239.77.1.1") + bytes.fromhex("020000000001")
IPV4, ARP, VLAN_5 = b"\x08\x00", b"\x08\x06", b"\x81\x00\x00\x05"
GROUPS, PORTS = ["239.77.1.1", "239.77.1.2", "239.77.1.3", "198.18.0.2"], [30001, 30002, 30003, 0]


@pytest.fixture(scope="module", name="loaded")
def load() -> _core.XdpFilter:
    """Load the filter of three lines."""
    lines = [_core.LineSettings(f"{i}", *line, "any") for i, line in enumerate(sorted(LINES))]
    return _core.XdpFilter(lines, LARGEST)


def wanted(frame: bytes) -> int:
    """Say what must become of a frame: to the socket only what needs none of the kernel's IP stack."""
    if not 42 <= len(frame) <= LARGEST:
        return PASS
    ethertype, version_and_length, protocol = frame[12:14], frame[14], frame[23]
    (fragment,) = struct.unpack_from(">H", frame, 20)
    more_fragments, offset = bool(fragment & 0x2000), fragment & 0x1FFF
    (port,) = struct.unpack_from(">H", frame, 36)
    plain = ethertype == IPV4 and version_and_length == 0x45 and protocol == 17
    whole = not more_fragments and offset == 0
    ours = (socket.inet_ntoa(frame[30:34]), port) in LINES
    return TO_SOCKET if plain and whole and ours else PASS


def frame_of(payload: bytes, group: str = "239.77.1.1", port: int = 30001, options: bytes = b"") -> bytes:
    """Make a line's frame."""
    return ETHERNET + IPV4 + packet(payload, group, port, SENDER, options=options)


def test_frames_of_each_line_go_to_the_socket(loaded: _core.XdpFilter) -> None:
    """Whatever their length; and no other pair of the groups and ports that there are."""
    for size in (0, 1, 18, 1472):
        for group in GROUPS:
            for port in PORTS:
                verdict = TO_SOCKET if (group, port) in LINES else PASS
                assert loaded.run(frame_of(b"x" * size, group, port)) == verdict


def test_what_only_the_kernel_understands_goes_to_it(loaded: _core.XdpFilter) -> None:
    """Tags, options, each fragment, other protocols, what is cut short or too large for a buffer."""
    whole = frame_of(b"payload " * 10)
    for part in fragments(whole[14:], 24, 7):
        assert loaded.run(ETHERNET + IPV4 + part) == PASS
    # The second half of the option stands where the port would, without it.
    for option in (b"\x94\x04\x00\x00", b"\x94\x04" + struct.pack(">H", 30001)):
        assert loaded.run(frame_of(b"x", options=option)) == PASS
    assert loaded.run(whole[:14] + b"\x55" + whole[15:]) == PASS
    assert loaded.run(ETHERNET + VLAN_5 + whole[12:]) == PASS
    assert loaded.run(ETHERNET + ARP + whole[14:]) == PASS
    assert loaded.run(whole[:23] + b"\x06" + whole[24:]) == PASS
    assert [loaded.run(whole[:size]) for size in (14, 33, 41)] == [PASS] * 3
    assert loaded.run(frame_of(b"x" * (LARGEST - 42))) == TO_SOCKET
    assert loaded.run(frame_of(b"x" * (LARGEST - 41))) == PASS


def test_reserved_bit_and_dont_fragment_are_no_fragments(loaded: _core.XdpFilter) -> None:
    """Only the bit for more fragments and the offset make one: each bit of both."""
    whole = frame_of(b"payload")
    for bit in range(16):
        changed = whole[:20] + struct.pack(">H", 1 << bit) + whole[22:]
        assert loaded.run(changed) == (TO_SOCKET if bit >= 14 else PASS)


@given(
    payload=st.binary(max_size=300),
    group=st.sampled_from(GROUPS),
    port=st.sampled_from(PORTS),
    options=st.sampled_from([b"", b"\x94\x04\x75\x31"]),
    tag=st.sampled_from([b"", VLAN_5]),
    changes=st.lists(st.tuples(st.integers(0, 45), st.integers(0, 255)), max_size=3),
    cut=st.integers(0, 400),
)
def test_any_frame_gets_the_verdict_that_its_headers_say(
    loaded: _core.XdpFilter,
    payload: bytes,
    group: str,
    port: int,
    options: bytes,
    tag: bytes,
    changes: list[tuple[int, int]],
    cut: int,
) -> None:
    """Made well, then damaged in some bytes, and cut."""
    made = bytearray(ETHERNET + tag + IPV4 + packet(payload, group, port, SENDER, options=options))
    for at, value in changes:
        if at < len(made):
            made[at] = value
    frame = bytes(made[: max(14, len(made) - cut)] if cut > 300 else made)
    assert loaded.run(frame) == wanted(frame)


@given(noise=st.binary(min_size=14, max_size=100))
@example(noise=bytes(60))
def test_noise_gets_the_verdict_that_its_headers_say(loaded: _core.XdpFilter, noise: bytes) -> None:
    """The kernel's own shortest frame is 14 bytes."""
    assert loaded.run(noise) == wanted(noise)


def test_a_key_in_the_map_is_the_line_alone(loaded: _core.XdpFilter) -> None:
    """Every bit of group and port counts: one that differs is another line's, or nobody's."""
    whole = frame_of(b"payload")
    for at in [*range(30, 34), 36, 37]:
        for bit in range(8):
            changed = bytearray(whole)
            changed[at] ^= 1 << bit
            assert loaded.run(bytes(changed)) == wanted(bytes(changed))
