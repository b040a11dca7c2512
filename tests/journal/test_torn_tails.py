"""What is read of a segment whose end was lost: exactly the whole records before the damage."""

from pathlib import Path

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from feedhandler import _core
from feedhandler.journal.archive import repair
from feedhandler.journal.segments import segment_path
from tests.support.journal import Channel, numbered, read

SIZES = [8, 9, 64, 300, 1472, 20, 33]
TS = 1_763_600_000_999_999_990


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return a segment as the journal leaves it."""
    folder = tmp_path_factory.mktemp("segment")
    channel = Channel(folder / "live", 1 << 18)
    journal = _core.Journal(str(channel.folder))
    path = folder / "x.pcap"
    journal.open(str(path), 1 << 20, 2**62)
    for i, size in enumerate(SIZES):
        channel.ring.put(i % 2, numbered(i, size), TS + i)
    journal.pump()
    journal.close()
    return path.read_bytes()


def ends() -> list[int]:
    """Return where each record ends, by the format's arithmetic."""
    out = [24]
    for size in SIZES:
        out.append(out[-1] + 16 + 42 + size)
    return out


def expected(cut: int) -> int:
    """Return the bytes of whole records below an offset."""
    return max((end for end in ends() if end <= cut), default=0)


def test_any_cut_gives_exactly_the_whole_records_before_it(whole: bytes) -> None:
    """Every position, as a shorter file and as zeros up to the preallocated size."""
    assert len(whole) == ends()[-1]
    for cut in range(len(whole) + 1):
        assert _core.segment_extent(whole[:cut])[0] == expected(cut)
        size = _core.segment_extent(whole[:cut] + bytes(4096))[0]
        # a last byte that is zero anyway is there although it was cut
        assert size == expected(cut + _zeros_after(whole, cut))


def _zeros_after(data: bytes, cut: int) -> int:
    return len(data[cut:]) - len(data[cut:].lstrip(b"\0"))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_changed_byte_ends_the_chain_at_its_record(whole: bytes, data: st.DataObject) -> None:
    """Times, lengths, addresses, payload: whatever byte is changed, the chain ends before its record."""
    at = data.draw(st.integers(24, len(whole) - 1))
    change = data.draw(st.integers(1, 255))
    start = max(end for end in ends() if end <= at)
    damaged = bytearray(whole)
    damaged[at] ^= change
    assert _core.segment_extent(bytes(damaged))[0] == start


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_pages_that_never_reached_the_disk_end_the_chain(whole: bytes, data: st.DataObject) -> None:
    """A hole of zeros anywhere, as power leaves it between two pages: no record touched by it is taken."""
    begin = data.draw(st.integers(24, len(whole) - 1))
    end = data.draw(st.integers(begin + 1, len(whole)))
    damaged = whole[:begin] + bytes(end - begin) + whole[end:]
    same = len(whole) if damaged == whole else next(i for i, b in enumerate(damaged) if b != whole[i])
    assert _core.segment_extent(damaged)[0] == expected(same)


def test_next_start_cuts_the_torn_tail_and_keeps_the_rest(whole: bytes, tmp_path: Path) -> None:
    """`.part` becomes `.pcap` with the whole records; one without any is removed, half-made copies too."""
    torn = segment_path(tmp_path, "live", TS)
    torn.write_bytes(whole[: ends()[4] + 30] + bytes(100_000))
    empty = segment_path(tmp_path, "live", TS + 1)
    empty.write_bytes(whole[:24] + bytes(4096))
    half = tmp_path / "live-20250101T000000.000000000Z.pcap.zst.tmp"
    half.write_bytes(b"half")
    with structlog.testing.capture_logs() as log:
        repair(tmp_path, structlog.get_logger())
    assert [path.name for path in tmp_path.iterdir()] == ["live-20251120T005320.999999990Z.pcap"]
    assert [packet.payload for packet in read(next(tmp_path.iterdir()))] == [
        numbered(i, size) for i, size in enumerate(SIZES[:4])
    ]
    repaired = [entry for entry in log if entry["event"] == "journal_segment_repaired"]
    assert [(entry["packets"], entry["torn_tail"]) for entry in repaired] == [(4, True)]
