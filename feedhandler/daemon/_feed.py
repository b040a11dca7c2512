"""Makes the compiled feed of a configuration."""

import datetime
import os
import time
from pathlib import Path

from feedhandler import _core
from feedhandler.config import Config
from feedhandler.daemon import _dpdk
from feedhandler.daemon._host_network import line_settings
from feedhandler.daemon._realtime import refusal
from feedhandler.devices import device_names, is_here
from feedhandler.errors import RunError, UsageError
from feedhandler.exchange_time import day_of, midnight_ns

MOST_PASSWORD = 10  # characters, SoupBinTCP
LONGEST_RUN_DAYS = 1000
"""For so long a daemon knows the calendar; it is worked out at the start."""


def make_feed(config: Config, directory: Path, *, restart: bool = False) -> _core.Feed:
    """Join the lines and make the channel's files in `directory`; nothing runs yet.

    With `restart` a session that is joined in its middle waits for what `_restart` finds.

    Raises RunError for what the kernel refuses.
    """
    recovery = config.recovery
    try:
        return _core.Feed(
            lines=[line_settings(line) for line in config.line],
            servers=[server.host_port for server in recovery.server],
            receive=config.receive.model_dump(),
            session=config.channel.session,
            from_beginning=config.channel.start == "beginning",
            line_down_ns=round(config.receive.line_down_s * 1e9),
            arbitration_ns=round(recovery.arbitration_ms * 1e6),
            timeout_ns=round(recovery.timeout_ms * 1e6),
            retries=recovery.retries,
            max_outstanding=recovery.max_outstanding,
            requests_per_s=recovery.requests_per_s,
            hold_messages=recovery.hold_messages,
            directory=os.fspath(directory),
            channel=config.channel.name,
            dataset=config.channel.dataset,
            epoch=time.time_ns(),
            schema_mask=sum(1 << _core.schema_names.index(schema) for schema in config.publish.schemas),
            depth=config.publish.depth,
            publisher_id=config.publisher_id,
            trading_days=trading_days(config.channel.trading_day),
            ring_bytes=config.publish.ring_mib << 20,
            symbols=config.publish.symbols,
            journal_ring_bytes=config.journal.ring_mib << 20 if config.journal.directory else 0,
            snapshot=snapshot_login(config),
            first_to_apply_offset=recovery.snapshot.first_to_apply_offset if recovery.snapshot else 0,
            restart=restart,
            latency_sample_every=config.latency.sample_every,
        )
    except MemoryError as error:
        raise RunError("not enough memory for the books and buffers of the channel") from error
    except RuntimeError as error:
        raise RunError(str(error)) from error


def snapshot_login(config: Config) -> tuple[str, int, str, str] | None:
    """Return (address, port, user name, password) of the snapshot server; the password is read from its file.

    None: there is none. Raises UsageError when the file cannot be read or what it holds does not fit a login.
    """
    snapshot = config.recovery.snapshot
    if snapshot is None:
        return None
    key, path = config.where("recovery.snapshot.password_file"), snapshot.password_file
    try:
        password = Path(path).read_text(encoding="ascii").strip()
    except OSError as error:
        raise UsageError(f'{key}: "{path}": {error.strerror}') from error
    except UnicodeDecodeError as error:
        raise UsageError(f'{key}: "{path}" holds more than ASCII') from error
    if len(password) > MOST_PASSWORD:
        raise UsageError(f'{key}: "{path}" holds {len(password)} characters, at most {MOST_PASSWORD}')
    return (*snapshot.host_port, snapshot.username, password)


def trading_days(setting: str) -> list[tuple[int, int]]:
    """Return (midnight in UTC ns, yyyymmdd) of the configured day, or of today and those to come."""
    if setting:
        days = [datetime.date.fromisoformat(setting)]
    else:
        today = day_of(time.time_ns())
        days = [today + datetime.timedelta(days=n) for n in range(LONGEST_RUN_DAYS)]
    return [(midnight_ns(day), int(day.strftime("%Y%m%d"))) for day in days]


def check_host(config: Config) -> None:
    """Raise UsageError for a device, CPU or priority that this machine has not, or should not be given."""
    for index, line in enumerate(config.line):
        if not is_here(line.interface):
            raise UsageError(
                f'{config.where(f"line[{index}].interface")}: "{line.interface}" is no device or address of '
                f"this machine (devices: {device_names()})"
            )
    usable = os.sched_getaffinity(0)
    if config.receive.cpu >= 0 and config.receive.cpu not in usable:
        allowed = ", ".join(map(str, sorted(usable)))
        raise UsageError(
            f"{config.where('receive.cpu')}: {config.receive.cpu} is not a CPU that this process may use "
            f"({allowed})"
        )
    if lacking := _dpdk.refusal(config):
        raise UsageError(f"{config.where(lacking[0])}: {lacking[1]}")
    if refused := refusal(config, usable):
        raise UsageError(f"{config.where('receive.priority')}: {refused[0]} ({refused[1]})")
