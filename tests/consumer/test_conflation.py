"""The latest state instead of history: one record a symbol and poll."""

from pathlib import Path

import pytest

from feedhandler import Book, Consumer, FeedState
from feedhandler.errors import UsageError
from tests.support.channels import make_channel
from tests.support.exchange import simulated_messages

UNDEF = (1 << 63) - 1


def shown(record: "object") -> tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]:
    """Return both sides as an mbp-10 record shows them."""
    sides = []
    for letter in ("bid", "ask"):
        levels = [
            tuple(int(record[f"{letter}_{part}_{i:02d}"]) for part in ("px", "sz", "ct"))  # type: ignore[index]
            for i in range(10)
        ]
        sides.append([level for level in levels if level[0] != UNDEF])
    return sides[0], sides[1]


def levels(book: Book) -> tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]:
    """Return both sides of a book as plain numbers."""
    return book.bids.tolist(), book.asks.tolist()


def test_newest_record_of_each_symbol_is_the_book(runtime: Path) -> None:
    """20,000 messages between two polls: one record a symbol, in feed order, equal to the book table."""
    writer = make_channel(runtime / "test", books=True, ring_bytes=1 << 25)
    writer.set_state(1)
    with Consumer("test", ["mbp-10"], runtime_dir=runtime, conflate=True) as consumer:
        writer.apply(1, simulated_messages(20_000, symbols=10))
        (batch,) = consumer.poll()
        records = batch.records
        assert len(set(records["instrument_id"].tolist())) == len(records) <= 10
        assert sorted(records["sequence"].tolist()) == records["sequence"].tolist()
        for record in records:
            name = consumer.symbol(int(record["instrument_id"]))
            assert name is not None
            assert shown(record) == levels(consumer.book(name))
        assert consumer.conflated > 10_000
        assert consumer.lost == 0
        assert consumer.poll() == []
    writer.release()


def test_what_was_overwritten_unread_comes_as_whole_books(runtime: Path) -> None:
    """Lapped: a symbol that has no record left in the ring still comes, as it stands."""
    writer = make_channel(runtime / "test", books=True, ring_bytes=1 << 16)
    writer.set_state(1)
    with Consumer("test", ["mbp-10"], runtime_dir=runtime, conflate=True) as consumer:
        writer.apply(1, simulated_messages(20_000, symbols=50))
        latest = {}
        while batches := consumer.poll():
            for batch in batches:
                latest |= {int(record["instrument_id"]): record for record in batch.records}
        named = consumer.symbols()
        touched = [identifier for identifier, name in named.items() if consumer.book(name).sequence]
        assert consumer.lost > 0
        assert set(latest) == set(touched)
        for identifier, record in latest.items():
            assert shown(record) == levels(consumer.book(named[identifier]))
            assert int(record["sequence"]) <= consumer.book(named[identifier]).sequence
        whole = [record for record in latest.values() if record["action"] == b"N"]
        assert whole
        assert all(int(record["flags"]) & 36 == 32 for record in whole)
        # and what follows is delivered again
        writer.apply(20_001, simulated_messages(20_100, symbols=50)[20_000:])
        assert consumer.poll() != []
    writer.release()


def test_conflation_of_a_pair(runtime: Path) -> None:
    """Newest of what either has, LIVE."""
    writers = [make_channel(runtime / name, books=True, ring_bytes=1 << 24) for name in ("a", "b")]
    day = simulated_messages(4_000, symbols=5)
    for writer in writers:
        writer.set_state(1)
    with Consumer(["a", "b"], ["mbp-10"], runtime_dir=runtime, conflate=True, takeover_s=10) as consumer:
        writers[0].apply(1, day)
        writers[1].apply(1, day[:2_000])
        batches = consumer.poll()
        assert {batch.state for batch in batches} == {FeedState.LIVE}
        for batch in batches:
            for record in batch.records:
                name = consumer.symbol(int(record["instrument_id"]))
                assert name is not None
                assert shown(record) == levels(consumer.book(name))
    for writer in writers:
        writer.release()


def test_history_cannot_be_conflated(runtime: Path) -> None:
    """The newest trade does not stand for those before it."""
    writer = make_channel(runtime / "test")
    with pytest.raises(UsageError, match=r'"trades" cannot be conflated; these can: mbp-1, mbp-10'):
        Consumer("test", ["trades"], runtime_dir=runtime, conflate=True)
    writer.release()
