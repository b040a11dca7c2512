"""What the demo looks like while it runs, and its verdict."""

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from feedhandler import FeedState
from feedhandler.demo.scenario import Demo
from feedhandler.demo.verdict import Check

COLOURS = {
    FeedState.LIVE: "green",
    FeedState.RECOVERING: "yellow",
    FeedState.STARTING: "yellow",
    FeedState.ENDED: "cyan",
}


def picture(demo: Demo) -> RenderableType:
    """Return the present moment."""
    state = demo.state
    head = Text.assemble(demo.step, "   feed ", (state.name, f"bold {COLOURS.get(state, 'red')}"))
    parts: list[RenderableType] = [head]
    if (demo.folder / "demo" / "channel").exists():
        parts.append(_feed(demo.stat()))
    parts.append(_consumers(demo))
    return Panel(Group(*parts), title="feedhandler demo")


def _feed(stat: dict[str, Any]) -> RenderableType:
    table = Table(box=None, padding=(0, 2))
    for column in ("line", "packets", "won", "late", "missing", "malformed"):
        table.add_column(column, justify="left" if column == "line" else "right")
    for name, line in stat["lines"].items():
        table.add_row(name, *(f"{line[key]:,}" for key in ("packets", "won", "late", "missing", "malformed")))
    gaps = stat["gaps"]
    return Group(
        table,
        f"  {stat['messages']:,} messages, {stat['orders']:,} orders live",
        f"  {gaps['total']} holes, {gaps['open']} open",
        f"  {gaps['recovered_line']:,} messages from the other line, "
        f"{gaps['recovered_rewind']:,} re-requested, {gaps['unrecovered']} lost",
        "",
    )


def _consumers(demo: Demo) -> Table:
    table = Table(box=None, padding=(0, 2), show_header=False)
    for name, may, may_not in (("strategy", "quoting", "refuses"), ("risk", "allows", "forbids")):
        program = demo.programs.get(name)
        if program is None:
            continue
        word: dict[str, Any] = next(
            (line for line in reversed(program.lines) if line.get("event") in (may, may_not)), {}
        )
        acting = word.get("event") == may
        facts = _facts(program.latest("status"))
        table.add_row(name, Text(str(word.get("event", "waits")), style="green" if acting else "bold red"),
                      str(word.get("reason", "")), facts)  # fmt: skip
    return table


def _facts(status: dict[str, Any]) -> str:
    """Return what a consumer last said of itself."""
    facts = []
    if "quotes" in status:
        facts.append(f"{status['quotes']:,} quotes, {status['fills']} fills")
    if tick := status.get("tick_to_quote_us"):
        facts.append(f"tick to quote {tick['p50']:,.0f} µs median, {tick['p99']:,.0f} µs 99th")
    if "positions" in status:
        facts.append(f"{status['positions']} positions, exposure {status['exposure']:,.0f}")
    return "; ".join(facts)


def verdict_table(checks: Sequence[Check]) -> Table:
    """Return the verdict as a table."""
    table = Table(title="verdict", title_style="bold")
    table.add_column("")
    table.add_column("promise")
    table.add_column("shown by")
    for check in checks:
        mark = Text("yes", style="bold green") if check.held else Text("NO", style="bold red")
        table.add_row(mark, check.promise, check.shown)
    return table
