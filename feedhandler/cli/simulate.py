"""`feedhandler simulate`: an exchange on this machine."""

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from feedhandler import _core
from feedhandler.errors import UsageError
from feedhandler.exchange_time import day_of
from feedhandler.simulate import NetworkSettings, Transmission, write_binaryfile, write_pcap
from feedhandler.simulate.file import is_capture
from feedhandler.simulate.options import (
    FAULTS,
    MOST_SYMBOLS,
    checked_session,
    checked_symbols,
    parse_endpoint,
    parse_lines,
    with_faults,
)

DEFAULT_MESSAGES = 1_000_000  # of a file
LINES = "A=239.1.1.1:26477,B=239.1.1.2:26477"
REWIND = "127.0.0.1:26500"
_PER_LINE = "P or A=P,B=P"


def fault_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options of faults on the lines."""
    helps = {
        "drop": "Share of the packets lost.",
        "drop_burst": "Mean length of a loss burst, packets (default 1).",
        "duplicate": "Probability that a packet comes twice.",
        "reorder": "Probability that a packet is overtaken by one to eight others.",
        "corrupt": "Probability of damage that the parse check sees.",
    }
    for name in reversed(FAULTS):
        metavar = _PER_LINE.replace("P", "N") if name == "drop_burst" else _PER_LINE
        function = click.option("--" + name.replace("_", "-"), name, metavar=metavar, help=helps[name])(
            function
        )
    return function


@click.command(
    "simulate", short_help="An exchange on this machine: order flow, sent on two lines or written to a file."
)
@click.option("--messages", type=click.IntRange(13), metavar="N", help="Messages of the day, exactly.")
@click.option(
    "--symbols",
    type=click.IntRange(1, MOST_SYMBOLS),
    metavar="N",
    help="Stocks (default: as suits, at most 8,000).",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**64 - 1), default=1, show_default=True, help="Same seed, same bytes."
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write BinaryFILE, or pcap when it ends .pcap; .gz packs it.",
)
@click.option(
    "--date",
    "day",
    type=click.DateTime(["%Y-%m-%d"]),
    help="Trading day of a pcap (default: today in New York).",
)
@click.option("--send", default=LINES, show_default=True, metavar="A=GROUP:PORT,...", help="The lines.")
@click.option("--interface", default="127.0.0.1", show_default=True, help="Address or device to send by.")
@click.option(
    "--ttl", type=click.IntRange(0, 255), default=1, show_default=True, help="Hops that the packets may take."
)
@click.option(
    "--session", default="SIMULATED1", show_default=True, help="MoldUDP64 session, up to ten characters."
)
@click.option(
    "--rate",
    type=click.IntRange(1, 10**9),
    default=10_000,
    show_default=True,
    metavar="N",
    help="Mean messages a second.",
)
@click.option(
    "--burst",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Messages sent at once; the mean rate stays.",
)
@click.option(
    "--duration",
    type=click.FloatRange(0, min_open=True),
    metavar="S",
    help="Seconds to send (with --rate, instead of --messages).",
)
@click.option(
    "--lead",
    type=click.FloatRange(0),
    default=0.0,
    metavar="S",
    help="Seconds of heartbeats before the first message.",
)
@click.option(
    "--linger",
    type=click.FloatRange(0),
    default=3.0,
    show_default=True,
    metavar="S",
    help="Seconds for which the end of session is repeated.",
)
@click.option(
    "--rewind", default=REWIND, show_default=True, metavar="ADDR:PORT", help='Re-request server; "" for none.'
)
@click.option(
    "--drop-rewind",
    type=click.FloatRange(0, 1),
    default=0.0,
    metavar="P",
    help="Share lost of requests, and of replies.",
)
@click.option(
    "--snapshot",
    default="",
    metavar="ADDR:PORT",
    help="Snapshot server (GLIMPSE over SoupBinTCP, any login); default: none.",
)
@fault_options
@click.option("--same-faults", is_flag=True, help="The faults hit the same packets on all lines.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
def command(as_json: bool, output: Path | None, **options: Any) -> None:
    """Simulate an exchange: a trading day of ITCH 5.0 messages from order flow through a matching engine.

    With --output the day is written to a file. Otherwise it is sent as MoldUDP64 on multicast lines, with a
    re-request server, until it is over; without --messages or --duration trading goes on until Ctrl-C, which
    ends the session. Faults take one value for all lines or one for each. The summary counts what each line
    lost.

    \b
    Examples:
      feedhandler simulate --output day.itch.gz --messages 10000000 --symbols 8000 --seed 7
      feedhandler simulate --output day.pcap --messages 100000 --date 2024-03-01
      feedhandler simulate --rate 100000 --burst 500 --duration 60 --drop A=0.05,B=0.02 --drop-burst 10 --json
    """
    summary = to_file(output, options) if output is not None else to_network(options)
    if as_json:
        click.echo(json.dumps(summary))
    else:
        for key, value in summary.items():
            click.echo(f"{key}: {json.dumps(value) if isinstance(value, dict) else value}")


def to_file(output: Path, options: dict[str, Any]) -> dict[str, object]:
    """Write the day; returns the summary."""
    messages = options["messages"] or DEFAULT_MESSAGES
    exchange = _core.Exchange(messages, checked_symbols(messages, options["symbols"]), options["seed"])
    day = options["day"].date() if options["day"] else day_of(time.time_ns())
    lines, session = parse_lines(options["send"]), checked_session(options["session"])
    summary: dict[str, object] = {"output": str(output)}
    started = time.monotonic()
    with progress_bar(messages) as progress:
        if is_capture(output):
            summary["packets"] = write_pcap(exchange, output, lines, session, day, progress)
        else:
            write_binaryfile(exchange, output, progress)
    elapsed = time.monotonic() - started
    return {
        **summary,
        "messages": exchange.messages,
        "orders": exchange.live_orders,
        "types": exchange.counts,
        "elapsed_s": round(elapsed, 3),
        "messages_per_s": round(exchange.messages / elapsed),
    }


def to_network(options: dict[str, Any]) -> dict[str, object]:
    """Send the day; returns the summary."""
    messages, duration, rate = options["messages"], options["duration"], options["rate"]
    if messages and duration:
        raise UsageError(f"--duration: {duration:g} with --messages {messages}: give one of them")
    if duration:
        messages = round(duration * rate)
        if messages < 13:
            raise UsageError(
                f"--duration: {duration:g} s at --rate {rate} is {messages} messages: at least 13"
            )
    total = messages or 0
    lines = with_faults(
        parse_lines(options["send"]), {name: options[name] for name in FAULTS if options[name] is not None}
    )
    settings = NetworkSettings(
        lines=tuple(lines),
        interface=options["interface"],
        ttl=options["ttl"],
        session=checked_session(options["session"]),
        messages_per_s=rate,
        burst=options["burst"],
        lead_s=options["lead"],
        linger_s=options["linger"],
        rewind=parse_endpoint("--rewind", options["rewind"]) if options["rewind"] else None,
        drop_rewind=options["drop_rewind"],
        same_faults=options["same_faults"],
        snapshot=parse_endpoint("--snapshot", options["snapshot"]) if options["snapshot"] else None,
        seed=options["seed"],
    )
    exchange = _core.Exchange(total, checked_symbols(total, options["symbols"]), options["seed"])
    transmission = Transmission(exchange, settings, total)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: transmission.stop())
    click.echo(f"sending on {options['send']} by {settings.interface}, session {settings.session}", err=True)
    with progress_bar(total) as progress:
        transmission.run(progress)
    return transmission.summary()


@contextmanager
def progress_bar(total: int) -> Iterator[Callable[[int], None]]:
    """Show progress on stderr when that is a terminal; total 0: without end."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=total or None)
        yield lambda done: bar.update(task, completed=done)
