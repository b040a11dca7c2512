"""Fill a store from a capture (pcap or pcapng, gzip and zstd by content) or a journal, segment by segment.

Ethernet (with VLAN tags or not) or Linux cooked. Of a journal the replies of re-request servers are taken
too.
"""

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import zstandard

from feedhandler import _core
from feedhandler.errors import UsageError
from feedhandler.journal import segments as journal
from recovery.feeders.files import open_plain
from recovery.feeders.session import SessionFeeder

JOURNAL_MAC = b"\x02FHJ"
PROGRESS_PACKETS = 1_000_000  # some ten seconds


def feed_capture(
    feeder: SessionFeeder, path: str | os.PathLike[str], progress: Callable[[], object] | None = None
) -> int:
    """Take every multicast UDP datagram of the capture for a packet of the feed; returns how many there were.

    A directory is a journal. Its segments are read in order. `progress` is called now and then.

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
        for file in _files(Path(path)):
            for ts_ns, payload in _packets(dpkt, file):
                feeder.on_packet(payload, ts_ns)
                count += 1
                if progress is not None and count % PROGRESS_PACKETS == 0:
                    progress()
    except OSError as error:
        raise UsageError(f'file: "{name}": {error.strerror or error}') from error
    except zstandard.ZstdError as error:
        raise UsageError(f'file: "{name}": damaged zstd data: {error}') from error
    except (EOFError, ValueError, struct.error, dpkt.Error) as error:
        reason = str(error) or type(error).__name__
        raise UsageError(f'file: "{name}": not a whole pcap or pcapng: {reason}') from error
    return count


def _files(path: Path) -> Iterator[IO[bytes]]:
    if not path.is_dir():
        with open_plain(path) as file:
            yield file
        return
    segments = journal.segments(path)
    if not segments:
        raise UsageError(f'file: "{path}": is a directory without segments of a journal')
    for segment in segments:
        with ExitStack() as stack:
            try:
                file = stack.enter_context(open_plain(segment.path))
            except FileNotFoundError:  # finished or compressed since, or too old to be kept
                now = [other.path for other in journal.segments(path) if other.start == segment.start]
                if not now:
                    continue
                file = stack.enter_context(open_plain(now[0]))
            yield file


def _packets(dpkt: Any, file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    reader = dpkt.pcap.UniversalReader(file)
    link_types = {dpkt.pcap.DLT_EN10MB: dpkt.ethernet.Ethernet, dpkt.pcap.DLT_LINUX_SLL: dpkt.sll.SLL}
    frame_type = link_types.get(reader.datalink(), dpkt.ip.IP)
    for ts_s, frame in reader:
        try:
            packet = frame_type(frame)
        except dpkt.UnpackError:
            continue
        ip = packet if isinstance(packet, dpkt.ip.IP) else packet.data
        if not isinstance(ip, dpkt.ip.IP) or not isinstance(ip.data, dpkt.udp.UDP):
            continue
        if 224 <= ip.dst[0] < 240 or _is_reply(frame):
            yield int(ts_s * 1_000_000_000), bytes(ip.data.data)


def _is_reply(frame: bytes) -> bool:
    """Tell whether a frame is what a re-request server gave, as a journal marks it in the source address."""
    return frame[6:10] == JOURNAL_MAC and frame[11] >= _core.MAX_LINES
