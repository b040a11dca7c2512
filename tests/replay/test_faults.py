"""Faults change when things arrive, never what comes out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedhandler.replay.options import Faults
from feedhandler.replay.player import Played, attempts
from tests.support import dbn_rows, model_book
from tests.support.replay_files import Records, play, simulated

ALL_FAULTS = Faults(drop=0.05, drop_burst=10, duplicate=0.05, reorder=0.05, corrupt=0.05)
SCHEMAS = ("mbo", "mbp-1")
MAY_DIFFER = ("ts_recv", "ts_in_delta")
F_MAYBE_BAD_BOOK = 4


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30,000 messages of the simulated exchange."""
    path = tmp_path_factory.mktemp("day") / "day.itch"
    path.write_bytes(simulated(30_000))
    return path


def comparable(schema: str, records: Records) -> np.ndarray:
    """The records without what faults may change."""
    rows = dbn_rows.rows(schema, bytes(records.data.get(schema, b""))).copy()
    for name in MAY_DIFFER:
        rows[name] = 0
    rows["flags"] &= ~np.uint8(F_MAYBE_BAD_BOOK)
    return rows


def repeatable(played: Played) -> dict[str, Any]:
    """Without what depends on the machine."""
    return {key: value for key, value in played.counts.items() if key not in ("elapsed_s", "messages_per_s")}


def test_identical_books_and_records_with_and_without_faults(day: Path) -> None:
    """5 % loss in bursts of 10, duplicates, reorder, damage; 20 % of the re-request traffic lost."""
    clean, faulty = Records(), Records()
    expected = play(day, clean, schemas=SCHEMAS)
    played = play(day, faulty, schemas=SCHEMAS, faults=ALL_FAULTS, drop_rewind=0.2, seed=5)
    for key in ("dropped", "duplicated", "reordered", "corrupted", "recovered_line", "recovered_rewind"):
        assert played.counts[key] > 0, key
    assert played.books == expected.books
    for schema in SCHEMAS:
        assert len(clean.data[schema]) > 0
        assert np.array_equal(comparable(schema, clean), comparable(schema, faulty)), schema
    flagged = dbn_rows.rows("mbo", bytes(faulty.data["mbo"]))["flags"] & F_MAYBE_BAD_BOOK
    assert flagged.any(), "what came while a hole was open must be flagged"
    assert not (dbn_rows.rows("mbo", bytes(clean.data["mbo"]))["flags"] & F_MAYBE_BAD_BOOK).any()


def test_same_seed_gives_the_same_bytes_and_another_seed_other_faults(day: Path) -> None:
    """All of the output, not only the books."""
    runs = []
    for seed in (3, 3, 4):
        records = Records()
        played = play(day, records, schemas=SCHEMAS, faults=ALL_FAULTS, drop_rewind=0.2, seed=seed)
        runs.append((repeatable(played), {s: bytes(d) for s, d in records.data.items()}, played.books))
    assert runs[0] == runs[1]
    assert runs[0][0] != runs[2][0]
    assert runs[0][2] == runs[2][2]


def check_identities(counts: dict[str, Any], messages: int) -> None:
    """What must hold whatever happened."""
    recovered = counts["recovered_line"] + counts["recovered_rewind"] + counts["recovered_snapshot"]
    assert counts["messages"] + counts["unrecovered"] == messages
    assert counts["gap_messages"] == recovered + counts["unrecovered"]
    assert counts["malformed"] == counts["corrupted"]
    assert counts["state"] == "ENDED"


