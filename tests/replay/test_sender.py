"""`--send`: the faulted packets on the network, the end of the session, and re-requests served."""

import json
import os
import select
import socket
import struct
import sys
import threading
import time
from pathlib import Path

import pytest

from feedhandler.cli import main
from feedhandler.errors import RunError, UsageError
from feedhandler.replay import sender
from feedhandler.replay.options import Faults, ReplayOptions
from feedhandler.replay.source import open_source
from tests.support import itch_messages as itch
from tests.support.multicast import free_port
from tests.support.replay_files import binary_file, link, mold, pcap, udp

LOOPBACK = "127.0.0.1"
DEADLINE_S = 20
HEADER = struct.Struct(">10sQH")
END = 0xFFFF


class Line:
    """A receiver of one group: packets with their arrival, until the end of the session."""

    def __init__(self, group: str) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind((group, 0))
        self.group = (group, self.socket.getsockname()[1])
        membership = socket.inet_aton(group) + socket.inet_aton(LOOPBACK)
        self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        self.packets: list[tuple[float, bytes]] = []

    def until_end(self) -> list[bytes]:
        """Data packets up to the end of the session."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            if not select.select([self.socket], [], [], 0.1)[0]:
                continue
            packet = self.socket.recv(2048)
            if HEADER.unpack_from(packet)[2] == END:
                return [p for _, p in self.packets]
            self.packets.append((time.monotonic(), packet))
        raise AssertionError("no end of session came")


@pytest.fixture
def lines(request: pytest.FixtureRequest):
    """Two receivers on groups of this process's own."""
    low = 1 + os.getpid() % 250
    pair = [Line(f"239.213.{low}.1"), Line(f"239.213.{low}.2")]
    yield pair
    for line in pair:
        line.socket.close()


