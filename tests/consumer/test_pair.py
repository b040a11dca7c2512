"""A hot pair: two channels of one feed, read as one stream."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedhandler import Batch, Consumer, FeedState, _core
from feedhandler.errors import RunError, UsageError
from tests.support import itch_messages as itch
from tests.support.channels import MBO, make_channel, patterned, wait_until

LIVE, RECOVERING, STALE = 1, 2, 3
STATE, GAP_LOST, SESSION_START = 1, 4, 7
PER_MESSAGE = 3
PATIENT = {"takeover_s": 10.0}
"""No take-over for standing still: tests are not slowed daemons."""

Writer = _core.ChannelWriter


def publish(writer: Writer, first: int, count: int, flags: int = 0) -> None:
    """Publish messages of three records each; a record's order_id is its number, its size the place in it."""
    records = np.repeat(patterned(first, count), PER_MESSAGE)
    records["size"] = np.tile(np.arange(PER_MESSAGE), count)
    records["flags"] = flags
    writer.write(MBO, records.view(np.uint8), first & 0xFFFFFFFF, records_per_message=PER_MESSAGE)
    writer.set_next_sequence(first + count)
    writer.heartbeat()


def pair_of(folder: Path, **options: object) -> tuple[Writer, Writer]:
    """Return the writers of two LIVE channels, `a` and `b`, in session S1."""
    writers = (make_channel(folder / "a", **options), make_channel(folder / "b", **options))
    for writer in writers:
        writer.put_counters([], {}, {}, {}, session="S1")
        writer.set_next_sequence(1)
        writer.set_state(LIVE)
    return writers


def drained(consumer: Consumer, max_bytes: int = 1 << 20) -> list[Batch]:
    """Return all that the consumer delivers now."""
    batches = []
    while found := consumer.poll(0.0, max_bytes):
        batches += found
    return batches


def numbers(batches: list[Batch]) -> list[int]:
    """Return the numbers of whole messages, in order of delivery; a message in pieces fails."""
    if not batches:
        return []
    records = np.concatenate([batch.records for batch in batches])
    assert len(records) % PER_MESSAGE == 0
    assert (records["size"].reshape(-1, PER_MESSAGE) == np.arange(PER_MESSAGE)).all()
    ids = records["order_id"].reshape(-1, PER_MESSAGE)
    assert (ids == ids[:, :1]).all()
    return [int(number) for number in ids[:, 0]]


@pytest.fixture
def both(runtime: Path) -> Iterator[tuple[Writer, Writer, Consumer]]:
    """Return two writers and a patient consumer of both."""
    first, second = pair_of(runtime)
    with Consumer(["a", "b"], ["mbo"], runtime_dir=runtime, **PATIENT) as consumer:
        yield first, second, consumer
    for writer in (first, second):
        writer.release()


def test_each_message_is_delivered_once_whoever_is_first(both: tuple[Writer, Writer, Consumer]) -> None:
    """Now one leads, now the other: neither twice nor out of order."""
    a, b, consumer = both
    publish(a, 1, 10)
    assert numbers(drained(consumer)) == list(range(1, 11))
    publish(b, 1, 25)
    assert numbers(drained(consumer)) == list(range(11, 26))
    publish(a, 11, 20)
    publish(b, 26, 5)
    assert numbers(drained(consumer)) == list(range(26, 31))
    assert sum(consumer.delivered_from.values()) == 30 * PER_MESSAGE


def test_survivor_goes_on_where_the_dead_one_stopped(both: tuple[Writer, Writer, Consumer]) -> None:
    """What the dead one had committed and what it had not: all of it once, and the state stays LIVE."""
    a, b, consumer = both
    publish(a, 1, 7)
    a.release()
    publish(b, 1, 3)
    assert numbers(drained(consumer)) == list(range(1, 8))
    publish(b, 4, 10)
    assert numbers(drained(consumer)) == list(range(8, 14))
    assert consumer.state == FeedState.LIVE
    b.release()
    assert consumer.state == FeedState.DEAD


