"""The latency budget of a channel, hop by hop, as `latency --json` prints it."""

from dataclasses import dataclass
from typing import Any

from feedhandler import _core
from feedhandler.metrics.snapshot import STATE_NAMES

QUANTILES = {"median_ns": 0.5, "p99_ns": 0.99, "p999_ns": 0.999}
CONSUMED = {
    "consume": "until a spinning consumer, this command, has the record",
    "whole": "all of it: from the stamp of the network card or kernel until the consumer has the record",
}
"""What a consumer adds to the hops of the receive thread."""

HOPS: dict[str, tuple[str, int]] = {
    **_core.latency_hops,
    **{name: (text, 0) for name, text in CONSUMED.items()},
}
"""Every hop: what it is, and its budget in nanoseconds (0: none)."""


@dataclass(frozen=True)
class Reading:
    """What a channel's receive thread had measured at one moment since its start."""

    epoch: int
    facts: dict[str, Any]
    hops: dict[str, "_core.Histogram"]

    @classmethod
    def of(cls, reader: "_core.ChannelReader") -> "Reading":
        """Read it."""
        facts = reader.latency()
        return cls(int(reader.info()["epoch"]), facts, facts.pop("hops"))

    def since(self, before: "Reading") -> "Reading":
        """Return what was measured after `before`; everything, if the daemon was restarted in between."""
        if before.epoch != self.epoch:
            return self
        facts = dict(self.facts)
        for name in ("samples", "backwards"):
            facts[name] -= before.facts[name]
        facts["kinds"] = {kind: n - before.facts["kinds"][kind] for kind, n in facts["kinds"].items()}
        return Reading(self.epoch, facts, {name: h.since(before.hops[name]) for name, h in self.hops.items()})


def budget(
    reader: "_core.ChannelReader",
    reading: Reading,
    consumed: tuple["_core.Histogram", "_core.Histogram", int] | None = None,
) -> dict[str, Any]:
    """Return the table: of each hop count, quantiles, worst, budget, and whether 99 % keep within it.

    `consumed`: what a consumer of this process measured (`Consumer.latency`), None: nothing.
    """
    facts = reading.facts
    histograms = dict(reading.hops)
    if consumed is not None:
        histograms["consume"], histograms["whole"] = consumed[:2]
    return {
        "channel": reader.info()["channel"],
        "state": STATE_NAMES[reader.state],
        "sampling": {
            "every": facts["sample_every"],
            "samples": facts["samples"],
            "backwards": facts["backwards"],
            "stamps": {kind: n for kind, n in facts["kinds"].items() if n},
            "missed": consumed[2] if consumed is not None else 0,
        },
        "clock": {
            "source": facts["clock"],
            "mhz": round(1000 / facts["ns_per_tick"], 3) if facts["ns_per_tick"] else None,
            "stamp_ns": facts["stamp_ns"],
            "recalibrated": facts["recalibrated"],
        },
        "hops": {
            # Without a stamp of card or kernel the way begins at the poll: less than the budget is for.
            name: _row(histograms.get(name), 0 if name == "total" and facts["kinds"].get("user") else limit)
            for name, (_, limit) in HOPS.items()
        },
    }


def _row(histogram: "_core.Histogram | None", limit: int) -> dict[str, Any]:
    count = histogram.count if histogram is not None else 0
    row: dict[str, Any] = {"count": count}
    for name, share in QUANTILES.items():
        row[name] = histogram.quantile(share) if histogram is not None and count else None
    row["worst_ns"] = histogram.worst_ns if histogram is not None and count else None
    row["mean_ns"] = round(histogram.sum_ns / count, 1) if histogram is not None and count else None
    row["budget_ns"] = limit or None
    row["within_budget"] = row["p99_ns"] <= limit if count and limit else None
    return row
