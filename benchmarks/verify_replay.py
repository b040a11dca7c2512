"""Faults change nothing: ten million simulated messages with and without them, record by record.

    python -m benchmarks.verify_replay [--messages 10000000]

5 % loss in bursts of 10, duplicates, reorder and damage on both lines, 20 % of the re-request traffic lost:
the same books, and message for message the same mbo and mbp-1 records in all fields but ts_recv, ts_in_delta
and the flag F_MAYBE_BAD_BOOK. The same seed twice gives the same bytes. Exit status 0 only if all is right.
"""

import argparse
import hashlib
import sys
from datetime import date
from pathlib import Path
from typing import Any

import databento_dbn
import numpy as np

from benchmarks.harness import simulated_day
from feedhandler.replay.options import Faults, ReplayOptions
from feedhandler.replay.player import Played, Player
from feedhandler.replay.source import open_source

DAY = date(2026, 11, 20)
LAYOUTS = {"mbo": databento_dbn.MBOMsg, "mbp-1": databento_dbn.MBP1Msg}
SCHEMAS = tuple(LAYOUTS)
F_MAYBE_BAD_BOOK = np.uint8(4)
FAULTS = Faults(drop=0.05, drop_burst=10, duplicate=0.02, reorder=0.02, corrupt=0.02)
DEPENDS_ON_MACHINE = ("elapsed_s", "messages_per_s")


class Digests:
    """Hashes the records as they come: all bytes, and without what faults may change."""

    def __init__(self) -> None:
        self.exact = {schema: hashlib.sha256() for schema in SCHEMAS}
        self.comparable = {schema: hashlib.sha256() for schema in SCHEMAS}
        self.flagged = dict.fromkeys(SCHEMAS, 0)

    def write(self, schema: str, records: bytes) -> None:
        """Take whole records."""
        self.exact[schema].update(records)
        rows = np.frombuffer(records, dtype=np.dtype(LAYOUTS[schema]._dtypes)).copy()
        self.flagged[schema] += int(np.count_nonzero(rows["flags"] & F_MAYBE_BAD_BOOK))
        rows["ts_recv"] = 0
        rows["ts_in_delta"] = 0
        rows["flags"] &= ~F_MAYBE_BAD_BOOK
        self.comparable[schema].update(rows.tobytes())


def play(path: Path, **options: Any) -> tuple[Played, Digests]:
    """Replay once."""
    digests = Digests()
    chosen = ReplayOptions(trading_day=DAY, schemas=SCHEMAS, **options)
    return Player(open_source(path), chosen, digests).play(), digests


def repeatable(played: Played, digests: Digests) -> list[object]:
    """Return all that must be the same when a replay is repeated."""
    counts = {key: value for key, value in played.counts.items() if key not in DEPENDS_ON_MACHINE}
    return [counts, {s: d.hexdigest() for s, d in digests.exact.items()}, digests.flagged]


def main() -> None:
    """Play three times and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000_000)
    messages = parser.parse_args().messages
    path = simulated_day(messages)
    clean, expected = play(path)
    faulty, got = play(path, faults=FAULTS, drop_rewind=0.2, seed=5)
    again, got_again = play(path, faults=FAULTS, drop_rewind=0.2, seed=5)
    counts = faulty.counts
    for key in ("dropped", "duplicated", "reordered", "corrupted", "gaps", "gap_messages", "requests"):
        print(f"{key:17} {counts[key]:>12,}")
    recovered = counts["recovered_line"] + counts["recovered_rewind"]
    checks = {
        "faults happened": all(counts[k] > 0 for k in ("dropped", "duplicated", "reordered", "corrupted")),
        "something had to be recovered": counts["recovered_rewind"] > 0,
        "nothing is unrecovered": counts["unrecovered"] == 0,
        "all messages were applied": clean.counts["messages"] == counts["messages"] == messages,
        "gap messages add up": counts["gap_messages"] == recovered,
        "the same books": clean.counts["books_sha256"] == counts["books_sha256"],
        "the same seed gives the same bytes": repeatable(faulty, got) == repeatable(again, got_again),
    }
    for schema in SCHEMAS:
        same = expected.comparable[schema].digest() == got.comparable[schema].digest()
        checks[f"the same {counts['records'][schema]:,} {schema} records"] = same
        checks[f"{got.flagged[schema]:,} of them flagged, none without faults"] = (
            expected.flagged[schema] == 0
        )
    for what, right in checks.items():
        print(f"{'ok ' if right else 'NOT'}  {what}")
    sys.exit(0 if all(checks.values()) else 1)


if __name__ == "__main__":
    main()
