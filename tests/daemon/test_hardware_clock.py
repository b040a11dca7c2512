"""Clocks of network devices: replies of drivers, made here by hand; where a device has none, for real."""

import os
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedhandler.daemon._hardware_clock import (
    PTP_SYS_OFFSET_EXTENDED,
    PTP_SYS_OFFSET_PRECISE,
    Reading,
    ask_for_timestamps,
    clock_of,
    parse_extended,
    parse_precise,
    parse_ts_info,
    read_clock,
)
from feedhandler.devices import device_of
from tests.support.netns import inside, veth_pair

SECOND = 1_000_000_000
NOW = 1_795_433_481 * SECOND + 999_999_000
TAI = 37 * SECOND


def clock_time(ns: int) -> bytes:
    """Return a ptp_clock_time."""
    return struct.pack("=qII", *divmod(ns, SECOND), 0)


def extended(*samples: tuple[int, int, int], count: int | None = None) -> bytes:
    """Return the buffer of PTP_SYS_OFFSET_EXTENDED: (system, hardware, system) each, all of its 25 places."""
    times = b"".join(clock_time(ns) for sample in samples for ns in sample)
    head = struct.pack("=4I", len(samples) if count is None else count, 0, 0, 0)
    return (head + times).ljust(16 + 25 * 48, b"\0")


def test_numbers_of_the_requests_are_those_of_the_headers(tmp_path: Path) -> None:
    """As linux/ptp_clock.h defines them, by the C compiler."""
    source = '#include <linux/ptp_clock.h>\n#include <stdio.h>\nint main(void) { printf("%lu %lu", ' + (
        "(unsigned long)PTP_SYS_OFFSET_PRECISE, (unsigned long)PTP_SYS_OFFSET_EXTENDED); }"
    )
    program = tmp_path / "numbers"
    subprocess.run(["gcc", "-x", "c", "-", "-o", program], input=source, text=True, check=True)
    printed = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    assert printed == f"{PTP_SYS_OFFSET_PRECISE} {PTP_SYS_OFFSET_EXTENDED}"


def test_quickest_sample_tells_the_difference() -> None:
    """Between two looks at the system's clock the hardware's was read: the middle, give or take half."""
    slow = (NOW, NOW + TAI + 40_000, NOW + 9_000)
    quick = (NOW + 10_000, NOW + 11_000 + TAI, NOW + 12_001)
    assert parse_extended(extended(slow, quick, slow)) == Reading(TAI, 1_001)
    assert parse_extended(extended(slow)) == Reading(TAI + 35_500, 4_500)


def test_clock_that_was_never_set_is_far_behind() -> None:
    """Its time counts from 1970."""
    reading = parse_extended(extended((NOW, 12 * SECOND, NOW + 2_000)))
    assert reading == Reading(12 * SECOND - NOW - 1_000, 1_000)


def test_precise_reading_has_both_clocks_at_one_moment() -> None:
    """device, then the system's realtime, then a clock that is not used."""
    buffer = clock_time(NOW + TAI - 3) + clock_time(NOW) + clock_time(5) + bytes(16)
    assert parse_precise(buffer) == Reading(TAI - 3)
    assert parse_precise(buffer[:31]) is None


def test_samples_across_a_step_back_of_the_system_are_not_used() -> None:
    """The system's clock was set back while it was compared."""
    torn = (NOW, NOW + TAI, NOW - SECOND)
    assert parse_extended(extended(torn)) is None
    assert parse_extended(extended(torn, (NOW, NOW + 5, NOW + 8))) == Reading(1, 4)


def test_count_of_samples_is_not_taken_on_trust() -> None:
    """More than fit, or more than there is room for."""
    good = (NOW, NOW + TAI, NOW)
    assert parse_extended(extended(good, count=2**32 - 1)) is not None
    assert parse_extended(extended(good, count=0)) is None
    assert parse_extended(extended(good, good, count=2)[: 16 + 48]) == Reading(TAI)
    assert parse_extended(extended(good)[: 16 + 47]) is None
    assert parse_extended(b"") is None


@given(st.binary(max_size=400))
def test_any_reply_of_a_driver_is_parsed_without_harm(buffer: bytes) -> None:
    """Noise gives a reading or none; its uncertainty is never negative."""
    for reading in (parse_extended(buffer), parse_precise(buffer)):
        assert reading is None or reading.uncertainty_ns >= 0
    assert parse_ts_info(buffer) is None or len(buffer) >= 44


def test_device_tells_the_number_of_its_clock() -> None:
    """-1: it has none. The layout is ethtool_ts_info's."""
    info = struct.pack("=IIi8I", 0x41, 0x5F, 3, 3, 0, 0, 0, 2, 0, 0, 0)
    assert len(info) == 44
    assert parse_ts_info(info) == 3
    assert parse_ts_info(info[:8] + struct.pack("=i", -1) + info[12:]) is None
    assert parse_ts_info(info[:40]) is None


def test_loopback_has_no_clock_and_no_hardware_times() -> None:
    """Asked for real; a clock that does not exist cannot be read."""
    assert clock_of("lo") is None
    assert clock_of("nosuchdevice") is None
    assert read_clock(99_999) is None
    assert ask_for_timestamps("lo") == os.strerror(95)  # EOPNOTSUPP
    assert ask_for_timestamps("nosuchdevice") == os.strerror(19)  # ENODEV


def test_device_without_a_clock_refuses_hardware_times() -> None:
    """A veth pair, for real: the driver has software times only, and says so."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to make network namespaces")
    with veth_pair("hwts") as pair, inside(pair.receiver):
        assert clock_of(pair.receiver_device) is None
        assert ask_for_timestamps(pair.receiver_device) == os.strerror(95)
        assert device_of(pair.receiver_address) == pair.receiver_device
        assert device_of(pair.sender_address) is None
