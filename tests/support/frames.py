"""Ethernet frames made by hand, and a sender of them: what no UDP socket would send."""

import socket
import struct

import dpkt

from tests.support.netns import inside


def multicast_address(group: str) -> bytes:
    """Return the Ethernet address of an IPv4 multicast group (RFC 1112)."""
    low = bytearray(socket.inet_aton(group)[1:])
    low[0] &= 0x7F
    return b"\x01\x00\x5e" + bytes(low)


def packet(
    payload: bytes, group: str, port: int, sender: str, *, options: bytes = b"", bad_checksum: bool = False
) -> bytes:
    """Return the IPv4 packet of a datagram with its checksums in, as dpkt computes them, or off by one."""
    udp = dpkt.udp.UDP(sport=1000, dport=port, data=payload)
    udp.ulen = len(udp)
    ip = dpkt.ip.IP(src=socket.inet_aton(sender), dst=socket.inet_aton(group), p=17, ttl=8, data=udp)
    ip.opts, ip.hl = options, 5 + len(options) // 4
    ip.len = len(ip)
    made = bytearray(bytes(ip))
    at = 4 * ip.hl + 6
    if bad_checksum:
        (right,) = struct.unpack_from(">H", made, at)
        struct.pack_into(">H", made, at, right ^ 1 if right ^ 1 else 2)
    return bytes(made)


def fragments(whole: bytes, size: int, identifier: int) -> list[bytes]:
    """Cut a packet without options into fragments of `size` bytes of data, a multiple of 8."""
    header, data = whole[:20], whole[20:]
    out = []
    for at in range(0, len(data), size):
        part = data[at : at + size]
        ip = dpkt.ip.IP(src=header[12:16], dst=header[16:20], p=17, ttl=8, id=identifier, data=part)
        ip.mf, ip.offset = int(at + size < len(data)), at // 8
        ip.len = len(ip)
        out.append(bytes(ip))
    return out


class FrameSender:
    """Sends frames by one device of a namespace."""

    def __init__(self, namespace: str, device: str) -> None:
        with inside(namespace):
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            self.socket.bind((device, 0))
            self.address = self.socket.getsockname()[4]

    def send(self, ip: bytes, to: bytes, tag: bytes = b"") -> None:
        """Send one IPv4 packet to an Ethernet address; `tag`: the VLAN's four bytes."""
        self.socket.send(to + self.address + tag + b"\x08\x00" + ip)

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()


def ethernet_address(namespace: str, device: str) -> bytes:
    """Return a device's address."""
    with inside(namespace), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as probe:
        probe.bind((device, 0))
        return bytes(probe.getsockname()[4])
