"""The Prometheus exporter, over HTTP."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from feedhandler import _core
from feedhandler.metrics.exporter import ChannelCollector
from tests.support.channels import make_channel
from tests.support.daemon import running, write_config
from tests.support.exchange import Exchange, Line, simulated_messages
from tests.support.multicast import free_ports
from tests.support.wait import wait_for


def test_metrics_are_the_counters_of_stat_with_their_descriptions(runtime: Path) -> None:
    """Every counter of the one table is served, with its description as HELP; then the daemon's death."""
    rewind = "10.0.0.1:26500"
    writer = make_channel(runtime / "test", lines=["A", "B"], servers=[rewind], schema_mask=0b1010)
    writer.set_state(1)
    lines = [{"packets": 11, "kernel_drops": 3}, {"packets": 12}]
    writer.put_counters(
        lines, {"open": 1}, {"requests": 5}, {"messages": 77, "orders": 8}, "S", 5,
        {"snapshot": 2}, [{"health": 3, "silent": 9}],
    )  # fmt: skip
    command = [sys.executable, "-m", "feedhandler.metrics", str(runtime / "test"), "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    url = json.loads(process.stderr.readline())["url"]
    writer.heartbeat()
    values, helps = _scrape(url)
    assert values["feedhandler_up", "test"] == 1
    assert values["feedhandler_state", "test", "LIVE"] == 1
    assert values["feedhandler_line_packets_total", "test", "A"] == 11
    assert values["feedhandler_line_packets_total", "test", "B"] == 12
    assert values["feedhandler_line_kernel_drops_total", "test", "A"] == 3
    assert values["feedhandler_gaps_open", "test"] == 1
    assert values["feedhandler_recovery_requests_total", "test"] == 5
    assert values["feedhandler_escalation_snapshot_total", "test"] == 2
    assert values["feedhandler_server_health", "test", rewind] == 3
    assert values["feedhandler_server_silent_total", "test", rewind] == 9
    assert values["feedhandler_messages_total", "test"] == 77
    assert values["feedhandler_orders", "test"] == 8
    assert values["feedhandler_records_total", "test", "trades"] == 0
    prefixes = {
        "lines": "line_", "gaps": "gaps_", "recovery": "recovery_", "feed": "",
        "servers": "server_", "receive": "receive_", "clock": "clock_", "escalation": "escalation_",
    }  # fmt: skip
    for group, texts in _core.counter_descriptions().items():
        for name, text in texts.items():
            assert helps[f"feedhandler_{prefixes[group]}{name}".removesuffix("_total")] == text
    writer.release()
    values, _ = _scrape(url)
    assert values["feedhandler_up", "test"] == 0
    assert values["feedhandler_messages_total", "test"] == 77
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(timeout=10) == 0
    process.stderr.close()


def test_latencies_are_a_histogram_by_hop(tmp_path: Path) -> None:
    """Of a real daemon: cumulative buckets that end at the count, sums that add up, budgets beside them."""
    port = next(free_ports(1))
    line = Line("A", f"239.199.{os.getpid() % 250}.1", port)
    config = write_config(tmp_path, [line], extra="[latency]\nsample_every = 2\n")
    exchange = Exchange(simulated_messages(2000), [line])
    with running(config, tmp_path / "run") as daemon:
        while daemon.reader.latency()["samples"] < 50:
            exchange.send(8, per_packet=1)
        wait_for(lambda: daemon.reader.next_sequence == exchange.next, "all messages")
        registry = CollectorRegistry()
        registry.register(ChannelCollector(daemon.runtime_dir / "live"))
        text = generate_latest(registry).decode()
        read = daemon.reader.latency()
    exchange.close()
    samples = [
        (sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("feedhandler_latency")
    ]
    values = {(name, labels.get("hop"), labels.get("le")): value for name, labels, value in samples}
    assert values["feedhandler_latency_sample_every", None, None] == 2
    hops = ("receive", "queue", "decode", "book", "publish", "total")
    for hop in hops:
        histogram = read["hops"][hop]
        buckets = [v for (name, h, _), v in values.items() if name.endswith("_bucket") and h == hop]
        assert len(buckets) == 22
        assert buckets == sorted(buckets)
        assert buckets[-1] == values["feedhandler_latency_seconds_count", hop, None] == histogram.count
        assert values["feedhandler_latency_seconds_sum", hop, None] == pytest.approx(histogram.sum_ns / 1e9)
        assert values["feedhandler_latency_worst_seconds", hop, None] == histogram.worst_ns / 1e9
    sums = [values["feedhandler_latency_seconds_sum", hop, None] for hop in hops]
    assert sum(sums[:-1]) == pytest.approx(sums[-1])
    budget = {h: v for (name, h, _), v in values.items() if name == "feedhandler_latency_budget_seconds"}
    assert budget == {"receive": 1e-6, "decode": 1e-6, "book": 1e-6, "total": 3e-6}


def _scrape(url: str) -> tuple[dict[tuple[str, ...], float], dict[str, str]]:
    with urllib.request.urlopen(url, timeout=10) as reply:
        families = list(text_string_to_metric_families(reply.read().decode()))
    values = {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}
    return values, {family.name: family.documentation for family in families}


def test_listen_that_cannot_be_is_one_line(runtime: Path) -> None:
    """A wrong --listen names itself: exit status 2."""
    command = [
        sys.executable,
        "-m",
        "feedhandler.metrics",
        "x",
        "--listen",
        "nonsense",
        "--runtime-dir",
        str(runtime),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    entry = json.loads(done.stderr)
    assert (done.returncode, entry["level"], entry["event"]) == (2, "error", "helper failed")
    assert entry["reason"] == 'metrics.listen (--listen): "nonsense": ADDRESS:PORT is allowed'
