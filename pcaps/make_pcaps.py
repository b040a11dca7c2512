#!/usr/bin/env python3
"""Make the captures of this folder, and beside each the answer that `feedhandler replay` must give.

    python -m pcaps.make_pcaps            write them
    python -m pcaps.make_pcaps --check    compare with what is there; exit status 1 names what differs

Seeded: the same bytes every time. README.md tells what is in each.
"""

import gzip
import json
import random
import struct
import sys
from collections.abc import Callable
from pathlib import Path

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Dot1Q, Ether

from pcaps import expected, files
from pcaps.flow import Flow
from pcaps.layers import MoldBlock, MoldUDP64

HERE = Path(__file__).resolve().parent
SESSION = b"FHCAPTURE1"
NEXT_SESSION = b"FHCAPTURE2"
FOREIGN = b"SOMEBODY  "
A, B = 0, 1
GROUPS = (
    (b"\x01\x00\x5e\x40\x01\x01", "239.192.1.1", 26477),
    (b"\x01\x00\x5e\x40\x01\x02", "239.192.1.2", 26478),
)
SOURCES = ("192.0.2.1", "192.0.2.2")  # documentation addresses
START_NS = 1_767_364_200_000_000_000  # 2026-01-02 09:30:00 in New York
SPACING_NS = 100_000  # from packet to packet of a line
US = 1_000
MS = 1_000_000
HEARTBEAT, END = 0, 0xFFFF

Datagram = tuple[int, int, bytes]
Packet = tuple[int, list[bytes]]  # first sequence, messages


def mold(session: bytes, sequence: int, messages: list[bytes], count: int | None = None) -> bytes:
    """The UDP payload."""
    blocks = [MoldBlock(data=message) for message in messages]
    return bytes(MoldUDP64(session=session, sequence=sequence, count=count, blocks=blocks))


def packets_of(flow: Flow, count: int, seed: int) -> list[Packet]:
    """`count` packets of one to five messages."""
    sizes = random.Random(seed)  # noqa: S311  repeatable, not secret
    made, sequence = [], 1
    for _ in range(count):
        messages = flow.take(sizes.choice((1, 2, 3, 3, 4, 5)))
        made.append((sequence, messages))
        sequence += len(messages)
    return made


def on_line(
    line: int, packets: list[Packet], *, lag_ns: int = 0, session: bytes = SESSION, start_ns: int = START_NS
) -> list[Datagram]:
    """Each packet in its turn, `lag_ns` late."""
    return [
        (start_ns + i * SPACING_NS + lag_ns, line, mold(session, first, messages))
        for i, (first, messages) in enumerate(packets)
    ]


def without(datagrams: list[Datagram], *lost: range) -> list[Datagram]:
    """What is left when the packets at these places are lost."""
    return [d for i, d in enumerate(datagrams) if not any(i in places for places in lost)]


def end_of(packets: list[Packet]) -> int:
    """One past the last number."""
    return packets[-1][0] + len(packets[-1][1])


def told_twice(what: int, sequence: int, at_ns: int, session: bytes = SESSION) -> list[Datagram]:
    """A heartbeat or end of session on both lines."""
    return [(at_ns + line * 50 * US, line, mold(session, sequence, [], what)) for line in (A, B)]


def clean() -> list[Datagram]:
    """Both lines whole, B 60 us behind A; a heartbeat; the end of the session."""
    packets = packets_of(Flow(1), 110, 1)
    after = START_NS + 110 * SPACING_NS
    out = on_line(A, packets) + on_line(B, packets, lag_ns=60 * US)
    out += told_twice(HEARTBEAT, end_of(packets), after + 1000 * MS)
    return out + told_twice(END, end_of(packets), after + 2000 * MS)


def one_gap() -> list[Datagram]:
    """A loses three packets; B is 5 ms behind, longer than one waits for it.

    So that the re-request server closes the gap.
    """
    packets = packets_of(Flow(2), 110, 2)
    return without(on_line(A, packets), range(40, 43)) + on_line(B, packets, lag_ns=5 * MS)


def burst_loss_both_lines() -> list[Datagram]:
    """A loses 20 to 29, B 25 to 34, B is 850 us behind: B brings what it has, 25 to 29 are nowhere.

    Later each line loses a burst of its own, and nothing is missing.
    """
    packets = packets_of(Flow(3), 110, 3)
    line_a = without(on_line(A, packets), range(20, 30), range(80, 85))
    return line_a + without(on_line(B, packets, lag_ns=850 * US), range(25, 35), range(90, 95))


