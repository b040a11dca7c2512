"""A real daemon on loopback: what it measures of itself, and the command that shows it."""

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from feedhandler.consumer import Consumer
from tests.support.daemon import COMMAND, Daemon, environment, running, write_config
from tests.support.exchange import Exchange, Line, simulated_messages
from tests.support.multicast import free_ports
from tests.support.wait import wait_for

HOPS = ("receive", "queue", "decode", "book", "publish")


def two_lines() -> list[Line]:
    ports = free_ports(2)
    return [Line(name, f"239.198.{os.getpid() % 250}.{n}", next(ports)) for n, name in enumerate("AB", 1)]


def latency(daemon: Daemon, *options: str) -> "subprocess.CompletedProcess[str]":
    """Run `feedhandler latency`."""
    return subprocess.run(
        [*COMMAND, "latency", "live", "--runtime-dir", str(daemon.runtime_dir), *options],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def on_terminal(words: list[str], columns: int) -> str:
    """Return what a command writes to a terminal so wide, without colours."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    env = {**environment(), "TERM": "xterm-256color", "NO_COLOR": "1"}
    env.pop("COLUMNS", None)
    with subprocess.Popen(words, env=env, stdin=child, stdout=child) as process:
        os.close(child)
        shown = b""
        with contextlib.suppress(OSError):  # EIO: all who wrote are gone
            while piece := os.read(parent, 65536):
                shown += piece
        assert process.wait(30) == 0
    os.close(parent)
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", shown.decode())


def table(daemon: Daemon, *options: str) -> dict[str, Any]:
    """Return what it prints with --json."""
    done = latency(daemon, "--json", *options)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@cache
def day() -> list[bytes]:
    """Return what the exchange has to send; at 16 messages a millisecond enough for seconds."""
    return simulated_messages(100_000)


@contextmanager
def traffic(lines: list[Line]) -> Iterator[Exchange]:
    """Send messages over the lines, some at a time, until the block is left."""
    exchange = Exchange(day(), lines)
    stop = threading.Event()

    def send() -> None:
        while not stop.wait(0.001) and exchange.next <= len(day()):
            exchange.send(16, per_packet=2)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield exchange
    finally:
        stop.set()
        thread.join()
        exchange.close()


@contextmanager
def measuring(tmp_path: Path, every: int) -> Iterator[tuple[Daemon, Exchange]]:
    """Run a daemon that measures, with traffic."""
    lines = two_lines()
    config = write_config(tmp_path, lines, extra=f"[latency]\nsample_every = {every}\n")
    with running(config, tmp_path / "run") as daemon, traffic(lines) as exchange:
        yield daemon, exchange


def test_hops_grow_and_add_up(tmp_path: Path) -> None:
    """Between two looks more was measured; the hops' sums are the sum of the totals, to the nanosecond."""
    with measuring(tmp_path, 4) as (daemon, _):
        wait_for(lambda: daemon.reader.latency()["samples"] > 50, "samples")
        first = daemon.reader.latency()
        wait_for(lambda: daemon.reader.latency()["samples"] > first["samples"] + 50, "more samples")
        reader = daemon.reader
        read = reader.latency()
        assert read["sample_every"] == 4
        hops, kinds = read["hops"], read["kinds"]
        assert hops["total"].count == read["samples"] == kinds["kernel"] + kinds["user"]
        # The kernel begins to stamp some milliseconds after the first socket has asked for it.
        assert hops["receive"].count == kinds["kernel"] > 0.8 * read["samples"]
        assert sum(hops[name].sum_ns for name in HOPS) == hops["total"].sum_ns
        assert hops["publish"].count > 0.5 * read["samples"]
        for name in ("queue", "decode", "book"):
            assert hops[name].count == read["samples"]
        for name in HOPS:
            assert 0 < hops[name].quantile(0.5) < 10**9, name
        # One in four of those that delivered: of two lines at most half.
        next_sequence = reader.next_sequence
        wait_for(lambda: reader.counters()["next_sequence"] >= next_sequence, "counters of that moment")
        packets = sum(line["packets"] for line in reader.counters()["lines"])
        assert read["samples"] <= packets / 4 + 1


def test_the_command_prints_the_table_with_what_a_consumer_adds(tmp_path: Path) -> None:
    """One JSON object; the consumer's hop is measured by the command itself; the whole way contains it."""
    with measuring(tmp_path, 2) as (daemon, _):
        shown = table(daemon, "--seconds", "1")
        assert list(shown) == ["channel", "state", "sampling", "clock", "hops"]
        assert list(shown["hops"]) == [*HOPS, "total", "consume", "whole"]
        assert shown["clock"]["source"] in ("tsc", "monotonic")
        assert shown["sampling"]["every"] == 2
        assert shown["sampling"]["stamps"]["kernel"] > 20
        for name, row in shown["hops"].items():
            assert row["count"] > 20, name
            assert row["median_ns"] <= row["p99_ns"] <= row["p999_ns"] <= row["worst_ns"]
            if row["budget_ns"] is not None:
                assert row["within_budget"] == (row["p99_ns"] <= row["budget_ns"])
        assert shown["hops"]["whole"]["mean_ns"] > shown["hops"]["consume"]["mean_ns"]
        assert [name for name, row in shown["hops"].items() if row["budget_ns"]] == [
            "receive", "decode", "book", "total",
        ]  # fmt: skip
        text = latency(daemon, "--seconds", "0.2").stdout
        for name in shown["hops"]:
            assert f"\n{name} " in text
        assert "one packet in 2" not in text.splitlines()[1]
        assert "one packet in 2" in text.splitlines()[0]


def test_recent_is_only_what_was_measured_meanwhile(tmp_path: Path) -> None:
    """With the feed silent nothing is, whatever was before."""
    with measuring(tmp_path, 1) as (daemon, exchange):
        wait_for(lambda: daemon.reader.latency()["samples"] > 100, "samples")
        assert table(daemon, "--recent", "--seconds", "0.3")["sampling"]["samples"] > 0
        exchange.messages = exchange.messages[:1]  # the exchange has no more to send
        seen = [-1]

        def quiet() -> bool:
            seen.append(daemon.reader.latency()["samples"])
            return seen[-1] == seen[-2]

        wait_for(quiet, "silence", interval_s=0.1)
        shown = table(daemon, "--recent", "--seconds", "0.1")
        assert shown["sampling"]["samples"] == 0
        assert shown["hops"]["total"] == {
            "count": 0, "median_ns": None, "p99_ns": None, "p999_ns": None, "worst_ns": None,
            "mean_ns": None, "budget_ns": 3000, "within_budget": None,
        }  # fmt: skip
        assert table(daemon, "--seconds", "0")["sampling"]["samples"] > 100


def test_each_round_of_recent_and_watch_is_of_that_round(tmp_path: Path) -> None:
    """The consumer's hop too: it cannot have met many more samples than were taken meanwhile."""
    with measuring(tmp_path, 1) as (daemon, _):
        words = ["latency", "live", "--runtime-dir", str(daemon.runtime_dir)]
        words += ["--json", "--recent", "--watch", "--seconds", "0.4"]
        with subprocess.Popen([*COMMAND, *words], env=environment(), stdout=subprocess.PIPE) as shown:
            assert shown.stdout is not None
            rounds = [json.loads(shown.stdout.readline()) for _ in range(4)]
            shown.send_signal(signal.SIGINT)
        for one in rounds[1:]:
            assert one["hops"]["consume"]["count"] < 1.5 * one["sampling"]["samples"]


def test_off_is_said_and_measures_nothing(tmp_path: Path) -> None:
    """Not a table of zeros."""
    with measuring(tmp_path, 0) as (daemon, exchange):
        wait_for(lambda: daemon.reader.next_sequence > 200, "messages")
        done = latency(daemon, "--seconds", "0.1")
        assert done.returncode == 0
        assert "latency is not measured" in done.stdout
        assert "receive" not in done.stdout
        drawn = latency(daemon, "--plot", str(tmp_path / "x.png"))
        assert drawn.returncode == 1
        assert drawn.stderr.endswith("latency is not measured: [latency] sample_every is 0\n")
        assert not (tmp_path / "x.png").exists()
        shown = table(daemon, "--seconds", "0")
        assert shown["sampling"]["every"] == shown["sampling"]["samples"] == 0
        assert exchange.next > 1


def test_a_dead_channel_shows_its_last_values(tmp_path: Path) -> None:
    """On stdout as ever; the exit status is 1."""
    with measuring(tmp_path, 1) as (daemon, _):
        wait_for(lambda: daemon.reader.latency()["samples"] > 20, "samples")
        daemon.process.send_signal(signal.SIGKILL)
        daemon.process.wait()
        done = latency(daemon, "--json")
        assert done.returncode == 1
        assert "DEAD" in done.stderr
        shown = json.loads(done.stdout)
        assert shown["state"] == "DEAD"
        assert shown["hops"]["total"]["count"] > 20
        assert shown["hops"]["consume"]["count"] == 0
        recent = json.loads(latency(daemon, "--json", "--recent").stdout)
        assert recent["hops"] == shown["hops"]


@pytest.mark.parametrize("schemas", [["mbo"], ["mbo", "mbp-1", "trades"]])
def test_a_consumer_measures_its_own_hop(tmp_path: Path, schemas: list[str]) -> None:
    """Opt-in; samples are met once, however many records their messages gave."""
    with measuring(tmp_path, 2) as (daemon, _), contextlib.ExitStack() as consumers:
        before = daemon.reader.latency()["samples"]
        careless = consumers.enter_context(Consumer("live", schemas, runtime_dir=daemon.runtime_dir))
        consumer = consumers.enter_context(
            Consumer("live", schemas, runtime_dir=daemon.runtime_dir, measure_latency=True)
        )

        def polled() -> bool:
            consumer.poll(timeout_s=0.01)
            measured = consumer.latency
            return measured is not None and measured.consume.count > 50

        wait_for(polled, "measured records")
        measured = consumer.latency
        assert measured is not None
        made = daemon.reader.latency()["samples"] - before
        assert 50 < measured.consume.count <= made + 1
        assert measured.whole.count == measured.consume.count
        assert measured.whole.sum_ns > measured.consume.sum_ns
        assert careless.latency is None


def test_a_measured_feed_publishes_what_an_unmeasured_one_does(tmp_path: Path) -> None:
    """With every packet followed, through the end of the ring: the same records in the same order."""
    streams = []
    for every in (0, 1):
        lines = two_lines()
        extra = f"[latency]\nsample_every = {every}\n"
        publish = 'schemas = ["mbo", "mbp-1", "trades"]\nring_mib = 1\n'
        config = write_config(tmp_path, lines, extra=extra, publish=publish)
        with (
            running(config, tmp_path / "run") as daemon,
            Consumer("live", runtime_dir=daemon.runtime_dir) as consumer,
        ):
            exchange = Exchange(simulated_messages(20_000), lines)
            records = []
            while exchange.next <= len(exchange.messages):
                exchange.send(500)
                wait_for(lambda: daemon.reader.next_sequence == exchange.next, "all that was sent")  # noqa: B023
                records += [
                    (batch.schema, batch.state, record)
                    for batch in consumer.poll()
                    for record in remove_receive_time(batch.records)
                ]
            exchange.close()
            assert consumer.lost == 0
            assert sum(len(record) for _, _, record in records) > 1 << 20, "the ring never came round"
            assert (daemon.reader.latency()["samples"] > 1000) == bool(every)
            streams.append(records)
    assert streams[0] == streams[1]


def remove_receive_time(records: np.ndarray) -> list[bytes]:
    """Return the records as bytes; when they came is all that may differ."""
    plain = records.copy()
    for name in ("ts_recv", "ts_in_delta"):
        if name in (plain.dtype.names or ()):
            plain[name] = 0
    return [record.tobytes() for record in plain]


def test_it_is_drawn_into_a_file(tmp_path: Path) -> None:
    """As a picture that is one, of the size that seven hops take."""
    with measuring(tmp_path, 2) as (daemon, _):
        path = tmp_path / "latency.png"
        done = latency(daemon, "--seconds", "0.3", "--plot", str(path))
        assert done.returncode == 0, done.stderr
        picture = path.read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert struct.unpack(">II", picture[16:24]) == (1080, 1176)


def test_a_picture_that_cannot_be_drawn_is_one_line(tmp_path: Path) -> None:
    """Said before anything is measured: a wrong ending, no matplotlib, a folder that is not there."""
    with measuring(tmp_path, 2) as (daemon, _):
        wrong = latency(daemon, "--plot", "latency.txt")
        assert (wrong.returncode, wrong.stdout) == (2, "")
        assert wrong.stderr == '--plot: "latency.txt": .png, .svg, .pdf are allowed\n'
        code = (
            "import sys, importlib.util as u; find = u.find_spec\n"
            "u.find_spec = lambda name, *rest: None if name == 'matplotlib' else find(name, *rest)\n"
            "from feedhandler.cli import main; main()"
        )
        command = [sys.executable, "-c", code, "latency", "live", "--runtime-dir", str(daemon.runtime_dir)]
        missing = subprocess.run(
            [*command, "--plot", "x.png"], env=environment(), capture_output=True, text=True, check=False
        )
        assert (missing.returncode, missing.stdout) == (2, "")
        assert missing.stderr == '--plot: "x.png": needs matplotlib: pip install "feedhandler[plots]"\n'
        path = tmp_path / "nowhere" / "x.png"
        nowhere = latency(daemon, "--plot", str(path))
        assert (nowhere.returncode, nowhere.stdout) == (2, "")
        assert nowhere.stderr == f'--plot: "{path}": No such file or directory\n'


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seconds", "nan"], "--seconds: nan is not in the range 0<=x<=86400\n"),
        (
            ["--recent", "--seconds", "0"],
            "--recent: nothing is measured in --seconds 0; more of them, or --watch, are needed\n",
        ),
    ],
)
def test_what_would_measure_nothing_is_refused(tmp_path: Path, options: list[str], message: str) -> None:
    """Whether there is such a channel or not."""
    done = subprocess.run(
        [*COMMAND, "latency", "live", "--runtime-dir", str(tmp_path), *options],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message)


