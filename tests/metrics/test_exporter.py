"""The Prometheus exporter, over HTTP."""

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from feedhandler import _core
from tests.support.channels import make_channel


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
    url = process.stderr.readline().split()[1]
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
    assert (done.returncode, done.stderr) == (
        2,
        'feedhandler.metrics: --listen: "nonsense": ADDRESS:PORT is allowed\n',
    )
