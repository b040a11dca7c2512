"""`feedhandler run`: the daemon of one channel."""

from pathlib import Path

import click

from feedhandler.config import load


@click.command("run", short_help="The daemon for one channel, in the foreground, until SIGTERM or SIGINT.")
@click.option("--config", "config_file", metavar="FILE", required=True, help="TOML file of the channel.")
@click.option(
    "--runtime-dir", type=click.Path(path_type=Path), help="Where channels live; see the documentation."
)
def command(config_file: str, runtime_dir: Path | None) -> None:
    """Receive a channel, repair its gaps, keep its books and publish them, until SIGTERM or SIGINT.

    \b
    Example:
      feedhandler run --config feed.toml
      FEEDHANDLER__RECEIVE__CPU=3 feedhandler run --config feed.toml
    """
    config = load(config_file)

    from feedhandler.daemon import run

    run(config, runtime_dir)
