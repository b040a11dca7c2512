"""The console script: one command a file, imported when it is asked for."""

import importlib
import os
import sys

import click

from feedhandler import __version__
from feedhandler.errors import RunError, UsageError

COMMANDS = (
    "run",
    "check",
    "replay",
    "simulate",
    "gapfill",
    "subscribe",
    "book",
    "stat",
    "gaps",
    "latency",
    "export",
    "demo",
)


class _LazyGroup(click.Group):
    """Imports a command's module on first use: `feedhandler stat` need not pay for `feedhandler simulate`."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"feedhandler.cli.{cmd_name}").command
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; a reader of its output that goes away is not its failure, as click has it."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            _drop_output()
            return 0


@click.group(
    cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, prog_name="feedhandler")
def cli() -> None:
    """Market-data feed handler: multicast in, gaps repaired, right books out to other processes."""


def _drop_output() -> None:
    """Send what is still buffered for stdout nowhere: writing it would fail again as the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> None:
    """Run the console script; errors are one line on stderr, never a traceback.

    Exit status: 0 done, 1 it ran and failed, 2 bad usage, configuration or input, 130 interrupted.
    """
    try:
        code = cli.main(prog_name="feedhandler", standalone_mode=False)
        sys.stdout.flush()
    except (UsageError, RunError) as error:
        click.echo(f"{error}", err=True)
        code = error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = error.exit_code
    except click.ClickException as error:  # in one line: click would print the usage above it
        context = getattr(error, "ctx", None)
        name = context.command_path if context is not None else "feedhandler"
        hint = f' ("{name} --help" helps)' if isinstance(error, click.UsageError) else ""
        click.echo(f"{name}: {' '.join(error.format_message().split())}{hint}", err=True)
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except BrokenPipeError:  # the reader of our output went away: not our failure
        _drop_output()
        code = 0
    except OSError as error:  # as a full disk behind stdout
        click.echo(f"{error.filename or 'output'}: {error.strerror or error}", err=True)
        _drop_output()
        code = 1
    sys.exit(code if isinstance(code, int) else 0)
