"""The committed captures: made as the script says, read by others, and replayed to the committed answer."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.capture import read_datagrams

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))  # the folder pcaps is not installed
from pcaps import expected, layers  # noqa: E402

PCAPS = ROOT / "pcaps"
CAPTURES = sorted(p for p in PCAPS.iterdir() if ".pcap" in p.name and not p.name.endswith(".json"))
GROUPS = {("239.192.1.1", 26477): 0, ("239.192.1.2", 26478): 1}
NOT_REPEATABLE = ("elapsed_s", "messages_per_s")
each_capture = pytest.mark.parametrize("capture", CAPTURES, ids=lambda p: p.name)


def answer(capture: Path) -> dict[str, object]:
    """What `replay` must say."""
    return dict(json.loads((PCAPS / f"{capture.name}.expected.json").read_text()))


def test_captures_are_what_the_script_makes() -> None:
    """Nobody edits a capture or an answer by hand: the seeded script gives the same bytes."""
    command = [sys.executable, PCAPS / "make_pcaps.py", "--check"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stdout) == (0, "all the same\n"), result.stderr


def test_every_capture_is_small_and_has_its_answer() -> None:
    """Less than 100 KB each, none without an answer, no answer without its capture."""
    assert {p.name for p in PCAPS.glob("*.expected.json")} == {f"{p.name}.expected.json" for p in CAPTURES}
    assert len(CAPTURES) == 9
    assert all(p.stat().st_size < 100_000 for p in CAPTURES)


@each_capture
def test_dpkt_reads_the_datagrams_and_the_model_gives_the_answer(capture: Path) -> None:
    """An independent reader finds both groups.

    The plain model over what it finds gives the committed answer.
    """
    datagrams = [(d.ts_ns, GROUPS[d.group, d.port], d.payload) for d in read_datagrams(capture)]
    assert {line for _, line, _ in datagrams} == {0, 1}
    assert expected.replay(datagrams) == answer(capture)


@each_capture
def test_layers_take_apart_what_they_built(capture: Path) -> None:
    """Every well-formed packet, taken apart by the scapy layers and built again, is the same bytes."""
    kinds = {cls().type: cls for cls in layers.Itch.__subclasses__()}
    seen = set()
    for datagram in read_datagrams(capture):
        if expected.parse(datagram.payload) is None:
            continue
        packet = layers.MoldUDP64(datagram.payload)
        assert bytes(packet) == datagram.payload
        for block in packet.blocks:
            kind = kinds.get(block.data[:1])
            if kind and expected.LENGTHS[chr(block.data[0])] == len(block.data):
                assert bytes(kind(block.data)) == block.data
                seen.add(block.data[:1])
    assert seen >= {b"A", b"E", b"D", b"U"}


def dissect(capture: Path, *fields: str) -> list[list[list[str]]]:
    """The values of the fields that Wireshark's dissector finds, for each packet."""
    tshark = shutil.which("tshark")
    if tshark is None:
        pytest.skip("tshark is not installed (apt-get install tshark)")
    command = [tshark, "-r", str(capture), "-Tfields", "-Eoccurrence=a", "-Eaggregator=,", "-Eseparator=|"]
    for _, port in GROUPS:
        command += ["-d", f"udp.port=={port},moldudp64"]
    for name in fields:
        command += ["-e", name]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr
    rows = (row.split("|") for row in result.stdout.splitlines())
    return [[[v.rstrip(" ") for v in value.split(",") if v] for value in row] for row in rows]


@each_capture
def test_wireshark_dissects_the_same_messages(capture: Path) -> None:
    """Session, sequence, count and every message of each well-formed packet as Wireshark's MoldUDP64
    dissector has them.

    Its ITCH dissector is for an earlier, textual version: it knows nothing of 5.0.
    """
    rows = dissect(
        capture,
        "udp.dstport",
        "moldudp64.session",
        "moldudp64.sequence",
        "moldudp64.count",
        "moldudp64.msgdata",
    )
    datagrams = read_datagrams(capture)
    assert len(rows) == len(datagrams)
    for row, datagram in zip(rows, datagrams, strict=True):
        parsed = expected.parse(datagram.payload)
        if parsed is None:
            continue
        session, sequence, count, messages = parsed
        assert row == [
            [str(datagram.port)],
            [session.decode().rstrip(" ")],
            [str(sequence)],
            [str(count)],
            [message.hex() or "<MISSING>" for message in messages],
        ]


def replay(capture: Path, *options: str) -> tuple[int, dict[str, object]]:
    """Exit status and JSON of the real command."""
    command = [
        sys.executable,
        "-c",
        "from feedhandler.cli import main; main()",
        "replay",
        str(capture),
        "--json",
    ]
    result = subprocess.run([*command, *options], capture_output=True, text=True, timeout=60, check=False)
    assert result.stdout, result.stderr
    return result.returncode, json.loads(result.stdout)


@each_capture
def test_replay_gives_the_answer(capture: Path) -> None:
    """Every key that does not depend on the machine, and exit status 1 where messages stay lost."""
    status, told = replay(capture)
    assert {key: value for key, value in told.items() if key not in NOT_REPEATABLE} == answer(capture)
    assert set(told) == set(answer(capture)) | set(NOT_REPEATABLE)
    assert status == (1 if told["unrecovered"] else 0)


def test_line_alone_is_replayed_with_its_own_losses() -> None:
    """Only line A of a capture in which A lost packets: its messages are nowhere else, so they stay lost."""
    capture = PCAPS / "one_gap.pcap"
    datagrams = [(d.ts_ns, 0, d.payload) for d in read_datagrams(capture) if GROUPS[d.group, d.port] == 0]
    status, told = replay(capture, "--group", "239.192.1.1:26477", "--lines", "1")
    assert {key: value for key, value in told.items() if key not in NOT_REPEATABLE} == expected.replay(
        datagrams
    )
    assert (status, told["unrecovered"]) == (1, answer(capture)["recovered_rewind"])


def test_without_a_server_what_a_line_is_late_with_stays_lost() -> None:
    """`--no-rewind` and B 5 ms behind: waiting ends after 1 ms, and nobody else is there to ask."""
    capture = PCAPS / "one_gap.pcap"
    status, told = replay(capture, "--no-rewind")
    assert (status, told["unrecovered"], told["requests"]) == (1, answer(capture)["recovered_rewind"], 0)
    assert told["state"] == "ENDED"
