"""`feedhandler replay`: a capture through the whole pipeline, with injected faults and recovery."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from feedhandler.errors import UsageError
from feedhandler.replay import dbn_files, options, report
from feedhandler.replay.player import Played, Player
from feedhandler.replay.source import Source, open_source

if TYPE_CHECKING:
    from feedhandler.replay import sender

BOOKS_HEADER = b"symbol,side,price,size,orders\n"


def checked(
    parse: Callable[[str, str], object],
) -> Callable[[click.Context, click.Parameter, object], object]:
    """Make a click callback of a parser that wants the option's name and the text."""

    def callback(_context: click.Context, parameter: click.Parameter, value: object) -> object:
        name = parameter.opts[0]
        if isinstance(value, tuple):
            return tuple(parse(name, part) for part in value)
        return None if value is None else parse(name, str(value))

    return callback


@click.command(short_help="Play a capture through the whole pipeline.")
@click.argument("path", metavar="FILE")
@click.option(
    "--group",
    "groups",
    multiple=True,
    metavar="GROUP:PORT",
    callback=checked(options.parse_group),
    help="Take these datagrams of a capture; the first is line A, the second B. "
    "Default: all multicast MoldUDP64.",
)
@click.option(
    "--lines",
    type=click.IntRange(1, 2),
    default=2,
    show_default=True,
    help="Lines offered: 2 offers a single group or a BinaryFILE twice; 1 of several groups takes the first.",
)
@click.option("--drop", type=float, default=0.0, metavar="P", help="Share of the packets lost, on each line.")
@click.option(
    "--drop-burst", type=float, default=1.0, metavar="N", help="Mean length of a burst of losses, in packets."
)
@click.option(
    "--duplicate", type=float, default=0.0, metavar="P", help="Probability that a packet comes twice."
)
@click.option(
    "--reorder",
    type=float,
    default=0.0,
    metavar="P",
    help="Probability that a packet is overtaken by 1 to 8 others.",
)
@click.option(
    "--corrupt", type=float, default=0.0, metavar="P", help="Probability of damage that the parse check sees."
)
@click.option(
    "--drop-rewind",
    type=float,
    default=0.0,
    metavar="P",
    help="Probability that a re-request, or a reply, is lost; it is asked again until all is given.",
)
@click.option("--no-rewind", is_flag=True, help="No re-request server: what both lines lose stays lost.")
@click.option("--snapshot", is_flag=True, help="Offer a snapshot server: it repairs what is lost for good.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of all faults: same seed, same bytes.")
@click.option(
    "--speed",
    type=float,
    metavar="X",
    help="1 = original pace, 2 = twice as fast. Default: as fast as possible.",
)
@click.option(
    "--symbols",
    metavar="A,B",
    callback=checked(options.parse_symbols),
    help="Only their records, and only their books in --dump-books and books_sha256.",
)
@click.option(
    "--date",
    "trading_day",
    metavar="YYYY-MM-DD",
    callback=checked(options.parse_day),
    help="Trading day, whose midnight in New York the times count from. Default: the capture's.",
)
@click.option(
    "--schema",
    "schemas",
    multiple=True,
    metavar="SCHEMA",
    help=f"Records to make; repeatable. One of {', '.join(options.SCHEMAS)}. "
    f"Default: {', '.join(options.DEFAULT_SCHEMAS)}.",
)
@click.option(
    "--dbn",
    "dbn_directory",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write one SCHEMA.dbn.zst for each schema.",
)
@click.option(
    "--dump-books",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write every level of every book as CSV.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the summary.")
@click.option(
    "--send",
    metavar="A=GROUP:PORT,B=GROUP:PORT",
    help="Send the (faulted) packets out on the network instead.",
)
@click.option(
    "--rewind", "rewind_address", metavar="ADDR:PORT", help="With --send: serve re-requests for them."
)
@click.option(
    "--interface",
    default="127.0.0.1",
    show_default=True,
    metavar="DEVICE",
    help="With --send: address or device to send by.",
)
def command(
    path: str,
    groups: tuple[options.Group, ...],
    lines: int,
    drop: float,
    drop_burst: float,
    duplicate: float,
    reorder: float,
    corrupt: float,
    drop_rewind: float,
    no_rewind: bool,
    snapshot: bool,
    seed: int,
    speed: float | None,
    symbols: tuple[str, ...] | None,
    trading_day: date | None,
    schemas: tuple[str, ...],
    dbn_directory: Path | None,
    dump_books: Path | None,
    as_json: bool,
    send: str | None,
    rewind_address: str | None,
    interface: str,
) -> int:
    """Play FILE through the whole pipeline and say what came out.

    FILE is a pcap or pcapng (Ethernet, VLAN, Linux cooked, raw IP) or a BinaryFILE of messages, each of which
    may be gzip or zstd, or the directory of a journal. What it is, is told by its content. Everything happens
    in this process and on the file's own time: the same file, options and seed give the same bytes. The
    simulated exchange behind the lines serves re-requests and ends the session on every line.

    Exit status: 0 everything was recovered, 1 messages were lost for good or the file ends inside a record, 2
    bad usage.

    \b
    Examples:
      feedhandler replay day.pcap.gz
      feedhandler replay day.itch --date 2026-11-20 --drop 0.05 --drop-burst 10 --seed 7 --json
      feedhandler replay day.pcap --schema mbo --dbn out/ --dump-books books.csv
      feedhandler replay day.pcap --send A=239.1.1.1:26477,B=239.1.1.2:26477 --rewind 127.0.0.1:26500
    """
    if speed is not None and not 0 < speed < float("inf"):
        raise UsageError(f"--speed: {speed:g} is not a factor above 0")
    chosen = options.ReplayOptions(
        groups=groups,
        lines=lines,
        faults=options.Faults(
            drop=drop, duplicate=duplicate, reorder=reorder, corrupt=corrupt, drop_burst=drop_burst
        ),
        drop_rewind=drop_rewind,
        rewind=not no_rewind,
        snapshot=snapshot,
        seed=seed,
        symbols=symbols or (),
        trading_day=trading_day,
        schemas=tuple(dict.fromkeys(schemas)) or options.DEFAULT_SCHEMAS,
    )
    if send is None:
        if rewind_address is not None:
            raise UsageError(
                f'--rewind: "{rewind_address}" needs --send; in process the server is always there'
            )
        return _play(open_source(path), chosen, speed, dbn_directory, dump_books, as_json=as_json)
    for name, given in (
        ("--dbn", dbn_directory), ("--dump-books", dump_books), ("--schema", schemas), ("--symbols", symbols),
        ("--no-rewind", no_rewind), ("--drop-rewind", drop_rewind), ("--snapshot", snapshot),
    ):  # fmt: skip
        if given:
            raise UsageError(f"{name}: has no meaning with --send, which plays nothing in this process")
    rewind = None if rewind_address is None else options.parse_endpoint("--rewind", rewind_address)
    from feedhandler.replay import sender  # only here: it brings the message store with it

    endpoints = sender.parse_endpoints("--send", send)
    return _send(
        sender.Sender(open_source(path), chosen, endpoints, interface, rewind), speed, as_json=as_json
    )


def _play(
    source: Source,
    chosen: options.ReplayOptions,
    speed: float | None,
    dbn_directory: Path | None,
    dump_books: Path | None,
    *,
    as_json: bool,
) -> int:
    with contextlib.ExitStack() as stack:
        dump = None
        if dump_books is not None:
            try:
                dump = stack.enter_context(dump_books.open("wb"))
            except OSError as error:
                raise UsageError(f'--dump-books: "{dump_books}": {error.strerror}') from error
        files = (
            stack.enter_context(dbn_files.DbnFiles(dbn_directory, chosen.schemas)) if dbn_directory else None
        )
        player = Player(source, chosen, files)
        for note in player.notes:
            click.echo(f"{note}", err=True)
        with shown_progress() as progress:
            played = player.play(speed, progress)
        if files is not None:
            files.finish(played.symbols, played.first_ns, played.last_ns)
        if dump is not None:
            dump.write(BOOKS_HEADER + played.books)
    return _tell(played, as_json=as_json)


def _send(sending: "sender.Sender", speed: float | None, *, as_json: bool) -> int:
    for note in sending.notes:
        click.echo(f"{note}", err=True)
    with shown_progress() as progress:
        counts = sending.send(speed, progress)
    if as_json:
        click.echo(json.dumps(counts))
    else:
        report.show_sent(counts, Console())
    failures = sending.failures()
    for failure in failures:
        click.echo(f"{failure}", err=True)
    return 1 if failures else 0


def _tell(played: Played, *, as_json: bool) -> int:
    if as_json:
        click.echo(json.dumps(played.counts))
    else:
        report.show(played, Console())
    for failure in played.failures:
        click.echo(f"{failure}", err=True)
    return 1 if played.counts["unrecovered"] or played.failures else 0


@contextlib.contextmanager
def shown_progress() -> Iterator[Callable[[int, int], None] | None]:
    """Show a bar on stderr when that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} packets"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("packets", total=0)
        yield lambda played, total: bar.update(task, completed=played, total=total)
