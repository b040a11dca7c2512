"""`feedhandler book`: the levels of one book."""

import json
import sys
from typing import Any

import click

from feedhandler.cli._follow import dead, open_console, runtime_dir_option
from feedhandler.consumer import Book, Consumer, FeedState
from feedhandler.consumer.price import price_text
from feedhandler.errors import UsageError


@click.command("book", epilog="Example: feedhandler book xnas-itch AAPL --watch")
@click.argument("channel")
@click.argument("symbol")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (with --watch: one a change).")
@click.option("--watch", is_flag=True, help="Follow the book until interrupted, or the daemon is gone.")
@runtime_dir_option
def command(channel: str, symbol: str, as_json: bool, watch: bool, runtime_dir: str | None) -> None:
    """Show up to ten levels a side of SYMBOL's book in CHANNEL: act on them only if the state is LIVE.

    A book whose daemon died is its last one; the exit status is then 1.
    """
    with Consumer(channel, schemas=["event"], runtime_dir=runtime_dir) as consumer:
        shown: tuple[int, FeedState] | None = None
        while True:
            book = _read(consumer, symbol)
            if shown != (book.sequence, book.state):
                shown = (book.sequence, book.state)
                _print(book, as_json, clear=watch)
            if book.state == FeedState.DEAD:
                raise dead(consumer.channel)
            if not watch:
                return
            consumer.poll(timeout_s=0.05)  # returns at once when the state changes


def book_object(book: Book) -> dict[str, Any]:
    """Return the book as `--json` prints it: prices as strings with 4 decimals."""

    def side(levels: Any) -> list[list[Any]]:
        return [
            [price_text(int(level["price"])), int(level["size"]), int(level["orders"])] for level in levels
        ]

    return {
        "symbol": book.symbol,
        "state": book.state.name,
        "sequence": book.sequence,
        "bids": side(book.bids),
        "asks": side(book.asks),
    }


def _read(consumer: Consumer, symbol: str) -> Book:
    try:
        return consumer.book(symbol)
    except KeyError:
        known = len(consumer.symbols())
        raise UsageError(
            f'SYMBOL: "{symbol}" is none of the {known} that {consumer.channel} has named'
        ) from None


def _print(book: Book, as_json: bool, clear: bool) -> None:
    values = book_object(book)
    if as_json:
        click.echo(json.dumps(values))
        sys.stdout.flush()
        return
    from rich.markup import escape
    from rich.table import Table

    console = open_console(clear)
    console.print(
        f"[bold]{escape(book.symbol)}[/]  {book.state.name}  sequence {book.sequence}  {book.trading_status}"
    )
    table = Table("orders", "size", "bid", "ask", "size", "orders", box=None, pad_edge=False)
    for column in table.columns:
        column.justify = "right"
    for i in range(max(len(book.bids), len(book.asks))):
        bid = values["bids"][i] if i < len(book.bids) else ["", "", ""]
        ask = values["asks"][i] if i < len(book.asks) else ["", "", ""]
        table.add_row(str(bid[2]), str(bid[1]), bid[0], ask[0], str(ask[1]), str(ask[2]))
    console.print(table)
    sys.stdout.flush()
