"""Books from a journal whose disk has changed a byte: a damaged packet is a hole, never a message."""

import pytest

from feedhandler import _core
from tests.support import itch_messages as itch
from tests.support.exchange import packet
from tests.support.journal import Channel

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
