"""The lossy line does what it says, exactly, and the same every time."""

import math
import struct

import pytest

from feedhandler import _core

SESSION = b"LOSSYTEST1"


def packet(first: int, sizes: list[int]) -> bytes:
    """A MoldUDP64 packet with one message of each size, numbered from `first`."""
    blocks = b"".join(struct.pack(">H", size) + bytes(size) for size in sizes)
    return struct.pack(">10sQH", SESSION, first, len(sizes)) + blocks


def well_formed(data: bytes) -> bool:
    """The parse check of a receiver: blocks end exactly where the datagram ends."""
    if len(data) < 20:
        return False
    count = struct.unpack_from(">H", data, 18)[0]
    at = 20
    for _ in range(0 if count == 0xFFFF else count):
        if at + 2 > len(data):
            return False
        at += 2 + struct.unpack_from(">H", data, at)[0]
    return at == len(data)


def run(count: int, *, messages: int = 1, **faults: float) -> tuple[_core.LossyLine, list[bytes]]:
    """Push `count` packets of `messages` messages through a line; returns the line and all that came out."""
    line = _core.LossyLine(**faults)
    out: list[bytes] = []
    for i in range(count):
        out += line.push(packet(1 + i * messages, [12] * messages))
    return line, out + line.flush()


def first_of(data: bytes) -> int:
    """The number of a packet's first message."""
    return int(struct.unpack_from(">Q", data, 10)[0])


@pytest.mark.parametrize(("share", "burst"), [(0.05, 1), (0.05, 10), (0.2, 3), (0.5, 4), (0.9, 20)])
def test_share_and_length_of_loss_bursts(share: float, burst: float) -> None:
    """The share lost is P, the mean burst N packets (or what independence gives, if longer), to 5 sigma."""
    count = 200_000
    line, out = run(count, drop=share, drop_burst=burst, seed=7)
    mean = max(burst, 1 / (1 - share))
    # A two-state chain: the share's variance is that of independent draws times (1 + r) / (1 - r), r = its
    # correlation.
    r = 1 - 1 / mean - share / (mean * (1 - share))
    sigma = math.sqrt(share * (1 - share) / count * (1 + r) / (1 - r))
    lost = count - len(out)
    assert line.counts["dropped"] == lost
    assert abs(lost / count - share) < 5 * sigma
    bursts = len(line.losses)
    length_sigma = math.sqrt(mean * (mean - 1) / bursts)
    assert abs(lost / bursts - mean) < 5 * length_sigma + 1e-9


def test_nothing_without_faults() -> None:
    """A line without faults hands every packet through, unchanged and in order."""
    line, out = run(1000)
    assert out == [packet(1 + i, [12]) for i in range(1000)]
    assert line.counts["delivered"] == 1000


def test_everything_dropped() -> None:
    """P = 1 lets nothing through, whatever the burst length."""
    for burst in (1, 10):
        line, out = run(500, messages=3, drop=1.0, drop_burst=burst)
        assert out == []
        assert line.counts["lost_messages"] == 1500
        assert line.losses == [(1, 1501)]


def test_lost_numbers_are_those_that_did_not_arrive() -> None:
    """The ranges and counts of lost message numbers agree with the packets that came out well formed."""
    line, out = run(5000, messages=4, drop=0.1, drop_burst=3, duplicate=0.2, reorder=0.2, corrupt=0.2, seed=3)
    arrived = {first_of(data) + i for data in out if well_formed(data) for i in range(4)}
    lost = {n for first, end in line.losses for n in range(first, end)}
    assert lost == set(range(1, 20001)) - arrived
    counts = line.counts
    assert counts["lost_messages"] == len(lost)
    assert counts["offered_messages"] == 20000
    assert counts["delivered"] == len(out) == 5000 - counts["dropped"] + counts["duplicated"]
    assert counts["corrupted"] == sum(not well_formed(data) for data in out)


@pytest.mark.parametrize(
    "sizes", [[], [0], [0, 0, 0], [12], [1] * 5, [50] * 28, [257, 1, 3], list(range(40))]
)
def test_damage_is_always_seen(sizes: list[int]) -> None:
    """No damaged packet passes the parse check: heartbeats, empty messages and full packets included."""
    line = _core.LossyLine(corrupt=1.0, seed=len(sizes))
    for i in range(3000):
        (data,) = line.push(packet(1 + i, sizes))
        assert not well_formed(data)
    assert line.counts["corrupted"] == 3000


