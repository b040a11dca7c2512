"""`feedhandler gapfill` as a process: real sockets, real signals, a restart, and files that are wrong."""

import gzip
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zstandard

from feedhandler import _core
from feedhandler.cli import main
from feedhandler.config import Gapfill, load_gapfill
from feedhandler.journal.segments import segment_path
from recovery.gapfill import run
from recovery.server import COUNTER_HELP
from tests.support.journal import FIRST_REPLY_LINE, Channel, journal_files
from tests.support.multicast import Sender, free_ports
from tests.support.wait import wait_for

PCAPS = Path(__file__).resolve().parents[2] / "pcaps"
SESSION, NEXT = b"SESSION01 ", b"SESSION02 "
GROUP_A, GROUP_B = "239.192.77.1", "239.192.77.2"
COMMAND = [sys.executable, "-c", "from feedhandler.cli import main; main()", "gapfill", "--config"]


def packet(first: int, count: int, session: bytes = SESSION) -> bytes:
    """A downstream packet of messages that tell their numbers."""
    blocks = b"".join(struct.pack(">H", 8) + struct.pack(">Q", n) for n in range(first, first + count))
    return struct.pack(">10sQH", session, first, count) + blocks


def lines_config(tmp_path: Path, listen: int, ports: tuple[int, int], more: str = "") -> Path:
    """A file for the live lines, with a store on disk."""
    path = tmp_path / "gapfill.toml"
    path.write_text(
        f'[gapfill]\nlisten = "127.0.0.1:{listen}"\nsource = "lines"\n'
        f'store = "{tmp_path}/day.store"\nstore_mib = 4\n{more}\n'
        f'[[line]]\nname = "A"\ngroup = "{GROUP_A}"\nport = {ports[0]}\n'
        f'[[line]]\nname = "B"\ngroup = "{GROUP_B}"\nport = {ports[1]}\ninterface = "lo"\n'
    )
    return path


