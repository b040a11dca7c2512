"""`feedhandler latency`: where a packet's microseconds go."""

import json
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from feedhandler.cli._duration import duration
from feedhandler.cli._follow import dead, open_console, runtime_dir_option
from feedhandler.errors import RunError, UsageError
from feedhandler.runtime_dir import channel_dir

if TYPE_CHECKING:
    from feedhandler import _core
    from feedhandler.metrics.latency import Reading

    Consumed = tuple["_core.Histogram", "_core.Histogram", int]


@click.command("latency", epilog="Example: feedhandler latency xnas-itch --seconds 10 --plot latency.png")
@click.argument("channel")
@click.option(
    "--seconds",
    type=click.FloatRange(0, 86_400),
    default=2.0,
    show_default=True,
    help="How long to be a consumer that spins, to measure the last hop; 0: not at all.",
)
@click.option("--recent", is_flag=True, help="Only what was measured in these seconds, of all hops.")
@click.option("--plot", metavar="FILE", help="Draw it into FILE as well: .png, .svg or .pdf.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (with --watch: one each time).")
@click.option("--watch", is_flag=True, help="Print again and again until interrupted, or the daemon is gone.")
@runtime_dir_option
def command(
    channel: str,
    seconds: float,
    recent: bool,
    plot: str | None,
    as_json: bool,
    watch: bool,
    runtime_dir: str | None,
) -> None:
    """Show how long CHANNEL's packets take, hop by hop, beside the budget of each.

    One packet in so many ([latency] sample_every) is followed from the stamp of the network card or kernel
    until its records are visible: since the daemon's start, or with --recent now. What a consumer adds is
    measured by this command itself, which keeps a core busy for --seconds.

    Values of a channel whose daemon died are its last ones; the exit status is then 1.
    """
    from feedhandler.metrics.latency import Reading, budget
    from feedhandler.metrics.snapshot import open_reader

    if not math.isfinite(seconds):
        raise UsageError(f"--seconds: {seconds} is not in the range 0<=x<=86400")
    if recent and not seconds and not watch:
        raise UsageError("--recent: nothing is measured in --seconds 0; more of them, or --watch, are needed")
    if plot is not None:
        from feedhandler.cli._latency_plot import check

        check(plot)
    folder = channel_dir(channel, runtime_dir)
    reader = open_reader(folder)
    measured = reader.latency()["sample_every"] != 0
    if plot is not None and not measured:
        raise RunError(f'--plot: "{plot}": latency is not measured: [latency] sample_every is 0')
    before, met_before = Reading.of(reader) if recent and reader.alive else None, None
    consumer = _consumer(folder) if seconds and measured and reader.alive else None
    while True:
        if consumer is not None:
            consumer.skip(seconds)
        reader = open_reader(folder)  # anew each time: the daemon may have been restarted
        reading = now = Reading.of(reader)
        consumed = met = consumer.latency() if consumer is not None else None
        if before is not None:
            reading, before = now.since(before), now
            if met is not None and met_before is not None:
                consumed = (met[0].since(met_before[0]), met[1].since(met_before[1]), met[2] - met_before[2])
            met_before = met
        table = budget(reader, reading, consumed)
        if as_json:
            click.echo(json.dumps(table))
        else:
            _print(table, _histograms(reading, consumed), clear=watch)
        if plot is not None:
            from feedhandler.cli._latency_plot import draw

            draw(Path(plot), table, _histograms(reading, consumed))
        sys.stdout.flush()
        if table["state"] == "DEAD":
            raise dead(table["channel"])
        if not watch:
            return
        if not seconds:
            time.sleep(1.0)


def _consumer(folder: Path) -> "_core.Consumer":
    from feedhandler import _core

    consumer = _core.Consumer(str(folder), 0xFF, [])
    consumer.measure_latency()
    return consumer


def _histograms(reading: "Reading", consumed: "Consumed | None") -> dict[str, "_core.Histogram"]:
    return {
        **reading.hops,
        **(dict(zip(("consume", "whole"), consumed[:2], strict=True)) if consumed else {}),
    }


def _print(table: dict[str, Any], histograms: dict[str, "_core.Histogram"], *, clear: bool) -> None:
    """Print the table for people: a hop a line, green within its budget, red over it; its distribution."""
    from rich.table import Table
    from rich.text import Text

    from feedhandler.metrics.latency import HOPS

    console = open_console(clear)
    console.print(f"[bold]{table['channel']}[/]  {table['state']}  {_measured(table)}")
    if not table["sampling"]["every"]:
        return
    columns = ("hop", "count", "median", "99 %", "99.9 %", "worst", "budget")
    words = ["from the hop before"] if console.width >= WIDE else []
    scale = [SCALE] if console.width >= MEDIUM else []
    out = Table(*columns, *scale, *words, box=None, pad_edge=False)
    for column in out.columns[1:7]:
        column.justify = "right"
    for name, row in table["hops"].items():
        limit = row["budget_ns"]
        cells = [
            Text(duration(row[key]), style=_style(row[key], limit))
            for key in ("median_ns", "p99_ns", "p999_ns", "worst_ns")
        ]
        bar = distribution(histograms[name], limit) if name in histograms else Text("")
        rest = [*[bar][: len(scale)], *[HOPS[name][0]][: len(words)]]
        out.add_row(name, f"{row['count']:,}", *cells, duration(limit), *rest)
    console.print(out)


def _measured(table: dict[str, Any]) -> str:
    sampling, clock = table["sampling"], table["clock"]
    if not sampling["every"]:
        return "latency is not measured: \\[latency] sample_every is 0 (off)"
    stamps = ", ".join(f"{kind} {count:,}" for kind, count in sampling["stamps"].items()) or "none yet"
    every = "every packet" if sampling["every"] == 1 else f"one packet in {sampling['every']}"
    ticks = f"TSC {clock['mhz']:.1f} MHz" if clock["source"] == "tsc" else "CLOCK_MONOTONIC"
    return (
        f"{every}: {sampling['samples']:,}; stamps: {stamps}; clock: {ticks}, {clock['stamp_ns']} ns a stamp"
    )


def _style(ns: int | None, limit: int | None) -> str:
    if ns is None or limit is None:
        return ""
    return "green" if ns <= limit else "red"


COLUMNS_A_DECADE = 6
DECADES = ("10ns", "100ns", "1µs", "10µs", "100µs", "1ms", "10ms")
SCALE = "".join(f"{label:<{COLUMNS_A_DECADE}}" for label in DECADES)
MEDIUM, WIDE = 106, 198
"""Columns of a terminal that has room for the distribution of each hop, and for words about it too."""
_BLOCKS = " ▁▂▃▄▅▆▇█"


def distribution(histogram: "_core.Histogram", limit: int | None) -> Any:
    """Return a line of blocks over a logarithmic scale from 10 ns on; what is over the limit is red."""
    from rich.text import Text

    counts = [0] * (COLUMNS_A_DECADE * len(DECADES))
    edges = [10 * 10 ** (i / COLUMNS_A_DECADE) for i in range(len(counts))]
    for ns, count in histogram.buckets():
        counts[max(0, sum(edge <= ns for edge in edges) - 1)] += count
    most = max(counts) or 1
    line = Text()
    for edge, count in zip(edges, counts, strict=True):
        height = max(1, round(count / most * 8)) if count else 0
        line.append(_BLOCKS[height], style=_style(int(edge), limit) or "cyan")
    return line
