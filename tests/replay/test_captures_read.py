"""Every container, byte order and link layer gives the same feed."""

import gzip
import struct
from pathlib import Path

import pytest

from feedhandler.errors import UsageError
from feedhandler.replay.options import ReplayOptions
from feedhandler.replay.player import Player
from feedhandler.replay.source import open_source
from tests.support import itch_messages as itch
from tests.support.replay_files import (
    COOKED,
    COOKED_V2,
    ETHERNET,
    GROUP_A,
    GROUP_B,
    RAW,
    Records,
    block,
    enhanced,
    interface,
    link,
    mold,
    mold_end,
    pcap,
    play,
    section,
    udp,
)

START_NS = 1_700_000_000_123_456_000  # whole microseconds, so that no container loses any
MESSAGES = [
    itch.add(ref, "B" if ref % 2 else "S", 100 + ref, 10_000 + (1 - ref % 2) * 100 + ref)
    for ref in range(1, 9)
]
PAYLOADS = [mold(1, MESSAGES[:3]), mold(4, MESSAGES[3:4]), mold(5, MESSAGES[4:])]
TIMES = [START_NS + i * 1_000_000 for i in range(3)]
LEVELS = b"".join(
    f"AAA,{side},{price / 10_000:.4f},{size},1\n".encode()
    for side, price, size in [
        *(("B", 10_000 + ref, 100 + ref) for ref in (7, 5, 3, 1)),
        *(("S", 10_100 + ref, 100 + ref) for ref in (2, 4, 6, 8)),
    ]
)


def frames(kind: int = ETHERNET, vlans: int = 0, group: tuple[str, int] = GROUP_A) -> list[tuple[int, bytes]]:
    """The packets with times, on one link layer."""
    return [(ts, link(udp(p, group), kind, vlans)) for ts, p in zip(TIMES, PAYLOADS, strict=True)]


