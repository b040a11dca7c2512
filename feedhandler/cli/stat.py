"""`feedhandler stat`: counters of a channel."""

import json
import sys
import time
from typing import Any

import click

from feedhandler.cli._follow import dead, open_console, runtime_dir_option
from feedhandler.metrics.snapshot import journal_status, open_reader, snapshot
from feedhandler.names import HEALTH_NAMES, KIND_NAMES
from feedhandler.runtime_dir import channel_dir


@click.command("stat", epilog="Example: feedhandler stat xnas-itch --watch")
@click.argument("channel")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (with --watch: one each time).")
@click.option(
    "--watch", is_flag=True, help="Print again each second until interrupted, or the daemon is gone."
)
@click.option("--describe", is_flag=True, help="Say what each counter counts.")
@runtime_dir_option
def command(channel: str, as_json: bool, watch: bool, describe: bool, runtime_dir: str | None) -> None:
    """Show the counters of CHANNEL: by line, by gap, of recovery and of the feed.

    Counters of a channel whose daemon died are its last ones; the exit status is then 1.
    """
    folder = channel_dir(channel, runtime_dir)
    while True:
        stat = snapshot(open_reader(folder))  # anew each time: the daemon may have been restarted
        journal = journal_status(folder)
        if journal is not None:
            stat["journal"] = journal
        if as_json:
            click.echo(json.dumps(stat))
        else:
            _print_tables(stat, describe, clear=watch)
        sys.stdout.flush()
        if stat["state"] == "DEAD":
            raise dead(stat["channel"])
        if not watch:
            return
        time.sleep(1.0)


def _print_tables(stat: dict[str, Any], describe: bool, clear: bool) -> None:
    """Print the counters for people: a column a line, then the rest."""
    from rich.markup import escape
    from rich.table import Table

    from feedhandler import _core
    from feedhandler.metrics.exporter import JOURNAL_COUNTERS

    texts = _core.counter_descriptions()
    console = open_console(clear)
    name = escape(stat["session"]) or "-"
    session = f"session {name}, next {stat['next_sequence']}, up {stat['uptime_s']:.0f} s"
    console.print(f"[bold]{stat['channel']}[/]  {stat['state']}  {session}, consumers {stat['consumers']}")
    for group, label in (("lines", "line"), ("servers", "server")):
        if not stat[group]:
            continue
        table = Table(
            label, *stat[group], *(["what it counts"] if describe else []), box=None, pad_edge=False
        )
        for column in table.columns[1 : 1 + len(stat[group])]:
            column.justify = "right"
        for name, text in texts[group].items():
            words = {"health": HEALTH_NAMES, "timestamp_kind": KIND_NAMES}.get(name)
            values = [words[one[name]] if words else f"{one[name]:,}" for one in stat[group].values()]
            table.add_row(name, *values, *([text] if describe else []))
        console.print(table)
    rest = Table("counter", "value", *(["what it counts"] if describe else []), box=None, pad_edge=False)
    rest.columns[1].justify = "right"
    for group, source in (
        ("receive", stat["receive"]),
        ("clock", stat["clock"]),
        ("gaps", stat["gaps"]),
        ("recovery", stat["recovery"]),
        ("escalation", stat["escalation"]),
        ("feed", stat),
    ):
        for name, text in texts[group].items():
            label = name if group == "feed" else f"{group}.{name}"
            rest.add_row(label, f"{source[name]:,}", *([text] if describe else []))
    for schema, count in stat["records"].items():
        rest.add_row(f"records.{schema}", f"{count:,}", *(["records published"] if describe else []))
    for name, value in stat.get("journal", {}).items():
        text = JOURNAL_COUNTERS.get(name, "")
        shown = f"{value:,}" if isinstance(value, int) else value
        rest.add_row(f"journal.{name}", shown, *([text] if describe else []))
    console.print(rest)
