"""How good the host's clocks are: asked of the kernel, judged, watched, logged, told to the feed."""

import ctypes
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from structlog.typing import FilteringBoundLogger

from feedhandler import _core
from feedhandler.config import Config
from feedhandler.daemon import _hardware_clock
from feedhandler.daemon._hardware_clock import Reading
from feedhandler.devices import device_of

UNKNOWN_NS = 16_000_000_000
"""The kernel's own limit (NTP_PHASE_LIMIT): an error of 16 s means that nobody has said how large it is."""

CONFIRMATIONS = 3
"""The log tells of a change when so many looks in a row agree; flags and counters follow each look."""

_STA_UNSYNC, _STA_NANO, _TIME_ERROR = 0x0040, 0x2000, 5


@dataclass(frozen=True)
class Timex:
    """What adjtimex(2) says."""

    state: int = 0
    status: int = 0
    offset: int = 0
    """What is still to be added to the clock: ns with STA_NANO in `status`, else us."""
    estimated_error_us: int = 0
    maximum_error_us: int = 0
    tai_offset_s: int = 0


SystemVerdict = Literal["ok", "unknown", "coarse", "diverges", "unsynchronised", "unreadable"]
HardwareVerdict = Literal["none", "ok", "diverges", "no TAI offset", "unreadable"]


@dataclass(frozen=True)
class Limits:
    """What is asked of the clocks."""

    divergence_ns: int = 100_000
    granularity_ns: int = 1_000
    hardware_clock: Literal["utc", "tai"] = "tai"

    @classmethod
    def of(cls, config: Config) -> "Limits":
        """Return those of a configuration."""
        clock = config.clock
        return cls(
            round(clock.max_divergence_us * 1000),
            round(clock.granularity_us * 1000),
            config.receive.hardware_clock,
        )


@dataclass(frozen=True)
class Health:
    """The clocks at one look."""

    system: SystemVerdict
    hardware: HardwareVerdict = "none"
    offset_ns: int = 0
    estimated_error_ns: int = UNKNOWN_NS
    maximum_error_ns: int = UNKNOWN_NS
    divergence_ns: int = UNKNOWN_NS
    """Estimated distance of the system's clock from UTC; UNKNOWN_NS: there is no estimate."""
    granularity_ns: int = 0
    tai_offset_s: int = 0
    hardware_lead_s: int = 0
    """Hardware times are ahead of UTC by this."""
    hardware_clocks: int = 0
    hardware_divergence_ns: int = 0
    """Largest distance of a device's clock, its lead taken off, from the system's."""

    @property
    def trusted(self) -> bool:
        """Whether times of the system's clock are to be trusted."""
        return self.system in ("ok", "unknown")

    @property
    def good(self) -> bool:
        """Whether nobody needs to look."""
        return self.system == "ok" and self.hardware in ("none", "ok")

    def counters(self) -> dict[str, int]:
        """Return the numbers of the counters' group `clock`."""
        return {
            "synchronised": int(self.system not in ("unsynchronised", "unreadable")),
            "trusted": int(self.trusted),
            "divergence_ns": self.divergence_ns,
            "offset_ns": abs(self.offset_ns),
            "estimated_error_ns": self.estimated_error_ns,
            "maximum_error_ns": self.maximum_error_ns,
            "granularity_ns": self.granularity_ns,
            "tai_offset_s": self.tai_offset_s,
            "hardware_clocks": self.hardware_clocks,
            "hardware_trusted": int(self.hardware == "ok"),
            "hardware_lead_s": self.hardware_lead_s,
            "hardware_divergence_ns": self.hardware_divergence_ns,
        }


def judge(
    timex: Timex | None,
    readings: Mapping[str, Reading | None],
    granularity_ns: int,
    limits: Limits,
) -> Health:
    """Judge the clocks: a pure function of what was read.

    `timex` is None when the kernel does not tell; `readings` has the devices with a clock, None for one that
    cannot be read.
    """
    if timex is None:
        return Health(
            "unreadable",
            "unreadable" if readings else "none",
            granularity_ns=granularity_ns,
            hardware_clocks=len(readings),
        )
    lead_s = timex.tai_offset_s if limits.hardware_clock == "tai" else 0
    apart = [
        abs(reading.offset_ns - lead_s * 1_000_000_000) + reading.uncertainty_ns
        for reading in readings.values()
        if reading is not None
    ]
    hardware: HardwareVerdict
    if not readings:
        hardware = "none"
    elif limits.hardware_clock == "tai" and timex.tai_offset_s == 0:
        hardware = "no TAI offset"
    elif len(apart) < len(readings):
        hardware = "unreadable"
    else:
        hardware = "ok" if max(apart) <= limits.divergence_ns else "diverges"
    divergence_ns = _divergence_ns(timex, apart if hardware in ("ok", "diverges") else [])
    system: SystemVerdict
    if _is_unsynchronised(timex):
        system, divergence_ns = "unsynchronised", UNKNOWN_NS
    elif divergence_ns is None:
        # The bound grows by 500 us a second whatever disciplines the clock: a large one proves nothing.
        bound_ns = timex.maximum_error_us * 1000
        within = bound_ns <= limits.divergence_ns
        system, divergence_ns = ("ok", bound_ns) if within else ("unknown", UNKNOWN_NS)
    else:
        system = "ok" if divergence_ns <= limits.divergence_ns else "diverges"
    if system in ("ok", "unknown") and granularity_ns > limits.granularity_ns:
        system = "coarse"
    return Health(
        system,
        hardware,
        offset_ns=_offset_ns(timex),
        estimated_error_ns=timex.estimated_error_us * 1000,
        maximum_error_ns=timex.maximum_error_us * 1000,
        divergence_ns=divergence_ns,
        granularity_ns=granularity_ns,
        tai_offset_s=timex.tai_offset_s,
        hardware_lead_s=lead_s,
        hardware_clocks=len(readings),
        hardware_divergence_ns=max(apart, default=0),
    )


