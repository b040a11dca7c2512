"""The summary of a replay for people."""

from typing import Any

from rich.console import Console
from rich.table import Table

from feedhandler.replay.player import Played

_SECTIONS = (
    ("input", ("packets", "messages")),
    ("faults, packet copies", ("dropped", "duplicated", "reordered", "corrupted")),
    (
        "gaps",
        (
            "gaps",
            "gap_messages",
            "requests",
            "recovered_line",
            "recovered_rewind",
            "recovered_snapshot",
            "unrecovered",
        ),
    ),
    ("damage", ("malformed", "malformed_messages", "unknown_messages", "unknown_orders")),
)


def show(played: Played, console: Console) -> None:
    """Print the summary."""
    counts = played.counts
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for title, keys in _SECTIONS:
        table.add_row(title, "", style="dim")
        for key in keys:
            table.add_row(f"  {key.replace('_', ' ')}", f"{counts[key]:,}")
    table.add_row("out", "", style="dim")
    for schema, count in counts["records"].items():
        table.add_row(f"  {schema} records", f"{count:,}")
    table.add_row("  orders live", f"{counts['orders']:,}")
    table.add_row("  symbols", f"{len(played.symbols):,}")
    table.add_row("  state", str(counts["state"]))
    console.print(table)
    console.print(f"books sha256 {counts['books_sha256']}", highlight=False, soft_wrap=True)
    console.print(
        f"{counts['messages']:,} messages in {counts['elapsed_s']:.3f} s: {counts['messages_per_s']:,}/s",
        highlight=False,
    )
    if counts["unrecovered"]:
        console.print(
            f"{counts['unrecovered']:,} messages were lost for good: what follows them is flagged",
            highlight=False,
        )


def show_sent(counts: dict[str, Any], console: Console) -> None:
    """Print what was sent."""
    sent = ", ".join(f"{name} {count:,}" for name, count in counts["sent"].items())
    console.print(
        f"{counts['packets']:,} packets in, sent: {sent}; {counts['elapsed_s']:.1f} s", highlight=False
    )
    faults = ", ".join(
        f"{counts[key]:,} {key}" for key in ("dropped", "duplicated", "reordered", "corrupted")
    )
    console.print(f"faults, packet copies: {faults}", highlight=False)
    if "rewind_requests" in counts:
        console.print(
            f"re-requests: {counts['rewind_requests']:,} came, {counts['rewind_replies']:,} were answered",
            highlight=False,
        )
