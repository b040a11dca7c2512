"""Books from a journal whose disk has changed a byte: a damaged packet is a hole, never a message."""

from pathlib import Path

import pytest

from feedhandler import _core
from tests.support import itch_messages as itch
from tests.support.exchange import packet
from tests.support.journal import FIRST_REPLY_LINE, Channel

SESSION = b"JOURNAL001"
PACKETS = 5
RECORD = 16 + 42 + 20 + 2 + 36


@pytest.fixture(scope="module")
def segment(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return a segment of five packets, one order in each."""
    folder = tmp_path_factory.mktemp("segment")
    channel = Channel(folder / "live", 1 << 18)
    journal = _core.Journal(str(channel.folder))
    journal.open(str(folder / "x.pcap"), 1 << 20, 2**62)
    for number in range(1, PACKETS + 1):
        channel.ring.put(0, packet(SESSION, number, [itch.add(number, "B", 100, 10_0000)]), 10**18 + number)
    journal.pump()
    journal.close()
    data = (folder / "x.pcap").read_bytes()
    assert len(data) == 24 + PACKETS * RECORD
    return data


def image_of(data: bytes) -> _core.JournalImage:
    """Return the books that these bytes make."""
    image = _core.JournalImage(SESSION, 0)
    image.begin_segment()
    image.read(data)
    return image


def test_whole_segment_makes_all_its_books(segment: bytes) -> None:
    """Nothing is taken for damaged that is not."""
    image = image_of(segment)
    assert (image.next_sequence, image.orders, image.failure) == (PACKETS + 1, PACKETS, "")


@pytest.mark.parametrize("damaged", range(1, PACKETS + 1))
def test_books_end_before_a_packet_with_a_changed_byte(segment: bytes, damaged: int) -> None:
    """The first as well as any other: what follows it waits for a message that is asked for."""
    data = bytearray(segment)
    data[24 + damaged * RECORD - 1] ^= 1  # the order's price
    image = image_of(bytes(data))
    assert image.orders == damaged - 1
    assert image.next_sequence == (damaged if damaged > 1 else 1)
    assert bool(image.failure) == (damaged == 1)


@pytest.mark.parametrize(
    ("reply", "next_sequence"),
    [
        (packet(SESSION, 2, [itch.add(2, "B", 100, 10_0000)]), 4),
        (packet(SESSION, 2, [itch.add(2, "B", 100, 10_0000)[:-1]]), 2),  # the daemon refused it, too
        (packet(b"JOURNAL002", 2, [itch.add(2, "B", 100, 10_0000)]), 2),
    ],
)
def test_reply_fills_the_hole_of_a_journal_if_it_can_be_true(
    tmp_path: Path, reply: bytes, next_sequence: int
) -> None:
    """Nobody asks for it when books are made of the journal: it is taken as the daemon took it."""
    channel = Channel(tmp_path / "live", 1 << 18)
    journal = _core.Journal(str(channel.folder))
    journal.open(str(tmp_path / "x.pcap"), 1 << 20, 2**62)
    of_line = {n: packet(SESSION, n, [itch.add(n, "B", 100, 10_0000)]) for n in (1, 3)}
    for at, (line, payload) in enumerate(((0, of_line[1]), (0, of_line[3]), (FIRST_REPLY_LINE, reply))):
        channel.ring.put(line, payload, 10**18 + at)
    journal.pump()
    journal.close()
    assert image_of((tmp_path / "x.pcap").read_bytes()).next_sequence == next_sequence
