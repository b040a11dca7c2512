"""The daemon's main thread: it supervises; the feed itself runs on the receive thread."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from feedhandler import _core
from feedhandler.config import Config
from feedhandler.daemon._children import Children
from feedhandler.daemon._clock import ClockWatch, devices_of
from feedhandler.daemon._events import STATES, log_events
from feedhandler.daemon._feed import check_host, make_feed
from feedhandler.daemon._hardware_clock import ask_for_timestamps
from feedhandler.daemon._log import open_log
from feedhandler.daemon._notify import notify, watchdog_interval_s
from feedhandler.daemon._onload import launch
from feedhandler.daemon._placement import hold_idle_latency, make_way, spread
from feedhandler.daemon._privileges import drop_privileges
from feedhandler.daemon._realtime import Demotion
from feedhandler.daemon._restart import Restart
from feedhandler.daemon._threads import receive_thread
from feedhandler.errors import RunError
from feedhandler.runtime_dir import runtime_dir
from feedhandler.stop import Stop, StopSignal

TICK_S = 0.1
STOP_TIMEOUT_MS = 500


def run(config: Config, runtime_dir_option: Path | None = None) -> None:
    """Run the daemon of one channel until SIGTERM or SIGINT.

    Raises UsageError or RunError, with one line, when it cannot start; RunError when the feed fails later.
    """
    log = open_log(config.channel.name)
    launch(config, log)
    stop = StopSignal()  # before anything is opened that only an orderly end closes, as DPDK's devices are
    directory = runtime_dir(runtime_dir_option).absolute() / config.channel.name
    restart = Restart(config, directory, log)
    check_host(config)
    usable = os.sched_getaffinity(0)
    held = hold_idle_latency(config)  # noqa: F841  until the process ends
    make_way(config.receive.cpu, usable)
    feed = make_feed(config, directory, restart=restart.possible)
    _log_granted(log, feed, config)
    _log_libraries(log, feed)
    _ask_for_hardware_timestamps(log, config)
    clock = ClockWatch(config, feed, log)
    clock.tick()
    try:
        feed.start()
    except RuntimeError as error:
        raise RunError(str(error)) from error
    spread(config.receive.cpu, usable)
    drop_privileges(log, feed, config)
    restart.begin(feed)
    children, journal = _children_of(config, directory, log), _journal_of(config, directory, log)
    journal.may_start = restart.journal_is_free
    _log_started(log, feed, config, directory)
    notify(f"READY=1\nSTATUS={_status(feed)}")
    try:
        _supervise(feed, config, [clock, children, journal], stop, log)
    finally:
        restart.stop()
        _stop(feed, config, children, journal, log)


def _supervise(
    feed: _core.Feed,
    config: Config,
    helpers: Sequence[Children | ClockWatch],
    stop: Stop,
    log: FilteringBoundLogger,
) -> None:
    watchdog_s = watchdog_interval_s()
    tick_s = min(TICK_S, watchdog_s / 4) if watchdog_s else TICK_S
    progress, status = -1, ""
    demotion = Demotion(log, receive_thread() if config.receive.priority else None)
    while not stop.wait(tick_s):
        log_events(log, feed, config)
        _log_libraries(log, feed)
        for helper in helpers:
            helper.tick()
        if not feed.running:
            raise RunError(f"{config.channel.name}: the receive thread ended unexpectedly")
        progress_before, progress = progress, feed.progress
        demotion.tick(progress)
        if watchdog_s and progress != progress_before:  # a hung receive thread must starve the watchdog
            notify("WATCHDOG=1")
        status_before, status = status, _status(feed)
        if status != status_before:
            notify(f"STATUS={status}")


def _stop(
    feed: _core.Feed, config: Config, children: Children, journal: Children, log: FilteringBoundLogger
) -> None:
    notify("STOPPING=1")
    children.stop()
    ended = feed.stop(timeout_ms=STOP_TIMEOUT_MS)
    journal.stop()  # the last of them: it writes what the feed has received to its end
    log_events(log, feed, config)
    log.info("stopped", state=STATES[feed.state], uptime_s=round(time.monotonic() - _STARTED_S, 3))
    if not ended:
        log.error("the receive thread hangs; leaving without it")
        os._exit(1)  # its memory must not be taken from under it


_STARTED_S = time.monotonic()


SEEN = ("kernel_drops", "napi_id", "timestamp_kind")
"""Of what is known of a line, that which only packets tell: counters, see `stat`."""


def _log_granted(log: FilteringBoundLogger, feed: _core.Feed, config: Config) -> None:
    for index, line in enumerate(config.line):
        granted = feed.granted(index)
        log.info(
            "joined",
            line=line.name,
            group=f"{line.group}:{line.port}",
            on=line.interface,
            **{name: value for name, value in granted.items() if name not in SEEN},
        )
        if config.receive.mode == "onload" and not granted["accelerated"]:
            log.warning("not accelerated", line=line.name, why=_core.why_not_accelerated())


def _log_libraries(log: FilteringBoundLogger, feed: _core.Feed) -> None:
    """Log what libraries of the receive mode have said: they would have written to the terminal."""
    for line in feed.take_receive_log().splitlines():
        log.info("receive_library", text=line.strip())


def _ask_for_hardware_timestamps(log: FilteringBoundLogger, config: Config) -> None:
    if config.receive.hardware_timestamps:
        for device in devices_of(config):
            answer = ask_for_timestamps(device)
            say = log.info if answer == "granted" else log.warning
            say("hardware_timestamps", device=device, answer=answer)


def _log_started(log: FilteringBoundLogger, feed: _core.Feed, config: Config, directory: Path) -> None:
    log.info(
        "started",
        directory=str(directory),
        pid=os.getpid(),
        memory_locked=feed.memory_locked,
        prefaulted_mib=feed.prefaulted_bytes >> 20,
        cpu=config.receive.cpu,
        priority=config.receive.priority,
    )


def _children_of(config: Config, directory: Path, log: FilteringBoundLogger) -> Children:
    children = Children(log)
    if config.publish.zmq:
        words = [str(directory), "--endpoint", config.publish.zmq.endpoint]
        if config.publish.zmq.snapshot_endpoint:
            words += ["--snapshot-endpoint", config.publish.zmq.snapshot_endpoint]
        children.add("zmq", "feedhandler.publish", words)
    if config.metrics.listen:
        children.add("metrics", "feedhandler.metrics", [str(directory), "--listen", config.metrics.listen])
    return children


def _journal_of(config: Config, directory: Path, log: FilteringBoundLogger) -> Children:
    children, journal = Children(log), config.journal
    if journal.directory:
        options = {
            "directory": Path(journal.directory).absolute(),
            "segment-mib": journal.segment_mib,
            "segment-s": journal.segment_s,
            "retain-gib": journal.retain_gib,
            "retain-days": journal.retain_days,
            "sync-s": journal.sync_s,
        }
        arguments = [f"--{name}={value}" for name, value in options.items()]
        arguments.append("--compress" if journal.compress else "--no-compress")
        children.add("journal", "feedhandler.journal", [str(directory), *arguments])
    return children


def _status(feed: _core.Feed) -> str:
    return STATES[feed.state]