probability = st.floats(0, 0.4)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    faults=st.builds(
        Faults,
        drop=probability,
        duplicate=probability,
        reorder=probability,
        corrupt=probability,
        drop_burst=st.floats(1, 100),
    ),
    drop_rewind=st.floats(0, 0.8),
    lines=st.integers(1, 2),
    seed=st.integers(0, 2**64 - 1),
)
def test_whatever_the_faults_the_books_and_records_are_the_same(
    small: tuple[Path, Played, Records], faults: Faults, drop_rewind: float, lines: int, seed: int
) -> None:
    """Property: any mix of faults, one line or two, as long as the re-request server is asked long enough."""
    path, expected, clean = small
    records = Records()
    played = play(
        path, records, schemas=SCHEMAS, faults=faults, drop_rewind=drop_rewind, lines=lines, seed=seed
    )
    check_identities(played.counts, 3_000)
    assert played.counts["unrecovered"] == 0
    assert played.books == expected.books
    for schema in SCHEMAS:
        assert np.array_equal(comparable(schema, clean), comparable(schema, records)), schema


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drop=st.floats(0, 1), burst=st.floats(1, 50), seed=st.integers(0, 1000), lines=st.integers(1, 2))
def test_without_a_rewind_server_every_message_is_either_applied_or_counted_as_lost(
    small: tuple[Path, Played, Records], drop: float, burst: float, seed: int, lines: int
) -> None:
    """The identities of the counters hold, lost head and tail included, even when nothing at all arrives."""
    path, expected, _ = small
    faults = Faults(drop=drop, drop_burst=burst)
    counts = play(path, faults=faults, rewind=False, seed=seed, lines=lines).counts
    check_identities(counts, 3_000)
    assert counts["requests"] == counts["recovered_rewind"] == 0
    if counts["unrecovered"] == 0:
        assert counts["books_sha256"] == expected.counts["books_sha256"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Played, Records]:
    """3,000 messages and what they give without faults."""
    path = tmp_path_factory.mktemp("small") / "day.itch"
    path.write_bytes(simulated(3_000, symbols=20, seed=2))
    records = Records()
    return path, play(path, records, schemas=SCHEMAS), records


def test_naive_model_gives_the_same_records_and_books(small: tuple[Path, Played, Records]) -> None:
    """An independent model over the file's messages: every mbo and mbp-1 record, and the final books."""
    path, played, records = small
    data, model, at, sequence = path.read_bytes(), model_book.Model(midnight_ns=5 * 3600 * 10**9), 0, 0
    while (length := int.from_bytes(data[at : at + 2], "big")) != 0:
        sequence += 1
        model.apply(sequence, data[at + 2 : at + 2 + length])
        at += 2 + length
    assert dbn_rows.tuples("mbo", bytes(records.data["mbo"])) == model.mbo
    assert dbn_rows.tuples("mbp-1", bytes(records.data["mbp-1"])) == model.mbp1
    lines = []
    for locate, symbol in sorted(model.symbols.items(), key=lambda entry: entry[1].encode()):
        for side, letter in (("B", "B"), ("A", "S")):
            for price, size, orders in model.levels(locate, side):
                lines.append(f"{symbol},{letter},{price / 10_000:.4f},{size},{orders}\n")
    assert played.books.decode() == "".join(lines)
    assert played.counts["orders"] == len(model.orders)


def test_drop_rewind_of_one_ends(small: tuple[Path, Played, Records]) -> None:
    """No reply ever comes: every hole is asked for 100 times, then its messages are lost."""
    counts = play(small[0], faults=Faults(drop=0.3), drop_rewind=1.0).counts
    check_identities(counts, 3_000)
    assert counts["unrecovered"] > 0
    assert counts["recovered_rewind"] == 0
    assert counts["requests"] >= 100


def test_everything_lost_is_one_hole_that_the_server_fills(small: tuple[Path, Played, Records]) -> None:
    """With all packets lost on both lines, the end of the session reveals the whole day."""
    counts = play(small[0], faults=Faults(drop=1.0)).counts
    assert (counts["gaps"], counts["gap_messages"], counts["recovered_rewind"]) == (1, 3_000, 3_000)
    assert counts["books_sha256"] == small[1].counts["books_sha256"]


@pytest.mark.parametrize(("drop", "least"), [(0.0, 100), (0.2, 100), (0.8, 800), (0.99, 300_000), (1.0, 100)])
def test_attempts_are_enough_for_the_loss_of_rewind_traffic(drop: float, least: int) -> None:
    """At least 100; many more where one in twenty-five attempts gets through; bounded."""
    assert min(least, 100_000) <= attempts(drop) <= 100_000


def test_symbols_filter_records_and_books_but_not_what_is_applied(
    small: tuple[Path, Played, Records],
) -> None:
    """All messages are applied; records, symbols and the dump are those of the symbols asked for."""
    path, whole, everything = small
    chosen = [symbol for _, symbol in whole.symbols][:2]
    records = Records()
    played = play(path, records, schemas=SCHEMAS, symbols=tuple(chosen))
    ids = [instrument for instrument, symbol in whole.symbols if symbol in chosen]
    all_rows = dbn_rows.rows("mbo", bytes(everything.data["mbo"]))
    assert bytes(records.data["mbo"]) == all_rows[np.isin(all_rows["instrument_id"], ids)].tobytes()
    kept = [line for line in whole.books.splitlines(keepends=True) if line.split(b",")[0].decode() in chosen]
    assert played.books == b"".join(kept)
    assert played.counts["messages"] == whole.counts["messages"]
    assert played.counts["orders"] == whole.counts["orders"]