def test_flagged_records_wait_for_the_live_copy(both: tuple[Writer, Writer, Consumer]) -> None:
    """One is STALE and ahead: its records stay where they are while the LIVE one follows."""
    a, b, consumer = both
    publish(a, 1, 5)
    a.set_state(STALE)
    publish(a, 8, 5)
    assert numbers(drained(consumer)) == list(range(1, 6))
    assert consumer.state == FeedState.LIVE
    publish(b, 1, 12)
    batches = drained(consumer)
    assert numbers(batches) == list(range(6, 13))
    assert {batch.state for batch in batches} == {FeedState.LIVE}


def test_messages_lost_in_one_are_not_jumped_over_without_a_record_that_tells(
    both: tuple[Writer, Writer, Consumer],
) -> None:
    """The loss leaves no record of the schemas wanted, and the next one is LIVE again: it still waits."""
    a, b, consumer = both
    publish(a, 1, 5)
    a.event(GAP_LOST, LIVE, LIVE, 6, 9)
    publish(a, 10, 5)
    assert numbers(drained(consumer)) == list(range(1, 6))
    publish(b, 1, 12)
    assert numbers(drained(consumer)) == list(range(6, 15))


def test_losses_of_both_are_filled_from_each_other(both: tuple[Writer, Writer, Consumer]) -> None:
    """Each has lost what the other has: nothing is missing, though both are STALE."""
    a, b, consumer = both
    publish(a, 1, 5)
    a.event(GAP_LOST, STALE, LIVE, 6, 9)
    a.set_state(STALE)
    publish(b, 1, 20)
    b.event(GAP_LOST, STALE, LIVE, 21, 25)
    b.set_state(STALE)
    publish(b, 26, 5)
    assert numbers(drained(consumer)) == list(range(1, 21))
    publish(a, 10, 30)
    assert numbers(drained(consumer)) == list(range(21, 40))
    assert consumer.state == FeedState.STALE


def test_recovered_records_come_flagged_only_when_nobody_has_them_live(
    both: tuple[Writer, Writer, Consumer],
) -> None:
    """Both recover the same hole: the first that closes it delivers it, flagged as it was published."""
    a, b, consumer = both
    for writer in (a, b):
        publish(writer, 1, 5)
        writer.set_state(RECOVERING)
    publish(b, 6, 5)
    b.set_state(LIVE)
    publish(b, 11, 5)
    publish(a, 6, 5)
    batches = drained(consumer)
    assert numbers(batches) == list(range(1, 16))
    assert [batch.state for batch in batches] == [FeedState.LIVE, FeedState.RECOVERING, FeedState.LIVE]


def test_channel_that_stands_still_is_not_waited_for(runtime: Path) -> None:
    """It hangs while LIVE, the other is STALE: after take-over time the state is STALE and records come."""
    a, b = pair_of(runtime)
    with Consumer(["a", "b"], ["mbo"], runtime_dir=runtime, takeover_s=0.005) as consumer:
        publish(a, 1, 5)
        publish(b, 1, 5)
        b.set_state(STALE)
        publish(b, 6, 5)
        got: list[Batch] = []

        def taken_over() -> bool:
            b.heartbeat()  # and a does not
            got.extend(consumer.poll())
            return consumer.state == FeedState.STALE and len(got) >= 2

        wait_until(taken_over)
        assert numbers(got) == list(range(1, 11))
        assert got[-1].state == FeedState.STALE
    a.release()
    b.release()


def test_channel_that_beats_but_gets_nothing_is_not_live_beside_one_that_goes_on(runtime: Path) -> None:
    """Its lines are cut: its own state stays LIVE, but its books are of the past."""
    a, b = pair_of(runtime)
    b.set_state(STALE)
    with Consumer(["a", "b"], ["mbo"], runtime_dir=runtime, takeover_s=0.005) as consumer:

        def live() -> bool:
            a.heartbeat()
            return consumer.state == FeedState.LIVE

        wait_until(live)
        publish(b, 1, 5)
        got: list[Batch] = []

        def taken_over() -> bool:
            a.heartbeat()
            b.heartbeat()
            got.extend(consumer.poll())
            return bool(got)

        wait_until(taken_over)
        assert numbers(got) == list(range(1, 6))
        assert consumer.state == FeedState.STALE
    a.release()
    b.release()


