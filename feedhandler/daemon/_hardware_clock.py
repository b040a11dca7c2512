"""The clocks of network devices (PTP hardware clocks): who has one, how far it is from the system's.

Layouts and numbers of the requests: linux/ethtool.h, linux/net_tstamp.h, linux/ptp_clock.h.
"""

import fcntl
import os
import struct
from dataclasses import dataclass

from feedhandler.daemon._device_request import SIOCETHTOOL, device_request

_SIOCSHWTSTAMP, _SIOCGHWTSTAMP = 0x89B0, 0x89B1
_ETHTOOL_GET_TS_INFO = 0x41
_TS_INFO = struct.Struct("=IIiI12xI12x")  # cmd, so_timestamping, phc_index, tx_types, rx_filters
_HWTSTAMP_CONFIG = struct.Struct("=iii")  # flags, tx_type, rx_filter
_HWTSTAMP_FILTER_ALL = 1

_CLOCK_TIME = struct.Struct("=qI4x")  # ptp_clock_time: s, ns
_SAMPLES, _MOST_SAMPLES = 5, 25
_EXTENDED_BYTES = 16 + 3 * _MOST_SAMPLES * _CLOCK_TIME.size
_PRECISE_BYTES = 3 * _CLOCK_TIME.size + 16


def _iowr(number: int, size: int) -> int:
    return 3 << 30 | size << 16 | ord("=") << 8 | number


PTP_SYS_OFFSET_PRECISE = _iowr(8, _PRECISE_BYTES)
PTP_SYS_OFFSET_EXTENDED = _iowr(9, _EXTENDED_BYTES)


@dataclass(frozen=True)
class Reading:
    """How far a hardware clock is ahead of the system's, as read: a clock that tells TAI is by 37 s."""

    offset_ns: int
    uncertainty_ns: int = 0
    """Half of the time that the reading took."""


def parse_extended(buffer: bytes) -> Reading | None:
    """Take the quickest of the samples (system, hardware, system) that PTP_SYS_OFFSET_EXTENDED gave."""
    if len(buffer) < 16:
        return None
    (samples,) = struct.unpack_from("=I", buffer)
    best: Reading | None = None
    for index in range(min(samples, _MOST_SAMPLES)):
        at = 16 + 3 * index * _CLOCK_TIME.size
        if at + 3 * _CLOCK_TIME.size > len(buffer):
            break
        before, device, after = (_time_ns(buffer, at + k * _CLOCK_TIME.size) for k in range(3))
        if after < before:  # the system's clock was set back meanwhile
            continue
        reading = Reading(device - (before + after) // 2, (after - before + 1) // 2)
        if best is None or reading.uncertainty_ns < best.uncertainty_ns:
            best = reading
    return best


def parse_precise(buffer: bytes) -> Reading | None:
    """Take what PTP_SYS_OFFSET_PRECISE gave: both clocks at one moment, by the hardware."""
    if len(buffer) < 2 * _CLOCK_TIME.size:
        return None
    return Reading(_time_ns(buffer, 0) - _time_ns(buffer, _CLOCK_TIME.size))


def _time_ns(buffer: bytes, at: int) -> int:
    seconds, nanoseconds = _CLOCK_TIME.unpack_from(buffer, at)
    return int(seconds * 1_000_000_000 + nanoseconds)


def parse_ts_info(buffer: bytes) -> int | None:
    """Return N of /dev/ptpN out of what ETHTOOL_GET_TS_INFO gave; None: the device has no clock."""
    if len(buffer) < _TS_INFO.size:
        return None
    index: int = _TS_INFO.unpack_from(buffer)[2]
    return index if index >= 0 else None


def clock_of(device: str) -> int | None:
    """Return N of the device's clock /dev/ptpN, None when it has none."""
    info = bytearray(_TS_INFO.size)
    struct.pack_into("=I", info, 0, _ETHTOOL_GET_TS_INFO)
    try:
        return parse_ts_info(device_request(device, SIOCETHTOOL, info))
    except OSError:
        return None


def read_clock(index: int) -> Reading | None:
    """Compare the hardware clock with the system's now; None when it cannot be read.

    Takes some tens of microseconds on the bus: not for the receive thread.
    """
    try:
        fd = os.open(f"/dev/ptp{index}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return _read_precise(fd) or _read_extended(fd)
    finally:
        os.close(fd)


def _read_precise(fd: int) -> Reading | None:
    buffer = bytearray(_PRECISE_BYTES)
    try:
        fcntl.ioctl(fd, PTP_SYS_OFFSET_PRECISE, buffer)
    except OSError:  # most clocks cannot do that
        return None
    return parse_precise(bytes(buffer))


def _read_extended(fd: int) -> Reading | None:
    buffer = bytearray(_EXTENDED_BYTES)
    struct.pack_into("=I", buffer, 0, _SAMPLES)
    try:
        fcntl.ioctl(fd, PTP_SYS_OFFSET_EXTENDED, buffer)
    except OSError:
        return None
    return parse_extended(bytes(buffer))


def ask_for_timestamps(device: str) -> str:
    """Let the device stamp every packet it receives; return "granted" or the reason why it does not.

    The setting is the device's, not a socket's: what others have set for sending (PTP needs it) is kept, and
    nothing is put back at the end. Needs CAP_NET_ADMIN.
    """
    config = bytearray(_HWTSTAMP_CONFIG.size)
    try:
        flags, tx_type, rx_filter = _HWTSTAMP_CONFIG.unpack(device_request(device, _SIOCGHWTSTAMP, config))
        if rx_filter != _HWTSTAMP_FILTER_ALL:
            _HWTSTAMP_CONFIG.pack_into(config, 0, flags, tx_type, _HWTSTAMP_FILTER_ALL)
            rx_filter = _HWTSTAMP_CONFIG.unpack(device_request(device, _SIOCSHWTSTAMP, config))[2]
    except OSError as error:
        return os.strerror(error.errno or 0)
    return "granted" if rx_filter == _HWTSTAMP_FILTER_ALL else f"the device chose filter {rx_filter} instead"