def pcapng(order: str = "<", resolution: int | None = 9, unit: int = 1) -> bytes:
    """One interface, enhanced packet blocks."""
    blocks = [enhanced(ts // unit, frame, order) for ts, frame in frames()]
    return section(order) + interface(resolution, order) + b"".join(blocks)


def two_interfaces() -> bytes:
    """Two link types and resolutions, packets in turn, a block nobody knows between them."""
    out = section() + interface(9) + interface(6, kind=RAW) + block(0x0BAD, b"whatever")
    for i, (ts, payload) in enumerate(zip(TIMES, PAYLOADS, strict=True)):
        raw = i % 2
        out += enhanced(ts // (1000 if raw else 1), link(udp(payload), RAW if raw else ETHERNET), on=raw)
    return out


def old_packet_blocks() -> bytes:
    """As pcapng had them before the enhanced ones; microseconds by default."""
    out = section() + interface(None)
    for ts, frame in frames():
        ticks = ts // 1000
        head = struct.pack("<HHIIII", 0, 0, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), len(frame))
        out += block(2, head + frame)
    return out


def two_sections() -> bytes:
    """The second section is in the other byte order, and its interfaces count from 0 again."""
    first, second = frames()[:1], frames()[1:]
    return (
        section("<") + interface(9, "<") + b"".join(enhanced(ts, f, "<") for ts, f in first)
        + section(">") + interface(None, ">") + b"".join(enhanced(ts // 1000, f, ">") for ts, f in second)
    )  # fmt: skip


FILES = {
    "pcap-us-little": lambda: pcap(frames(), ns=False),
    "pcap-us-big": lambda: pcap(frames(), ns=False, order=">"),
    "pcap-ns-little": lambda: pcap(frames()),
    "pcap-ns-big": lambda: pcap(frames(), order=">"),
    "pcap-gzip": lambda: gzip.compress(pcap(frames())),
    "pcap-gzip-two-members": lambda: (
        gzip.compress(pcap(frames())[:100]) + gzip.compress(pcap(frames())[100:])
    ),
    "pcap-vlan": lambda: pcap(frames(vlans=1)),
    "pcap-two-vlans": lambda: pcap(frames(vlans=2)),
    "pcap-raw": lambda: pcap(frames(RAW), kind=RAW),
    "pcap-cooked": lambda: pcap(frames(COOKED), kind=COOKED),
    "pcap-cooked-v2": lambda: pcap(frames(COOKED_V2), kind=COOKED_V2),
    "pcapng-little": pcapng,
    "pcapng-big": lambda: pcapng(">"),
    "pcapng-us-by-default": lambda: pcapng(resolution=None, unit=1000),
    "pcapng-gzip": lambda: gzip.compress(pcapng()),
    "pcapng-two-interfaces": two_interfaces,
    "pcapng-two-sections": two_sections,
    "pcapng-old-packet-blocks": old_packet_blocks,
}


@pytest.mark.parametrize("name", FILES)
def test_every_container_gives_the_same_books_and_times(name: str, tmp_path: Path) -> None:
    """The same packets in any container: the same levels, and the capture's times as ts_recv."""
    path = tmp_path / "any.name"
    path.write_bytes(FILES[name]())
    records = Records()
    played = play(path, records, schemas=("mbo",))
    assert (played.counts["packets"], played.counts["messages"], played.counts["state"]) == (3, 8, "ENDED")
    assert played.books == LEVELS
    times = [int.from_bytes(records.data["mbo"][at + 40 : at + 48], "little") for at in range(0, 8 * 56, 56)]
    assert times == [TIMES[0]] * 3 + [TIMES[1]] + [TIMES[2]] * 4


def test_simple_packet_blocks_have_no_time_of_their_own(tmp_path: Path) -> None:
    """They are played all the same."""
    out = section() + interface(9) + b"".join(block(3, struct.pack("<I", len(f)) + f) for _, f in frames())
    path = tmp_path / "simple.pcapng"
    path.write_bytes(out)
    assert play(path).books == LEVELS


@pytest.mark.parametrize(("resolution", "ticks_per_s"), [(0x80 | 30, 2**30), (3, 10**3), (12, 10**12)])
def test_resolutions_of_time_other_than_decimal_nanoseconds(
    resolution: int, ticks_per_s: int, tmp_path: Path
) -> None:
    """if_tsresol counts in powers of ten or, with its top bit, of two."""
    seconds = 1_000_000
    frame = link(udp(PAYLOADS[0]))
    path = tmp_path / "x"
    path.write_bytes(
        section() + interface(resolution) + enhanced(seconds * ticks_per_s + ticks_per_s // 2, frame)
    )
    records = Records()
    play(path, records, schemas=("mbo",))
    assert int.from_bytes(records.data["mbo"][40:48], "little") == seconds * 10**9 + 500_000_000


def test_time_that_no_clock_can_hold_ends_all_the_same(tmp_path: Path) -> None:
    """A time of 2^64 - 1 seconds is damage: the replay goes on from the latest there is, and ends."""
    path = tmp_path / "far.pcapng"
    path.write_bytes(section() + interface(0) + b"".join(enhanced(2**64 - 1, f) for _, f in frames()))
    played = play(path)
    assert (played.counts["state"], played.books) == ("ENDED", LEVELS)


def test_first_group_is_line_a_and_the_second_line_b(tmp_path: Path) -> None:
    """What A lacks, B brings: each group has a line of its own."""
    both = [*frames()[:1], *frames()[2:], *frames(group=GROUP_B)]
    path = tmp_path / "x"
    path.write_bytes(pcap(sorted(both, key=lambda frame: frame[0])))
    counts = play(path, groups=(GROUP_A, GROUP_B)).counts
    assert (counts["packets"], counts["messages"], counts["unrecovered"]) == (5, 8, 0)
    counts = play(path, groups=(GROUP_A,)).counts
    assert (counts["packets"], counts["messages"], counts["unrecovered"]) == (2, 7, 1)
    assert play(path, lines=1).counts["packets"] == 2, "--lines 1 takes the first group"


def test_other_traffic_in_the_capture_is_left_out(tmp_path: Path) -> None:
    """Unicast, other groups that are not MoldUDP64, ARP and fragments do not disturb the feed."""
    other = [
        link(udp(PAYLOADS[0], ("10.0.0.7", 53))),
        link(udp(b"not MoldUDP64", ("239.9.9.9", 1000))),
        bytes.fromhex("ffffffffffff 020000000001 0806") + bytes(28),
        b"",
    ]
    noise = [(TIMES[0], frame) for frame in other]
    path = tmp_path / "x"
    path.write_bytes(pcap([*noise, *frames()]))
    played = play(path)
    assert played.counts["packets"] == 3
    assert played.books == LEVELS


def test_end_of_session_in_the_capture_is_not_needed_and_does_no_harm(tmp_path: Path) -> None:
    """With it and without it the state at the end is ENDED, and the books are the same."""
    path = tmp_path / "x"
    path.write_bytes(pcap([*frames(), (TIMES[2] + 1, link(udp(mold_end(9))))]))
    played = play(path)
    assert (played.books, played.counts["state"], played.counts["gaps"]) == (LEVELS, "ENDED", 0)


def test_frames_cut_by_the_snap_length_are_told_and_missing(tmp_path: Path) -> None:
    """What the capture does not hold cannot be recovered; a note says why."""
    path = tmp_path / "x"
    path.write_bytes(pcap(frames(), snap=120))
    player = Player(open_source(path), ReplayOptions())
    assert player.notes == [f'FILE: "{path}": 2 frames that the snap length of the capture cut were left out']
    assert player.play().counts["messages"] == 1


def test_no_group_of_the_capture_is_multicast_moldudp64(tmp_path: Path) -> None:
    """The error names what there is."""
    path = tmp_path / "x"
    path.write_bytes(pcap([(TIMES[0], link(udp(PAYLOADS[0], ("10.0.0.7", 53))))]))
    with pytest.raises(UsageError, match=r"no multicast MoldUDP64 packets \(it has 10\.0\.0\.7:53\)"):
        play(path)