def test_orders_that_nobody_delivered_leave_mbo_flagged(both: tuple[Writer, Writer, Consumer]) -> None:
    """Both lost messages, one by one: LIVE orders behind that hole would build a wrong book unnoticed."""
    a, b, consumer = both
    b.set_state(STALE)
    publish(a, 1, 5)
    a.release()
    publish(b, 9, 3)
    assert numbers(drained(consumer)) == [*range(1, 6), *range(9, 12)]
    b.set_state(LIVE)
    publish(b, 12, 2)
    batches = drained(consumer)
    assert numbers(batches) == [12, 13]
    assert {batch.state for batch in batches} == {FeedState.STALE}
    assert (batches[0].records["flags"] & 4 == 4).all()
    assert consumer.state == FeedState.LIVE  # the book table is right


def test_snapshot_repairs_what_nobody_delivered(both: tuple[Writer, Writer, Consumer]) -> None:
    """The only channel left lost messages; its snapshot comes, though numbered before, and then LIVE."""
    a, b, consumer = both
    a.release()
    publish(b, 1, 5)
    b.event(GAP_LOST, STALE, LIVE, 6, 8)
    b.set_state(STALE)
    publish(b, 9, 3)
    publish(b, 10, 1, flags=32 | 8 | 4)
    b.set_state(LIVE)
    publish(b, 12, 2)
    batches = drained(consumer)
    assert numbers(batches) == [*range(1, 6), 9, 10, 11, 10, 12, 13]
    assert [batch.state for batch in batches] == [FeedState.LIVE, FeedState.STALE, FeedState.LIVE]


def test_snapshot_of_one_is_not_delivered_beside_the_live_other(
    both: tuple[Writer, Writer, Consumer],
) -> None:
    """One repairs itself while the other is LIVE and ahead: the consumer sees nothing of it."""
    a, b, consumer = both
    publish(a, 1, 5)
    publish(b, 1, 20)
    a.event(GAP_LOST, STALE, LIVE, 6, 8)
    a.set_state(STALE)
    publish(a, 9, 3)
    publish(a, 15, 1, flags=32 | 8 | 4)
    a.set_state(LIVE)
    publish(a, 16, 10)
    batches = drained(consumer)
    assert numbers(batches) == list(range(1, 26))
    assert {batch.state for batch in batches} == {FeedState.LIVE}


def test_sequence_numbers_beyond_32_bits(both: tuple[Writer, Writer, Consumer]) -> None:
    """The ring carries 32 bits of a number: their wrap is no step back."""
    a, b, consumer = both
    start = (1 << 32) - 20
    for writer in (a, b):
        writer.event(SESSION_START, LIVE, LIVE, start, 0, session="S1")
    publish(a, start, 30)
    assert numbers(drained(consumer)) == list(range(start, start + 30))
    publish(b, start, 45)
    assert numbers(drained(consumer)) == list(range(start + 30, start + 45))


def test_new_session_starts_at_one_for_both(both: tuple[Writer, Writer, Consumer]) -> None:
    """One rolls over before the other: the old session's end is not taken for the new one's messages."""
    a, b, consumer = both
    publish(a, 1, 50)
    a.event(SESSION_START, LIVE, LIVE, 1, 0, session="S2")
    publish(a, 1, 5)
    assert numbers(drained(consumer)) == [*range(1, 51), *range(1, 6)]
    publish(b, 1, 50)
    assert numbers(drained(consumer)) == []
    b.event(SESSION_START, LIVE, LIVE, 1, 0, session="S2")
    publish(b, 1, 9)
    assert numbers(drained(consumer)) == list(range(6, 10))