@pytest.mark.parametrize("columns", [80, 106, 120, 197, 198])
def test_table_fits_its_terminal(tmp_path: Path, columns: int) -> None:
    """One line a hop, however wide; the distribution where there is room for all of it, words beyond."""
    with measuring(tmp_path, 1) as (daemon, _):
        wait_for(lambda: daemon.reader.latency()["samples"] > 100, "samples")
        words = [*COMMAND, "latency", "live", "--runtime-dir", str(daemon.runtime_dir), "--seconds", "0.2"]
        shown = on_terminal(words, columns)
    lines = [line.rstrip() for line in shown.splitlines()]
    at = next(i for i, line in enumerate(lines) if line.startswith("hop "))
    assert [line.split()[0] for line in lines[at:]] == ["hop", *HOPS, "total", "consume", "whole"]
    assert ("10ms" in lines[at]) == (columns >= 106)
    assert ("from the hop before" in lines[at]) == (columns >= 198)
    assert all(len(line) <= columns for line in lines)
    assert "…" not in shown


def test_watching_ends_when_interrupted(tmp_path: Path) -> None:
    """One object each time; then exit status 130 within a second."""
    with measuring(tmp_path, 2) as (daemon, _):
        process = subprocess.Popen(
            [
                *COMMAND,
                "latency",
                "live",
                "--watch",
                "--json",
                "--seconds",
                "0.2",
                "--runtime-dir",
                str(daemon.runtime_dir),
            ],
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        counts = [json.loads(process.stdout.readline())["hops"]["consume"]["count"] for _ in range(3)]
        assert counts == sorted(counts)
        assert counts[0] < counts[2]
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(timeout=5) == 130
        process.stdout.close()


def test_a_consumer_goes_on_measuring_when_the_daemon_is_started_again(tmp_path: Path) -> None:
    """With the new daemon's samples, on top of what it had."""
    lines = two_lines()
    config = write_config(tmp_path, lines, extra="[latency]\nsample_every = 2\n")
    with traffic(lines), running(config, tmp_path / "run") as daemon:
        consumer = Consumer("live", runtime_dir=daemon.runtime_dir, measure_latency=True)

        def measured(more_than: int) -> bool:
            consumer.poll(timeout_s=0.01)
            return consumer.latency is not None and consumer.latency.consume.count > more_than

        wait_for(lambda: measured(20), "measured records")
        daemon.process.send_signal(signal.SIGKILL)
        daemon.process.wait()
        wait_for(lambda: consumer.poll(timeout_s=0.01) == [], "the end of the old ring")
        before = consumer.latency.consume.count if consumer.latency is not None else 0
        with running(config, daemon.runtime_dir):
            wait_for(lambda: measured(before + 20), "records of the new daemon")
            assert consumer.restarts == 1
        consumer.close()