def _is_unsynchronised(timex: Timex) -> bool:
    return timex.state == _TIME_ERROR or bool(timex.status & _STA_UNSYNC)


def _offset_ns(timex: Timex) -> int:
    return timex.offset if timex.status & _STA_NANO else timex.offset * 1000


def _divergence_ns(timex: Timex, apart: list[int]) -> int | None:
    """Estimate the distance from UTC; None when nobody has told anything.

    chronyd and ntpd tell the kernel their estimated error. phc2sys does not: it keeps the clock at that of a
    network device, so the distance from that is what is known.
    """
    if timex.estimated_error_us * 1000 < UNKNOWN_NS:
        return abs(_offset_ns(timex)) + timex.estimated_error_us * 1000
    return max(apart, default=None)


class _KernelTimex(ctypes.Structure):  # struct timex of sys/timex.h, 64 bits
    _fields_ = (
        ("modes", ctypes.c_uint),
        *((name, ctypes.c_long) for name in ("offset", "freq", "maxerror", "esterror")),
        ("status", ctypes.c_int),
        *((name, ctypes.c_long) for name in ("constant", "precision", "tolerance", "sec", "usec", "tick")),
        *((name, ctypes.c_long) for name in ("ppsfreq", "jitter")),
        ("shift", ctypes.c_int),
        *((name, ctypes.c_long) for name in ("stabil", "jitcnt", "calcnt", "errcnt", "stbcnt")),
        ("tai", ctypes.c_int),
        ("reserved", ctypes.c_int * 11),
    )


def read_timex() -> Timex | None:
    """Ask the kernel; None when it refuses. Needs no privilege; a sandbox may forbid the call."""
    timex = _KernelTimex()
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    if state < 0:
        return None
    return Timex(state, timex.status, timex.offset, timex.esterror, timex.maxerror, timex.tai)


def devices_of(config: Config) -> list[str]:
    """Return the devices of the lines, each once."""
    return list(dict.fromkeys(filter(None, (device_of(line.interface) for line in config.line))))


def read_granularity_ns() -> int:
    """Return the smallest step of the system's clock: the one it claims, or the smallest seen if larger."""
    claimed, seen = round(time.clock_getres(time.CLOCK_REALTIME) * 1e9), 1_000_000_000
    before = time.time_ns()
    for _ in range(100):
        now = time.time_ns()
        if now > before:
            seen = min(seen, now - before)
        before = now
    return max(claimed, seen)


class ClockReader:
    """Reads the clocks of the host and of the lines' devices, and judges them."""

    def __init__(self, config: Config) -> None:
        self._limits = Limits.of(config)
        found = {device: _hardware_clock.clock_of(device) for device in devices_of(config)}
        self.indices = {device: index for device, index in found.items() if index is not None}
        """N of /dev/ptpN, by device, of those that have a clock."""

    def read_devices(self) -> dict[str, Reading | None]:
        """Return what the clocks of the devices tell; None for one that cannot be read."""
        return {device: _hardware_clock.read_clock(index) for device, index in self.indices.items()}

    def look(self) -> Health:
        """Read and judge."""
        return judge(read_timex(), self.read_devices(), read_granularity_ns(), self._limits)


class ClockWatch:
    """Looks at the clocks each `clock.interval_s`, tells the feed, and logs what changes for good."""

    def __init__(
        self,
        config: Config,
        feed: "_core.Feed",
        log: FilteringBoundLogger,
        look: Callable[[], Health] | None = None,
    ) -> None:
        self._clock, self._feed, self._log = config.clock, feed, log
        self._look = look or ClockReader(config).look
        self._told: tuple[str, str] | None = None
        self._seen: tuple[str, str] | None = None
        self._agreed = 0
        self._due_s = 0.0

    def tick(self) -> None:
        """Do what is due; the first call looks at once."""
        now_s = time.monotonic()
        if now_s >= self._due_s:
            self._due_s = now_s + self._clock.interval_s
            self.take(self._look())

    def take(self, health: Health) -> None:
        """Tell the feed of a look; log it when it is the first, or the last of enough that agree."""
        self._feed.set_clock(health.counters(), always_trusted=not self._clock.mark_records)
        seen = (health.system, health.hardware)
        self._agreed = self._agreed + 1 if seen == self._seen else 1
        self._seen = seen
        if seen != self._told and (self._told is None or self._agreed >= CONFIRMATIONS):
            self._told = seen
            (self._log.info if health.good else self._log.warning)("clock", **log_fields(health))


def log_fields(health: Health) -> dict[str, Any]:
    """Return what the log says of a look; times in microseconds, None: unknown."""
    return {
        "system": health.system,
        "hardware": health.hardware,
        "divergence_us": _us(health.divergence_ns),
        "offset_us": health.offset_ns / 1000,
        "estimated_error_us": _us(health.estimated_error_ns),
        "maximum_error_us": _us(health.maximum_error_ns),
        "tai_offset_s": health.tai_offset_s,
        "hardware_divergence_us": _us(health.hardware_divergence_ns) if health.hardware_clocks else None,
    }


def _us(value_ns: int) -> float | None:
    return None if value_ns >= UNKNOWN_NS else value_ns / 1000
