"""subscribe, book, stat, gaps: what they print, and how they end."""

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import databento
import pytest

from feedhandler import _core
from tests.support import itch_messages as itch
from tests.support.channels import make_channel, wait_until

FIRST = [itch.add(1, "B", 100, 10_0000), itch.add(2, "S", 200, 10_0100), itch.executed(1, 40)]


@pytest.fixture
def runtime() -> Iterator[Path]:
    """Return an empty runtime directory."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        yield Path(folder)


@pytest.fixture
def writer(runtime: Path) -> Iterator["_core.ChannelWriter"]:
    """Return a live channel `test` whose heart beats, with a book of AAA."""
    writer = make_channel(runtime / "test", books=True, schema_mask=0b1011, servers=["10.0.0.1:26500"])
    writer.set_state(1)
    writer.apply(1, FIRST)
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(0.01):
            writer.heartbeat()

    thread = threading.Thread(target=beat)
    thread.start()
    yield writer
    stop.set()
    thread.join()
    writer.release()


def start(runtime: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    """Start `feedhandler ARGUMENTS`."""
    command = [
        sys.executable,
        "-c",
        "from feedhandler.cli import main; main()",
        *arguments,
        "--runtime-dir",
        str(runtime),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run(runtime: Path, *arguments: str) -> tuple[int, str, str]:
    """Run `feedhandler ARGUMENTS`; return exit status, stdout, stderr."""
    process = start(runtime, *arguments)
    out, err = process.communicate(timeout=30)
    return process.returncode, out.decode(), err.decode()


def followed(runtime: Path, writer: "_core.ChannelWriter", *arguments: str) -> tuple[int, bytes, str]:
    """Run `feedhandler subscribe ARGUMENTS` while orders come in."""
    process = start(runtime, "subscribe", "test", *arguments)
    reader = _core.ChannelReader(str(runtime / "test"))
    wait_until(lambda: reader.consumers() == 1)
    writer.apply(
        4, [itch.add(9, "B", 10, 9_0000, locate=2, stock="BBB"), itch.executed(1, 60), itch.delete(2)]
    )
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err.decode()


def test_book_json_is_exactly_as_promised(runtime: Path, writer: "_core.ChannelWriter") -> None:
    """Symbol, state, sequence, levels with prices as strings of 4 decimals."""
    status, out, err = run(runtime, "book", "test", "AAA", "--json")
    assert (status, err) == (0, "")
    assert json.loads(out) == {
        "symbol": "AAA", "state": "LIVE", "sequence": 3,
        "bids": [["10.0000", 60, 1]], "asks": [["10.0100", 200, 1]],
    }  # fmt: skip


def test_book_of_an_unknown_symbol(runtime: Path, writer: "_core.ChannelWriter") -> None:
    """One line that names it; exit status 2."""
    assert run(runtime, "book", "test", "ZZZ") == (
        2, "", 'SYMBOL: "ZZZ" is none of the 1 that test has named\n'
    )  # fmt: skip


def test_stat_json_has_the_layout_of_the_contract(runtime: Path, writer: "_core.ChannelWriter") -> None:
    """Every key, no other, from one copy of the counters."""
    writer.put_counters(
        [{"won": 3}, {}], {"total": 2}, {"requests": 1}, {"messages": 3, "orders": 2}, "SESS", 5
    )
    status, out, _ = run(runtime, "stat", "test", "--json")
    stat = json.loads(out)
    assert status == 0
    texts = _core.counter_descriptions()
    assert list(stat)[:6] == ["channel", "state", "session", "next_sequence", "uptime_s", "lines"]
    assert set(stat) - set(texts["feed"]) == {
        "channel", "state", "session", "next_sequence", "uptime_s", "lines", "gaps",
        "receive", "clock", "recovery", "escalation", "servers", "records", "consumers",
    }  # fmt: skip
    assert [set(line) for line in stat["lines"].values()] == [set(texts["lines"])] * 2
    assert (stat["channel"], stat["state"], stat["session"], stat["next_sequence"]) == (
        "test",
        "LIVE",
        "SESS",
        4,
    )
    assert (stat["lines"]["A"]["won"], stat["gaps"]["total"], stat["recovery"]["requests"]) == (3, 2, 1)
    assert (stat["messages"], stat["orders"]) == (3, 2)
    assert stat["records"] == {"mbo": 5, "mbp-1": 3, "trades": 1}
    assert 0 <= stat["uptime_s"] < 60


def test_stat_and_gaps_for_people_name_every_counter(runtime: Path, writer: "_core.ChannelWriter") -> None:
    """The tables, with descriptions on demand."""
    status, out, _ = run(runtime, "stat", "test", "--describe")
    assert status == 0
    assert "10.0.0.1:26500" in out
    for texts in _core.counter_descriptions().values():
        for name, text in texts.items():
            assert name in out
            assert text in out
    writer.add_gap(
        {"first": 3, "last": 9, "opened_ns": 10**18, "closed_ns": 10**18 + 1_500_000, "recovered_line": 7}
    )
    status, out, _ = run(runtime, "gaps", "test")
    assert status == 0
    assert out.splitlines()[-1].split() == ["01:46:40.000000", "3", "9", "7", "1.500", "7", "0", "0", "0"]
    status, out, _ = run(runtime, "gaps", "test", "--json")
    assert json.loads(out)["gaps"][0]["messages"] == 7


def test_dead_daemon_ends_each_command_with_status_1(runtime: Path) -> None:
    """stat and gaps print the last there was, state DEAD; subscribe and book --watch say it on stderr."""
    writer = make_channel(runtime / "test", books=True)
    writer.apply(1, FIRST)
    writer.put_counters([], {}, {}, {"messages": 3}, "S", 5)
    writer.release()
    says = "channel test: state DEAD: no daemon\n"
    status, out, err = run(runtime, "stat", "test", "--json")
    assert (status, json.loads(out)["state"], json.loads(out)["messages"], err) == (1, "DEAD", 3, says)
    status, out, err = run(runtime, "gaps", "test", "--json")
    assert (status, json.loads(out)["state"], err) == (1, "DEAD", says)
    status, out, err = run(runtime, "book", "test", "AAA", "--watch", "--json")
    assert (status, json.loads(out)["state"], err) == (1, "DEAD", says)
    assert run(runtime, "subscribe", "test") == (1, "", says)


@pytest.mark.parametrize("command", [["stat"], ["gaps"], ["subscribe"], ["book"]])
def test_no_such_channel_is_bad_usage(runtime: Path, command: list[str]) -> None:
    """Exit status 2 and one line with the name."""
    status, out, err = run(runtime, *command, "nope", *(["AAA"] if command == ["book"] else []))
    assert (status, out, err) == (2, "", f'CHANNEL: "nope": no such channel in {runtime}\n')


def test_subscribe_json_lines(runtime: Path, writer: "_core.ChannelWriter") -> None:
    """One object a line, the fields of databento_dbn, prices as decimal strings; --count ends it."""
    status, out, _ = followed(
        runtime, writer, "--schema", "mbp-1", "--symbols", "AAA", "--format", "json", "--count", "2"
    )
    rows = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert [(row["schema"], row["symbol"], row["sequence"], row["action"]) for row in rows] == [
        ("mbp-1", "AAA", 5, "T"),
        ("mbp-1", "AAA", 6, "C"),
    ]
    assert (rows[0]["price"], rows[0]["bid_px_00"], rows[0]["ask_px_00"]) == ("10.0000", None, "10.0100")


def test_subscribe_csv_and_text(runtime: Path, writer: "_core.ChannelWriter") -> None:
    """A header and a line a record; text is for people and names the symbol."""
    status, out, _ = followed(runtime, writer, "--schema", "trades", "--format", "csv", "--count", "1")
    header, row = (line.split(",") for line in out.decode().splitlines())
    assert status == 0
    assert dict(zip(header, row, strict=True))["price"] == "10.0000"
    writer.apply(7, [itch.add(1, "B", 100, 10_0000), itch.add(2, "S", 200, 10_0100)])
    status, out, err = followed(runtime, writer, "--schema", "trades", "--count", "1")
    assert (status, err) == (0, "channel test: state LIVE\n")
    assert b"trades   AAA" in out


def test_subscribe_dbn_is_a_stream_that_databento_reads(runtime: Path, writer: "_core.ChannelWriter") -> None:
    """Metadata, then records of one schema: an unmodified reader takes it."""
    status, out, _ = followed(runtime, writer, "--schema", "mbo", "--format", "dbn", "--count", "4")
    assert status == 0
    store = databento.DBNStore.from_bytes(io.BytesIO(out))
    assert str(store.schema) == "mbo"
    assert store.to_ndarray()["order_id"].tolist() == [9, 0, 1, 1]
    assert "AAA" in store.symbols  # what is known when the stream starts


def test_trading_events_tell_what_their_kind_means(runtime: Path, writer: "_core.ChannelWriter") -> None:
    """A match number and the printable flag have no field in DBN; they come as events."""
    status, out, _ = followed(runtime, writer, "--schema", "event", "--format", "json", "--count", "1")
    row = json.loads(out)
    del row["ts"]
    assert status == 0
    assert row == {
        "schema": "event",
        "event": "trading",
        "state": "LIVE",
        "symbol": "AAA",
        "sequence": 5,
        "kind": "execution",
        "shares": 60,
        "match_number": 1,
        "printable": True,
    }


@pytest.mark.parametrize("style", ["csv", "dbn"])
def test_formats_of_one_schema_refuse_more(runtime: Path, writer: "_core.ChannelWriter", style: str) -> None:
    """csv and dbn carry one schema, and not events, which differ in their fields."""
    status, _, err = run(runtime, "subscribe", "test", "--format", style, "--schema", "event")
    assert (status, "one DBN schema is allowed" in err) == (2, True)
    status, _, err = run(runtime, "subscribe", "test", "--format", style)
    assert (status, err) == (
        2,
        f'--format {style}: --schema: "mbo, mbp-1, trades": one DBN schema is allowed\n',
    )


@pytest.mark.parametrize(
    "arguments", [["subscribe", "test"], ["stat", "test", "--watch"], ["book", "test", "AAA", "--watch"]]
)
def test_ctrl_c_ends_within_a_second(
    runtime: Path, writer: "_core.ChannelWriter", arguments: list[str]
) -> None:
    """SIGINT: no traceback, status 130."""
    process = start(runtime, *arguments)
    assert process.stdout is not None
    assert process.stderr is not None
    (process.stderr if arguments[0] == "subscribe" else process.stdout).readline()
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=5)
    assert process.returncode == 130
    assert b"Traceback" not in err


def test_session_with_brackets_is_shown_as_it_is(runtime: Path, writer: "_core.ChannelWriter") -> None:
    """An exchange may name it so: not markup."""
    writer.put_counters([{}], {}, {}, {}, session="A[/x]")
    out, err = start(runtime, "stat", "test").communicate(timeout=20)
    assert b"session A[/x], next" in out, err


def test_reader_that_goes_away_is_no_failure(runtime: Path, writer: "_core.ChannelWriter") -> None:
    """As with `| head -1`: exit status 0, and not a word."""
    process = start(runtime, "stat", "test", "--json", "--watch")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(20) == 0
    assert process.stderr.read() == b""
    process.stderr.close()