@contextmanager
def gapfill(config: Path, environment: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """The process, once it serves; killed if it is still there."""
    log = config.with_suffix(".log")
    with log.open("wb") as errors:
        process = subprocess.Popen([*COMMAND, config], stderr=errors, env=os.environ | (environment or {}))
    try:

        def serves() -> bool:
            assert process.poll() is None, log.read_text()
            return '"serving"' in log.read_text()

        wait_for(serves, "gapfill")
        yield process
    finally:
        process.kill()
        process.wait()


def stop(process: subprocess.Popen[bytes], signal_number: int = signal.SIGTERM) -> float:
    """Ask it to end; returns the seconds it took."""
    begin = time.monotonic()
    process.send_signal(signal_number)
    assert process.wait(timeout=10) == 0
    return time.monotonic() - begin


def last_log(config: Path) -> dict[str, object]:
    """What it said last."""
    return dict(json.loads(config.with_suffix(".log").read_text().splitlines()[-1]))


@contextmanager
def client(port: int) -> Iterator[socket.socket]:
    """A socket connected to the server."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", port))
        sock.settimeout(5)
        yield sock


def ask(sock: socket.socket, first: int, count: int, session: bytes = SESSION) -> bytes:
    """One request, one reply."""
    sock.send(struct.pack(">10sQH", session, first, count))
    return sock.recv(65536)


def wait_for_reply(sock: socket.socket, first: int, expected: bytes, session: bytes = SESSION) -> None:
    """Ask until the reply is as expected: the lines' packets are on their way."""
    sock.settimeout(0.05)

    def answered() -> bool:
        try:
            return ask(sock, first, 100, session) == expected
        except TimeoutError:
            return False

    wait_for(answered, "reply")
    sock.settimeout(5)


def test_live_lines_are_joined_served_and_gone_on_with_after_a_restart(tmp_path: Path) -> None:
    """Each line loses packets, the server has all; stopped and started again it still has them.

    And takes up the rest.
    """
    listen, *ports = free_ports(3)
    config = lines_config(tmp_path, listen, (ports[0], ports[1]))
    with Sender() as sender, client(listen) as sock:
        with gapfill(config) as process:
            for first in range(1, 61, 3):
                if first % 2:
                    sender.send(packet(first, 3), GROUP_A, ports[0])
                else:
                    sender.send(packet(first, 3), GROUP_B, ports[1])
            wait_for_reply(sock, 1, packet(1, 60))
            sender.send(packet(70, 5), GROUP_A, ports[0])
            wait_for_reply(sock, 70, packet(70, 5))
            assert stop(process) < 1.0
            assert last_log(config) | {"feed_messages": 65, "feed_packets": 21} == last_log(config)
        sender.send(packet(61, 1), GROUP_A, ports[0])  # nobody listens
        with gapfill(config) as process:
            assert ask(sock, 58, 100) == packet(58, 3)
            assert ask(sock, 70, 100) == packet(70, 5)
            sender.send(packet(60, 10), GROUP_B, ports[1])
            wait_for_reply(sock, 1, packet(1, 74))
            assert stop(process, signal.SIGINT) < 1.0


def test_journal_is_served_as_it_is(tmp_path: Path) -> None:
    """Segments compressed, finished and still being written, one behind the other; replies count too."""
    directory, at = tmp_path / "journal", 1_763_600_000 * 10**9
    directory.mkdir()
    channel = Channel(tmp_path / "live")
    journal = _core.Journal(str(channel.folder))
    for part, (first, line) in enumerate(((1, 0), (21, FIRST_REPLY_LINE), (31, 1))):
        path = segment_path(directory, "live", at + part)
        journal.open(str(path), 1 << 20, 2**62)
        channel.ring.put(line, packet(first, 10), at + part)
        if part == 0:
            channel.ring.put(1, packet(11, 10), at)
        journal.pump()
        if part == 2:
            break
        journal.close()
        plain = path.with_suffix("")
        path.rename(plain)
        if part == 0:
            plain.with_name(plain.name + ".zst").write_bytes(zstandard.compress(plain.read_bytes()))
            plain.unlink()
    listen = next(free_ports(1))
    config = tmp_path / "gapfill.toml"
    config.write_text(f'[gapfill]\nlisten = "127.0.0.1:{listen}"\nsource = "journal"\nfile = "{directory}"\n')
    assert [path.suffix for path in journal_files(directory)] == [".zst", ".pcap", ".part"]
    with gapfill(config) as process, client(listen) as sock:
        assert ask(sock, 1, 100) == packet(1, 40)
        assert stop(process) < 1.0


def test_killed_server_goes_on_and_a_new_session_replaces_the_old(tmp_path: Path) -> None:
    """kill -9, start: nothing lost; then the session ends, the next one starts at 1.

    And the old one is not served.
    """
    listen, *ports = free_ports(3)
    config = lines_config(tmp_path, listen, (ports[0], ports[1]))
    end = struct.pack(">10sQH", SESSION, 11, 0xFFFF)
    with Sender() as sender, client(listen) as sock:
        with gapfill(config) as process:
            sender.send(packet(1, 10), GROUP_A, ports[0])
            wait_for_reply(sock, 1, packet(1, 10))
            process.kill()
            process.wait()
        with gapfill(config) as process:
            assert ask(sock, 1, 10) == packet(1, 10)
            sender.send(packet(10, 1), GROUP_A, ports[0])
            sender.send(packet(1, 2, NEXT), GROUP_A, ports[0])  # before the end: foreign
            sender.send(end, GROUP_A, ports[0])
            sender.send(packet(1, 5, NEXT), GROUP_A, ports[0])
            wait_for_reply(sock, 1, packet(1, 5, NEXT), NEXT)
            sock.send(struct.pack(">10sQH", SESSION, 1, 1))
            assert ask(sock, 2, 1, NEXT) == packet(2, 1, NEXT)
            assert stop(process) < 1.0


def test_second_server_on_the_same_store_is_refused(tmp_path: Path) -> None:
    """Two writers would destroy the file: the second one ends with one line."""
    listen, other, *ports = free_ports(4)
    config = lines_config(tmp_path, listen, (ports[0], ports[1]))
    with gapfill(config):
        second = tmp_path / "second.toml"
        second.write_text(config.read_text().replace(f":{listen}", f":{other}"))
        result = subprocess.run([*COMMAND, second], capture_output=True, text=True, timeout=30, check=False)
        assert (result.returncode, result.stderr) == (
            1,
            f'gapfill.store: "{tmp_path}/day.store": another process writes it\n',
        )


def test_service_manager_is_told_ready_only_when_it_answers(tmp_path: Path) -> None:
    """READY=1 comes after the socket is bound, then a status; STOPPING=1 at the end; the watchdog is fed."""
    (listen,) = free_ports(1)
    config = tmp_path / "g.toml"
    capture = PCAPS / "clean.pcap"
    config.write_text(f'[gapfill]\nlisten = "127.0.0.1:{listen}"\nsource = "capture"\nfile = "{capture}"\n')
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "2000000"}
        with gapfill(config, environment) as process, client(listen) as sock:
            assert manager.recv(4096).startswith(b"READY=1\nSTATUS=FHCAPTURE1 to 341")
            assert struct.unpack_from(">10sQH", ask(sock, 1, 5, b"FHCAPTURE1")) == (b"FHCAPTURE1", 1, 5)
            heard = set()
            while heard != {b"WATCHDOG=1", b"STATUS=FHCAPTURE1 to 341, 1 of 1 answered"}:
                heard.add(manager.recv(4096))
                heard.discard(b"STATUS=FHCAPTURE1 to 341, 0 of 0 answered")
            stop(process)
            while manager.recv(4096) != b"STOPPING=1":
                pass


