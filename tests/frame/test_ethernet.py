"""Captured frames: the headers of links, VLANs, IPv4 and UDP come off, or the reason is told."""

from __future__ import annotations

import ipaddress
import struct

import pytest

from feedhandler import _core

ETHERNET, RAW, COOKED, IPV4, COOKED2, LOOPBACK = 1, 101, 113, 228, 276, 0
MACS = bytes.fromhex("01005e360c6f 020000000001")
PAYLOAD = b"payload"
FROM, TO = "10.0.0.1", "233.54.12.111"
WHOLE = ("none", PAYLOAD, int(ipaddress.ip_address(FROM)), 1000, int(ipaddress.ip_address(TO)), 26477)


def ip(
    payload: bytes = struct.pack(">HHHH", 1000, 26477, 8 + len(PAYLOAD), 0) + PAYLOAD,
    *,
    version: int = 4,
    options: bytes = b"",
    fragment: int = 0x4000,
    protocol: int = 17,
    length: int | None = None,
) -> bytes:
    """Make an IPv4 packet around a UDP datagram."""
    words = 5 + len(options) // 4
    total = words * 4 + len(payload) if length is None else length
    head = struct.pack(">BBHHHBBH", version << 4 | words, 0, total, 1, fragment, 8, protocol, 0)
    return head + ipaddress.ip_address(FROM).packed + ipaddress.ip_address(TO).packed + options + payload


def vlan(*tags: int) -> bytes:
    """Make VLAN tags and the ethertype of IPv4."""
    return b"".join(struct.pack(">HH", tag, 141) for tag in tags) + b"\x08\x00"


@pytest.mark.parametrize(
    ("link", "frame"),
    [
        pytest.param(ETHERNET, MACS + vlan() + ip(), id="ethernet"),
        pytest.param(ETHERNET, MACS + vlan(0x8100) + ip(), id="vlan"),
        pytest.param(ETHERNET, MACS + vlan(0x88A8, 0x8100) + ip(), id="qinq"),
        pytest.param(ETHERNET, MACS + vlan() + ip() + b"\0" * 18, id="padded"),
        pytest.param(ETHERNET, MACS + vlan() + ip(options=b"\x94\x04\0\0"), id="ip options"),
        pytest.param(COOKED, struct.pack(">HHH8s", 0, 1, 6, b"\2") + vlan() + ip(), id="linux cooked"),
        pytest.param(COOKED, struct.pack(">HHH8s", 0, 1, 6, b"\2") + vlan(0x8100) + ip(), id="cooked vlan"),
        pytest.param(COOKED2, b"\x08\0" + b"\0" * 18 + ip(), id="linux cooked v2"),
        pytest.param(RAW, ip(), id="raw ip"),
        pytest.param(IPV4, ip(), id="raw ipv4"),
        pytest.param(LOOPBACK, b"\2\0\0\0" + ip(), id="bsd loopback"),
    ],
)
def test_datagram_is_found_behind_the_headers(link: int, frame: bytes) -> None:
    """Payload, addresses and ports; cut anywhere inside, the frame is refused."""
    assert _core.parse_frame(link, frame) == WHOLE
    end = frame.index(PAYLOAD) + len(PAYLOAD)
    for cut in range(end):
        assert _core.parse_frame(link, frame[:cut])[0] == "truncated"


@pytest.mark.parametrize(
    ("why", "frame"),
    [
        pytest.param("not_ipv4", MACS + b"\x86\xdd" + ip(), id="IPv6 ethertype"),
        pytest.param("not_ipv4", MACS + b"\x08\x06" + ip(), id="ARP"),
        pytest.param("not_ipv4", MACS + vlan() + ip(version=6), id="version 6"),
        pytest.param("bad_ipv4", MACS + vlan() + b"\x44" + ip()[1:], id="header of four words"),
        pytest.param("bad_ipv4", MACS + vlan() + ip(length=19), id="total shorter than the header"),
        pytest.param("truncated", MACS + vlan() + ip(length=200), id="snap length cut it"),
        pytest.param("fragment", MACS + vlan() + ip(fragment=0x2000), id="first fragment"),
        pytest.param("fragment", MACS + vlan() + ip(fragment=0x0001), id="last fragment"),
        pytest.param("not_udp", MACS + vlan() + ip(protocol=6), id="TCP"),
        pytest.param("bad_udp", MACS + vlan() + ip(b"\0" * 7), id="short UDP header"),
        pytest.param("bad_udp", MACS + vlan() + ip(b"\0\1\0\2\0\x07\0\0"), id="UDP length under 8"),
        pytest.param("bad_udp", MACS + vlan() + ip(b"\0\1\0\2\0\x09\0\0"), id="UDP length over the packet"),
    ],
)
def test_frame_is_refused_with_the_reason(why: str, frame: bytes) -> None:
    """Half a datagram is none; each refusal says why."""
    assert _core.parse_frame(ETHERNET, frame)[0] == why


def test_unknown_link_type_is_refused() -> None:
    """Nothing is guessed."""
    assert _core.parse_frame(9999, MACS + vlan() + ip())[0] == "link_type"


def test_udp_length_shorter_than_the_packet_is_believed() -> None:
    """What lies behind the UDP datagram is not payload."""
    udp = struct.pack(">HHHH", 1000, 26477, 8 + len(PAYLOAD), 0) + PAYLOAD + b"trailer"
    assert _core.parse_frame(RAW, ip(udp)) == WHOLE
