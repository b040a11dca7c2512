"""`feedhandler simulate`: an exchange on this machine."""

import json
import time
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from feedhandler import _core
from feedhandler.errors import UsageError
from feedhandler.simulate import write_binaryfile

DEFAULT_MESSAGES = 1_000_000
MOST_SYMBOLS = 65_534


def check_day(messages: int, symbols: int | None) -> int:
    """Return the number of symbols, by default as many as suit the day; raises UsageError for a day too short for them."""
    if symbols is None:
        return max(1, min(8000, messages // 200 if messages else 8000))
    least = _core.Exchange.least_messages(symbols)
    if messages and messages < least:
        raise UsageError(f"--messages: {messages} is too few for {symbols} symbols: {least} or more")
    return symbols


@click.command("simulate")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE[.gz]",
    help="Write a BinaryFILE.",
)
@click.option(
    "--messages",
    type=click.IntRange(13),
    metavar="N",
    help="Messages of the day, exactly (default 1,000,000).",
)
@click.option(
    "--symbols",
    type=click.IntRange(1, MOST_SYMBOLS),
    metavar="N",
    help="Stocks (default: as many as suit the day, at most 8,000).",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**64 - 1), default=1, show_default=True, help="Same seed, same bytes."
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
def command(output: Path | None, messages: int | None, symbols: int | None, seed: int, as_json: bool) -> None:
    """Simulate an exchange: a trading day of ITCH 5.0 messages, from order flow through a matching engine.

    \b
    Example:
      feedhandler simulate --output day.itch.gz --messages 10000000 --symbols 8000 --seed 7
    """
    if output is None:
        raise UsageError("--output: sending to the network comes with the next step; name a file")
    total = messages or DEFAULT_MESSAGES
    exchange = _core.Exchange(messages=total, symbols=check_day(total, symbols), seed=seed)
    started = time.monotonic()
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        write_binaryfile(exchange, output, lambda done: bar.update(task, completed=done))
    elapsed = time.monotonic() - started
    summary = {
        "output": str(output),
        "messages": exchange.messages,
        "orders": exchange.live_orders,
        "types": exchange.counts,
        "elapsed_s": round(elapsed, 3),
        "messages_per_s": round(exchange.messages / elapsed),
    }
    if as_json:
        click.echo(json.dumps(summary))
    else:
        click.echo(
            f"{output}: {exchange.messages:,} messages, {exchange.live_orders:,} orders at the end, {elapsed:.1f} s"
        )
