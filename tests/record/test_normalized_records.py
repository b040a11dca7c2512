"""DBN records of single messages: layouts, mapping, flags, times."""

import databento_dbn as dbn
import numpy as np
import pytest

from feedhandler import _core
from feedhandler.consumer.schema import TRADING_DTYPE
from tests.support import itch_messages as itch
from tests.support.dbn_rows import MESSAGES, rows, tuples

MIDNIGHT = 1_580_360_400_000_000_000
UNDEF = 2**63 - 1


def records(*messages: bytes, ts_recv: int = MIDNIGHT + 900, **options) -> dict[str, bytes]:
    """Records of one packet that starts with number 7."""
    core = _core.BookNormalizer(midnight_ns=MIDNIGHT, **options)
    core.apply(7, list(messages), ts_recv_ns=ts_recv)
    return core.take_records()


def actions(data: bytes) -> list[tuple]:
    """(action, side, order id, price, size, flags) of mbo records."""
    return [row[3:] for row in tuples("mbo", data)]


@pytest.mark.parametrize("schema", sorted(MESSAGES))
def test_sizes_and_fields_are_those_of_databento(schema):
    """The numpy layout of databento_dbn fits whole records and finds our header in each."""
    data = records(
        itch.directory(), itch.add(1, "B", 100, 1_000_000), itch.executed(1, 10), itch.trading_action("T"),
        itch.imbalance(1, 2, "B", 3, 4, 5),
    )[schema]  # fmt: skip
    found = rows(schema, data)
    assert len(found) > 0
    assert set(found["length"].astype(int) * 4) == {found.dtype.itemsize}
    assert set(found["publisher_id"]) == {2}
    assert set(found["instrument_id"]) == {1}


def test_mbo_and_trade_records_equal_those_that_databento_dbn_builds():
    """Byte for byte."""
    data = records(itch.add(5, "S", 300, 1_234_500, ts=400))
    theirs = dbn.MBOMsg(
        2, 1, MIDNIGHT + 400, 5, 123_450_000_000, 300, dbn.Action.ADD, dbn.Side.ASK, MIDNIGHT + 900,
        flags=128, channel_id=0, ts_in_delta=500, sequence=7,
    )  # fmt: skip
    assert data["mbo"] == bytes(theirs)
    data = records(itch.trade(50, 1_000_000, ts=1))
    theirs = dbn.TradeMsg(
        2, 1, MIDNIGHT + 1, 100_000_000_000, 50, dbn.Action.TRADE, dbn.Side.NONE, 0, MIDNIGHT + 900,
        flags=128, ts_in_delta=899, sequence=7,
    )  # fmt: skip
    assert data["trades"] == bytes(theirs)


def test_execution_gives_trade_fill_cancel_and_the_aggressor_is_the_other_side():
    """T without an order id, F and C with the order's; only the last carries F_LAST."""
    data = records(itch.add(9, "B", 100, 1_000_000), itch.executed(9, 40))
    price = 100_000_000_000
    assert actions(data["mbo"])[1:] == [
        ("T", "A", 0, price, 40, 0), ("F", "B", 9, price, 40, 0), ("C", "B", 9, price, 40, 128),
    ]  # fmt: skip
    assert tuples("trades", data["trades"])[0][3:] == ("T", "A", price, 40, 128, 0)


@pytest.mark.parametrize(("printable", "first"), [("Y", "T"), ("N", "F")])
def test_execution_with_price_trades_there_and_cancels_at_the_orders_price(printable, first):
    """No T and no trade when it is not printable: that volume is in the cross."""
    data = records(itch.add(9, "S", 100, 1_000_000), itch.executed_with_price(9, 100, 990_000, printable))
    mbo = actions(data["mbo"])[1:]
    assert mbo[0][0] == first
    assert [row[3] for row in mbo] == [99_000_000_000] * (len(mbo) - 1) + [100_000_000_000]
    assert len(rows("trades", data["trades"])) == (printable == "Y")
    last = tuples("mbp-1", data["mbp-1"])[-1]
    assert last[3] == ("T" if printable == "Y" else "C")
    assert last[9] == (UNDEF, UNDEF, 0, 0, 0, 0)


def test_juncture_cross_trade_share_count_has_64_bits():
    """More than 32 bits hold: the largest size; exactly 32 bits: as it is; none: no record."""
    assert [r[6] for r in tuples("trades", records(itch.cross(2**32 + 5, 10))["trades"])] == [2**32 - 1]
    assert [r[6] for r in tuples("trades", records(itch.cross(2**32 - 2, 10))["trades"])] == [2**32 - 2]
    assert not any(records(itch.cross(0, 10)).values())


def test_each_message_of_a_packet_has_its_own_number_not_the_packets_first():
    """Messages 7, 8, 9 of one packet, whatever lies between."""
    data = records(itch.add(1, "B", 1, 10), b"", itch.add(2, "B", 1, 10))
    assert [int(n) for n in rows("mbo", data["mbo"])["sequence"]] == [7, 9]