def test_restarted_daemon_of_the_same_session_is_behind_not_new(runtime: Path) -> None:
    """A new start numbers on in the old session: nothing comes twice, and then it can take over again."""
    a, b = pair_of(runtime)
    with Consumer(["a", "b"], ["mbo"], runtime_dir=runtime, **PATIENT) as consumer:
        publish(a, 1, 10)
        publish(b, 1, 10)
        assert numbers(drained(consumer)) == list(range(1, 11))
        a.release()
        del a  # and its lock
        again = make_channel(runtime / "a")
        again.event(SESSION_START, 0, 0, 1, 0, session="S1")
        again.set_state(LIVE)
        publish(again, 1, 15)
        wait_until(lambda: consumer.poll() != [] or consumer.restarts == 1)
        publish(b, 11, 8)
        b.release()
        publish(again, 16, 10)
        rest = numbers(drained(consumer))
        assert rest[-1] == 25
        assert consumer.restarts == 1
    again.release()


def test_lapped_in_one_ring_covered_by_the_other(runtime: Path) -> None:
    """One ring has overwritten what was not read, the other holds it: no loss."""
    a = make_channel(runtime / "a", ring_bytes=1 << 16)
    b = make_channel(runtime / "b", ring_bytes=1 << 22)
    for writer in (a, b):
        writer.put_counters([], {}, {}, {}, session="S1")
        writer.set_state(LIVE)
    with Consumer(["a", "b"], ["mbo"], runtime_dir=runtime, **PATIENT) as consumer:
        publish(a, 1, 5000)
        publish(b, 1, 5000)
        assert numbers(drained(consumer)) == list(range(1, 5001))
        assert consumer.lost == 0
    a.release()
    b.release()


def test_lapped_in_both_rings_is_told(runtime: Path) -> None:
    """What no ring holds any more is lost: `lost` says at most how much, and the stream goes on in order."""
    a, b = pair_of(runtime, ring_bytes=1 << 16)
    with Consumer(["a", "b"], ["mbo"], runtime_dir=runtime, **PATIENT) as consumer:
        publish(a, 1, 5000)
        publish(b, 1, 5000)
        records = np.concatenate([batch.records for batch in drained(consumer)])
        assert records["order_id"][-1] == 5000
        assert (np.diff(records["order_id"].astype(np.int64)) >= 0).all()
        missing = 5000 * PER_MESSAGE - len(records)
        assert 0 < missing <= consumer.lost
    a.release()
    b.release()


def test_small_polls_do_not_cut_a_message_between_channels(both: tuple[Writer, Writer, Consumer]) -> None:
    """One record a poll: the rest of a message comes from where its first record came from."""
    a, b, consumer = both
    publish(a, 1, 4)
    publish(b, 1, 6)
    batches = []
    for _ in range(6 * PER_MESSAGE):
        batches += consumer.poll(0.0, 1)
    assert numbers(batches) == list(range(1, 7))


def test_book_comes_from_the_channel_that_is_live(runtime: Path) -> None:
    """The STALE one's book may be wrong, and the one behind is old."""
    a, b = (make_channel(runtime / name, books=True) for name in ("a", "b"))
    for writer in (a, b):
        writer.set_state(LIVE)
    with Consumer(["a", "b"], runtime_dir=runtime, **PATIENT) as consumer:
        a.apply(1, [itch.add(1, "B", 100, 10_0000)])
        b.apply(1, [itch.add(1, "B", 100, 10_0000), itch.add(2, "B", 7, 10_0100)])
        for writer in (a, b):
            writer.heartbeat()
        book = consumer.book("AAA")
        assert (book.state, book.sequence, len(book.bids)) == (FeedState.LIVE, 2, 2)
        b.set_state(STALE)
        book = consumer.book("AAA")
        assert (book.state, book.sequence, len(book.bids)) == (FeedState.LIVE, 1, 1)
        a.release()
        assert consumer.book("AAA").state == FeedState.STALE
    b.release()


def test_one_channel_given_twice_is_refused(runtime: Path) -> None:
    """A pair of one is none: the second copy would hide that there is no other."""
    writer = make_channel(runtime / "a")
    with pytest.raises(UsageError, match='"a" is given twice'):
        Consumer(["a", "a"], runtime_dir=runtime)
    writer.release()


