"""Fill a store from a capture: pcap or pcapng, gzip by content.

Ethernet (with VLAN tags or not) or Linux cooked.
"""

import os
import struct
from collections.abc import Iterator
from typing import IO, Any

from feedhandler.errors import UsageError
from recovery.feeders.files import open_plain
from recovery.feeders.session import SessionFeeder


def feed_capture(feeder: SessionFeeder, path: str | os.PathLike[str]) -> int:
    """Take every multicast UDP datagram of the capture for a packet of the feed; returns how many there were.

    Raises UsageError when the file cannot be read as a capture, or dpkt is not installed.
    """
    name = os.fspath(path)
    try:
        import dpkt
    except ImportError as error:
        message = f'file: "{name}": captures need dpkt: pip install "feedhandler[captures]"'
        raise UsageError(message) from error
    count = 0
    try:
        with open_plain(path) as file:
            for payload in _multicast(dpkt, file):
                feeder.on_packet(payload)
                count += 1
    except OSError as error:
        raise UsageError(f'file: "{name}": {error.strerror or error}') from error
    except (EOFError, ValueError, struct.error, dpkt.Error) as error:
        reason = str(error) or type(error).__name__
        raise UsageError(f'file: "{name}": not a whole pcap or pcapng: {reason}') from error
    return count


def _multicast(dpkt: Any, file: IO[bytes]) -> Iterator[bytes]:
    reader = dpkt.pcap.UniversalReader(file)
    link_types = {dpkt.pcap.DLT_EN10MB: dpkt.ethernet.Ethernet, dpkt.pcap.DLT_LINUX_SLL: dpkt.sll.SLL}
    frame_type = link_types.get(reader.datalink(), dpkt.ip.IP)
    for _, frame in reader:
        try:
            packet = frame_type(frame)
        except dpkt.UnpackError:
            continue
        ip = packet if isinstance(packet, dpkt.ip.IP) else packet.data
        if isinstance(ip, dpkt.ip.IP) and isinstance(ip.data, dpkt.udp.UDP) and 224 <= ip.dst[0] < 240:
            yield bytes(ip.data.data)
