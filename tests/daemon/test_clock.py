"""The host's clocks: judged as a pure function of what was read, watched, logged, told to the feed."""

import errno
import io
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dpkt
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedhandler.config import Config
from feedhandler.consumer import Consumer, FeedState
from feedhandler.daemon._clock import (
    CONFIRMATIONS,
    UNKNOWN_NS,
    ClockReader,
    ClockWatch,
    Health,
    Limits,
    Timex,
    judge,
    log_fields,
    read_granularity_ns,
    read_timex,
)
from feedhandler.daemon._hardware_clock import Reading
from tests.support.daemon import Daemon, write_config
from tests.support.exchange import Exchange, Line, packet, simulated_messages
from tests.support.journal import journal_files
from tests.support.multicast import free_port
from tests.support.wait import wait_for

UNSYNC, NANO, ERROR = 0x40, 0x2000, 5
NOBODY_SAID_US = 16_000_000
TAI = 37_000_000_000


def health(
    timex: Timex | None, granularity_ns: int = 1, scale: str = "tai", **readings: Reading | None
) -> Health:
    """Judge by the default limits: 100 us, 1 us."""
    return judge(timex, readings, granularity_ns, Limits(hardware_clock=scale))  # type: ignore[arg-type]


SYSTEM_CASES = [
    # what disciplines the clock, what it makes adjtimex say, the verdict, the divergence in us
    (
        "nobody, as in a container",
        Timex(ERROR, UNSYNC, 0, NOBODY_SAID_US, NOBODY_SAID_US),
        "unsynchronised",
        None,
    ),
    ("TIME_ERROR alone", Timex(ERROR, 0, 0, 5, 5), "unsynchronised", None),
    ("the flag alone", Timex(0, UNSYNC, 0, 5, 5), "unsynchronised", None),
    ("chronyd, PTP", Timex(0, NANO, 0, 3, 520, 37), "ok", 3.0),
    ("chronyd, over the internet", Timex(0, NANO, 0, 2_500, 31_000), "diverges", 2_500.0),
    ("at the limit", Timex(0, 0, 0, 100, 5_000), "ok", 100.0),
    ("beyond it", Timex(0, 0, 0, 101, 5_000), "diverges", 101.0),
    ("ntpd slews the rest, in ns", Timex(0, NANO, -90_500, 10, 5_000), "diverges", 100.5),
    ("ntpd slews the rest, in us", Timex(0, 0, -90, 10, 5_000), "ok", 100.0),
    ("phc2sys, just now", Timex(0, 0, 0, NOBODY_SAID_US, 100, 37), "ok", 100.0),
    ("phc2sys, a second ago", Timex(0, 0, 0, NOBODY_SAID_US, 500, 37), "unknown", None),
]


@pytest.mark.parametrize(
    ("who", "timex", "verdict", "divergence_us"), SYSTEM_CASES, ids=lambda c: str(c)[:30]
)
def test_kernels_clock_is_judged_by_what_disciplines_it(
    who: str, timex: Timex, verdict: str, divergence_us: float | None
) -> None:
    """An estimate counts when there is one; a bound that only grows proves nothing when it is large."""
    found = health(timex)
    assert (found.system, log_fields(found)["divergence_us"]) == (verdict, divergence_us), who
    assert found.trusted == (verdict in ("ok", "unknown"))


def test_kernel_that_refuses_to_tell_is_not_trusted() -> None:
    """A sandbox that forbids adjtimex."""
    found = health(None, eth0=Reading(TAI))
    assert (found.system, found.hardware, found.trusted) == ("unreadable", "unreadable", False)
    assert found.counters()["synchronised"] == 0


def test_coarse_clock_is_not_trusted_however_well_it_is_set() -> None:
    """RTS 25: a granularity of a microsecond or finer."""
    good = Timex(0, NANO, 0, 3, 520)
    assert health(good, 1_000).system == "ok"
    assert health(good, 1_001).system == "coarse"
    assert not health(good, 4_000_000).trusted
    assert health(Timex(0, 0, 0, 200, 200), 4_000_000).system == "diverges"


PTP = Timex(0, 0, 0, NOBODY_SAID_US, 400, 37)  # phc2sys keeps the system's clock at the device's


