"""The clocks' side of `feedhandler check`: are times in records UTC, how fine are they, who sees to that?"""

from collections.abc import Iterator, Set
from dataclasses import replace
from pathlib import Path

from feedhandler.config import Config
from feedhandler.daemon._clock import UNKNOWN_NS, ClockReader, Health, devices_of
from feedhandler.daemon._finding import Finding, ok, warning
from feedhandler.daemon._hardware_clock import Reading
from feedhandler.daemon._kernel_files import ROOT, process_names

DISCIPLINES = ("chronyd", "ntpd", "ptp4l", "phc2sys", "sfptpd", "systemd-timesyn", "timemaster")
"""Names of processes that set clocks, cut to the kernel's 15 characters."""

_SECOND_NS = 1_000_000_000
_SOURCE = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
_GETRES = 'python3 -c "import time; print(time.clock_getres(time.CLOCK_REALTIME))"'


def look(config: Config) -> Iterator[Finding]:
    """Yield what is found of the clocks."""
    reader = ClockReader(config)
    health = reader.look()
    system = judge_system(health, config.clock.max_divergence_us, disciplines(process_names(ROOT)))
    yield replace(system, show="adjtimex --print; of its discipline: chronyc tracking, pmc, timedatectl")
    granularity = judge_granularity(health.granularity_ns, config.clock.granularity_us)
    yield replace(granularity, show=_GETRES)
    yield replace(_clock_source(), show=f"cat {_SOURCE}")
    readings = reader.read_devices()
    for device in devices_of(config):
        index, reading = reader.indices.get(device), readings.get(device)
        finding = judge_device(config, device, index, reading, health.tai_offset_s)
        yield replace(finding, show=f"ethtool -T {device}; phc_ctl {device} cmp")


def judge_system(health: Health, limit_us: float, disciplined_by: str) -> Finding:
    """Judge the system's clock."""
    by = f" (by {disciplined_by})" if disciplined_by else ""
    if health.system == "unreadable":
        text = "the kernel does not tell how good it is (adjtimex refused)"
        remedy = "allow adjtimex: SystemCallFilter=adjtimex clock_adjtime, and no ProtectClock=, in the unit"
        return warning("clock", text, remedy)
    if health.system == "unsynchronised":
        remedy = "run ptp4l with phc2sys, or chronyd"
        if "chronyd" in disciplined_by:
            remedy = "chronyd is here: it tells the kernel only with `rtcsync` in chrony.conf"
        elif not disciplined_by:
            remedy += "; in a container: on its host"
        return warning("clock", f"is not synchronised{by}: receive times are not to be trusted", remedy)
    bound = f"at most {health.maximum_error_ns / 1e6:.3f} ms"
    if health.divergence_ns >= UNKNOWN_NS:
        text = (
            f"is synchronised{by}, {bound} from UTC; nobody says how far it is, {limit_us:g} us are allowed"
        )
        return warning("clock", text, "let this user read the clock of the line's device, or run chronyd")
    text = f"is synchronised{by}, estimated {health.divergence_ns / 1000:.1f} us from UTC ({bound})"
    if health.system == "diverges":
        remedy = "a better time source (PTP), or a larger clock.max_divergence_us"
        return warning("clock", f"{text}; {limit_us:g} us are allowed", remedy)
    return ok("clock", text)


def judge_granularity(found_ns: int, limit_us: float) -> Finding:
    """Judge the smallest step of the system's clock, as found by `read_granularity_ns`."""
    if found_ns <= limit_us * 1000:
        return ok("clock.granularity", f"{found_ns} ns or finer")
    text = f"steps of {found_ns / 1000:g} us seen, {limit_us:g} are allowed"
    return warning("clock.granularity", text, "boot with a TSC clock source (clocksource=tsc)")


def _clock_source() -> Finding:
    try:
        source = Path(_SOURCE).read_text().strip()
    except OSError:
        return warning("clock.source", "cannot be read", "mount /sys")
    return judge_source(source)


def judge_source(source: str) -> Finding:
    """Judge the counter that the system's clock runs on."""
    if source in ("tsc", "arch_sys_counter", "kvm-clock", "hyperv_clocksource_tsc_page"):
        return ok("clock.source", source)
    text = f'"{source}": to read the clock costs a system call or a bus access instead of some 20 ns'
    return warning("clock.source", text, "boot with tsc=reliable, if the processor's TSC is invariant")


def judge_device(
    config: Config,
    device: str,
    index: int | None,
    reading: Reading | None,
    tai_offset_s: int,
) -> Finding:
    """Judge the clock of a line's device; `index`: of /dev/ptpN, None for a device without a clock."""
    check = f"clock.{device}"
    if index is None:
        if not config.receive.hardware_timestamps:
            return ok(check, "has no clock of its own: times are the kernel's")
        remedy = "receive.hardware_timestamps = false, or a network card with a clock"
        return warning(
            check, "has no clock of its own, hardware_timestamps = true asks for its times", remedy
        )
    if reading is None:
        remedy = f"let this user read /dev/ptp{index} (udev rule and drop-in: docs/time.md)"
        return warning(check, f"/dev/ptp{index} cannot be read: hardware times are not trusted", remedy)
    scale = config.receive.hardware_clock
    if scale == "tai" and tai_offset_s == 0:
        text = f"/dev/ptp{index}: the kernel does not know TAI minus UTC: hardware times are not trusted"
        return warning(
            check, text, 'ptp4l with phc2sys -w, chronyd with leapsectz, or hardware_clock = "utc"'
        )
    lead_ns = tai_offset_s * _SECOND_NS if scale == "tai" else 0
    apart_ns = abs(reading.offset_ns - lead_ns) + reading.uncertainty_ns
    if apart_ns <= config.clock.max_divergence_us * 1000:
        return ok(check, f"/dev/ptp{index} is {apart_ns / 1000:.1f} us from the system's clock ({scale})")
    other = {"tai": "utc", "utc": "tai"}[scale]
    other_ns = tai_offset_s * _SECOND_NS if other == "tai" else 0
    text = (
        f"/dev/ptp{index} is {apart_ns / 1e9:.6f} s from the system's clock: hardware times are not trusted"
    )
    if tai_offset_s and abs(reading.offset_ns - other_ns) <= _SECOND_NS // 2:
        return warning(check, text, f'it tells {other.upper()}: receive.hardware_clock = "{other}"')
    return warning(check, text, "ptp4l (or sfptpd) for the device's clock, phc2sys for the system's")


def disciplines(names: Set[str]) -> str:
    """Return those that set clocks, out of the names of all processes."""
    return ", ".join(sorted(names & set(DISCIPLINES)))
