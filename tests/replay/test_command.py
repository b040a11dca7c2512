"""The command: broken options and files, outputs, exit status."""

import csv
import gzip
import hashlib
import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from feedhandler.cli import main
from tests.support import itch_messages as itch
from tests.support.replay_files import GROUP_A, binary_file, link, mold, pcap, simulated, udp
from tests.support.wait import wait_for

FAULTS = ["dropped", "duplicated", "reordered", "corrupted"]
GAPS = ["gaps", "gap_messages", "requests"]
GAPS += ["recovered_line", "recovered_rewind", "recovered_snapshot", "unrecovered"]
DAMAGE = ["malformed", "malformed_messages", "unknown_messages", "unknown_orders"]
RESULT = ["records", "orders", "state", "books_sha256", "elapsed_s", "messages_per_s"]
KEYS = ["packets", "messages", *FAULTS, *GAPS, *DAMAGE, *RESULT]
DAY = "--date=2026-11-20"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run the console script in this process: (exit status, stdout, stderr)."""

    def run(*arguments: object) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["feedhandler", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out = capsys.readouterr()
        return ended.value.code, out.out, out.err

    return run


@pytest.fixture
def day(tmp_path: Path) -> Path:
    """A small day as BinaryFILE."""
    path = tmp_path / "day.itch"
    path.write_bytes(simulated(2_000, symbols=10))
    return path


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """One packet."""
    path = tmp_path / "day.pcap"
    path.write_bytes(pcap([(10**18, link(udp(mold(1, [itch.add(1, "B", 100, 10_000)]))))]))
    return path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--drop", "1.5"], "--drop: 1.5 is not a probability from 0 to 1"),
        (["--drop", "-0.1"], "--drop: -0.1 is not a probability from 0 to 1"),
        (["--drop", "nan"], "--drop: nan is not a probability from 0 to 1"),
        (["--duplicate", "2"], "--duplicate: 2 is not"),
        (["--reorder", "inf"], "--reorder: inf is not"),
        (["--corrupt", "-1"], "--corrupt: -1 is not"),
        (["--drop-rewind", "1.01"], "--drop-rewind: 1.01 is not"),
        (["--drop", "much"], "'much' is not a valid float"),
        (["--drop-burst", "0"], "--drop-burst: 0 is not a mean length"),
        (["--drop-burst", "nan"], "--drop-burst: nan is not a mean length"),
        (["--lines", "3"], "3 is not in the range 1<=x<=2"),
        (["--seed", "-1"], "--seed: -1 is not an integer from 0"),
        (["--seed", str(2**64)], f"--seed: {2**64} is not an integer from 0"),
        (["--speed", "0"], "--speed: 0 is not a factor above 0"),
        (["--speed", "-1"], "--speed: -1 is not a factor above 0"),
        (["--speed", "nan"], "--speed: nan is not a factor above 0"),
        (["--date", "2026-13-01"], '--date: "2026-13-01" is not a date'),
        (["--date", "yesterday"], '--date: "yesterday" is not a date'),
        (["--date", "1500-01-01"], "the year is not from 1970"),
        (["--schema", "ohlcv"], '--schema: "ohlcv" is not one of mbo, mbp-1'),
        (["--symbols", "AAPL,,MSFT"], '--symbols: "AAPL,,MSFT": "" is not a symbol'),
        (["--symbols", "NINECHARS"], '"NINECHARS" is not a symbol of 1 to 8'),
        (["--group", "239.1.1.1"], '--group: "239.1.1.1" is not ADDRESS:PORT'),
        (["--group", "239.1.1.1:0"], '--group: "239.1.1.1:0" is not ADDRESS:PORT'),
        (["--group", "239.1.1.1:70000"], "is not ADDRESS:PORT"),
        (["--group", "10.0.0.1:5000"], '--group: "10.0.0.1:5000": 10.0.0.1 is not an IPv4 multicast address'),
        (["--group", "239.1.1.1:5", "--group", "239.1.1.1:5"], "--group: the same group twice"),
        (["--group", "239.1.1.1:5"], "is a BinaryFILE, which has no groups"),
        (["--rewind", "127.0.0.1:5"], '--rewind: "127.0.0.1:5" needs --send'),
        (["--dump-books", "/nonexistent/books.csv"], '--dump-books: "/nonexistent/books.csv": No such file'),
        (["--dbn", "/dev/null/dbn"], '--dbn: "/dev/null/dbn": '),
        (["--no-such-option"], "No such option"),
    ],
)
def test_broken_options_give_one_line_and_exit_status_2(
    run, day: Path, arguments: list[str], said: str
) -> None:
    """The option, its value, what is allowed; nothing on stdout, no traceback."""
    status, out, err = run("replay", day, *arguments)
    assert (status, out) == (2, "")
    assert said in err
    assert "Traceback" not in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"hello, world\n", "is no pcap, pcapng or BinaryFILE: it starts with 68 65 6c 6c"),
        (gzip.compress(b"hello, world\n"), "is no pcap, pcapng or BinaryFILE: it starts with 68 65"),
        (gzip.compress(b""), "is empty"),
        (b"\x1f\x8b" + bytes(50), "damaged gzip data"),
        (gzip.compress(simulated(100, symbols=5))[:-4] + b"xxxx", "damaged gzip data"),
        (b"\0\0" + itch.system_event() * 5, "is no pcap, pcapng or BinaryFILE"),
        (pcap([]), "has no multicast MoldUDP64 packets (no UDP over IPv4 at all)"),
        (pcap([(1, b"x" * 60)], kind=147), "(1 frames of a link type that is not read)"),
        (pcap([(1, link(udp(b"short")))]), "has no multicast MoldUDP64 packets (it has 239.1.1.1:26477)"),
        (bytes.fromhex("d4c3b2a1"), "has no multicast MoldUDP64 packets"),
        (bytes.fromhex("0a0d0d0a"), "has no multicast MoldUDP64 packets"),
    ],
)
def test_broken_files_give_one_line_and_exit_status_2(run, tmp_path: Path, content: bytes, said: str) -> None:
    """The file and what is wrong with it."""
    path = tmp_path / "input"
    path.write_bytes(content)
    status, out, err = run("replay", path)
    assert (status, out) == (2, "")
    assert said in err
    assert err.startswith(f'FILE: "{path}"')
    assert err.count("\n") == 1


def test_missing_file_directory_and_pipe(run, tmp_path: Path) -> None:
    """Each is unreadable input."""
    for path, said in ((tmp_path / "none", "No such file"), (tmp_path, "is a directory without segments")):
        status, _, err = run("replay", path)
        assert status == 2
        assert said in err
        assert err.count("\n") == 1


def test_group_that_the_capture_lacks(run, capture: Path) -> None:
    """The error names the groups that it has."""
    status, _, err = run("replay", capture, "--group", "239.5.5.5:1")
    assert status == 2
    assert f'--group: "239.5.5.5:1": no datagram for it in "{capture}" (it has 239.1.1.1:26477)' in err


def test_json_has_the_keys_in_order_and_is_all_of_stdout(run, day: Path) -> None:
    """Exactly one object; logs go to stderr."""
    status, out, err = run("replay", day, "--json")
    assert status == 0
    assert list(json.loads(out)) == KEYS
    assert out.count("\n") == 1
    assert list(json.loads(out)["records"]) == ["mbp-1", "trades", "status", "imbalance"]
    assert "--date: not given for a BinaryFILE" in err
    status, out, err = run("replay", day, "--json", DAY, "--schema", "definition", "--schema", "mbo")
    assert list(json.loads(out)["records"]) == ["mbo", "definition"]
    assert err == ""


def test_dump_books_is_the_text_that_the_hash_is_of(run, day: Path, tmp_path: Path) -> None:
    """A header, then levels in order; without the header it hashes to books_sha256."""
    dump = tmp_path / "books.csv"
    _, out, _ = run("replay", day, DAY, "--json", "--dump-books", dump)
    header, _, lines = dump.read_bytes().partition(b"\n")
    assert header == b"symbol,side,price,size,orders"
    assert hashlib.sha256(lines).hexdigest() == json.loads(out)["books_sha256"]
    rows = list(csv.DictReader(io.StringIO(dump.read_text())))
    assert rows
    sign = {"B": -1, "S": 1}
    keys = [(r["symbol"].encode(), r["side"], sign[r["side"]] * float(r["price"])) for r in rows]
    assert keys == sorted(keys)
    assert all(len(r["price"].partition(".")[2]) == 4 for r in rows)


def test_exit_status_1_when_messages_are_lost_for_good(run, day: Path) -> None:
    """The results are still printed."""
    status, out, _ = run("replay", day, DAY, "--json", "--drop", "0.3", "--no-rewind")
    assert status == 1
    assert json.loads(out)["unrecovered"] > 0


def test_exit_status_1_when_the_file_ends_inside_a_record(run, day: Path, tmp_path: Path) -> None:
    """One line names the offset."""
    cut = tmp_path / "cut.itch"
    cut.write_bytes(day.read_bytes()[:1000])
    status, out, err = run("replay", cut, DAY, "--json")
    assert status == 1
    assert json.loads(out)["unrecovered"] == 0
    assert err.startswith(f'FILE: "{cut}": ends inside the record at offset ')
    assert err.count("\n") == 1


@pytest.mark.parametrize("kept", [30, 40, 90, 100])
def test_truncated_capture_is_played_as_far_as_it_goes(run, tmp_path: Path, kept: int) -> None:
    """Exit status 1 and the offset of the record that is not whole."""
    whole = pcap([(10**18 + i, link(udp(mold(i, [itch.add(i, "B", 100, 10_000)])))) for i in (1, 2)])
    first_end = (len(whole) + 24) // 2
    path = tmp_path / "cut.pcap"
    path.write_bytes(whole[: first_end + kept])
    status, out, err = run("replay", path, "--json")
    assert (status, json.loads(out)["messages"]) == (1, 1)
    assert f"ends inside the record at offset {first_end}" in err


def test_truncated_gzip_is_played_as_far_as_it_goes(run, day: Path, tmp_path: Path) -> None:
    """Exit status 1; the message tells how much there was."""
    path = tmp_path / "day.gz"
    path.write_bytes(gzip.compress(day.read_bytes())[:-1000])
    status, out, err = run("replay", path, DAY, "--json")
    assert status == 1
    assert 0 < json.loads(out)["messages"] < 2_000
    assert "the gzip stream ends too early" in err


def test_garbage_in_the_middle_of_a_capture_ends_it(run, tmp_path: Path) -> None:
    """A record of an absurd length is damage: what lies before it is played, exit status 1."""
    path = tmp_path / "bad.pcap"
    good = pcap([(10**18, link(udp(mold(1, [itch.add(1, "B", 100, 10_000)]))))])
    path.write_bytes(good + b"\xff" * 100)
    status, out, err = run("replay", path, "--json")
    assert (status, json.loads(out)["messages"]) == (1, 1)
    assert f"no record lies at offset {len(good)}" in err


def test_summary_for_people(run, day: Path) -> None:
    """Without --json a table with every count and the rate."""
    status, out, _ = run("replay", day, DAY, "--drop", "0.1")
    assert status == 0
    for words in (
        "gap messages",
        "recovered rewind",
        "books sha256",
        "messages in",
        "mbp-1 records",
        "ENDED",
    ):
        assert words in out


def test_speed_paces_by_the_capture_s_own_time(run, tmp_path: Path) -> None:
    """Due times count from the first packet: ten packets 20 ms apart at double speed take 90 ms."""
    path = tmp_path / "paced.pcap"
    packets = [
        (10**18 + i * 20_000_000, link(udp(mold(i + 1, [itch.delete(i)]), GROUP_A))) for i in range(10)
    ]
    path.write_bytes(pcap(packets))
    started = time.monotonic()
    status, out, _ = run("replay", path, "--json", "--speed", "2")
    assert status == 0
    assert time.monotonic() - started >= 0.09
    assert json.loads(out)["elapsed_s"] >= 0.09
    fast = json.loads(run("replay", path, "--json")[1])
    repeatable = [key for key in KEYS if key not in ("elapsed_s", "messages_per_s")]
    assert {k: json.loads(out)[k] for k in repeatable} == {k: fast[k] for k in repeatable}


def test_help_has_examples(run) -> None:
    """As every command's."""
    status, out, _ = run("replay", "--help")
    assert status == 0
    assert "feedhandler replay day.pcap" in out


