"""The account of hops, with a clock that the test owns."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedhandler import _core

USER, KERNEL, HARDWARE, DOUBTFUL = 1, 2, 3, 4
NAMES = ("receive", "queue", "decode", "book", "publish", "total")


def follow(
    meter: _core.LatencyMeter,
    hops: list[int],
    kind: int = KERNEL,
    start: int = 1000,
    *,
    recorded: bool = True,
) -> None:
    """Send one datagram, the sampled one, along: `hops` are ns of receive, queue, decode, book, publish."""
    receive, queue, decode, book, publish = hops
    at = start
    meter.at(at, utc_ns=10**18 + receive)
    meter.dequeued(1)
    meter.at(at := at + queue)
    meter.next(10**18, kind)
    meter.at(at := at + decode)
    assert meter.follows(own=True)
    assert not meter.follows(own=False)
    meter.sequenced(1)
    meter.at(at := at + book)
    if recorded:
        meter.booked()
        meter.at(at := at + publish)
    meter.published(recorded)


@given(st.lists(st.lists(st.integers(0, 10**7), min_size=5, max_size=5), min_size=1, max_size=20))
def test_hops_add_up_to_the_total_of_the_same_packets(packets: list[list[int]]) -> None:
    """To the last nanosecond, and each hop has what it took."""
    meter = _core.LatencyMeter(1)
    for hops in packets:
        follow(meter, hops)
    read = meter.read()
    assert read["samples"] == read["kinds"]["kernel"] == len(packets)
    assert read["backwards"] == 0
    for index, name in enumerate(NAMES[:-1]):
        took = [hops[index] for hops in packets]
        assert (read["hops"][name].count, read["hops"][name].sum_ns) == (len(packets), sum(took))
        assert read["hops"][name].worst_ns == max(took)
    assert read["hops"]["total"].sum_ns == sum(map(sum, packets))


def test_ticks_become_nanoseconds() -> None:
    """By the clock's scale; the first hop is in nanoseconds already."""
    meter = _core.LatencyMeter(1, ns_per_tick=3)
    follow(meter, [500, 10, 20, 30, 40])
    hops = meter.read()["hops"]
    assert [hops[name].sum_ns for name in NAMES] == [500, 30, 60, 90, 120, 800]


@pytest.mark.parametrize(
    ("kind", "name", "measured"),
    [
        (USER, "user", False),
        (USER | DOUBTFUL, "user", False),
        (KERNEL, "kernel", True),
        (KERNEL | DOUBTFUL, "kernel", True),
        (HARDWARE, "hardware", True),
        (HARDWARE | DOUBTFUL, "hardware", False),
    ],
)
def test_only_a_stamp_from_below_begins_the_first_hop(kind: int, name: str, measured: bool) -> None:
    """Our own stamp, taken as the packet is dequeued, says nothing; nor does a card's whose clock is wrong.

    The kernel's clock is read at both ends of the hop: it may be far from UTC.
    """
    meter = _core.LatencyMeter(1)
    follow(meter, [700, 1, 2, 3, 4], kind)
    read = meter.read()
    assert read["kinds"][name] == 1
    assert read["hops"]["receive"].count == measured
    assert read["hops"]["total"].sum_ns == (710 if measured else 10)


def test_a_stamp_of_the_future_counts_as_none_and_is_counted() -> None:
    """The system's clock stepped back, or the card's is ahead: never a hop of 2^64 ns."""
    meter = _core.LatencyMeter(1)
    follow(meter, [-5000, 1, 2, 3, 4])
    read = meter.read()
    assert read["backwards"] == 1
    assert [read["hops"][name].worst_ns for name in NAMES] == [0, 1, 2, 3, 4, 10]


def test_ticks_that_run_backwards_are_counted() -> None:
    """A core whose counter lags: the hop is 0, those after it go on from there."""
    meter = _core.LatencyMeter(1)
    follow(meter, [0, 100, -30, 50, 10])
    read = meter.read()
    assert read["backwards"] == 1
    assert [read["hops"][name].worst_ns for name in NAMES] == [0, 100, 0, 20, 10, 130]


def test_a_message_without_a_record_has_no_publish_hop() -> None:
    """Its book is done when all is done."""
    meter = _core.LatencyMeter(1)
    follow(meter, [10, 20, 30, 40, 0], recorded=False)
    hops = meter.read()["hops"]
    assert [hops[name].count for name in NAMES] == [1, 1, 1, 1, 0, 1]
    assert hops["total"].sum_ns == 100


