"""Histograms against numpy and against plain lists."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from feedhandler import _core

RANGE_NS = 1 << 30
TIMES = st.lists(
    st.one_of(st.integers(0, 100), st.integers(0, RANGE_NS - 1), st.integers(RANGE_NS, 2**40)),
    min_size=1,
    max_size=200,
)


def filled(values: list[int]) -> _core.Histogram:
    histogram = _core.Histogram()
    for value in values:
        histogram.add(value)
    return histogram


def too_high(value: int, true: int, worst: int) -> bool:
    """Is a value not the true one or up to 1/32 above it? Beyond the range only the worst is known."""
    if true >= RANGE_NS:
        return value != worst
    return not true <= value <= true + true // 32


@given(TIMES, st.sampled_from([0.0, 0.01, 0.5, 0.9, 0.99, 0.999, 1.0]))
@example([31, 32, 33, 63, 64, 65], 0.5)
@example([RANGE_NS - 1, RANGE_NS], 0.5)
def test_quantiles_are_those_of_numpy_within_a_bucket(values: list[int], share: float) -> None:
    """Never below the true one, at most 1/32 above it, never above the worst."""
    histogram = filled(values)
    true = int(np.quantile(values, share, method="inverted_cdf"))
    assert not too_high(histogram.quantile(share), true, max(values)), (histogram.quantile(share), true)
    assert histogram.quantile(1.0) == max(values)


@given(TIMES, TIMES)
def test_counts_sums_and_worst_are_exact(first: list[int], second: list[int]) -> None:
    """Also of two histograms merged, and of the later part of one."""
    histogram, other = filled(first), filled(second)
    histogram.merge(other)
    everything = first + second
    assert (histogram.count, histogram.sum_ns, histogram.worst_ns) == (
        len(everything),
        sum(everything),
        max(everything),
    )
    later = histogram.since(filled(first))
    assert (later.count, later.sum_ns) == (len(second), sum(second))
    assert not too_high(later.worst_ns, max(second), max(everything)) or later.worst_ns == max(everything)
    assert [(ns, n) for ns, n in later.buckets()] == [(ns, n) for ns, n in other.buckets()]


@given(TIMES, st.integers(0, RANGE_NS))
def test_at_most_counts_whole_buckets_only(values: list[int], limit: int) -> None:
    """Every value counted is within the limit; those not counted are over it or up to 1/32 below it."""
    counted = filled(values).at_most(limit)
    assert counted <= sum(value <= limit for value in values)
    assert counted >= sum(value + value // 32 + 1 <= limit for value in values if value < RANGE_NS)


def test_an_empty_histogram_has_no_values() -> None:
    """Zeros, not an endless loop."""
    histogram = _core.Histogram()
    assert (histogram.count, histogram.quantile(0.5), histogram.worst_ns, histogram.buckets()) == (
        0,
        0,
        0,
        [],
    )
