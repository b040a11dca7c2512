"""A channel's counters as Prometheus metrics."""

from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from feedhandler import _core
from feedhandler.errors import RunError
from feedhandler.metrics.snapshot import STATE_NAMES, journal_status, open_reader, snapshot

GAUGES = {"missing", "down", "open", "orders", "health", "resting", "timestamp_kind", "napi_id"} | set(
    _core.counter_descriptions()["clock"]
)
"""Counters that can fall; all others only grow while the daemon lives, and their names end in `_total`."""


JOURNAL_COUNTERS = {
    "packets": "packets the journal has written since the daemon's start",
    "bytes": "bytes of them in segments, before compression",
    "lost_packets": "packets overwritten in shared memory before the journal read them",
    "segments": "segments begun",
    "failures": "times that the journal had to stop: disk full, or a disk error",
}


class ChannelCollector(Collector):
    """Reads the channel anew at each scrape: a restarted daemon is found, a dead one is reported as such."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        """Yield every counter of `stat --json`; names are `feedhandler_`, group, counter."""
        try:
            reader = open_reader(self._folder)
            stat = snapshot(reader)
        except RunError:
            yield _gauge("up", "1 while a daemon writes the channel", {"channel": self._folder.name}, 0)
            return
        channel = {"channel": stat["channel"]}
        texts = _core.counter_descriptions()
        yield _gauge("up", "1 while a daemon writes the channel", channel, stat["state"] != "DEAD")
        states = GaugeMetricFamily(
            "feedhandler_state", "state of the feed: 1 for the one it is in", labels=["channel", "state"]
        )
        for name in STATE_NAMES.values():
            states.add_metric([stat["channel"], name], stat["state"] == name)
        yield states
        yield _gauge(
            "next_sequence", "sequence number that the feed expects next", channel, stat["next_sequence"]
        )
        yield _gauge("uptime_seconds", "seconds since the daemon's start", channel, stat["uptime_s"])
        yield _gauge("consumers", "consumers attached to the channel", channel, stat["consumers"])
        for group, label in (("lines", "line"), ("servers", "server")):
            for name, text in texts[group].items():
                family = _family(f"{label}_{name}", text, name, ["channel", label])
                for one, values in stat[group].items():
                    family.add_metric([stat["channel"], one], values[name])
                yield family
        for group, prefix, values in (
            ("receive", "receive_", stat["receive"]),
            ("clock", "clock_", stat["clock"]),
            ("gaps", "gaps_", stat["gaps"]),
            ("recovery", "recovery_", stat["recovery"]),
            ("escalation", "escalation_", stat["escalation"]),
            ("feed", "", stat),
        ):
            for name, text in texts[group].items():
                family = _family(prefix + name, text, name, ["channel"])
                family.add_metric([stat["channel"]], values[name])
                yield family
        records = _family("records", "records published", "records", ["channel", "schema"])
        for schema, count in stat["records"].items():
            records.add_metric([stat["channel"], schema], count)
        yield records
        yield from _latency(reader, channel)
        journal = journal_status(self._folder)
        if journal is not None:
            writing = journal["state"] == "writing"
            yield _gauge("journal_up", "1 while the journal writes what comes", channel, writing)
            for name, text in JOURNAL_COUNTERS.items():
                counter = CounterMetricFamily(f"feedhandler_journal_{name}", text, labels=["channel"])
                counter.add_metric([stat["channel"]], journal[name])
                yield counter


LATENCY_BUCKETS_NS = [m * 10**e for e in range(2, 9) for m in (1, 2, 5)]
"""Upper bounds of the exported buckets: 100 ns to 500 ms."""


def _latency(reader: "_core.ChannelReader", channel: dict[str, str]) -> Iterator[Metric]:
    """Yield what the hops of sampled packets took; a bucket may lack values within 1/32 below its bound."""
    measured = reader.latency()
    yield _gauge(
        "latency_sample_every",
        "one packet in so many is measured; 0: none",
        channel,
        measured["sample_every"],
    )
    family = HistogramMetricFamily(
        "feedhandler_latency_seconds", "what the hops of sampled packets took", labels=["channel", "hop"]
    )
    worst = GaugeMetricFamily(
        "feedhandler_latency_worst_seconds", "the longest since the start", labels=["channel", "hop"]
    )
    budget = GaugeMetricFamily(
        "feedhandler_latency_budget_seconds", "what a hop may take", labels=["channel", "hop"]
    )
    for hop, histogram in measured["hops"].items():
        labels = [channel["channel"], hop]
        buckets = [(repr(ns / 1e9), float(histogram.at_most(ns))) for ns in LATENCY_BUCKETS_NS]
        family.add_metric(labels, [*buckets, ("+Inf", float(histogram.count))], histogram.sum_ns / 1e9)
        worst.add_metric(labels, histogram.worst_ns / 1e9)
        if limit := _core.latency_hops[hop][1]:
            budget.add_metric(labels, limit / 1e9)
    yield family
    yield worst
    yield budget


def _family(name: str, text: str, counter: str, labels: list[str]) -> CounterMetricFamily | GaugeMetricFamily:
    kind = GaugeMetricFamily if counter in GAUGES else CounterMetricFamily
    return kind(f"feedhandler_{name}", text, labels=labels)


def _gauge(name: str, text: str, labels: dict[str, str], value: float) -> Metric:
    family = GaugeMetricFamily(f"feedhandler_{name}", text, labels=list(labels))
    family.add_metric(list(labels.values()), value)
    return family
