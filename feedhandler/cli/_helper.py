"""How the daemon's helper processes end: as the console script does, under a name of their own."""

import sys

import click

from feedhandler.errors import RunError, UsageError


def run_helper(command: click.Command, name: str) -> None:
    """Run a helper's command; errors are one line on stderr."""
    try:
        command.main(standalone_mode=False)
    except (UsageError, RunError) as error:
        click.echo(f"{name}: {error}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
