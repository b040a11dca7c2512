"""The consumer's end: which samples it meets, and which it can no longer."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedhandler import Consumer, _core
from feedhandler.errors import UsageError
from tests.support.channels import make_channel

SLOTS = 256


def publish(meter: _core.LatencyMeter, sequence: int, *, recorded: bool = True) -> None:
    """Sample a packet whose last message is `sequence`; published a moment after tick 1000."""
    meter.at(1000, utc_ns=10**18 + 50)
    meter.dequeued(1)
    meter.next(10**18)
    meter.sequenced(sequence)
    if recorded:
        meter.booked()
    meter.published(recorded)


def test_the_first_record_of_a_sampled_message_is_the_one() -> None:
    """More records of it, records of others, and samples without a record count nothing."""
    runs = 3
    meter = _core.LatencyMeter(1)
    consumer = _core.ConsumerMeter(meter)
    for sequence in range(10, 10 + 10 * runs, 10):
        publish(meter, sequence)
        for number in (sequence - 1, sequence, sequence, sequence + 1):
            consumer.on_record(number)
        publish(meter, sequence + 5, recorded=False)
    consumer.settle()
    assert (consumer.consume.count, consumer.whole.count, consumer.missed) == (runs, runs, 0)
    assert consumer.whole.sum_ns - consumer.consume.sum_ns == 50 * runs


def test_a_record_of_another_symbol_passes_the_sample_by() -> None:
    """The consumer never gets the sampled message's record: the next sample is not held up by it."""
    meter = _core.LatencyMeter(1)
    consumer = _core.ConsumerMeter(meter)
    publish(meter, 7)
    consumer.on_record(9)
    publish(meter, 12)
    consumer.on_record(12)
    consumer.settle()
    assert consumer.consume.count == 1


def test_samples_before_attaching_are_none_of_its() -> None:
    """Their records were not for this consumer."""
    meter = _core.LatencyMeter(1)
    publish(meter, 5)
    consumer = _core.ConsumerMeter(meter)
    consumer.on_record(5)
    consumer.settle()
    assert (consumer.consume.count, consumer.missed) == (0, 0)


def test_a_consumer_that_sleeps_through_the_samples_knows_how_many_it_missed() -> None:
    """It goes on with the newest."""
    meter = _core.LatencyMeter(1)
    consumer = _core.ConsumerMeter(meter)
    for sequence in range(1, 1001):
        publish(meter, sequence)
    for sequence in range(1, 1001):
        consumer.on_record(sequence)
    consumer.settle()
    assert consumer.consume.count + consumer.missed == 1000
    assert consumer.consume.count == 1


@pytest.mark.parametrize("between", [0, 100, SLOTS - 2, SLOTS, 3 * SLOTS])
def test_samples_that_were_seen_but_not_settled_when_it_was_lapped_are_met_or_missed(between: int) -> None:
    """None falls out of the account: the consumer slept in the middle of a batch."""
    meter = _core.LatencyMeter(1)
    consumer = _core.ConsumerMeter(meter)
    for sequence in range(1, 11):
        publish(meter, sequence)
    for sequence in range(1, 11):
        consumer.on_record(sequence)
    for sequence in range(11, 12 + between):
        publish(meter, sequence)
    for sequence in range(11, 12 + between):
        consumer.on_record(sequence)
    consumer.settle()
    assert consumer.consume.count + consumer.missed == 11 + between


def test_numbers_begin_anew_with_a_session() -> None:
    """An old sample that was never met does not keep the new session's from being met for ever."""
    meter = _core.LatencyMeter(1)
    consumer = _core.ConsumerMeter(meter)
    publish(meter, 1_000_000)  # its record went by unwanted, and none came after it
    for sequence in range(1, 3 * SLOTS):
        publish(meter, sequence)
        consumer.on_record(sequence)
    consumer.settle()
    assert consumer.consume.count > SLOTS


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 40)), max_size=60), st.booleans())
def test_every_sample_is_met_once_passed_or_missed(plan: list[tuple[int, int]], wrap: bool) -> None:
    """Against a naive consumer that sees every slot before it is overwritten; numbers may wrap at 2^32."""
    meter = _core.LatencyMeter(1)
    consumer = _core.ConsumerMeter(meter)
    sequence, samples, backlog = (2**32 - 30 if wrap else 0), 0, []
    for step, unread in plan:
        sequence += step
        publish(meter, sequence)
        samples += 1
        backlog.append(sequence)
        if len(backlog) > unread:
            for number in backlog:
                consumer.on_record(number & 0xFFFFFFFF)
            backlog = []
    for number in backlog:
        consumer.on_record(number & 0xFFFFFFFF)
    consumer.settle()
    assert (consumer.consume.count, consumer.missed) == (samples, 0)


def test_a_pair_is_not_measured(runtime: Path) -> None:
    """Said, not ignored."""
    writers = [make_channel(runtime / name) for name in ("a", "b")]
    with pytest.raises(UsageError, match="single channel"):
        Consumer([str(runtime / "a"), str(runtime / "b")], measure_latency=True)
    for writer in writers:
        writer.release()
