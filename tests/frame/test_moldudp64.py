"""MoldUDP64 datagrams: what is accepted is accepted whole."""

from __future__ import annotations

import struct

import hypothesis.strategies as st
import pytest
from hypothesis import given

from feedhandler import _core

SESSION = b"000010059B"


def header(sequence: int, count: int) -> bytes:
    """Make a header, independently of the code under test."""
    return SESSION + struct.pack(">QH", sequence, count)


def block(message: bytes) -> bytes:
    """Make a message block."""
    return struct.pack(">H", len(message)) + message


def naive_parse(packet: bytes) -> tuple[str, int, list[bytes]] | None:
    """Parse as the specification reads."""
    if len(packet) < 20:
        return None
    sequence, count = struct.unpack(">QH", packet[10:20])
    if count in (0, 0xFFFF):
        return None if len(packet) > 20 else ("heartbeat" if count == 0 else "end_of_session", sequence, [])
    rest, messages = packet[20:], []
    for _ in range(count):
        if len(rest) < 2:
            return None
        length = int.from_bytes(rest[:2], "big")
        if len(rest) < 2 + length:
            return None
        messages.append(rest[2 : 2 + length])
        rest = rest[2 + length :]
    return None if rest or sequence + count > 2**64 - 1 else ("data", sequence, messages)


def test_heartbeat_and_end_of_session_are_headers_alone() -> None:
    """Count 0 and count 0xFFFF carry the next expected number and no body."""
    assert _core.parse_mold_packet(header(383265, 0)) == ("heartbeat", SESSION, 383265, [])
    assert _core.parse_mold_packet(header(7, 0xFFFF)) == ("end_of_session", SESSION, 7, [])
    assert _core.parse_mold_packet(header(7, 0) + block(b"x")) is None
    assert _core.parse_mold_packet(header(7, 0xFFFF) + block(b"x")) is None


def test_blocks_end_exactly_where_the_datagram_ends() -> None:
    """Trailing bytes and overruns are malformed; a zero-length block is a message."""
    good = header(7, 3) + block(b"abc") + block(b"") + block(b"d")
    assert _core.parse_mold_packet(good) == ("data", SESSION, 7, [b"abc", b"", b"d"])
    for cut in range(len(good)):
        assert _core.parse_mold_packet(good[:cut]) is None
    assert _core.parse_mold_packet(good + b"\0") is None
    assert _core.parse_mold_packet(good + block(b"")) is None


def test_largest_datagrams() -> None:
    """65,507 bytes: one message, or 32,743 empty ones; nothing longer is a datagram."""
    room = 65_507 - 20
    whole = header(1, 1) + block(b"x" * (room - 2))
    assert _core.parse_mold_packet(whole) == ("data", SESSION, 1, [b"x" * (room - 2)])
    empty = header(1, room // 2) + block(b"") * (room // 2)
    assert len(_core.parse_mold_packet(empty)[3]) == room // 2
    assert _core.parse_mold_packet(header(1, 1) + block(b"x" * (room - 1))) is None
    assert _core.parse_mold_packet(header(1, 0xFFFE) + block(b"") * 0xFFFE) is None


def test_request_is_a_header_with_session_first_and_count() -> None:
    """20 bytes, the session filled in."""
    assert _core.encode_mold_header(SESSION, 17, 300) == header(17, 300)
    with pytest.raises(ValueError, match="ten bytes"):
        _core.encode_mold_header(b"short", 1, 1)


def test_encoding_refuses_what_no_datagram_holds() -> None:
    """Too long a message, too long a packet."""
    with pytest.raises(ValueError, match="65,535"):
        _core.encode_mold_packet(SESSION, 1, [b"x" * 65_536])
    with pytest.raises(ValueError, match="one datagram"):
        _core.encode_mold_packet(SESSION, 1, [b"x" * 40_000] * 2)


@given(
    sequence=st.integers(0, 2**64 - 1),
    messages=st.lists(st.binary(max_size=40), min_size=1, max_size=12),
    cut=st.integers(-3, 3),
    altered=st.none() | st.tuples(st.integers(0, 200), st.integers(0, 255)),
)
def test_agrees_with_a_naive_parser(
    sequence: int, messages: list[bytes], cut: int, altered: tuple[int, int] | None
) -> None:
    """Whole, cut, extended or with a byte altered."""
    packet = header(sequence, len(messages)) + b"".join(map(block, messages))
    packet = packet[:cut] if cut < 0 else packet + b"\0" * cut
    if altered is not None:
        at = altered[0] % len(packet)
        packet = packet[:at] + bytes([altered[1]]) + packet[at + 1 :]
    expected = naive_parse(packet)
    parsed = _core.parse_mold_packet(packet)
    assert parsed == (None if expected is None else (expected[0], packet[:10], *expected[1:]))
    if parsed is not None and parsed[0] == "data":
        assert _core.encode_mold_packet(*parsed[1:]) == packet
