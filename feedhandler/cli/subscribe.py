"""`feedhandler subscribe`: follow the records of a channel."""

import sys
from typing import TYPE_CHECKING

import click

from feedhandler.cli._follow import dead, runtime_dir_option
from feedhandler.consumer import Consumer, FeedState
from feedhandler.errors import UsageError

if TYPE_CHECKING:
    from feedhandler.cli._formats import Format


@click.command(
    "subscribe", epilog="Example: feedhandler subscribe xnas-itch --schema mbp-1 --symbols AAPL,MSFT"
)
@click.argument("channel")
@click.option(
    "--schema",
    "schemas",
    multiple=True,
    metavar="S",
    help="A DBN schema, or event; repeatable. Default: all but event.",
)
@click.option("--symbols", metavar="A,B", help="Only these symbols. Default: all.")
@click.option(
    "--format",
    "style",
    type=click.Choice(["text", "json", "csv", "dbn"]),
    default="text",
    show_default=True,
    help="json: one object a line. csv, dbn (a binary stream): one schema only.",
)
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after N records.")
@runtime_dir_option
def command(
    channel: str,
    schemas: tuple[str, ...],
    symbols: str | None,
    style: str,
    count: int | None,
    runtime_dir: str | None,
) -> None:
    """Follow the records of CHANNEL from now on.

    States and losses are told on stderr. When the daemon dies the exit status is 1.
    """
    names = [name for name in (symbols or "").split(",") if name]
    with Consumer(channel, schemas=schemas or None, symbols=names, runtime_dir=runtime_dir) as consumer:
        _follow(consumer, _open_format(consumer, schemas, style), count)


def _open_format(consumer: Consumer, schemas: tuple[str, ...], style: str) -> "Format":
    from feedhandler.cli import _formats
    from feedhandler.consumer.schema import mask_schemas

    rows = _formats.Rows(consumer)
    if style == "text":
        return _formats.Text(rows)
    if style == "json":
        return _formats.JsonLines(rows)
    published = mask_schemas(consumer.info["schema_mask"])
    wanted = list(dict.fromkeys(schemas)) or [name for name in published if name != "event"]
    if len(wanted) != 1 or wanted == ["event"]:  # events differ in their fields
        raise UsageError(f'--format {style}: --schema: "{", ".join(wanted)}": one DBN schema is allowed')
    return _formats.Csv(rows, wanted[0]) if style == "csv" else _formats.DbnStream(consumer, wanted[0])


def _follow(consumer: Consumer, output: "Format", count: int | None) -> None:
    report = _Report(consumer)
    written = 0
    while True:
        report.look()
        batches = consumer.poll(timeout_s=0.25)
        for batch in batches:
            take = len(batch) if count is None else min(len(batch), count - written)
            output.write(batch, take)
            written += take
            if written == count:
                sys.stdout.flush()
                return
        sys.stdout.flush()
        if not batches and consumer.state == FeedState.DEAD:  # what it wrote before it died has been shown
            raise dead(consumer.channel)


class _Report:
    """Tells changes of the state, losses and restarts on stderr."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._state: FeedState | None = None
        self._lost = 0

    def look(self) -> None:
        """Tell what has changed since the last look."""
        if (state := self._consumer.state) != self._state and state != FeedState.DEAD:
            self._state = state
            click.echo(f"channel {self._consumer.channel}: state {state.name}", err=True)
        if (lost := self._consumer.lost) != self._lost:
            click.echo(f"too slow: lost {lost - self._lost} records ({lost} in all)", err=True)
            self._lost = lost