@pytest.mark.parametrize("every", [1, 2, 7])
def test_one_packet_in_so_many_is_followed(every: int) -> None:
    """And no other."""
    meter = _core.LatencyMeter(every)
    followed = []
    for number in range(1, 30):
        meter.at(number)
        meter.dequeued(1)
        meter.next()
        if meter.follows(own=True):
            followed.append(number)
            meter.sequenced(number)
            meter.published(False)
    assert followed == list(range(every, 30, every))
    assert meter.read()["samples"] == len(followed)


def test_off_follows_nothing() -> None:
    """0 is off."""
    meter = _core.LatencyMeter(0)
    for _ in range(1000):
        meter.dequeued(1)
        meter.next()
        assert not meter.follows(own=True)


def test_a_packet_that_delivers_nothing_hands_over_to_the_next() -> None:
    """With two lines every other packet is a copy: sampling every second one must not pick only copies."""
    meter = _core.LatencyMeter(2)
    delivered = 0
    for number in range(40):
        meter.at(number)
        meter.dequeued(1)
        meter.next()
        if number % 2 == 0 and meter.follows(own=True):  # the first line's; the second never delivers
            delivered += 1
            meter.sequenced(number)
            meter.published(False)
    assert delivered == meter.read()["samples"] == 19


def test_the_stamp_is_that_of_the_poll_that_brought_the_packet() -> None:
    """The fourth packet comes in the second poll; the third of that poll is the sampled one."""
    meter = _core.LatencyMeter(4)
    meter.at(100)
    meter.dequeued(1)
    meter.next()
    meter.at(200)
    meter.dequeued(5)
    meter.at(260)
    for _ in range(3):
        assert not meter.follows(own=True)
        meter.next()
    assert meter.follows(own=True)
    meter.sequenced(9)
    meter.published(False)
    assert meter.read()["hops"]["queue"].worst_ns == 60


def test_calibration_follows_the_clock_and_starts_anew_when_the_rate_changes() -> None:
    """Ticks of 0.4 ns; then, after a move to another machine, of 0.5 ns."""
    calibration = _core.TickCalibration((0, 0), (25_000_000, 10_000_000))
    assert abs(calibration.ns(2_500_000) - 1_000_000) <= 1
    ticks, ns = 25_000_000, 10_000_000
    for _ in range(10):
        ticks, ns = ticks + 2_500_000_000, ns + 1_000_000_000
        calibration.observe(ticks, ns)
    assert calibration.restarts == 0
    assert abs(calibration.ns(2_500_000) - 1_000_000) <= 1
    for _ in range(3):
        ticks, ns = ticks + 2_000_000_000, ns + 1_000_000_000
        calibration.observe(ticks, ns)
    assert calibration.restarts == 1
    assert abs(calibration.ns(2_000_000) - 1_000_000) <= 1


def test_calibration_ignores_readings_too_near_to_say_anything() -> None:
    """A tenth of a millisecond with an error of a microsecond is not a change of rate."""
    calibration = _core.TickCalibration((0, 0), (25_000_000, 10_000_000))
    calibration.observe(25_260_000, 10_100_000)
    assert calibration.restarts == 0
    assert abs(calibration.ns(2_500_000) - 1_000_000) <= 1


def test_calibration_keeps_its_rate_when_the_counter_was_reset() -> None:
    """After a sleep it may begin at 0 again: what lies between the two readings says nothing."""
    calibration = _core.TickCalibration((0, 0), (25_000_000, 10_000_000))
    ticks, ns = 1_000, 1_000_000_000
    for _ in range(2):
        calibration.observe(ticks, ns)
        assert calibration.restarts == 1
        assert abs(calibration.ns(2_500_000) - 1_000_000) <= 1
        ticks, ns = ticks + 2_500_000_000, ns + 1_000_000_000


@pytest.mark.parametrize("monotonic", [False, True])
def test_ticks_measure_what_the_system_clock_measures(monotonic: bool) -> None:
    """By the time stamp counter, and where there is none to trust; before a re-check and after it."""
    clock = _core.TickClock(monotonic)
    for _ in range(2):
        began_ns, began = time.monotonic_ns(), clock.ticks()
        while time.monotonic_ns() < began_ns + 20_000_000:
            pass
        inside = clock.ns(clock.ticks() - began)
        outside = time.monotonic_ns() - began_ns
        assert 19_900_000 < inside <= outside * 1.001
        clock.recheck()
    assert clock.recalibrated == 0
    assert clock.stamp_ns < 1000
