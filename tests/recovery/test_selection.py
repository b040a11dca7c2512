"""The choice among re-request servers, on a clock of the test's own."""

from hypothesis import given
from hypothesis import strategies as st

from recovery.selection import LONGEST_REST_S, Health, answered, choose, timed_out


def silent(times: int, now_s: float = 0.0) -> Health:
    """A server that was asked so many times in vain."""
    health = Health()
    for _ in range(times):
        health = timed_out(health, now_s)
    return health


def test_first_server_is_asked_while_it_answers() -> None:
    """Order is preference, not rotation."""
    assert choose([answered(), answered()], 0.0) == 0
    assert choose([answered(), answered()], 0.0, frozenset({0})) == 1
    assert choose([answered(), answered()], 0.0, frozenset({0, 1})) is None
    assert choose([], 0.0) is None


def test_one_or_two_silences_prove_nothing() -> None:
    """Silence is also the answer to a request for what a server does not hold."""
    assert choose([silent(2), answered()], 0.0) == 0


def test_silent_server_is_left_out_and_comes_back() -> None:
    """Three silences: a second's rest; still silent: two seconds; an answer clears it all."""
    health = silent(3, now_s=10.0)
    assert choose([health, answered()], 10.9) == 1
    assert choose([health, answered()], 11.0) == 0
    health = timed_out(health, 11.5)
    assert choose([health, answered()], 13.4) == 1
    assert choose([health, answered()], 13.5) == 0
    assert timed_out(answered(), 99.0) == Health(1)


@given(st.integers(3, 500), st.floats(0, 1e9))
def test_no_server_is_left_out_for_longer_than_a_minute(times: int, now_s: float) -> None:
    """However long it was silent, it is tried again."""
    assert choose([silent(times, now_s)], now_s + LONGEST_REST_S) == 0
