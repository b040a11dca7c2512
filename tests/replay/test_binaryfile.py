"""BinaryFILE: framed into packets by a fixed rule, ended by its end record, reported when it is cut."""

from pathlib import Path

import pytest

from feedhandler import _core
from feedhandler.replay.options import Faults
from tests.support import itch_messages as itch
from tests.support.replay_files import Records, binary_file, play

MIDNIGHT_1970_NS = 5 * 3600 * 10**9  # New York was five hours behind UTC
WIRE_NS = (
    (20 + 2 + 36 + 66) * 4 // 5
)  # an add in a packet of its own: header, block, and the frame around it at 10 Gbit/s


def ts_recv(records: Records) -> list[int]:
    """Receive times of the mbo records."""
    data = records.data["mbo"]
    return [int.from_bytes(data[at + 40 : at + 48], "little") for at in range(0, len(data), 56)]


def adds(times: list[int]) -> list[bytes]:
    """Adds at these times."""
    return [itch.add(ref, "B", 100, 10_000 + ref, ts=ts) for ref, ts in enumerate(times, 1)]


def test_messages_close_in_time_share_a_packet_whose_time_is_its_last_message(tmp_path: Path) -> None:
    """20 microseconds after a packet's first message the next packet starts."""
    path = tmp_path / "x"
    path.write_bytes(binary_file(adds([1_000_000, 1_010_000, 1_020_000, 1_020_001, 1_050_000])))
    records = Records()
    played = play(path, records, schemas=("mbo",))
    assert played.counts["packets"] == 3
    assert [ts - MIDNIGHT_1970_NS for ts in ts_recv(records)] == [1_020_000] * 3 + [
        1_020_001 + WIRE_NS - 1,
        1_050_000,
    ]


def test_a_packet_is_no_longer_than_an_ethernet_frame(tmp_path: Path) -> None:
    """1,472 bytes of payload hold a header and 38 adds."""
    path = tmp_path / "x"
    path.write_bytes(binary_file(adds([5] * 77)))
    assert (1472 - 20) // (36 + 2) == 38
    assert play(path).counts["packets"] == 3


def test_time_moves_on_where_timestamps_stand_still_or_go_back(tmp_path: Path) -> None:
    """A hole is asked for even when time stands still; times that go back never turn the clock."""
    path = tmp_path / "x"
    path.write_bytes(binary_file(adds([10**9 - (i % 3) * 10**6 for i in range(3000)])))
    records = Records()
    played = play(path, records, schemas=("mbo",), faults=Faults(drop=0.3))
    times = ts_recv(records)
    assert played.counts["unrecovered"] == 0
    assert played.counts["recovered_rewind"] > 100
    assert times[-1] > 10**9


def test_zero_length_record_ends_the_file(tmp_path: Path) -> None:
    """What lies behind it is left out, and counted in a note."""
    path = tmp_path / "x"
    path.write_bytes(binary_file(adds([1, 2, 3])) + binary_file(adds([4]), end=False))
    assert play(path).counts["messages"] == 3


def test_file_without_an_end_record(tmp_path: Path) -> None:
    """The end of the file is an end too."""
    path = tmp_path / "x"
    path.write_bytes(binary_file(adds([1, 2, 3]), end=False))
    played = play(path)
    assert (played.counts["messages"], played.failures) == (3, ())


@pytest.mark.parametrize("left", [1, 2, 3, 37])
def test_incomplete_last_record_is_reported_with_its_offset(left: int, tmp_path: Path) -> None:
    """What was read is played, the failure names the offset of the record that is not whole."""
    path = tmp_path / "x"
    whole = binary_file(adds([1, 2]), end=False)
    path.write_bytes(whole + binary_file(adds([3]), end=False)[:left])
    played = play(path)
    assert played.counts["messages"] == 2
    assert played.counts["unrecovered"] == 0
    assert played.failures == (
        f'FILE: "{path}": ends inside the record at offset {len(whole)}; what lies before it was played',
    )


def test_empty_session(tmp_path: Path) -> None:
    """A file of nothing but its end: a session without a message."""
    path = tmp_path / "x"
    path.write_bytes(b"\0\0")
    played = play(path)
    assert (played.counts["messages"], played.counts["state"]) == (0, "ENDED")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (binary_file([itch.system_event()]), "binary"),
        (binary_file([b"?", b"zz", itch.delete(1)]), ""),  # what starts a record must be a letter or digit
        (binary_file([b"zunknown", itch.delete(1)]), "binary"),
        (binary_file([b"zz"]), "binary"),
        (binary_file([itch.system_event()])[:5], "binary"),  # cut inside the first record
        (b"\0\0" + itch.system_event(), ""),  # a writer that left all lengths zero
        (b"\0\0", "binary"),
        (b"\0", ""),
        (b"hello, world, this is text\n" * 20, ""),
        (b"symbol,side,price,size,orders\n", ""),
        (bytes(range(256)), ""),
        (b"\x7fELF" + bytes(100), ""),
    ],
)
def test_recognition_by_content(content: bytes, kind: str) -> None:
    """BinaryFILE has no magic number: its first records must make sense."""
    assert _core.recognise_file(content) == kind
