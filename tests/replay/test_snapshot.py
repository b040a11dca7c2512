"""replay --snapshot: whatever is lost, no record of a LIVE feed is wrong, and the last books are right."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from feedhandler.replay.options import Faults
from tests.support import dbn_rows
from tests.support.model_book import Model, Orders
from tests.support.replay_files import Records, play, simulated

SNAPSHOT, BAD_RECEIPT, BAD, LAST = 32, 8, 4, 128
MESSAGES = 4000


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small day of the simulated exchange."""
    path = tmp_path_factory.mktemp("day") / "day.itch"
    path.write_bytes(simulated(MESSAGES))
    return path


def messages_of(path: Path) -> list[bytes]:
    """The messages of a BinaryFILE."""
    data, at, out = path.read_bytes(), 0, []
    while size := int.from_bytes(data[at : at + 2], "big"):
        out.append(data[at + 2 : at + 2 + size])
        at += 2 + size
    return out


class Follower:
    """Books as a consumer of mbo records builds them: locate to {order: (side, price, shares)}."""

    def __init__(self) -> None:
        self.books: dict[int, dict[int, tuple[str, int, int]]] = {}

    def take(self, row: np.void) -> None:
        """One record."""
        book = self.books.setdefault(int(row["instrument_id"]), {})
        action, order = row["action"].decode(), int(row["order_id"])
        if action == "R":
            book.clear()
        elif action == "A":
            book[order] = (row["side"].decode(), int(row["price"]), int(row["size"]))
        elif action == "C" and order in book:
            side, price, shares = book.pop(order)
            if shares > row["size"]:
                book[order] = (side, price, shares - int(row["size"]))


def model_book(model: Model, locate: int) -> dict[int, tuple[str, int, int]]:
    """One book of the naive model, as the follower has it."""
    return {
        reference: ("A" if order.side != "B" else "B", order.price * 100_000, order.shares)
        for reference, order in model.orders.items()
        if order.locate == locate
    }


def check_every_live_record(rows: np.ndarray, messages: list[bytes]) -> int:
    """After each record that says LIVE, that book equals the lossless model's; returns how many."""
    follower, model, at, live = Follower(), Orders(), 0, 0
    for row in rows:
        follower.take(row)
        if row["flags"] & BAD or not row["flags"] & LAST:
            continue
        while at < row["sequence"]:
            at += 1
            model.apply(at, messages[at - 1])
        locate = int(row["instrument_id"])
        assert follower.books[locate] == model_book(model, locate), (at, locate)
        live += 1
    return live


@given(
    seed=st.integers(0, 2**32),
    drop=st.sampled_from([0.01, 0.05, 0.2]),
    burst=st.sampled_from([1.0, 4.0, 30.0]),
    rewind=st.booleans(),
)
@example(seed=297, drop=0.2, burst=1.0, rewind=False)  # images of a lost tail that nobody has told yet
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_live_record_is_wrong_and_the_last_books_are_right(
    day: Path, seed: int, drop: float, burst: float, rewind: bool
) -> None:
    """Loss on both lines, with and without a re-request server; the naive model is the judge."""
    clean = play(day, Records(), schemas=("mbo",))
    records = Records()
    faults = Faults(drop=drop, drop_burst=burst)
    played = play(
        day, records, schemas=("mbo",), faults=faults, seed=seed, snapshot=True, rewind=rewind, lines=1
    )
    counts = played.counts
    assert played.books == clean.books
    assert counts["unrecovered"] == 0
    assert counts["state"] == "ENDED"
    assert counts["messages"] == MESSAGES
    assert counts["gap_messages"] == counts["recovered_rewind"] + counts["recovered_snapshot"]
    check_every_live_record(dbn_rows.rows("mbo", bytes(records.data["mbo"])), messages_of(day))


def lossy_records(day: Path, *schemas: str) -> Records:
    """Records of a replay in which snapshots repaired something."""
    records = Records()
    faults = Faults(drop=0.1, drop_burst=3)
    played = play(day, records, schemas=schemas, faults=faults, seed=4, snapshot=True, rewind=False, lines=1)
    assert played.counts["recovered_snapshot"] > 0
    return records


def test_repairs_are_told_as_documented(day: Path) -> None:
    """mbo: R and A with the flags 32, 8, 4, the last of a symbol 128 too; all with the number before G's."""
    rows = dbn_rows.rows("mbo", bytes(lossy_records(day, "mbo").data["mbo"]))
    assert check_every_live_record(rows, messages_of(day)) > 100
    told = rows[rows["flags"] & SNAPSHOT != 0]
    assert len(told) > 10
    assert set(told["flags"] & ~np.uint8(LAST)) == {SNAPSHOT | BAD_RECEIPT | BAD}
    assert set(told["action"]) == {b"R", b"A"}
    for sequence in set(told["sequence"].tolist()):
        image = told[told["sequence"] == sequence]
        for locate in set(image["instrument_id"].tolist()):
            book = image[image["instrument_id"] == locate]
            assert book["action"].tolist() == [b"R"] + [b"A"] * (len(book) - 1)
            assert (book["flags"] & LAST != 0).tolist() == [False] * (len(book) - 1) + [True]


def test_mbp_tells_each_rebuilt_book_in_one_record(day: Path) -> None:
    """mbp: one R a symbol with the levels rebuilt; they equal the lossless model's as of that number."""
    data = bytes(lossy_records(day, "mbp-10").data["mbp-10"])
    told = [row for row in dbn_rows.tuples("mbp-10", data) if row[7] & SNAPSHOT]
    assert told
    model, at = Orders(), 0
    messages = messages_of(day)
    for row in told:
        locate, sequence, _, action, _, _, _, flags, _ = row[:9]
        assert (action, flags) == ("R", SNAPSHOT | BAD_RECEIPT | BAD | LAST)
        while at < sequence:
            at += 1
            model.apply(at, messages[at - 1])
        assert tuple(row[9:]) == model.pairs(locate, 10)
    assert len({(row[0], row[1]) for row in told}) == len(told)


def test_the_same_seed_gives_the_same_bytes(day: Path) -> None:
    """Snapshots come on virtual time."""
    first, second = lossy_records(day, "mbo", "mbp-1"), lossy_records(day, "mbo", "mbp-1")
    assert {s: bytes(d) for s, d in first.data.items()} == {s: bytes(d) for s, d in second.data.items()}