@pytest.mark.parametrize(
    ("timex", "scale", "readings", "hardware", "system", "apart_ns"),
    [
        (PTP, "tai", {}, "none", "unknown", 0),
        (PTP, "tai", {"eth0": Reading(TAI + 700, 300)}, "ok", "ok", 1_000),
        (PTP, "tai", {"eth0": Reading(TAI - 700, 300), "eth1": Reading(TAI)}, "ok", "ok", 1_000),
        (PTP, "tai", {"eth0": Reading(TAI), "eth1": Reading(TAI + 100_001)}, "diverges", "diverges", 100_001),
        (PTP, "utc", {"eth0": Reading(TAI)}, "diverges", "diverges", TAI),
        (PTP, "utc", {"eth0": Reading(-40)}, "ok", "ok", 40),
        (PTP, "tai", {"eth0": None}, "unreadable", "unknown", 0),
        (PTP, "tai", {"eth0": Reading(TAI), "eth1": None}, "unreadable", "unknown", 0),
        (
            Timex(0, 0, 0, NOBODY_SAID_US, 400, 0),
            "tai",
            {"eth0": Reading(TAI)},
            "no TAI offset",
            "unknown",
            TAI,
        ),
        # chronyd has said how far the system's clock is: a device's that runs free changes nothing of that
        (Timex(0, 0, 0, 4, 600, 37), "tai", {"eth0": Reading(-(10**18))}, "diverges", "ok", 10**18 + TAI),
        (Timex(ERROR, UNSYNC, 0, 0, 0, 37), "tai", {"eth0": Reading(TAI)}, "ok", "unsynchronised", 0),
    ],
)
def test_devices_clocks_are_compared_in_their_time_scale(
    timex: Timex, scale: str, readings: dict[str, Reading | None], hardware: str, system: str, apart_ns: int
) -> None:
    """All of them have to be near; where nothing else is known they tell how good the system's is."""
    found = health(timex, 1, scale, **readings)
    assert (found.hardware, found.system, found.hardware_divergence_ns) == (hardware, system, apart_ns)
    assert found.hardware_lead_s == (timex.tai_offset_s if scale == "tai" else 0)


@given(
    timex=st.builds(
        Timex,
        st.integers(0, 5),
        st.sampled_from([0, UNSYNC, NANO, UNSYNC | NANO, 0x2001]),
        st.integers(-600_000_000, 600_000_000),
        st.integers(0, NOBODY_SAID_US),
        st.integers(0, NOBODY_SAID_US),
        st.sampled_from([0, 37]),
    ),
    offsets=st.lists(st.one_of(st.none(), st.integers(-(10**9), 10**9)), max_size=2),
    scale=st.sampled_from(["tai", "utc"]),
    limit_us=st.integers(1, 10_000_000),
)
def test_trusted_means_within_the_limits(
    timex: Timex, offsets: list[int | None], scale: str, limit_us: int
) -> None:
    """Whatever is read: no clock is called good that an estimate, a flag or a comparison speaks against."""
    readings = {
        f"eth{n}": None if ns is None else Reading(ns + (TAI if scale == "tai" else 0))
        for n, ns in enumerate(offsets)
    }
    limits = Limits(limit_us * 1000, 1_000, scale)  # type: ignore[arg-type]
    found = judge(timex, readings, 1, limits)
    estimate_ns = abs(timex.offset) * (1 if timex.status & NANO else 1000) + timex.estimated_error_us * 1000
    told = timex.estimated_error_us < NOBODY_SAID_US
    if timex.state == ERROR or timex.status & UNSYNC:
        assert found.system == "unsynchronised"
    elif told:
        assert (found.system == "ok") == (estimate_ns <= limit_us * 1000)
        assert found.divergence_ns == estimate_ns
    lead_ns = timex.tai_offset_s * 10**9 if scale == "tai" else 0
    usable = scale == "utc" or timex.tai_offset_s
    near = [r is not None and abs(r.offset_ns - lead_ns) <= limit_us * 1000 for r in readings.values()]
    assert (found.hardware == "ok") == bool(near and all(near) and usable)
    assert all(value >= 0 for value in found.counters().values())


def test_kernel_answers_for_real() -> None:
    """The real call: the bounds are such as the kernel keeps, and its own program agrees where it is here."""
    timex = read_timex()
    assert timex is not None
    assert 0 <= timex.estimated_error_us <= NOBODY_SAID_US
    assert 0 <= timex.maximum_error_us <= NOBODY_SAID_US
    assert 0 <= timex.state <= ERROR
    assert timex.tai_offset_s == round((time.clock_gettime_ns(time.CLOCK_TAI) - time.time_ns()) / 1e9)
    if timex.state == ERROR:
        assert timex.status & UNSYNC


def test_granularity_seen_is_no_finer_than_claimed() -> None:
    """And a clock that is read in nanoseconds moves between two looks."""
    assert round(time.clock_getres(time.CLOCK_REALTIME) * 1e9) <= read_granularity_ns() < 1_000_000_000


