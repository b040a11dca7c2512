"""Genuine exchange data through the whole pipeline."""

import csv
import struct
from pathlib import Path

import dpkt
import pytest

from feedhandler.errors import UsageError
from feedhandler.replay.options import Faults
from tests.support.capture import read_datagrams
from tests.support.replay_files import Records, play

DAY_FAULTS = Faults(drop=0.2, drop_burst=5, duplicate=0.1, reorder=0.1, corrupt=0.1)


def expected_levels(real_data: Path) -> list[tuple[str, str, int]]:
    """The levels as another project has them."""
    path = real_data / "aapl-20200130" / "expected-levels-after-1001.csv"
    rows = csv.DictReader(path.read_text().splitlines())
    return [(row["side"], f"{float(row['price']):.4f}", int(row["shares"])) for row in rows]


def levels(books: bytes) -> list[tuple[str, str, int]]:
    """The levels of AAPL in a dump."""
    rows = csv.reader(books.decode().splitlines())
    return [(side, price, int(size)) for symbol, side, price, size, _ in rows if symbol == "AAPL"]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("faults", [Faults(), DAY_FAULTS], ids=["clean", "lossy"])
def test_aapl_messages_framed_and_lossy_give_the_expected_levels(
    real_data: Path, faults: Faults, seed: int
) -> None:
    """1,001 messages of a real morning: all 64 levels as another project's tests have them."""
    path = real_data / "aapl-20200130" / "first-1001.itch"
    played = play(path, faults=faults, drop_rewind=0.2, seed=seed)
    assert (played.counts["messages"], played.counts["unrecovered"]) == (1001, 0)
    assert played.counts["unknown_orders"] == played.counts["malformed_messages"] == 0
    expected = expected_levels(real_data)
    assert len(expected) == 64
    order = {"B": -1, "S": 1}
    assert levels(played.books) == sorted(expected, key=lambda row: (row[0], order[row[0]] * float(row[1])))


def test_genuine_moldudp64_packets_decode_to_the_last_byte(real_data: Path) -> None:
    """Each packet alone: every message known, none malformed, as many as its header says."""
    captures = sorted((real_data / "nasdaq-20230822-moldudp64").glob("*.pcap"))
    assert len(captures) == 8
    packets = messages = 0
    for capture in captures:
        datagrams = read_datagrams(capture)
        counts = play(capture).counts
        assert counts["packets"] == len(datagrams)
        assert counts["messages"] == sum(struct.unpack_from(">H", d.payload, 18)[0] for d in datagrams)
        for key in ("malformed", "malformed_messages", "unknown_messages"):
            assert counts[key] == 0, (capture.name, key)
        first, last = datagrams[0].payload, datagrams[-1].payload
        end = struct.unpack_from(">Q", last, 10)[0] + struct.unpack_from(">H", last, 18)[0]
        assert counts["messages"] + counts["unrecovered"] == end - struct.unpack_from(">Q", first, 10)[0]
        assert counts["state"] == "ENDED"
        packets += counts["packets"]
        messages += counts["messages"]
    assert packets == 9
    assert messages == 7 + 1 + 38


def test_genuine_capture_times_are_kept_to_the_nanosecond(real_data: Path) -> None:
    """ts_recv is the capture's; ts_event lies shortly before it."""
    capture = real_data / "nasdaq-20230822-moldudp64" / "AddOrderNoMpidAttributionMessage.pcap"
    with capture.open("rb") as file:
        magic = file.read(4)
    assert magic in (b"\x4d\x3c\xb2\xa1", b"\xa1\xb2\x3c\x4d"), "nanoseconds"
    records = Records()
    play(capture, records, schemas=("mbo",))
    row = bytes(records.data["mbo"])
    ts_event, ts_recv = (struct.unpack_from("<Q", row, at)[0] for at in (8, 40))
    with capture.open("rb") as file:
        ((time, _frame),) = dpkt.pcap.UniversalReader(file)
    assert abs(ts_recv - round(time * 10**9)) < 1000  # a double's worth
    assert 0 < ts_recv - ts_event < 1_000_000


def test_cut_from_mid_stream_reports_its_unresolved_references_and_goes_on(real_data: Path) -> None:
    """1,000 messages from 09:30 on: 399 order references were added before the cut."""
    (path,) = (real_data / "nasdaq-20191230-0930").glob("*")
    for faults in (Faults(), DAY_FAULTS):
        counts = play(path, faults=faults).counts
        assert (counts["messages"], counts["unknown_orders"], counts["unrecovered"]) == (1000, 399, 0)
        assert counts["unknown_messages"] == counts["malformed_messages"] == 0
        assert counts["orders"] == 532


def test_captures_of_other_protocols_are_refused_not_misread(real_data: Path) -> None:
    """Multicast PITCH is no MoldUDP64."""
    captures = sorted((real_data / "bats-test-pitch").glob("*.pcap"))
    assert captures
    for capture in captures:
        with pytest.raises(UsageError, match="no multicast MoldUDP64 packets"):
            play(capture)
