"""A device's ticks as UTC, by comparing the clocks now and then."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedhandler import _core

UTC_AT_START = 1_795_433_481_000_000_000
LOOK_NS = 100_000_000  # between comparisons
US, MS, SECOND = 1_000, 1_000_000, 1_000_000_000


class Device:
    """A clock of a device, its host's clocks, and what is made of them."""

    def __init__(self, hz: float, ppm: float = 0.0) -> None:
        self.hz, self.ppm, self.ahead_ns, self.now_ns = hz, ppm, 0, 0
        self.clock = _core.DeviceClock()

    def ticks(self, at_ns: int) -> int:
        """Return what the device shows at a moment."""
        return round((at_ns * (1 + self.ppm / 1e6) + self.ahead_ns) * self.hz / SECOND)

    def look(self, late_ns: int = 0) -> None:
        """Compare the clocks, the host's read `late_ns` after the device's."""
        ticks = self.ticks(self.now_ns)
        self.clock.compare(ticks, self.now_ns + late_ns, UTC_AT_START + self.now_ns + late_ns)

    def run(self, seconds: float) -> None:
        """Look every 100 ms."""
        for _ in range(round(seconds * SECOND / LOOK_NS)):
            self.now_ns += LOOK_NS
            self.look()

    def error_ns(self, after_ns: int = LOOK_NS - 1) -> int:
        """Return by how much a packet's time is wrong, so long after the last comparison."""
        at_ns = self.now_ns + after_ns
        return int(self.clock.utc_ns(self.ticks(at_ns))) - UTC_AT_START - at_ns


@given(st.sampled_from([1e6, 156.25e6, 1e9]), st.floats(-500, 500), st.floats(0.1, 20))
def test_any_clock_is_followed(hz: float, ppm: float, seconds: float) -> None:
    """Whatever its frequency, and however far it is from what it says: to a tick or two."""
    device = Device(hz, ppm)
    device.look()
    device.run(seconds)
    assert abs(device.error_ns()) <= 2 * SECOND / hz + 50


def test_rate_is_not_known_from_one_look() -> None:
    """Until then packets get the host's time."""
    device = Device(1e9)
    device.look()
    assert not device.clock.known
    device.run(0.1)
    assert device.clock.known


@pytest.mark.parametrize("step_ns", [37 * SECOND, -37 * SECOND, 20 * MS, -20 * MS, -1000 * SECOND])
@pytest.mark.parametrize("after_s", [0.2, 5, 400])
def test_clock_that_is_set_is_followed_from_the_next_look_on(step_ns: int, after_s: float) -> None:
    """As when somebody puts it on TAI: not spread over all the time since the start."""
    device = Device(1e9, ppm=30)
    device.ahead_ns = 2000 * SECOND
    device.look()
    device.run(after_s)
    device.ahead_ns += step_ns
    for _ in range(200):
        device.run(0.1)
        assert abs(device.error_ns()) < US


@pytest.mark.parametrize("late_ns", [80 * US, 150 * US, 5 * MS, 300 * MS])
def test_interrupted_look_is_wrong_until_the_next_one_only(late_ns: int) -> None:
    """The rate keeps what it was."""
    device = Device(1e9, ppm=-20)
    device.look()
    device.run(30)
    device.now_ns += LOOK_NS
    device.look(late_ns)
    assert abs(device.error_ns() - late_ns) < 2 * US
    device.now_ns += 4 * LOOK_NS
    for _ in range(200):
        device.run(0.1)
        assert abs(device.error_ns()) < 4 * US