class Told:
    """Stands in for the feed and the log: keeps what it is told."""

    def __init__(self) -> None:
        self.clocks: list[tuple[dict[str, int], bool]] = []
        self.logged: list[tuple[str, str]] = []

    def set_clock(self, seen: dict[str, int], always_trusted: bool) -> None:
        """As the feed's."""
        self.clocks.append((seen, always_trusted))

    def info(self, event: str, **fields: Any) -> None:
        """As the log's."""
        self.logged.append(("info", fields["system"]))

    def warning(self, event: str, **fields: Any) -> None:
        """As the log's."""
        self.logged.append(("warning", fields["system"]))


def config(**clock: Any) -> Config:
    """Return a small configuration."""
    line = {"name": "A", "group": "239.1.1.1", "port": 1}
    return Config.model_validate({"channel": {"name": "x"}, "line": [line], "clock": clock})


def test_log_tells_what_lasts_and_the_feed_gets_every_look() -> None:
    """The first look is logged; a verdict that comes and goes is not; one that stays is, once."""
    told, good, bad = Told(), Health("ok", divergence_ns=5), Health("diverges", divergence_ns=200_000)
    watch = ClockWatch(config(), told, told, look=lambda: good)  # type: ignore[arg-type]
    looks = [good, bad, bad, good, good, bad, good, *[bad] * (CONFIRMATIONS + 2), *[good] * CONFIRMATIONS]
    for look in looks:
        watch.take(look)
    assert told.logged == [("info", "ok"), ("warning", "diverges"), ("info", "ok")]
    assert [seen["trusted"] for seen, _ in told.clocks] == [int(look is good) for look in looks]
    assert not any(always for _, always in told.clocks)


def test_records_are_not_marked_when_that_is_not_wanted() -> None:
    """clock.mark_records = false: the verdict is shown and logged, the feed trusts all the same."""
    told = Told()
    ClockWatch(config(mark_records=False), told, told, look=lambda: Health("unsynchronised")).tick()  # type: ignore[arg-type]
    assert told.logged == [("warning", "unsynchronised")]
    assert [always for _, always in told.clocks] == [True]


def test_first_tick_looks_at_once_and_then_in_its_interval() -> None:
    """The feed is told before it starts; a tick too many costs nothing."""
    told, looks = Told(), []

    def look() -> Health:
        looks.append(time.monotonic())
        return Health("ok")

    watch = ClockWatch(config(interval_s=0.1), told, told, look=look)  # type: ignore[arg-type]
    started = time.monotonic()
    watch.tick()
    assert len(looks) == 1

    def third() -> bool:
        watch.tick()
        return len(looks) == 3

    wait_for(third, "three looks", interval_s=0.001)
    assert looks[2] - started >= 0.2


def test_devices_without_a_clock_are_none() -> None:
    """Loopback has none: hardware times are nobody's."""
    reader = ClockReader(config())
    assert reader.indices == {}
    assert reader.look().hardware == "none"


_STAND_IN = """
import json, pathlib, sys
from feedhandler.daemon import _clock
path = pathlib.Path(sys.argv.pop(1))
# Stands in for what the kernel says: this machine's clock is as it is.
_clock.read_timex = lambda: _clock.Timex(**json.loads(path.read_text()))
from feedhandler.cli import main
main()
"""

SYNCHRONISED = {"estimated_error_us": 5, "maximum_error_us": 500, "tai_offset_s": 37}


class Host:
    """A daemon on a host whose kernel says of its clock what the test says."""

    def __init__(self, folder: Path) -> None:
        self.says, self.packets = folder / "timex.json", folder / "packets"
        self.say(**SYNCHRONISED)
        self.line = Line("A", "239.195.9.1", free_port())
        self.config = write_config(
            folder,
            [self.line],
            extra=f'[clock]\ninterval_s = 0.1\n[journal]\ndirectory = "{self.packets}"\ncompress = false\n',
            publish='schemas = ["mbo"]\n',
            recovery="arbitration_ms = 20000\n",  # the late packet comes by the line, whenever that is
        )
        command = [sys.executable, "-c", _STAND_IN, str(self.says)]
        self.daemon = Daemon(self.config, folder / "run", command=command).wait_ready()

    def say(self, **timex: int) -> None:
        """Let adjtimex say so from now on."""
        new = self.says.with_suffix(".new")
        new.write_text(json.dumps(timex))
        new.rename(self.says)

    def clocks_logged(self) -> list[tuple[str, str]]:
        """Return level and verdict of the log's `clock` events."""
        return [(entry["level"], entry["system"]) for entry in self.daemon.log() if entry["event"] == "clock"]

    def wait_for_trust(self, trusted: int) -> None:
        """Return once the receive thread knows."""
        reader = self.daemon.reader
        wait_for(lambda: reader.counters()["clock"]["trusted"] == trusted, f"trusted = {trusted}")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """Run the daemon."""
    made = Host(tmp_path)
    yield made
    made.daemon.close()


