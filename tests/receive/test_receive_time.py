"""When a receive time is trusted: F_BAD_TS_RECV on the records otherwise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedhandler import _core

NONE, USER, KERNEL, HARDWARE = range(4)
NOW = 1_795_433_481_000_000_000
MS, SECOND = 1_000_000, 1_000_000_000


def doubtful(
    kind: int, ts_ns: int = NOW, *, system: bool = True, hardware: bool = True, error_ns: int = 0
) -> bool:
    """Tell whether the time is not trusted; clocks are good unless said otherwise."""
    return _core.receive_time(
        kind, ts_ns, NOW, system_trusted=system, hardware_trusted=hardware, feed_error_ns=error_ns
    )[1]


@pytest.mark.parametrize("kind", [USER, KERNEL, HARDWARE])
def test_time_is_trusted_while_its_clock_is(kind: int) -> None:
    """Of any kind, as long as the clocks are good; of no kind without the system's."""
    assert not doubtful(kind)
    assert doubtful(kind, system=False)


def test_only_hardware_times_depend_on_the_devices_clock() -> None:
    """A device's clock that is off says nothing of the kernel's times."""
    assert doubtful(HARDWARE, hardware=False)
    assert not doubtful(KERNEL, hardware=False)
    assert not doubtful(USER, hardware=False)


@pytest.mark.parametrize("told_ns", [0, 5 * SECOND, NOW - 100 * SECOND, NOW + 100 * SECOND, 2**62])
def test_time_of_a_clock_that_was_never_set_is_now(told_ns: int) -> None:
    """Of the thread's own clock, and trusted as that is: the device's does not count any more."""
    told = _core.receive_time(
        HARDWARE, told_ns, NOW, system_trusted=True, hardware_trusted=False, hardware_lead_ns=37 * SECOND
    )
    assert told == (NOW, False)
    assert doubtful(HARDWARE, told_ns, error_ns=2 * MS)
    assert not doubtful(HARDWARE, told_ns)


def test_no_time_at_all_is_never_trusted() -> None:
    """A datagram that nobody stamped."""
    assert doubtful(NONE)


@pytest.mark.parametrize("kind", [USER, KERNEL, HARDWARE])
def test_time_ahead_of_now_or_long_ago_is_not_trusted(kind: int) -> None:
    """Nothing arrives after it was taken; what waited for a second cannot be told from a wrong time."""
    assert not doubtful(kind, NOW + MS)
    assert doubtful(kind, NOW + MS + 1)
    assert not doubtful(kind, NOW - SECOND)
    assert doubtful(kind, NOW - SECOND - 1)


def test_step_of_the_systems_clock_spoils_times_of_the_feeds_own() -> None:
    """The feed's clock does not jump: until it has caught up its times are not UTC."""
    for error_ns in (MS + 1, -MS - 1):
        assert doubtful(USER, error_ns=error_ns)
        assert not doubtful(KERNEL, error_ns=error_ns)
    assert not doubtful(USER, error_ns=MS)


def test_hardware_time_in_tai_becomes_utc() -> None:
    """The lead is taken off hardware times, and off no others; without it they lie in the future."""
    ahead = {"system_trusted": True, "hardware_trusted": True, "hardware_lead_ns": 37 * SECOND}
    assert _core.receive_time(HARDWARE, NOW + 37 * SECOND, NOW, **ahead) == (NOW, False)
    assert _core.receive_time(KERNEL, NOW, NOW, **ahead) == (NOW, False)
    assert doubtful(HARDWARE, NOW + 37 * SECOND)


@given(
    kind=st.sampled_from([NONE, USER, KERNEL, HARDWARE]),
    age=st.one_of(
        st.integers(-(10**18), 10**18),
        st.sampled_from([-MS - 1, -MS, 0, SECOND, SECOND + 1]),
        st.sampled_from([sign * (100 * SECOND + more) for sign in (-1, 1) for more in (-1, 0, 1)]),
        st.integers(-2 * MS, 2 * SECOND),
    ),
    system=st.booleans(),
    hardware=st.booleans(),
    lead_s=st.sampled_from([0, 37]),
    error_ns=st.one_of(st.integers(-2 * MS, 2 * MS), st.integers(-(10**17), 10**17)),
)
def test_verdict_is_the_documented_rule(
    kind: int, age: int, system: bool, hardware: bool, lead_s: int, error_ns: int
) -> None:
    """The rule of docs/time.md, word by word, against any time and any state of the clocks."""
    ts_ns = NOW - age
    told, utc_ns = kind, ts_ns
    if kind == HARDWARE and abs(age) >= 100 * SECOND:  # its clock was never set
        told, utc_ns = USER, NOW
    elif kind == HARDWARE:
        utc_ns = ts_ns - lead_s * SECOND
    reasons = [
        told == NONE,
        not system,
        told == HARDWARE and not hardware,
        told == USER and abs(error_ns) > MS,
        utc_ns - NOW > MS,
        NOW - utc_ns > SECOND,
    ]
    found = _core.receive_time(
        kind, ts_ns, NOW,
        system_trusted=system, hardware_trusted=hardware,
        hardware_lead_ns=lead_s * SECOND, feed_error_ns=error_ns,
    )  # fmt: skip
    assert found == (utc_ns, any(reasons))