def test_stale_records_wait_for_a_live_daemon_that_was_held_up(runtime: Path) -> None:
    """The LIVE one stands still for longer than a take-over may last, then brings what the STALE one lost."""
    a, b = pair_of(runtime)
    with Consumer(["a", "b"], ["mbo"], runtime_dir=runtime, takeover_s=0.002) as consumer:
        publish(a, 1, 5)
        publish(b, 1, 5)
        a.event(GAP_LOST, STALE, LIVE, 6, 9)
        a.set_state(STALE)
        publish(a, 10, 5)
        got: list[Batch] = []
        end = time.monotonic() + 0.02

        def held_up() -> bool:
            a.heartbeat()  # and b does not
            got.extend(consumer.poll())
            return time.monotonic() >= end and consumer.state == FeedState.STALE

        wait_until(held_up)
        publish(b, 6, 10)
        got += drained(consumer)
        assert numbers(got) == list(range(1, 16))
        assert {batch.state for batch in got} == {FeedState.LIVE}
        assert consumer.lost == 0
    a.release()
    b.release()


def test_snapshot_is_not_held_in_memory_until_it_is_whole(runtime: Path) -> None:
    """All its records have one number; a consumer that takes little at a time leaves the rest in the ring."""
    a, b = pair_of(runtime, ring_bytes=1 << 20)
    with Consumer(["a", "b"], ["mbo"], runtime_dir=runtime, **PATIENT) as consumer:
        b.release()
        publish(a, 1, 5)
        a.event(GAP_LOST, STALE, LIVE, 6, 8)
        a.set_state(STALE)
        orders = 12_000
        records = patterned(9, 1).repeat(orders)
        records["flags"] = 32 | 8 | 4
        a.write(MBO, records.view(np.uint8), 9, records_per_message=orders)
        a.set_next_sequence(10)
        a.heartbeat()
        first = consumer.poll(0.0, 1 << 14)
        assert 0 < sum(len(batch.records) for batch in first) < 1000
        for _ in range(3):  # and nobody reads
            publish(a, 10, 5000)
        rest = drained(consumer)
        kept = sum(int((batch.records["order_id"] == 9).sum()) for batch in first + rest)
        assert kept < orders / 2
        assert consumer.lost > orders / 2
    a.release()


def test_channel_left_in_an_older_session_is_behind_whatever_its_number(runtime: Path) -> None:
    """Attached to on the day after: one never heard of the new session, and its number is lower."""
    a = make_channel(runtime / "a", trading_day=20261120)
    b = make_channel(runtime / "b", trading_day=20261123)
    for writer, session, state, at in ((a, "S1", 4, 50), (b, "S2", LIVE, 1001)):
        writer.put_counters([], {}, {}, {}, session=session)
        writer.set_next_sequence(at)
        writer.set_state(state)
    with Consumer(["a", "b"], ["mbo"], runtime_dir=runtime, takeover_s=0.002) as consumer:
        publish(b, 1001, 20)
        assert numbers(drained(consumer)) == list(range(1001, 1021))
        assert consumer.state == FeedState.LIVE
        b.set_state(STALE)

        def not_over() -> bool:
            for writer in (a, b):
                writer.heartbeat()
            return consumer.state == FeedState.STALE

        wait_until(not_over)
    a.release()
    b.release()


def test_one_over_and_one_new_session_of_the_same_day(runtime: Path) -> None:
    """Attached to between two sessions of a day: the one that is over is the older."""
    a, b = pair_of(runtime)
    a.set_next_sequence(50)
    a.set_state(4)
    b.put_counters([], {}, {}, {}, session="S2")
    b.set_next_sequence(1001)
    with Consumer(["a", "b"], ["mbo"], runtime_dir=runtime, **PATIENT) as consumer:
        publish(b, 1001, 20)
        assert numbers(drained(consumer)) == list(range(1001, 1021))
    a.release()
    b.release()


