"""The command: files and their bytes, captures that others read, one line for what is wrong, Ctrl-C."""

import gzip
import json
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from feedhandler import _core
from feedhandler.cli import cli
from feedhandler.errors import RunError, UsageError
from tests.simulate.day import make_day, split, time_ns
from tests.support.wait import wait_for

COMMAND = [sys.executable, "-c", "from feedhandler.cli import main; main()", "simulate"]
DAY = ["--messages", "5000", "--symbols", "10", "--seed", "5"]


def simulate(*arguments: str) -> None:
    """Run the command in this process; errors are raised."""
    cli.main(["simulate", *arguments], standalone_mode=False)


def test_binaryfile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file is the day's records and a zero length; the summary is one JSON object."""
    path = tmp_path / "day.itch"
    simulate("--output", str(path), *DAY, "--json")
    assert path.read_bytes() == make_day(5000, 10, 5) + b"\0\0"
    summary = json.loads(capsys.readouterr().out)
    assert summary["messages"] == 5000
    assert sum(summary["types"].values()) == 5000


def test_gzip_is_the_same_every_time(tmp_path: Path) -> None:
    """Compressed files of one seed are equal byte for byte, whatever their names and times."""
    one, two = tmp_path / "one.gz", tmp_path / "two.itch.gz"
    for path in (one, two):
        simulate("--output", str(path), *DAY)
    assert one.read_bytes() == two.read_bytes()
    assert gzip.decompress(one.read_bytes()) == make_day(5000, 10, 5) + b"\0\0"


def captured(path: Path) -> list[tuple[int, str, int, bytes]]:
    """Return (ns, group, port, payload) of each packet of a nanosecond pcap, after checking its headers."""
    data = path.read_bytes()
    assert struct.unpack_from("<IHHiIII", data) == (0xA1B23C4D, 2, 4, 0, 0, 65535, 1)
    out, at = [], 24
    while at < len(data):
        seconds, nanos, kept, size = struct.unpack_from("<4I", data, at)
        frame = data[at + 16 : at + 16 + size]
        at += 16 + size
        assert kept == size == len(frame)
        assert frame[:3] == b"\x01\x00\x5e"
        assert frame[3:6] == bytes([frame[31] & 0x7F]) + frame[32:34]
        assert frame[12:15] == b"\x08\x00\x45"
        assert sum(struct.unpack(">10H", frame[14:34])) % 0xFFFF == 0, "IPv4 checksum"
        assert struct.unpack_from(">H", frame, 16)[0] == size - 14
        port, udp_size = struct.unpack_from(">HH", frame, 36)
        assert udp_size == size - 34
        out.append((seconds * 10**9 + nanos, socket.inet_ntoa(frame[30:34]), port, frame[42:]))
    return out


