"""The packet ring and its reader: nothing changed, nothing reordered, every loss counted."""

import random
from pathlib import Path

from feedhandler import _core
from tests.support.journal import FIRST_REPLY_LINE, GROUPS, SERVER, Channel, numbered, read

TS = 1_763_600_000_000_000_123


def test_packets_of_every_size_come_out_as_they_went_in(tmp_path: Path) -> None:
    """From none to the longest payload, over many turns of the ring: bytes, times, lines, the server."""
    channel = Channel(tmp_path / "live", 1 << 18)
    journal = _core.Journal(str(channel.folder))
    segment = tmp_path / "x.pcap"
    journal.open(str(segment), 64 << 20, 2**62)
    chance, expected = random.Random(1), []
    for i in range(2000):
        size = chance.choice([0, 1, 7, 8, 20, 1472, chance.randrange(3000), 65507 if i % 97 == 0 else 64])
        line = chance.choice([0, 1, FIRST_REPLY_LINE])
        payload = chance.randbytes(size)
        channel.ring.put(line, payload, TS + i)
        source = SERVER if line == FIRST_REPLY_LINE else ("0.0.0.0", 0)
        expected.append(
            (TS + i, source, ("0.0.0.0", 0) if line == FIRST_REPLY_LINE else GROUPS[line], payload)
        )
        journal.pump()
    journal.close()
    assert read(segment) == expected
    assert journal.counters() == {
        "packets": 2000,
        "bytes": segment.stat().st_size - 24,
        "lost_packets": 0,
        "segments": 1,
    }


def test_lapped_reader_knows_exactly_how_many_packets_it_lost(tmp_path: Path) -> None:
    """Whatever the sizes: written + lost is all, and what was written is a subsequence without repetition."""
    chance = random.Random(2)
    channel = Channel(tmp_path / "live", 1 << 18)
    journal = _core.Journal(str(channel.folder))
    segment = tmp_path / "x.pcap"
    journal.open(str(segment), 64 << 20, 2**62)
    number = 0
    for _ in range(60):
        for _ in range(chance.randrange(1200)):
            channel.ring.put(0, numbered(number, chance.randrange(8, 1500)), TS + number)
            number += 1
        while journal.pump():
            pass
        counters = journal.counters()
        assert counters["packets"] + counters["lost_packets"] == number == channel.ring.packets
    journal.close()
    assert journal.counters()["lost_packets"] > 0
    numbers = [int.from_bytes(packet.payload[:8]) for packet in read(segment)]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == journal.counters()["packets"]
    assert numbers[-1] == number - 1


def test_successor_goes_on_with_the_packet_after_the_last_written_one(tmp_path: Path) -> None:
    """Position and counters are in shared memory: a new reader takes up neither earlier nor later."""
    channel = Channel(tmp_path / "live", 1 << 18)
    for i in range(300):
        channel.ring.put(0, numbered(i), TS + i)
    first = _core.Journal(str(channel.folder))
    first.open(str(tmp_path / "1.pcap"), 100 * (16 + 42 + 64) + 24 + 65600, 200)
    first.pump()
    assert first.waiting
    first.close()
    done = first.counters()["packets"]
    assert 0 < done <= 300
    second = _core.Journal(str(channel.folder))
    second.open(str(tmp_path / "2.pcap"), 1 << 20, 2**62)
    second.pump()
    second.close()
    numbers = [int.from_bytes(p.payload[:8]) for name in ("1.pcap", "2.pcap") for p in read(tmp_path / name)]
    assert numbers == list(range(300))
    status = _core.journal_status(str(channel.folder))
    assert (status["packets"], status["lost_packets"], status["segments"]) == (300, 0, 2)


def test_segment_takes_no_packet_received_after_its_time(tmp_path: Path) -> None:
    """`longest_ns` after the first packet the next one waits for another segment."""
    channel = Channel(tmp_path / "live", 1 << 18)
    for i in range(10):
        channel.ring.put(0, numbered(i), TS + 100 * i)
    journal = _core.Journal(str(channel.folder))
    journal.open(str(tmp_path / "1.pcap"), 1 << 20, 500)
    journal.pump()
    assert journal.waiting
    assert journal.waiting_ns == TS + 500
    assert journal.segment_packets == 5
