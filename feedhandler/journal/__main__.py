"""The journal process: `python -m feedhandler.journal CHANNEL --directory DIR`."""

import time
from pathlib import Path

import click

from feedhandler.cli._helper import run_helper
from feedhandler.daemon._log import open_log
from feedhandler.errors import UsageError
from feedhandler.journal.archive import Limits
from feedhandler.journal.writer import JournalWriter, Settings, locked
from feedhandler.runtime_dir import channel_dir
from feedhandler.stop import Stop, StopSignal


@click.command(
    "journal", epilog="Example: python -m feedhandler.journal xnas-itch --directory /var/lib/feedhandler/xnas"
)
@click.argument("channel")
@click.option("--directory", type=click.Path(path_type=Path), required=True, help="Where the segments go.")
@click.option("--segment-mib", type=click.IntRange(1, 65536), default=256, show_default=True)
@click.option("--segment-s", type=click.FloatRange(0, min_open=True), default=3600.0, show_default=True)
@click.option(
    "--retain-gib", type=click.FloatRange(0), default=100.0, show_default=True, help="0 = no limit."
)
@click.option("--retain-days", type=click.FloatRange(0), default=0.0, show_default=True, help="0 = no limit.")
@click.option("--compress/--no-compress", default=True, show_default=True, help="Finished segments, by zstd.")
@click.option(
    "--sync-s", type=click.FloatRange(0), default=1.0, show_default=True, help="0 = when the kernel does it."
)
@click.option("--runtime-dir", metavar="DIR", help="Where channels live.")
@click.option(
    "--start-timeout-s", type=float, default=10.0, show_default=True, help="How long to wait for the channel."
)
def command(
    channel: str,
    directory: Path,
    segment_mib: int,
    segment_s: float,
    retain_gib: float,
    retain_days: float,
    compress: bool,
    sync_s: float,
    runtime_dir: str | None,
    start_timeout_s: float,
) -> None:
    """Write the packets of CHANNEL, whose daemon has a journal configured, until SIGTERM or SIGINT.

    Exit status 1: the disk is full or refuses to be written; the log says why.
    """
    stop = StopSignal()
    folder = _wait_for(channel, runtime_dir, time.monotonic() + start_timeout_s, stop)
    if folder is None:
        return
    settings = Settings(
        directory=directory.absolute(),
        segment_bytes=segment_mib << 20,
        segment_s=segment_s,
        retain=Limits(bytes=round(retain_gib * (1 << 30)), age_s=retain_days * 86400),
        compress=compress,
        sync_s=sync_s,
    )
    with locked(settings.directory, stop):
        JournalWriter(folder, settings, open_log(folder.name)).run(stop)


def _wait_for(channel: str, runtime_dir: str | None, deadline_s: float, stop: Stop) -> Path | None:
    while True:
        try:
            folder = channel_dir(channel, runtime_dir)
        except UsageError:
            if time.monotonic() > deadline_s:
                raise
        else:
            if (folder / "packets").exists():
                return folder
            raise UsageError(f'CHANNEL: "{channel}": its daemon has no journal.directory')
        if stop.wait(0.02):
            return None


if __name__ == "__main__":
    run_helper(command, "feedhandler.journal")
