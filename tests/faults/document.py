"""docs/fault-matrix.md from the rows and `document.md`: `python -m tests.faults.document` writes it."""

from __future__ import annotations

from pathlib import Path

from tests.faults import scenario
from tests.faults.matrix import Row, load
from tests.faults.scenario import MS, US

FILE = Path(__file__).resolve().parents[2] / "docs" / "fault-matrix.md"
TEMPLATE = Path(__file__).with_name("document.md")


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a table in markdown."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines) + "\n\n"


def words() -> str:
    """Return what the words of the columns mean."""
    out = ""
    for title, meanings in (
        ("cause", scenario.CAUSES | scenario.MORE_CAUSES),
        ("when", scenario.WHENS),
        (
            "servers",
            scenario.SERVERS | {"..., then good": "the first is bad, the second good; else both are alike"},
        ),
        ("snapshot", scenario.SNAPSHOTS | scenario.MORE_SNAPSHOTS),
    ):
        out += table((title, "meaning"), list(meanings.items()))
    return out


def row_of(number: int, row: Row) -> tuple[str, ...]:
    """Return the cells of a row."""
    s = row.scenario
    until = f" (watched for {s.horizon_ns // MS // 1000} s)" if s.horizon_ns != scenario.HORIZON_NS else ""
    cells = (str(number), s.cause, s.when + until, s.line, s.servers, s.snapshot)
    return (*cells, row.states, row.time_to_live, "<br>".join(row.trace))


def text() -> str:
    """Return the whole document."""
    rows = load()
    product = len(scenario.CAUSES) * len(scenario.WHENS) * len(scenario.LINES)
    product *= len(scenario.SERVER_LEVELS) * len(scenario.SNAPSHOTS)
    head = ("", "cause", "when", "line", "servers", "snapshot", "states seen", "time to LIVE", "event trace")
    return TEMPLATE.read_text().format(
        packets=scenario.PACKETS,
        per_packet=scenario.PER_PACKET,
        lag_us=scenario.LINE_B_LAG_NS // US,
        burst_us=scenario.BURST_NS // US,
        quiet_ms=scenario.QUIET_NS // MS,
        heartbeat_ms=scenario.HEARTBEAT_NS // MS,
        arbitration_ms=scenario.ARBITRATION_NS // MS,
        timeout_ms=scenario.TIMEOUT_NS // MS,
        retries=scenario.RETRIES,
        line_down_s=scenario.LINE_DOWN_NS / 1e9,
        round_trip_ms=scenario.ROUND_TRIP_NS / MS,
        login_ms=scenario.LOGIN_NS / MS,
        image_ms=scenario.IMAGE_NS / MS,
        horizon_ms=scenario.HORIZON_NS // MS,
        words=words(),
        rows=len(rows),
        product=f"{product:,}",
        matrix=table(head, [row_of(number, row) for number, row in enumerate(rows, 1)]).rstrip("\n") + "\n",
    )


if __name__ == "__main__":
    FILE.write_text(text())
    print(f"{FILE}: {len(load())} rows")