@pytest.fixture(autouse=True)
def short_goodbye(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of the session is told for a shorter while than for people."""
    monkeypatch.setattr(sender, "_END_REPEAT_S", 0.1)
    monkeypatch.setattr(sender, "_QUIET_S", 0.5)


def blocks(packet: bytes) -> dict[int, bytes]:
    """Sequence number to message."""
    _, first, count = HEADER.unpack_from(packet)
    out, at = {}, HEADER.size
    for sequence in range(first, first + count):
        length = struct.unpack_from(">H", packet, at)[0]
        out[sequence] = packet[at + 2 : at + 2 + length]
        at += 2 + length
    assert at == len(packet)
    return out


def endpoints(lines: list[Line]) -> tuple[sender.Endpoint, ...]:
    """Where the receivers listen."""
    return tuple(sender.Endpoint(name, line.group) for name, line in zip("AB", lines, strict=True))


def test_lossy_lines_and_rewind_give_every_message(lines: list[Line], tmp_path: Path) -> None:
    """What both lines lose is had from the re-request server; what is sent is what the counts say."""
    messages = [itch.add(ref, "B", 100, 10_000 + ref, ts=ref * 50_000) for ref in range(1, 1001)]
    path = tmp_path / "x"
    path.write_bytes(binary_file(messages))
    address = (LOOPBACK, free_port())
    options = ReplayOptions(faults=Faults(drop=0.3), seed=4)
    sending = sender.Sender(open_source(path), options, endpoints(lines), LOOPBACK, address)
    result: dict[str, object] = {}
    thread = threading.Thread(target=lambda: result.update(sending.send(None)))
    thread.start()
    got: dict[int, bytes] = {}
    for line in lines:
        for packet in line.until_end():
            got |= blocks(packet)
    missing = set(range(1, 1001)) - set(got)
    assert missing, "nothing was lost on both lines: nothing is tested"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.settimeout(DEADLINE_S)
        for sequence in sorted(missing):
            asker.sendto(HEADER.pack(b"BINARYFILE", sequence, 1), address)
            got |= blocks(asker.recv(2048))
    thread.join(DEADLINE_S)
    assert got == dict(enumerate(messages, 1))
    received = {name: len(line.packets) for name, line in zip("AB", lines, strict=True)}
    assert result["sent"] == received
    assert result["dropped"] == 2000 - sum(received.values())
    assert result["rewind_requests"] == result["rewind_replies"] == len(missing)


def test_tcpreplay_and_udpreplay_drift_due_times_are_anchored_on_the_first_packet(
    lines: list[Line], tmp_path: Path
) -> None:
    """Sleeping by differences adds up its errors: 200 packets 2 ms apart must not fall behind."""
    packets = [(10**18 + i * 2_000_000, link(udp(mold(i + 1, [itch.delete(i)])))) for i in range(200)]
    path = tmp_path / "x"
    path.write_bytes(pcap(packets))
    sending = sender.Sender(open_source(path), ReplayOptions(), endpoints(lines), LOOPBACK, None)
    thread = threading.Thread(target=sending.send, args=(1.0,))
    thread.start()
    lines[0].until_end()
    thread.join(DEADLINE_S)
    times = [arrived for arrived, _ in lines[0].packets]
    assert len(times) == 200
    late = [arrived - times[0] - i * 0.002 for i, arrived in enumerate(times)]
    assert min(late) > -0.05, "sent before it was due"
    # The best of the last ones: whoever drifts is late with all of them, a busy machine only with some.
    assert min(late[-50:]) < 0.05


def test_two_groups_of_a_capture_go_out_on_two_lines(lines: list[Line], tmp_path: Path) -> None:
    """Each packet on its own line, not on both."""
    a, b = ("239.1.1.1", 26477), ("239.1.1.2", 26478)
    one, two = mold(1, [itch.delete(1)]), mold(2, [itch.delete(2)])
    path = tmp_path / "x"
    path.write_bytes(pcap([(1, link(udp(one, a))), (2, link(udp(two, b)))]))
    sending = sender.Sender(open_source(path), ReplayOptions(), endpoints(lines), LOOPBACK, None)
    thread = threading.Thread(target=sending.send, args=(None,))
    thread.start()
    assert [line.until_end() for line in lines] == [[one], [two]]
    thread.join(DEADLINE_S)
    three = (*endpoints(lines), sender.Endpoint("C", ("239.213.9.9", 1)))
    with pytest.raises(UsageError, match=r"3 lines, but .* has 2 groups"):
        sender.Sender(open_source(path), ReplayOptions(), three, LOOPBACK, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("239.1.1.1:5", "is not NAME=GROUP:PORT"),
        ("A=10.0.0.1:5", "10.0.0.1 is not an IPv4 multicast address"),
        ("A=239.1.1.1:5,A=239.1.1.2:5", "two lines with one name"),
        ("A=239.1.1.1:5,B=239.1.1.1:5", "or one group"),
        ("=239.1.1.1:5", "is not NAME=GROUP:PORT"),
        (",".join(f"L{i}=239.1.1.{i}:5" for i in range(9)), "more than 8 lines"),
    ],
)
def test_broken_lines(text: str, said: str) -> None:
    """The option, its value and what is wrong."""
    with pytest.raises(UsageError, match=said) as error:
        sender.parse_endpoints("--send", text)
    assert str(error.value).startswith("--send: ")


def test_rewind_address_in_use(lines: list[Line], tmp_path: Path) -> None:
    """One line that names the option."""
    path = tmp_path / "x"
    path.write_bytes(binary_file([itch.system_event()]))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((LOOPBACK, 0))
        address = taken.getsockname()
        sending = sender.Sender(open_source(path), ReplayOptions(), endpoints(lines), LOOPBACK, address)
        with pytest.raises(RunError, match=f'--rewind: "{LOOPBACK}:{address[1]}": Address already in use'):
            sending.send(None)


def test_command_sends_and_says_so(
    lines: list[Line], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """JSON on stdout; options that need the pipeline are refused."""
    path = tmp_path / "x"
    path.write_bytes(binary_file([itch.system_event()]))
    where = ",".join(f"{e.name}={e.group[0]}:{e.group[1]}" for e in endpoints(lines))
    words = ["feedhandler", "replay", str(path), "--send", where]
    for interface in ("127.0.0.1", "lo"):
        monkeypatch.setattr(sys, "argv", [*words, "--interface", interface, "--json"])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
        counts = json.loads(capsys.readouterr().out)
        assert (counts["packets"], counts["messages"], counts["sent"]) == (1, 1, {"A": 1, "B": 1})
    for interface in ("eth99", "192.0.2.1", "1.2.3"):
        monkeypatch.setattr(sys, "argv", [*words, "--interface", interface])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        message = (
            f'--interface: "{interface}" is no address of this machine or device that has one (devices: '
        )
        assert message in capsys.readouterr().err
    for refused in (["--dbn", str(tmp_path)], ["--symbols", "A"], ["--no-rewind"], ["--schema", "mbo"]):
        monkeypatch.setattr(sys, "argv", [*words, *refused])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        assert f"{refused[0]}: has no meaning with --send" in capsys.readouterr().err
