"""The ring: what a reader gets, what it loses, and that it knows."""

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from feedhandler import Consumer
from feedhandler.consumer.schema import DTYPES, SCHEMA_NAMES
from tests.support.channels import MBO, garbage, make_channel, patterned

SCHEMAS = ["mbo", "mbp-10", "definition", "status"]  # 56, 368, 520, 40 bytes: every kind of end of buffer

steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from(SCHEMAS), st.integers(1, 400)),
        st.tuples(st.just("poll"), st.just(""), st.sampled_from([1, 70_000, 1 << 20])),
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(steps=steps, wanted=st.sets(st.sampled_from(SCHEMAS), min_size=1))
def test_read_and_lost_add_up_for_any_sequence_of_writes_and_polls(
    steps: list[tuple[str, str, int]], wanted: set[str], tmp_path_factory
) -> None:
    """Whatever is written and polled, records come whole and in order, and read + lost = written, exactly."""
    folder = tmp_path_factory.mktemp("ring") / "test"
    writer = make_channel(folder, ring_bytes=1 << 16)
    written: list[tuple[str, int]] = []
    seen: list[tuple[str, int]] = []
    with Consumer(str(folder), schemas=sorted(wanted)) as consumer:

        def poll(max_bytes: int) -> bool:
            batches = consumer.poll(0.0, max_bytes)
            seen.extend(
                (batch.schema, int(number)) for batch in batches for number in batch.records["ts_event"]
            )
            return bool(batches)

        for kind, schema, amount in steps:
            if kind == "poll":
                poll(amount)
                continue
            bodies = np.zeros(amount, DTYPES[schema])
            bodies["ts_event"] = np.arange(len(written), len(written) + amount)
            written.extend((schema, int(number)) for number in bodies["ts_event"])
            writer.write(SCHEMA_NAMES.index(schema), bodies.view(np.uint8), 0, 1)
        while poll(1 << 20):
            pass
        mine = [entry for entry in written if entry[0] in wanted]
        assert len(seen) + consumer.lost == len(mine)
    assert [number for _, number in seen] == sorted(number for _, number in seen)
    assert set(seen) <= set(mine)
    writer.release()


def test_lapped_reader_rejoins_at_the_newest_and_knows_what_it_lost(runtime: Path) -> None:
    """A reader that was overtaken gets the newest records, and the number of those it missed."""
    writer = make_channel(runtime / "test")
    with Consumer("test", schemas=["mbo"], runtime_dir=runtime) as consumer:
        writer.write(MBO, patterned(0, 100_000).view(np.uint8), 0)
        first = consumer.poll()[0].records
        assert consumer.lost == first["order_id"][0] > 0
        assert first["order_id"][-1] == 99_999
        assert garbage(first) == 0
    writer.release()


def test_records_from_the_moment_of_attaching_on(runtime: Path) -> None:
    """What was written before a consumer attached is neither read nor lost."""
    writer = make_channel(runtime / "test")
    writer.write(MBO, patterned(0, 1234).view(np.uint8), 0)
    with Consumer("test", schemas=["mbo"], runtime_dir=runtime) as consumer:
        assert consumer.poll() == []
        writer.write(MBO, patterned(1234, 1).view(np.uint8), 0)
        assert [int(batch.records["order_id"][0]) for batch in consumer.poll(1.0)] == [1234]
        assert consumer.lost == 0
    writer.release()


def test_uncommitted_record_is_invisible(runtime: Path) -> None:
    """Records show with the commit that follows them, not before."""
    writer = make_channel(runtime / "test")
    with Consumer("test", schemas=["mbo"], runtime_dir=runtime) as consumer:
        writer.write(MBO, patterned(0, 10).view(np.uint8), 0, 4)
        assert sum(map(len, consumer.poll())) == 10  # 4, 4, and 2 by the last commit
    writer.release()


def test_aeron_slowest_reader_slows_neither_the_writer_nor_the_others(runtime: Path) -> None:
    """A reader that never reads costs nobody anything (Aeron IPC slows down) and learns what it lost."""
    writer = make_channel(runtime / "test")
    with (
        Consumer("test", schemas=["mbo"], runtime_dir=runtime) as fast,
        Consumer("test", schemas=["mbo"], runtime_dir=runtime) as slow,
    ):
        read = 0
        for first in range(0, 100_000, 1000):
            writer.write(MBO, patterned(first, 1000).view(np.uint8), first)
            read += sum(map(len, fast.poll()))
        assert (read, fast.lost) == (100_000, 0)
        late = sum(map(len, slow.poll()))
        assert late > 0
        assert late + slow.lost == 100_000
    writer.release()
