"""`feedhandler gaps`: the history of a channel's holes."""

import json
import sys
import time
from datetime import UTC, datetime
from typing import Any

import click

from feedhandler.cli._follow import dead, open_console, runtime_dir_option
from feedhandler.metrics.snapshot import STATE_NAMES, open_reader
from feedhandler.runtime_dir import channel_dir


@click.command("gaps", epilog="Example: feedhandler gaps xnas-itch --json")
@click.argument("channel")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (with --watch: one each time).")
@click.option(
    "--watch", is_flag=True, help="Print again each second until interrupted, or the daemon is gone."
)
@runtime_dir_option
def command(channel: str, as_json: bool, watch: bool, runtime_dir: str | None) -> None:
    """Show the newest 1,024 holes in CHANNEL's feed: when, which numbers (inclusive), and who brought them.

    The history of a channel whose daemon died is its last one; the exit status is then 1.
    """
    folder = channel_dir(channel, runtime_dir)
    while True:
        history = gap_history(open_reader(folder))
        if as_json:
            click.echo(json.dumps(history))
        else:
            _print_table(history, clear=watch)
        sys.stdout.flush()
        if history["state"] == "DEAD":
            raise dead(history["channel"])
        if not watch:
            return
        time.sleep(1.0)


def gap_history(reader: Any) -> dict[str, Any]:
    """Return `{"channel", "state", "total", "gaps": [...]}`, oldest first; `total`: those ever opened.

    A gap: `first` and `last` (inclusive), `messages`, `opened_ns` and `closed_ns` (UTC; 0 while open), how
    many messages came by `recovered_line`, `recovered_rewind`, or are `unrecovered`, and `requests` sent.
    """

    def described(gap: dict[str, int]) -> dict[str, int]:
        return {"first": gap["first"], "last": gap["last"], "messages": gap["last"] - gap["first"] + 1, **gap}

    return {
        "channel": reader.info()["channel"],
        "state": STATE_NAMES[reader.state],
        "total": reader.gap_count,
        "gaps": [described(gap) for gap in reader.gaps()],
    }


def _print_table(history: dict[str, Any], clear: bool) -> None:
    from rich.table import Table

    console = open_console(clear)
    console.print(f"[bold]{history['channel']}[/]  {history['state']}  gaps {history['total']}")
    columns = ("opened (UTC)", "first", "last", "messages", "ms", "line", "rewind", "lost", "requests")
    table = Table(*columns, box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for gap in history["gaps"]:
        opened = datetime.fromtimestamp(gap["opened_ns"] / 1e9, UTC).strftime("%H:%M:%S.%f")
        lasted = f"{(gap['closed_ns'] - gap['opened_ns']) / 1e6:.3f}" if gap["closed_ns"] else "open"
        numbers = [gap[key] for key in ("recovered_line", "recovered_rewind", "unrecovered", "requests")]
        table.add_row(
            opened, f"{gap['first']}", f"{gap['last']}", f"{gap['messages']:,}", lasted, *map(str, numbers)
        )
    console.print(table)
