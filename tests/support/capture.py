"""Reading captures in tests with dpkt.

So that what feedhandler reads can be compared with what another reader sees.
"""

import gzip
import io
import socket
from pathlib import Path
from typing import NamedTuple

import dpkt


class CapturedDatagram(NamedTuple):
    ts_ns: int
    group: str
    port: int
    payload: bytes


def read_datagrams(path: Path) -> list[CapturedDatagram]:
    """Every IPv4/UDP datagram of an Ethernet capture (pcap or pcapng, VLAN tags or not, gzip or not).

    In its order.
    """
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    out = []
    for time, frame in dpkt.pcap.UniversalReader(io.BytesIO(data)):
        packet = dpkt.ethernet.Ethernet(frame).data
        if isinstance(packet, dpkt.ip.IP) and isinstance(packet.data, dpkt.udp.UDP):
            # a double holds today's time to some hundred ns only: microseconds are as fine as it gets
            ts_ns = round(float(time) * 1e6) * 1000
            udp = packet.data
            out.append(CapturedDatagram(ts_ns, socket.inet_ntoa(packet.dst), udp.dport, bytes(udp.data)))
    return out
