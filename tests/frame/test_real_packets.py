"""Genuine MoldUDP64 packets come apart to the last byte."""

from pathlib import Path

import dpkt

from feedhandler import _core


def test_genuine_packets_decode_to_the_last_byte(real_data: Path) -> None:
    """Nine packets of 2023-08-22 behind VLAN 141: session, addresses, blocks that fill the datagram."""
    counts = []
    for path in sorted((real_data / "nasdaq-20230822-moldudp64").glob("*.pcap")):
        with path.open("rb") as file:
            for _, frame in dpkt.pcap.Reader(file):
                refusal, payload, _, _, group, port = _core.parse_frame(1, bytes(frame))
                assert (refusal, group, port) == ("none", 0xE9360C6F, 26477)  # 233.54.12.111
                kind, session, sequence, messages = _core.parse_mold_packet(payload)
                assert (kind, session) == ("data", b"000010059B")
                assert sequence > 0
                assert 20 + sum(2 + len(message) for message in messages) == len(payload)
                assert _core.encode_mold_packet(session, sequence, messages) == payload
                counts.append(len(messages))
    assert (len(counts), max(counts)) == (9, 38)