def test_channels_of_different_feeds_are_refused(runtime: Path) -> None:
    """Two numbers of different feeds mean nothing to each other; the C++ class says so itself."""
    a = make_channel(runtime / "a", dataset="XNAS.ITCH")
    b = make_channel(runtime / "b", dataset="XBOS.ITCH")
    with pytest.raises(UsageError, match=r'"b" carries XBOS\.ITCH; the others .* carry XNAS\.ITCH'):
        Consumer(["a", "b"], runtime_dir=runtime)
    with pytest.raises(RunError, match=r"carries XBOS\.ITCH"):
        _core.PairConsumer([str(runtime / name) for name in "ab"], 1, [])
    a.release()
    b.release()


# ---- properties

Step = tuple[str, int, int]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(0, 1), st.integers(1, 40)),
        st.tuples(st.just("poll"), st.integers(0, 1), st.sampled_from([1, 500, 1 << 20])),
        st.tuples(st.just("state"), st.just(1), st.sampled_from([0, LIVE, RECOVERING, STALE])),
        st.tuples(st.just("lose"), st.just(1), st.integers(1, 30)),
        st.tuples(st.just("die"), st.just(1), st.just(0)),
    ),
    max_size=40,
)


@contextlib.contextmanager
def fresh(runtime: Path) -> Iterator[tuple[list[Writer], Consumer]]:
    """Make a new pair for one example."""
    folder = runtime / str(time.monotonic_ns())
    writers = list(pair_of(folder, ring_bytes=1 << 18))
    with Consumer(["a", "b"], ["mbo"], runtime_dir=folder, **PATIENT) as consumer:
        yield writers, consumer
    for writer in writers:
        writer.release()


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_whatever_one_does_the_stream_is_that_of_the_good_one(runtime: Path, steps: list[Step]) -> None:
    """One channel lags, loses, changes state, dies; the other is only late: each number once, in order."""
    with fresh(runtime) as (writers, consumer):
        at = [1, 1]
        alive, live = True, True
        got: list[Batch] = []
        for what, channel, value in steps:
            if what == "poll":
                got += consumer.poll(0.0, value)
            elif channel == 1 and not alive:
                continue
            elif what == "publish":
                publish(writers[channel], at[channel], value)
                at[channel] += value
            elif what == "state":
                live = live and value in (LIVE, RECOVERING)
                if live or value != LIVE:
                    writers[1].set_state(value)
            elif what == "lose":
                writers[1].event(GAP_LOST, STALE, LIVE, at[1], at[1] + value - 1)
                writers[1].set_state(STALE)
                at[1] += value
                live = False
            else:
                writers[1].release()
                alive = False
        end = max(at)
        if at[0] < end:
            publish(writers[0], at[0], end - at[0])
        got += drained(consumer)
        assert numbers(got) == list(range(1, end))
        assert consumer.lost == 0


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bursts=st.lists(st.tuples(st.integers(0, 1), st.integers(1, 1500), st.booleans()), max_size=25))
def test_lapped_readers_never_go_back_and_count_what_is_missing(
    runtime: Path, bursts: list[tuple[int, int, bool]]
) -> None:
    """Rings that overwrite unread records: in order, once, and nothing missing that is not in `lost`."""
    with fresh(runtime) as (writers, consumer):
        at = [1, 1]
        got: list[Batch] = []
        for channel, count, poll in bursts:
            publish(writers[channel], at[channel], count)
            at[channel] += count
            if poll:
                got += consumer.poll(0.0, 1 << 14)
        for channel in (0, 1):
            if at[channel] < max(at):
                publish(writers[channel], at[channel], max(at) - at[channel])
        got += drained(consumer)
        records = np.concatenate([np.zeros(0, np.uint64), *(batch.records["order_id"] for batch in got)])
        seen, counts = np.unique(records, return_counts=True)
        assert (np.diff(records.astype(np.int64)) >= 0).all()
        assert (counts <= PER_MESSAGE).all()
        missing = (max(at) - 1) * PER_MESSAGE - len(records)
        assert 0 <= missing <= consumer.lost
        assert len(seen) == 0 or seen[-1] == max(at) - 1