def test_binaryfile_cut_in_its_first_record(run, tmp_path: Path) -> None:
    """Nothing could be played: the offset is 0."""
    path = tmp_path / "cut"
    path.write_bytes(binary_file([itch.system_event()])[:6])
    status, out, err = run("replay", path, DAY, "--json")
    assert (status, json.loads(out)["messages"]) == (1, 0)
    assert "at offset 0;" in err


def test_interrupt_ends_it_within_a_second_and_leaves_no_half_files(tmp_path: Path) -> None:
    """Ctrl-C in the middle: exit status 130, no traceback, nothing under a name that a reader would open."""
    path = tmp_path / "day.itch"
    path.write_bytes(simulated(20_000, symbols=10))
    command = [sys.executable, "-c", "from feedhandler.cli import main; main()", "replay", str(path), DAY]
    command += ["--speed", "1", "--schema", "mbo", "--dbn", str(tmp_path / "dbn")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    part = tmp_path / "dbn" / ".mbo.records.part"
    wait_for(part.exists, "file of records")  # the day would take hours
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert time.monotonic() - started < 1
    assert (out, err.strip()) == ("", "")
    assert list((tmp_path / "dbn").iterdir()) == []


def test_progress_bar_on_a_terminal(day: Path) -> None:
    """Only stderr gets it; the result on stdout stays one JSON object."""
    master, slave = pty.openpty()
    command = [
        sys.executable,
        "-c",
        "from feedhandler.cli import main; main()",
        "replay",
        str(day),
        DAY,
        "--json",
    ]
    environment = {**os.environ, "TERM": "xterm"}
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=slave, env=environment, timeout=60, check=False
        )
        told = os.read(master, 1 << 16)
    finally:
        os.close(master)
        os.close(slave)
    assert done.returncode == 0, told
    assert json.loads(done.stdout)["messages"] == 2_000
    assert b"packets" in told
    assert b"Traceback" not in told