F_BAD_TS_RECV = 8


def test_records_are_marked_by_the_clock_at_their_arrival(host: Host) -> None:
    """Also those that were held behind a hole meanwhile: their time was taken when the clock was good."""
    exchange = Exchange(simulated_messages(300), [host.line])
    with Consumer("live", ["mbo"], runtime_dir=host.daemon.runtime_dir) as consumer:
        exchange.send(100)
        late = packet(exchange.session, 101, exchange.messages[100:110])
        exchange.next = 111
        exchange.send(90)
        wait_for(lambda: consumer.state == FeedState.RECOVERING, "the hole")
        host.say(
            state=ERROR, status=UNSYNC, estimated_error_us=NOBODY_SAID_US, maximum_error_us=NOBODY_SAID_US
        )
        host.wait_for_trust(0)
        exchange.send_raw(host.line, late)
        exchange.send(50)
        wait_for(lambda: consumer.next_sequence == 251, "all messages so far")
        host.say(**SYNCHRONISED)
        host.wait_for_trust(1)
        exchange.send(50)
        wait_for(lambda: consumer.next_sequence == 301, "all messages")
        records = np.concatenate([batch.records for batch in consumer.poll(timeout_s=1.0)])
    marked = set(records["sequence"][records["flags"] & F_BAD_TS_RECV != 0].tolist())
    clean = set(records["sequence"][records["flags"] & F_BAD_TS_RECV == 0].tolist())
    while_bad = set(range(101, 111)) | set(range(201, 251))
    assert marked <= while_bad
    assert marked & set(range(101, 111))
    assert marked & set(range(201, 251))
    assert clean.isdisjoint(while_bad)
    assert clean & set(range(111, 201))
    line = host.daemon.stat()["lines"]["A"]
    assert (line["timestamp_kind"], line["kernel_times"], line["hardware_times"]) == (2, line["packets"], 0)
    bad_packets = 1 + -(-50 // 8)
    assert (line["bad_times"], line["user_times"]) == (bad_packets, 0)
    exchange.close()
    wait_for(lambda: host.daemon.stat().get("journal", {}).get("packets") == line["packets"], "the journal")
    assert host.daemon.stop() == 0
    [segment] = journal_files(host.packets)
    kinds = [frame[10] for _, frame in dpkt.pcap.Reader(io.BytesIO(segment.read_bytes()))]
    assert Counter(kinds) == {2: line["packets"] - bad_packets, 2 | 4: bad_packets}  # and so in the journal


def test_alarm_is_in_the_log_and_in_stat(host: Host) -> None:
    """A clock that drifts away from UTC and comes back: one warning, one all-clear, the numbers in `stat`."""
    assert host.clocks_logged() == [("info", "ok")]
    host.say(estimated_error_us=150, maximum_error_us=900)
    wait_for(lambda: len(host.clocks_logged()) == 2, "the alarm")
    clock = host.daemon.stat()["clock"]
    assert (clock["synchronised"], clock["trusted"], clock["divergence_ns"]) == (1, 0, 150_000)
    assert clock["maximum_error_ns"] == 900_000
    assert clock["feed_error_ns"] < 1_000_000
    host.say(**SYNCHRONISED)
    wait_for(lambda: len(host.clocks_logged()) == 3, "the all-clear")
    assert host.clocks_logged() == [("info", "ok"), ("warning", "diverges"), ("info", "ok")]
    assert host.daemon.stat()["clock"]["tai_offset_s"] == 37


def test_this_machines_clock_is_told_at_the_start(tmp_path: Path) -> None:
    """The real kernel's answer, whatever it is: logged once at the start, and in the counters at once."""
    line = Line("A", "239.195.9.2", free_port())
    config = write_config(tmp_path, [line], receive="hardware_timestamps = true\n")
    daemon = Daemon(config, tmp_path / "run").wait_ready()
    try:
        [asked] = [entry for entry in daemon.log() if entry["event"] == "hardware_timestamps"]
        assert (asked["device"], asked["answer"]) == ("lo", os.strerror(errno.EOPNOTSUPP))  # and it runs
        [entry] = [entry for entry in daemon.log() if entry["event"] == "clock"]
        assert entry["system"] in ("ok", "unknown", "coarse", "diverges", "unsynchronised", "unreadable")
        assert entry["level"] == ("info" if entry["system"] == "ok" else "warning")
        wait_for(lambda: daemon.reader.counters()["clock"]["granularity_ns"] > 0, "the clock's counters")
        assert daemon.reader.counters()["clock"]["maximum_error_ns"] <= UNKNOWN_NS
    finally:
        daemon.close()
