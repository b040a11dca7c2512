"""`feedhandler latency`: not in this build."""

import click

from feedhandler.errors import NotInThisBuildError


@click.command(short_help="Measured latency budget by hop (not in this build).")
@click.argument("channel")
def command(channel: str) -> None:
    """Print the measured latency budget of CHANNEL by hop.

    Not in this build: the command says so and exits with status 2.

    \b
    Example:
      feedhandler latency xnas-itch
    """
    raise NotInThisBuildError(f'latency: "{channel}": measuring the latency budget is not in this build')