def test_damage_of_an_end_of_session_is_seen() -> None:
    """An end-of-session packet can only lose part of its header."""
    line = _core.LossyLine(corrupt=1.0)
    for _ in range(500):
        (data,) = line.push(struct.pack(">10sQH", SESSION, 9, 0xFFFF))
        assert len(data) < 20


def test_damage_of_broken_packets_does_not_read_past_them() -> None:
    """What came in too short for a header goes out as it came."""
    line = _core.LossyLine(corrupt=1.0)
    for size in range(20):
        assert line.push(bytes(size)) == [bytes(size)]


def test_all_kinds_of_damage_occur() -> None:
    """Packets are cut short, have a block length altered, or lose part of the header."""
    line = _core.LossyLine(corrupt=1.0, seed=2)
    original = packet(1, [30] * 10)
    kinds = {"header": 0, "cut": 0, "length": 0}
    for _ in range(300):
        (data,) = line.push(original)
        kinds["header" if len(data) < 20 else "cut" if len(data) < len(original) else "length"] += 1
    assert all(n > 50 for n in kinds.values()), kinds


def test_reordering_is_bounded_and_loses_nothing() -> None:
    """Delayed packets come out at most eight packets late, and all of them."""
    line, out = run(20_000, reorder=0.3, seed=5)
    order = [first_of(data) for data in out]
    assert sorted(order) == list(range(1, 20_001))
    newest, overtaken = 0, 0
    for number in order:
        assert newest - number <= 2 * 8  # eight packets offered since, and those delayed longer than itself
        overtaken += number < newest
        newest = max(newest, number)
    assert line.counts["reordered"] >= overtaken > 0
    share = line.counts["reordered"] / 20_000
    assert abs(share - 0.3) < 5 * math.sqrt(0.3 * 0.7 / 20_000)


def test_duplicates_are_intact_copies() -> None:
    """A duplicate follows with the same bytes, in the share asked for."""
    line, out = run(10_000, duplicate=0.25, seed=6)
    extra = len(out) - 10_000
    assert line.counts["duplicated"] == extra
    assert len(set(out)) == 10_000
    assert abs(extra / 10_000 - 0.25) < 5 * math.sqrt(0.25 * 0.75 / 10_000)


def test_same_seed_same_faults_other_line_other_faults() -> None:
    """The faults depend on seed and line, and on nothing else."""
    faults = {"drop": 0.1, "duplicate": 0.1, "reorder": 0.1, "corrupt": 0.1}
    assert run(500, seed=1, **faults)[1] == run(500, seed=1, **faults)[1]
    assert run(500, seed=1, **faults)[1] != run(500, seed=2, **faults)[1]
    assert run(500, seed=1, line=0, **faults)[1] != run(500, seed=1, line=1, **faults)[1]


def test_one_fault_does_not_move_another() -> None:
    """Switching duplicates, reordering and damage on leaves the losses where they were."""
    alone = run(2000, drop=0.1, drop_burst=4, seed=8)[0]
    together = run(2000, drop=0.1, drop_burst=4, duplicate=1.0, reorder=0.5, corrupt=0.5, seed=8)[0]
    assert alone.losses == together.losses


@pytest.mark.parametrize("room", [1, 2, 7, 64, 500])
def test_a_lossy_source_gives_each_line_its_own_faults(room: int) -> None:
    """Wrapped around a source, whatever the room to poll, each line gives what its lossy line gives alone."""
    faults = {"drop": 0.1, "drop_burst": 3, "duplicate": 0.3, "reorder": 0.4, "corrupt": 0.3}
    packets = [(line, packet(1 + i * 3, [12, 0, 7])) for i in range(1500) for line in (0, 1)]
    out = _core.poll_lossy(packets, 2, 9, room, **faults)
    for line in (0, 1):
        alone = _core.LossyLine(seed=9, line=line, **faults)
        expected = [data for of, data in packets if of == line for data in alone.push(data)]
        assert [data for of, data in out if of == line] == expected + alone.flush()


def test_a_lossy_source_leaves_other_lines_alone() -> None:
    """Lines beyond those with faults (replies of re-request servers) pass untouched."""
    packets = [(8, packet(1 + i, [12])) for i in range(200)]
    assert _core.poll_lossy(packets, 1, 1, 16, drop=1.0) == packets