def test_sequence_is_the_low_half_of_the_number():
    """DBN has 32 bits for it."""
    core = _core.BookNormalizer()
    core.apply(2**32 + 3, [itch.add(1, "B", 1, 10)])
    assert rows("mbo", core.take_records()["mbo"])["sequence"].tolist() == [3]
    assert core.view(1)["sequence"] == 2**32 + 3


@pytest.mark.parametrize(
    ("ts_recv", "delta"), [(0, -(2**31)), (MIDNIGHT + 10**12, 2**31 - 1), (MIDNIGHT + 5, 5)]
)
def test_time_between_event_and_receipt_saturates(ts_recv, delta):
    """Old files replayed today are years late."""
    data = records(itch.add(1, "B", 1, 10), ts_recv=ts_recv)
    assert rows("mbo", data["mbo"])["ts_in_delta"].tolist() == [delta]


def test_replace_with_the_same_price_and_size_changes_no_level():
    """The order loses its place: mbo tells, the levels are as they were."""
    data = records(itch.add(1, "B", 10, 10), itch.replace(1, 2, 10, 10))
    assert [row[0] for row in actions(data["mbo"])] == ["A", "C", "A"]
    assert len(rows("mbp-1", data["mbp-1"])) == len(rows("mbp-10", data["mbp-10"])) == 1


def test_depth_is_the_rank_of_the_level_touched_and_levels_beyond_ten_are_silent():
    """Twelve bids from the best down."""
    data = records(*(itch.add(i, "B", 10, 100 - i) for i in range(12)))
    assert [row[8] for row in tuples("mbp-10", data["mbp-10"])] == list(range(10))
    assert len(rows("mbp-1", data["mbp-1"])) == 1


@pytest.mark.parametrize("state", [0, 2, 3, 4])
def test_records_are_flagged_while_the_feed_is_not_live(state):
    """F_MAYBE_BAD_BOOK on every record of every schema that has flags."""
    data = records(itch.add(1, "B", 10, 10), itch.executed(1, 1), itch.trade(1, 2), state=state)
    for schema in ("mbo", "trades", "mbp-1", "mbp-10"):
        assert all(flags & 4 for flags in rows(schema, data[schema])["flags"])


@pytest.mark.parametrize(("state", "book"), [(1, 0), (2, 4)])
def test_records_of_a_doubtful_time_are_flagged_and_no_others(state, book):
    """F_BAD_TS_RECV on every record of that packet, beside what the state adds; gone with the next packet."""
    core = _core.BookNormalizer(state=state)
    core.apply(1, [itch.add(1, "B", 10, 10), itch.executed(1, 1)], 500, doubtful=True)
    doubtful = core.take_records()
    core.apply(3, [itch.trade(1, 2), itch.add(2, "S", 11, 10)], 600)
    trusted = core.take_records()
    for schema in ("mbo", "trades", "mbp-1", "mbp-10"):
        assert {int(flags) & 12 for flags in rows(schema, doubtful[schema])["flags"]} == {8 | book}
        assert {int(flags) & 12 for flags in rows(schema, trusted[schema])["flags"]} == {book}


def test_clear_publishes_every_book_that_was_with_the_last_lost_number():
    """R, flagged, empty levels, instruments rising; the second clear has nothing to say."""
    core = _core.BookNormalizer()
    core.apply(
        1,
        [itch.add(1, "B", 10, 10, locate=9), itch.add(2, "S", 10, 10, locate=3, stock="B"), itch.trade(1, 1)],
    )
    core.take_records()
    core.clear(55, 77)
    data = core.take_records()
    for schema in ("mbo", "mbp-1", "mbp-10"):
        found = tuples(schema, data[schema])
        assert [(r[0], r[1], r[2], r[3]) for r in found] == [(3, 55, 77, "R"), (9, 55, 77, "R")]
        assert set(rows(schema, data[schema])["flags"]) == {128 | 4}
    assert core.view(9)["bids"] == []
    assert core.view(9)["sequence"] == 55
    core.clear(56, 78)
    assert not any(core.take_records().values())


def test_only_wanted_symbols_have_records_but_all_have_books():
    """A symbol is known from the first message that carries it."""
    core = _core.BookNormalizer(symbols=["AAA"])
    core.apply(
        1,
        [
            itch.add(1, "B", 10, 10, 1, "AAA"),
            itch.add(2, "B", 10, 10, 2, "AAAB"),
            itch.trade(5, 5, 2, "AAAB"),
        ],
    )
    assert set(rows("mbo", core.take_records()["mbo"])["instrument_id"]) == {1}
    assert core.levels(2, True) == [(10, 10, 1)]


