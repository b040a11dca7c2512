"""Frames as a device brings them: the lines' datagrams are taken, everything else is counted."""

import struct

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedhandler import _core

GROUP, PORT, SENDER = "239.77.1.1", 30001, "198.18.0.1"
LINES = [
    _core.LineSettings("A", GROUP, PORT, "eth0"),
    _core.LineSettings("B", GROUP, PORT + 1, "eth0"),
    _core.LineSettings("C", "239.77.1.2", PORT, "eth0", SENDER),
]
ETHERNET = bytes.fromhex("01005e4d0101 020000000001")


def packet(payload: bytes, group: str = GROUP, port: int = PORT, sender: str = SENDER) -> dpkt.ip.IP:
    """A datagram with its checksums in, as dpkt computes them."""
    udp = dpkt.udp.UDP(sport=1000, dport=port, data=payload)
    udp.ulen = len(udp)
    address = [bytes(map(int, text.split("."))) for text in (sender, group)]
    ip = dpkt.ip.IP(src=address[0], dst=address[1], p=17, data=udp)
    ip.len = len(ip)
    return dpkt.ip.IP(bytes(ip))


def frame(ip: bytes, tag: bytes = b"") -> bytes:
    """The Ethernet frame around it."""
    return ETHERNET + tag + b"\x08\x00" + ip


def counted(frames: _core.FrameLines) -> dict[str, int]:
    """The counters that moved."""
    return {name: value for name, value in frames.counters.items() if value}


@given(payload=st.binary(max_size=1472))
def test_a_datagram_of_each_line_is_taken_whole(payload: bytes) -> None:
    """By group, port and sender, whatever its length, trailing padding cut off."""
    frames = _core.FrameLines(LINES)
    for line, (group, port) in enumerate([(GROUP, PORT), (GROUP, PORT + 1), ("239.77.1.2", PORT)]):
        whole = frame(bytes(packet(payload, group, port)))
        assert frames.take(whole) == (line, payload)
        assert frames.take(whole + bytes(18)) == (line, payload)
    assert counted(frames) == {}


@pytest.mark.parametrize(
    ("made", "counter"),
    [
        (frame(bytes(packet(b"x", group="239.77.1.3"))), "other_traffic"),
        (frame(bytes(packet(b"x", port=PORT + 2))), "other_traffic"),
        (frame(bytes(packet(b"x", group="198.18.0.2"))), "other_traffic"),
        (frame(bytes(packet(b"x", group="239.77.1.2", sender="198.18.0.9"))), "other_traffic"),
        (ETHERNET + b"\x08\x06" + bytes(46), "other_traffic"),
        (frame(bytes(packet(b"x")), b"\x81\x00\x00\x05"), "tagged"),
        (frame(bytes(packet(b"x"))[:6] + b"\x20\x00" + bytes(packet(b"x"))[8:]), "fragments"),
        (frame(bytes(packet(b"x"))[:-1]), "bad_frames"),
        (ETHERNET, "bad_frames"),
        (b"", "bad_frames"),
    ],
)
def test_what_is_no_datagram_of_a_line_is_counted(made: bytes, counter: str) -> None:
    """Another group, port, unicast, sender, protocol, VLAN, fragments, cut frames."""
    frames = _core.FrameLines(LINES)
    assert frames.take(made) is None
    assert counted(frames) == {counter: 1}


@given(payload=st.binary(min_size=1, max_size=200), where=st.integers(0, 10_000), change=st.integers(1, 255))
def test_a_damaged_datagram_is_seen_by_its_checksums(payload: bytes, where: int, change: int) -> None:
    """Any one byte of header or payload: it is not taken, or a counter says why not."""
    whole = bytearray(frame(bytes(packet(payload))))
    at = 14 + where % (len(whole) - 14)
    whole[at] ^= change
    frames = _core.FrameLines(LINES)
    no_checksum = whole[40:42] == b"\0\0"  # then there is nothing to see it by
    assert (frames.take(bytes(whole)) is None) or no_checksum
    assert sum(counted(frames).values()) == (0 if no_checksum and not counted(frames) else 1)


def test_datagrams_without_a_checksum_or_with_that_of_a_local_sender_are_taken() -> None:
    """0 means none; a sender on this machine leaves the sum of the pseudo header for a device to finish."""
    whole = bytearray(frame(bytes(packet(b"payload"))))
    whole[40:42] = b"\0\0"
    frames = _core.FrameLines(LINES)
    assert frames.take(bytes(whole)) == (0, b"payload")
    words = struct.unpack(">4H", bytes(whole[26:34]))
    total = sum(words) + 17 + 8 + 7
    whole[40:42] = struct.pack(">H", (total & 0xFFFF) + (total >> 16))
    assert frames.take(bytes(whole)) == (0, b"payload")
    whole[40] ^= 1
    assert frames.take(bytes(whole)) is None
    assert frames.take(bytes(whole), intact=True) == (0, b"payload")
    assert counted(frames) == {"bad_checksums": 1}


def test_options_in_the_ip_header_are_passed_over() -> None:
    """A header longer than 20 bytes is still a header."""
    ip = packet(b"payload")
    ip.opts = b"\x94\x04\x00\x00"  # router alert
    ip.hl, ip.len = 6, len(ip)
    ip.sum = 0
    ip.data.sum = 0
    assert _core.FrameLines(LINES).take(frame(bytes(ip))) == (0, b"payload")


@given(st.binary(max_size=100))
def test_any_bytes_are_refused_or_taken_but_never_more(noise: bytes) -> None:
    """One frame, one outcome."""
    frames = _core.FrameLines(LINES)
    taken = frames.take(noise)
    assert (taken is None) == (sum(counted(frames).values()) == 1)
