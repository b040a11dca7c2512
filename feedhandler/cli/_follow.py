"""What the commands that follow a channel share: its options, and how they end when the daemon dies."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from feedhandler.errors import RunError

if TYPE_CHECKING:
    from rich.console import Console

_Command = TypeVar("_Command", bound=Callable[..., Any])

runtime_dir_option: Callable[[_Command], _Command] = click.option(
    "--runtime-dir", metavar="DIR", help="Where channels live; default as in `feedhandler run`."
)


def dead(channel: str) -> RunError:
    """Return the error that ends a command whose channel has no daemon (any more)."""
    return RunError(f"channel {channel}: state DEAD: no daemon")


def open_console(clear: bool) -> "Console":
    """Return a console on stdout, cleared if it is a terminal; into a pipe it writes wide and plain."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        return Console(highlight=False, width=200)
    if clear:
        console.clear()
    return console