def test_directory_message_renames_what_an_earlier_message_named():
    """The stock field of R wins; a symbol is found by its name without padding."""
    core = _core.BookNormalizer()
    core.apply(
        1, [itch.add(1, "B", 10, 10, 4, "OLD"), itch.directory(4, "NEW"), itch.add(2, "B", 10, 10, 4, "ODD")]
    )
    assert core.instrument("NEW") == 4
    assert core.instrument("OLD") is None
    assert core.instrument("ODD") is None


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (itch.trading_action("T"), (7, 0, b"Y", b"Y", b"~")),
        (itch.trading_action("H", "T1  "), (8, 30, b"N", b"N", b"~")),
        (itch.trading_action("P", "LUDP"), (9, 50, b"N", b"N", b"~")),
        (itch.trading_action("Q", "MWCQ"), (3, 124, b"N", b"Y", b"~")),
        (itch.operational_halt("H"), (8, 60, b"N", b"N", b"~")),
        (itch.operational_halt("T"), (7, 60, b"Y", b"Y", b"~")),
        (itch.short_sale("0"), (14, 0, b"~", b"~", b"N")),
        (itch.short_sale("1"), (14, 0, b"~", b"~", b"Y")),
        (itch.short_sale("2"), (14, 0, b"~", b"~", b"Y")),
    ],
)
def test_trading_states_become_status_records(message, expected):
    """Halts, pauses, quotation, trading, venue halts, short-sale restriction."""
    (row,) = rows("status", records(message)["status"])
    names = ("action", "reason", "is_trading", "is_quoting", "is_short_sell_restricted")
    assert tuple(row[name] for name in names) == expected


def test_imbalance_maps_near_far_and_clamps_64_bit_counts():
    """near: cross and continuous orders; far: cross orders only."""
    (row,) = rows(
        "imbalance", records(itch.imbalance(2**33, 500, "S", 10, 20, 30, variation="3"))["imbalance"]
    )
    assert row["paired_qty"] == 2**32 - 1
    assert row["total_imbalance_qty"] == 500
    assert (row["auct_interest_clr_price"], row["cont_book_clr_price"], row["ref_price"]) == (
        1_000_000, 2_000_000, 3_000_000,
    )  # fmt: skip
    assert (row["side"], row["auction_type"], row["significant_imbalance"]) == (b"A", b"O", b"3")


def test_definition_equals_what_databento_dbn_fills_in_for_undefined_fields():
    """Everything the directory message does not tell has the library's own default."""
    (ours,) = rows("definition", records(itch.directory(stock="AAPL", lot=100))["definition"])
    theirs = dbn.InstrumentDefMsg(
        2, 1, MIDNIGHT, MIDNIGHT + 900, UNDEF, 10**14, "AAPL", "", "", dbn.InstrumentClass.STOCK,
        dbn.SecurityUpdateAction.ADD, raw_instrument_id=1, min_lot_size_round_lot=100, exchange="XNAS",
        secsubtype="Z ", match_algorithm=dbn.MatchAlgorithm.FIFO,
    )  # fmt: skip
    (expected,) = rows("definition", bytes(theirs))
    for name in expected.dtype.names:
        assert ours[name] == expected[name], name


def test_reading_a_symbol_that_was_never_named_says_so():
    """And names longer than the field are none."""
    core = _core.BookNormalizer()
    assert core.view(5) is None
    assert core.instrument("AAA") is None
    assert core.instrument("TOOLONGNAME") is None


def test_structured_arrays_of_batches_need_no_copy():
    """Record sizes are multiples of eight: every field lies aligned."""
    data = records(itch.add(1, "B", 10, 10), itch.add(2, "B", 10, 10))
    assert np.frombuffer(data["mbo"], dtype="u8").size == 2 * 7


def test_what_dbn_cannot_carry_is_lost():
    """Match numbers, MPIDs, printable flags, cross types, broken trades, 64-bit shares: native events."""
    messages = [
        itch.add(1, "B", 100, 1_000_000, mpid="GSCO", ts=1),
        itch.executed(1, 10, match=71, ts=2),
        itch.executed_with_price(1, 5, 1_000_100, "N", match=72, ts=3),
        itch.trade(7, 1_000_000, match=73, ts=4),
        itch.cross(5 << 32, 1_000_000, kind="C", ts=5),
        itch.cross(0, 0, ts=6),
        itch.broken(73, ts=7),
        itch.executed(1, 10)[:-1],
    ]
    found = np.frombuffer(records(*messages, trading_events=True)["event"], TRADING_DTYPE)
    fields = ["sequence", "kind", "match_number", "detail", "participant", "shares"]
    assert found[fields].tolist() == [
        (7, b"A", 0, b"", b"GSCO", 100),
        (8, b"E", 71, b"Y", b"", 10),
        (9, b"E", 72, b"N", b"", 5),
        (10, b"P", 73, b"", b"", 7),
        (11, b"X", 1, b"C", b"", 5 << 32),
        (13, b"B", 73, b"", b"", 0),
    ]
    assert (found["ts"] - MIDNIGHT).tolist() == [1, 2, 3, 4, 5, 7]
    assert {tuple(row) for row in found[["type", "state", "instrument_id"]].tolist()} == {(11, 1, 1)}


def test_trading_events_of_unwanted_symbols_or_when_nobody_asked():
    """As for records: only those of the symbols published, and none unless they are switched on."""
    messages = [itch.trade(1, 10_000), itch.trade(2, 10_000, locate=2, stock="BBB")]
    found = np.frombuffer(records(*messages, trading_events=True, symbols=["BBB"])["event"], TRADING_DTYPE)
    assert found["shares"].tolist() == [2]
    assert records(*messages)["event"] == b""