def test_capture_holds_the_day_once_per_line(tmp_path: Path) -> None:
    """Both lines carry all messages in order, at the day's time in New York, then the end of the session."""
    path = tmp_path / "day.pcap"
    simulate(
        "--output", str(path), *DAY, "--date", "2024-03-01", "--send", "A=239.1.1.1:26477,B=233.54.12.111:1"
    )
    packets = captured(path)
    times = [ns for ns, _, _, _ in packets[::2]]
    assert times == sorted(times)
    midnight = 1_709_269_200 * 10**9  # 2024-03-01 05:00 UTC
    first = next(split(make_day(5000, 10, 5)))
    assert times[0] == midnight + time_ns(first)
    for group, port in (("239.1.1.1", 26477), ("233.54.12.111", 1)):
        payloads = [payload for _, to, to_port, payload in packets if (to, to_port) == (group, port)]
        parsed = [_core.parse_mold_packet(payload) for payload in payloads]
        assert b"".join(m for p in parsed for m in p[3]) == b"".join(split(make_day(5000, 10, 5)))
        assert [p[0] for p in parsed[-3:]] == ["end_of_session"] * 3
        assert {p[1] for p in parsed} == {b"SIMULATED1"}
        expected = 1
        for _, _, first_number, messages in parsed:
            assert first_number == expected
            expected += len(messages)
    sizes = [len(_core.parse_mold_packet(payload)[3]) for _, _, _, payload in packets]
    assert max(sizes) > 10, "bursts fill packets"
    assert 1 in sizes, "lone messages travel alone"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            "--send A=10.0.0.1:1",
            '--send: "10.0.0.1" is not an IPv4 multicast address (224.0.0.0 to 239.255.255.255)',
        ),
        ("--send A=239.1.1.1", '--send: "239.1.1.1" is not ADDRESS:PORT with an IPv4 address and a port'),
        ("--send A=239.1.1.1:70000", '--send: "239.1.1.1:70000" is not ADDRESS:PORT'),
        ("--send 239.1.1.1:1", '--send: "239.1.1.1:1" is not NAME=GROUP:PORT'),
        ("--send A=239.1.1.1:1,A=239.1.1.2:1", '--send: "A=239.1.1.1:1,A=239.1.1.2:1" names a line twice'),
        ("--drop 1.5", '--drop: "1.5" is not a probability from 0 to 1'),
        ("--drop A=0.1,C=0.2", '--drop: "C=0.2": no line is named "C": A, B'),
        ("--corrupt nan", '--corrupt: "nan" is not a probability from 0 to 1'),
        ("--drop-burst 0.5", '--drop-burst: "0.5" is not a mean length in packets, at least 1'),
        ("--session ELEVENCHARS", '--session: "ELEVENCHARS" is not 1 to 10 printable ASCII characters'),
        ("--rewind localhost:1", '--rewind: "localhost:1" is not ADDRESS:PORT'),
        ("--messages 100 --symbols 100", "--messages: 100 is too few for 100 symbols: at least 508"),
        ("--messages 100 --duration 1", "--duration: 1 with --messages 100: give one of them"),
        ("--rate 10 --duration 1", "--duration: 1 s at --rate 10 is 10 messages: at least 13"),
    ],
)
def test_wrong_options_are_named(arguments: str, line: str) -> None:
    """One line names the option, its value and what is allowed."""
    with pytest.raises(UsageError) as caught:
        simulate(*arguments.split(" "))
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    """It ran and failed: the option, the path and the reason."""
    path = tmp_path / "absent" / "day.itch"
    with pytest.raises(RunError, match=r'--output: ".*absent/day\.itch": No such file or directory'):
        simulate("--output", str(path), *DAY)


def test_a_taken_rewind_address_is_named() -> None:
    """Another server on the re-request address: one line with the address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        with pytest.raises(RunError, match=f'--rewind: "127.0.0.1:{port}": Address already in use'):
            simulate("--messages", "100", "--rewind", f"127.0.0.1:{port}", "--linger", "0")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_ends_the_session_within_a_second(number: signal.Signals) -> None:
    """A day without end stops at Ctrl-C, sends the end of the session and says what it sent."""
    command = [*COMMAND, "--send", "A=239.195.7.9:45999", "--rewind", "", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("sending on")
        started = time.monotonic()
        process.send_signal(number)
        out, error = process.communicate(timeout=20)
        assert time.monotonic() - started < 1
    assert process.returncode == 0, error
    summary = json.loads(out)
    assert summary["lines"]["A"]["offered_messages"] == summary["messages"]
    assert summary["lines"]["A"]["offered"] > summary["packets"], "no end of session"


def test_interrupt_leaves_no_half_file(tmp_path: Path) -> None:
    """Ctrl-C while a file is written: exit status 130, no traceback, and the unfinished file is gone."""
    path = tmp_path / "long.itch"
    command = [*COMMAND, "--output", str(path), "--messages", "100000000000"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: path.exists() and path.stat().st_size > 0, "first bytes")
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in error
    assert not path.exists()