@pytest.mark.parametrize("compress", [False, True])
def test_binaryfile_is_served_under_the_configured_session(tmp_path: Path, compress: bool) -> None:
    """Record i of the file is message i; gzip by content."""
    (listen,) = free_ports(1)
    data = packet(1, 500)[20:] + b"\0\0"
    (tmp_path / "day").write_bytes(gzip.compress(data) if compress else data)
    config = tmp_path / "g.toml"
    config.write_text(
        f'[gapfill]\nlisten = "127.0.0.1:{listen}"\nsource = "binaryfile"\n'
        f'file = "{tmp_path}/day"\nsession = "SHORT"\n'
    )
    with gapfill(config), client(listen) as sock:
        assert ask(sock, 1, 3, b"SHORT     ") == packet(1, 3, b"SHORT     ")
        assert ask(sock, 499, 65535, b"SHORT     ") == packet(499, 2, b"SHORT     ")


GOOD = '[gapfill]\nlisten = "127.0.0.1:26599"\nsource = "capture"\nfile = "x.pcap"\n'
LINE = '[[line]]\nname = "A"\ngroup = "239.1.1.1"\nport = 26477\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "gapfill: is missing; it is required"),
        ("[gapfill\n", "is not TOML"),
        (
            GOOD.replace("capture", "wire"),
            'gapfill.source: "wire" is not one of "lines", "capture", "journal", "binaryfile"',
        ),
        (GOOD.replace('file = "x.pcap"\n', ""), 'gapfill.file: "" is missing; source "capture" needs one'),
        (GOOD.replace(":26599", ":0"), 'gapfill.listen: "127.0.0.1:0" is not an IPv4 address and port'),
        (GOOD + "colour = 1\n", "gapfill.colour: is not a known key; known here: listen, source"),
        (GOOD + 'allow = ["10.0.0.1/8"]\n', 'gapfill.allow[0]: "10.0.0.1/8" is not an IPv4 network'),
        (GOOD + "allow = []\n", "gapfill.allow: has 0 entries; at least 1 needed"),
        (GOOD + "max_payload = 70000\n", "gapfill.max_payload: 70000 is more than 65507"),
        (GOOD + "requests_per_s = 0\n", "gapfill.requests_per_s: 0 is not more than 0"),
        (GOOD + 'bytes_per_s = "many"\n', 'gapfill.bytes_per_s: "many" is not a number'),
        (GOOD + 'session = "ELEVENCHARS"\n', 'gapfill.session: "ELEVENCHARS" is not a MoldUDP64 session'),
        (
            GOOD.replace("capture", "binaryfile"),
            'gapfill.session: "" is missing; source "binaryfile" needs one',
        ),
        (
            GOOD.replace("capture", "lines") + LINE,
            'gapfill.file: "x.pcap" goes with source "capture", "journal" or "binaryfile" only',
        ),
        (GOOD + LINE, 'goes with source "lines", not "capture"'),
        (
            '[gapfill]\nlisten = "127.0.0.1:26599"\nsource = "lines"\n',
            'line: [] is empty; source "lines" needs at least one',
        ),
        (
            '[gapfill]\nlisten = "127.0.0.1:26599"\nsource = "lines"\n' + LINE + LINE,
            'line[1].name: "A" is the name of line[0] already',
        ),
        (GOOD, 'gapfill.file: "x.pcap": No such file or directory'),
        (GOOD.replace("x.pcap", "garbage"), 'gapfill.file: "garbage": not a whole pcap or pcapng'),
    ],
)
def test_wrong_file_is_one_line_with_key_and_value_and_exit_status_2(
    tmp_path: Path,
    text: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No traceback, nothing started."""
    (tmp_path / "garbage").write_bytes(b"this is no capture" * 10)
    (tmp_path / "g.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["feedhandler", "gapfill", "--config", "g.toml"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_missing_configuration_is_named(tmp_path: Path) -> None:
    """Exit status 2 and the path, from the process itself: no traceback."""
    result = subprocess.run(
        [*COMMAND, tmp_path / "none.toml"], capture_output=True, text=True, timeout=30, check=False
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"{tmp_path}/none.toml: cannot be read: no such file or directory\n"


def test_interface_that_is_not_here_is_named(tmp_path: Path) -> None:
    """One line with the line's place in the file, exit status 1: the file is right, the host is not."""
    listen, *ports = free_ports(3)
    config = lines_config(tmp_path, listen, (ports[0], ports[1]))
    config.write_text(config.read_text().replace('"lo"', '"nodev9"'))
    result = subprocess.run([*COMMAND, config], capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 1
    assert f'line[1]: "{GROUP_B}:{ports[1]}" on "nodev9": cannot be joined: No such device' in result.stderr


def test_holes_of_both_lines_are_filled_by_the_server_further_up(tmp_path: Path) -> None:
    """What the exchange's server has, this one serves a moment later, although no line brought it."""
    listen, up, *ports = free_ports(4)
    upstream = tmp_path / "up.toml"
    (tmp_path / "day").write_bytes(packet(1, 80)[20:])
    upstream.write_text(
        f'[gapfill]\nlisten = "127.0.0.1:{up}"\nsource = "binaryfile"\n'
        f'file = "{tmp_path}/day"\nsession = "{SESSION.decode().strip()}"\n'
    )
    config = lines_config(tmp_path, listen, (ports[0], ports[1]))
    config.write_text(config.read_text() + f'[[upstream]]\naddress = "127.0.0.1:{up}"\n')
    with gapfill(upstream), gapfill(config) as process, Sender() as sender, client(listen) as sock:
        sender.send(packet(20, 10), GROUP_A, ports[0])
        sender.send(packet(41, 40), GROUP_B, ports[1])
        wait_for_reply(sock, 1, packet(1, 80))
        assert stop(process) < 1.0
        assert last_log(config)["upstream_messages"] == 30


class BusyLog:
    """A log that takes a lock, as the real one does; SIGTERM comes while it writes its first line."""

    def __init__(self) -> None:
        self.entries: dict[str, dict[str, object]] = {}
        self._busy = False

    def info(self, event: str, **fields: object) -> None:
        """Take the lock, write, give it back."""
        assert not self._busy, f"{event} waits for ever for the lock of the line that was interrupted"
        self._busy = True
        if not self.entries:
            signal.raise_signal(signal.SIGTERM)
        self.entries[event] = fields
        self._busy = False


def test_a_signal_while_it_logs_does_not_hang_it(tmp_path: Path) -> None:
    """The handler runs on the thread that holds the log's lock: it must not log."""
    (tmp_path / "day").write_bytes(packet(1, 8)[20:])
    config = tmp_path / "gapfill.toml"
    config.write_text(
        f'[gapfill]\nlisten = "127.0.0.1:{next(free_ports(1))}"\nsource = "binaryfile"\n'
        f'file = "{tmp_path}/day"\nsession = "{SESSION.decode().strip()}"\n'
    )
    log = BusyLog()
    run(load_gapfill(config, {}), log)
    assert list(log.entries) == ["serving", "stopped"]
    assert log.entries["stopped"]["signal"] == "SIGTERM"


def test_documentation_names_every_key_and_counter() -> None:
    """A key or counter that only the code knows is of no use to an operator."""
    text = (PCAPS.parent / "docs" / "gapfill.md").read_text()
    for key in Gapfill.model_fields:
        assert f"\n{key} = " in text
    for counter in COUNTER_HELP:
        assert f"`{counter}`" in text