def one_line_dead() -> list[Datagram]:
    """A falls silent after 40 packets; B, 60 us behind, goes on alone, over a heartbeat every second."""
    packets = packets_of(Flow(4), 110, 4)
    out = on_line(A, packets[:40]) + on_line(B, packets, lag_ns=60 * US)
    after = START_NS + 110 * SPACING_NS
    return out + [
        d
        for s in range(1, 6)
        for d in told_twice(HEARTBEAT, end_of(packets), after + s * 1000 * MS)
        if d[1] == B
    ]


def reordered() -> list[Datagram]:
    """Neighbours change places on A, on B, and on both at once; one packet of both lines comes 2 ms late."""
    packets = packets_of(Flow(5), 110, 5)
    line_a, line_b = on_line(A, packets), on_line(B, packets, lag_ns=30 * US)

    def swap(line: list[Datagram], i: int) -> None:
        (t, n, first), (u, _, second) = line[i], line[i + 1]
        line[i], line[i + 1] = (t, n, second), (u, n, first)

    for i in (10, 30, 50, 51):
        swap(line_a, i)
    for i in (20, 30, 60):
        swap(line_b, i)
    late_a = (line_a[75][0] + 2 * MS, A, line_a[75][2])
    late_b = (line_b[75][0] + 2 * MS, B, line_b[75][2])
    return without(line_a, range(75, 76)) + without(line_b, range(75, 76)) + [late_a, late_b]


def duplicates() -> list[Datagram]:
    """A sends every third packet twice; B, ahead of A at times.

    Cuts the same messages into other packets, which overlap.
    """
    packets = packets_of(Flow(6), 90, 6)
    out = on_line(A, packets)
    out += [(t + 20 * US, line, payload) for t, line, payload in out[::3]]
    starts = [first for first, _ in packets]
    messages = [message for _, batch in packets for message in batch]
    for i in range(0, len(messages), 4):
        batch = messages[max(0, i - 2) : i + 4]  # the two before it once more
        turn = max(place for place, first in enumerate(starts) if first <= i + 1)
        ahead = -(90 * US) if i % 3 == 0 and turn else 30 * US
        first = max(0, i - 2) + 1
        out.append((START_NS + turn * SPACING_NS + ahead, B, mold(SESSION, first, batch)))
    return out


def session_rollover() -> list[Datagram]:
    """A session ends and another begins; strays of a third before it.

    And late ones of the first behind it.
    """
    first = packets_of(Flow(7), 50, 7)
    second = packets_of(Flow(8), 50, 8)
    ended = START_NS + 50 * SPACING_NS
    again = ended + 3000 * MS
    out = on_line(A, first) + on_line(B, first, lag_ns=60 * US)
    out += [
        (START_NS + 2050 * US, A, mold(FOREIGN, 1, [b"stray"])),
        (START_NS + 2060 * US, B, mold(FOREIGN, 900, [], HEARTBEAT)),
    ]
    for s in range(3):
        out += told_twice(END, end_of(first), ended + s * 1000 * MS)
    out += without(on_line(A, second, session=NEXT_SESSION, start_ns=again), range(20, 22))
    out += on_line(B, second, session=NEXT_SESSION, start_ns=again, lag_ns=450 * US)
    out += told_twice(END, end_of(first), again + 1040 * US)
    out.append((again + 1545 * US, B, mold(SESSION, *first[-1])))
    return out + told_twice(END, end_of(second), again + 1000 * MS, NEXT_SESSION)


