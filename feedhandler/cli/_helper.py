"""How the daemon's helper processes end: as the console script does, in the log of the daemon."""

import sys
from pathlib import Path

import click

from feedhandler.daemon._log import open_log
from feedhandler.errors import RunError, UsageError


def run_helper(command: click.Command, name: str) -> None:
    """Run a helper's command; errors are one line on stderr: an entry of the log, or plain on a terminal."""
    try:
        command.main(standalone_mode=False)
    except (UsageError, RunError) as error:
        if sys.stderr.isatty():
            click.echo(f"{name}: {error}", err=True)
        else:
            open_log(Path(sys.argv[1]).name).error("helper failed", helper=name, reason=str(error))
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
