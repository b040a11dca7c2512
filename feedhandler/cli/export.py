"""`feedhandler export`: files of records, by schema and trading day, from a journal or a capture."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import click

from feedhandler.cli.replay import checked, shown_progress
from feedhandler.errors import UsageError
from feedhandler.export.exporter import DATASETS, DIALECTS, FORMATS, DayExported, Exporter, ExportOptions
from feedhandler.replay import options


@click.command(short_help="Derive .dbn.zst (or Parquet) files from a journal or capture.")
@click.argument("journal", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    metavar="DIR",
    help="Where the files go.",
)
@click.option(
    "--schema",
    "schemas",
    multiple=True,
    metavar="SCHEMA",
    help=f"Repeatable. One of {', '.join(options.SCHEMAS)}. Default: {', '.join(options.DEFAULT_SCHEMAS)}.",
)
@click.option(
    "--symbols",
    metavar="A,B",
    callback=checked(options.parse_symbols),
    help="Only their records.",
)
@click.option(
    "--dialect",
    type=click.Choice(DIALECTS),
    default="databento",
    show_default=True,
    help="Of mbo: an order that lives on gets a C of what it lost, or (modify) an M to what remains.",
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(FORMATS),
    default="dbn",
    show_default=True,
    help="parquet needs feedhandler[parquet].",
)
@click.option(
    "--date",
    "day",
    metavar="YYYY-MM-DD",
    callback=checked(options.parse_day),
    help="Only this trading day (New York). Of a BinaryFILE: the day it is of.",
)
@click.option("--dataset", type=click.Choice(DATASETS), default="XNAS.ITCH", show_default=True)
@click.option(
    "--group",
    "groups",
    multiple=True,
    metavar="GROUP:PORT",
    callback=checked(options.parse_group),
    help="Take these datagrams. Default: all multicast MoldUDP64.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the summary.")
def command(
    journal: Path,
    directory: Path,
    schemas: tuple[str, ...],
    symbols: tuple[str, ...] | None,
    dialect: str,
    file_format: str,
    day: date | None,
    dataset: str,
    groups: tuple[options.Group, ...],
    as_json: bool,
) -> int:
    """Derive one file for each schema and trading day from JOURNAL.

    JOURNAL is a journal's directory, a segment of it, or any file that `feedhandler replay` reads. The
    packets of each day go through the same pipeline; what a line lost and the other or a re-request server
    brought is there. Files: xnas-itch-20261120.mbo.dbn.zst, DBN version 3 with symbol mappings, or .parquet.

    Exit status: 0 everything is there, 1 messages were lost for good or the input is damaged, 2 bad usage.

    \b
    Examples:
      feedhandler export /var/lib/feedhandler/xnas-itch -o dbn --schema mbo --schema trades
      feedhandler export journal -o out --schema mbo --dialect modify --date 2026-11-20
      feedhandler export day.pcap.zst -o out --format parquet --symbols AAPL,MSFT
    """
    chosen = ExportOptions(
        directory=directory,
        schemas=tuple(dict.fromkeys(schemas)) or options.DEFAULT_SCHEMAS,
        symbols=symbols or (),
        groups=groups,
        dialect=dialect,
        file_format=file_format,
        day=day,
        dataset=dataset,
    )
    options.ReplayOptions(schemas=chosen.schemas, groups=groups)  # names the option that is wrong
    if dialect == "modify" and "mbo" not in chosen.schemas:
        raise UsageError('--dialect: "modify" changes mbo records only: add --schema mbo')
    if not journal.exists():
        raise UsageError(f'JOURNAL: "{journal}": no such file or directory')
    exporter = Exporter(journal, chosen)
    with shown_progress() as progress:
        days = list(exporter.export(progress))
    for note in exporter.notes:
        click.echo(note, err=True)
    if as_json:
        click.echo(json.dumps({"days": [_as_json(exported) for exported in days]}))
    return max(_tell(exported, quiet=as_json) for exported in days)


def _as_json(exported: DayExported) -> dict[str, Any]:
    return {
        "date": exported.day.isoformat(),
        "files": [str(path) for path in exported.files],
        **exported.played.counts,
    }


def _tell(exported: DayExported, *, quiet: bool) -> int:
    """Print a day's files; returns the exit status."""
    counts, failures = exported.played.counts, exported.played.failures
    if not quiet:
        for path in exported.files:
            schema = path.name.split(".")[1]
            click.echo(f"{exported.day} {schema}: {counts['records'][schema]:,} records in {path}")
    if counts["unrecovered"]:
        lost = f"{counts['unrecovered']:,} messages are not in the journal: what follows them is flagged"
        click.echo(f"{exported.day}: {lost}", err=True)
    for failure in failures:
        click.echo(failure, err=True)
    return 1 if counts["unrecovered"] or failures else 0