def malformed() -> list[Datagram]:
    """Damaged packets on A, each whole on B; and, framed well, messages that are wrong in themselves."""
    flow = Flow(9)
    packets = packets_of(flow, 60, 9)
    live = flow.live()
    wrong = [
        b"A" + bytes(34),  # a known type, too short
        b"E" + bytes(40),  # a known type, too long
        b"z" + bytes(20),  # an unknown type
        b"",  # nothing at all
        b"E" + struct.pack(">HH6sQIQ", 1, 0, bytes(6), 999_999, 100, 1),  # an unknown order
        b"X" + struct.pack(">HH6sQI", 1, 0, bytes(6), live[0], 1 << 30),  # more than is left
        b"D" + struct.pack(">HH6sQ", 1, 0, bytes(6), 999_999),
    ]
    packets.append((end_of(packets), wrong))
    sequence = end_of(packets)
    for first, messages in packets_of(flow, 20, 10):
        packets.append((sequence + first - 1, messages))
    line_a = on_line(A, packets)

    def damage(place: int, how: Callable[[bytes], bytes]) -> None:
        time, line, payload = line_a[place]
        line_a[place] = (time, line, how(payload))

    damage(10, lambda p: p[:13])  # a header cut
    damage(15, lambda p: p[:-1])  # cut short
    damage(20, lambda p: p + b"\0")  # bytes behind the last block
    damage(25, lambda p: p[:20] + struct.pack(">H", 60_000) + p[22:])  # a block longer than the packet
    damage(30, lambda p: p[:18] + struct.pack(">H", 90) + p[20:])  # more blocks told than there are
    damage(35, lambda _: b"")
    return line_a + on_line(B, packets, lag_ns=120 * US)


def heartbeat_reveals_lost_tail() -> list[Datagram]:
    """The last two packets are lost on both lines; a second later heartbeats tell of them."""
    packets = packets_of(Flow(11), 80, 11)
    out = on_line(A, packets[:-2]) + on_line(B, packets[:-2], lag_ns=60 * US)
    after = START_NS + 80 * SPACING_NS
    return out + [
        d for s in range(1, 4) for d in told_twice(HEARTBEAT, end_of(packets), after + s * 1000 * MS)
    ]


CAPTURES: dict[str, Callable[[], list[Datagram]]] = {
    "clean.pcap": clean,
    "one_gap.pcap": one_gap,
    "burst_loss_both_lines.pcapng": burst_loss_both_lines,
    "one_line_dead.pcap": one_line_dead,
    "reordered.pcap": reordered,
    "duplicates.pcapng": duplicates,
    "session_rollover.pcap.gz": session_rollover,
    "malformed.pcap": malformed,
    "heartbeat_reveals_lost_tail.pcap": heartbeat_reveals_lost_tail,
}
MICROSECONDS = {"clean.pcap", "one_line_dead.pcap"}
VLAN = {"malformed.pcap": 141, "session_rollover.pcap.gz": 7}


def frame(datagram: Datagram, number: int, vlan: int | None) -> bytes:
    """The Ethernet frame."""
    _, line, payload = datagram
    mac, group, port = GROUPS[line]
    packet = Ether(dst=mac, src=b"\x02\0\0\0\0" + bytes([line + 1]), type=0x8100 if vlan else 0x0800)
    if vlan:
        packet /= Dot1Q(vlan=vlan, type=0x0800)
    packet /= IP(src=SOURCES[line], dst=group, ttl=16, id=number & 0xFFFF, proto=17) / UDP(
        sport=40000 + line, dport=port
    )
    return bytes(packet / payload)


def capture_bytes(name: str, datagrams: list[Datagram]) -> bytes:
    """The file."""
    frames = [(d[0], frame(d, number, VLAN.get(name))) for number, d in enumerate(datagrams)]
    if ".pcapng" in name:
        return files.pcapng(frames)
    data = files.pcap(frames, nanoseconds=name not in MICROSECONDS)
    return gzip.compress(data, mtime=0) if name.endswith(".gz") else data


def content(name: str, data: bytes) -> bytes:
    """What must not change: of a gzip file, what it unpacks to (compressors differ)."""
    return gzip.decompress(data) if name.endswith(".gz") else data


def make() -> dict[str, bytes]:
    """Every file of the folder that is made, by name."""
    made = {}
    for name, build in CAPTURES.items():
        datagrams = sorted(build(), key=lambda d: (d[0], d[1]))  # stable
        made[name] = capture_bytes(name, datagrams)
        answer = json.dumps(expected.replay(datagrams), indent=2) + "\n"
        made[name + ".expected.json"] = answer.encode()
    return made


def is_current(name: str, data: bytes) -> bool:
    """Whether the file is there, with these contents."""
    path = HERE / name
    return path.exists() and content(name, path.read_bytes()) == content(name, data)


def main() -> int:
    """Write, or compare with `--check`."""
    if sys.argv[1:] not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    made = make()
    if sys.argv[1:]:
        different = [name for name, data in made.items() if not is_current(name, data)]
        print("\n".join(f"{name} differs" for name in different) or "all the same")
        return 1 if different else 0
    for name, data in made.items():
        (HERE / name).write_bytes(data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
