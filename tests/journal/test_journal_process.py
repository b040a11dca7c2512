"""The journal as a process: killed at any moment, out of space, rotated, compressed, kept within limits."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from feedhandler import _core
from feedhandler.errors import RunError
from feedhandler.journal import writer
from feedhandler.journal.segments import segment_path, segments
from feedhandler.replay.source import open_source
from tests.support.daemon import environment
from tests.support.journal import Channel, journal_files, numbered, read
from tests.support.wait import wait_for

COMMAND = [sys.executable, "-m", "feedhandler.journal"]
PACKET = 16 + 42 + 64


class Process:
    """`python -m feedhandler.journal` on a channel; its log."""

    def __init__(self, channel: Channel, directory: Path, *options: str) -> None:
        self.log_path = directory.parent / "journal.log"
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*COMMAND, str(channel.folder), "--directory", str(directory), *options],
                env=environment(),
                stderr=log,
            )

    def log(self, event: str = "") -> list[dict[str, Any]]:
        entries = [json.loads(line) for line in self.log_path.read_text().splitlines() if line[:1] == "{"]
        return [entry for entry in entries if event in ("", entry["event"])]

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(10)


@contextmanager
def journal(channel: Channel, directory: Path, *options: str) -> Iterator[Process]:
    process = Process(channel, directory, *options)
    try:
        yield process
    finally:
        process.process.kill()
        process.process.wait()


def status(channel: Channel) -> dict[str, Any]:
    found = _core.journal_status(str(channel.folder))
    assert found is not None
    return found


def numbers(directory: Path) -> list[int]:
    """Return the numbers of all packets, read by dpkt, all segments in order."""
    return [int.from_bytes(p.payload[:8]) for path in journal_files(directory) for p in read(path)]


def put(channel: Channel, first: int, count: int) -> int:
    """Put numbered packets, received now; returns the next number."""
    for number in range(first, first + count):
        channel.ring.put(number % 2, numbered(number), time.time_ns())
    return first + count


def test_killed_a_dozen_times_it_loses_nothing_and_damages_nothing(tmp_path: Path) -> None:
    """SIGKILL at random moments under load, with rotation and compression going on: every segment is whole.

    All packets are there in order; at each kill at most one comes twice.
    """
    channel, directory, chance = Channel(tmp_path / "live", 1 << 24), tmp_path / "journal", random.Random(3)
    number, kills = 0, 12
    options = ("--segment-mib", "1", "--sync-s", "0.01")
    for _ in range(kills):
        written = status(channel)["packets"]
        with journal(channel, directory, *options) as process:
            until = written + chance.randrange(200, 5_000)
            while status(channel)["packets"] < until:
                number = put(channel, number, 200)
                assert process.process.poll() is None, process.log_path.read_text()
                wait_for(lambda at=number: at - status(channel)["packets"] < 10_000, "the journal")
            process.stop(signal.SIGKILL)
    with journal(channel, directory, *options) as process:
        number = put(channel, number, 50)
        wait_for(lambda: status(channel)["packets"] >= number, "all packets")
        assert process.stop() == 0
    found = numbers(directory)
    assert sorted(set(found)) == list(range(number))
    assert found == sorted(found)
    assert len(found) - number <= kills
    assert status(channel)["lost_packets"] == 0
    assert not [path for path in directory.iterdir() if path.suffix in (".part", ".tmp")]
    assert len(journal_files(directory)) >= kills // 4


def test_clean_stop_writes_what_is_left_in_the_ring(tmp_path: Path) -> None:
    """All that was received before SIGTERM is in the finished segment, cut to its size; exit status 0."""
    channel, directory = Channel(tmp_path / "live"), tmp_path / "journal"
    with journal(channel, directory, "--no-compress") as process:
        wait_for(lambda: process.log("journal_started"), "the journal")
        put(channel, 0, 5000)
        assert process.stop() == 0
    [path] = journal_files(directory)
    assert path.stat().st_size == 24 + 5000 * PACKET
    assert numbers(directory) == list(range(5000))
    assert status(channel)["state"] == "stopped"


def test_daemon_that_dies_ends_the_journal_with_all_it_had_received(tmp_path: Path) -> None:
    """The ring outlives its writer: what lies in it is written, then the process ends by itself."""
    channel, directory = Channel(tmp_path / "live"), tmp_path / "journal"
    with journal(channel, directory) as process:
        wait_for(lambda: process.log("journal_started"), "the journal")
        put(channel, 0, 300)
        channel.writer.release()
        assert process.process.wait(10) == 0
    assert numbers(directory) == list(range(300))


def test_segments_end_by_size_and_by_time_and_are_compressed(tmp_path: Path) -> None:
    """A new segment after 1 MiB, and after half a second even if nothing more comes; all end as .zst."""
    channel, directory = Channel(tmp_path / "live", 1 << 23), tmp_path / "journal"
    with journal(channel, directory, "--segment-mib", "1", "--segment-s", "0.5") as process:
        per_segment = ((1 << 20) - 24) // PACKET
        put(channel, 0, 2 * per_segment + 10)
        wait_for(
            lambda: [path.suffix for path in journal_files(directory)] == [".zst"] * 3, "compressed segments"
        )
        assert process.stop() == 0
    assert [len(read(path)) for path in journal_files(directory)] == [per_segment, per_segment, 10]
    assert numbers(directory) == list(range(2 * per_segment + 10))


def test_oldest_segments_are_removed_beyond_the_limit(tmp_path: Path) -> None:
    """Finished and open segments together stay below retain_gib; the newest packets are kept."""
    channel, directory = Channel(tmp_path / "live", 1 << 23), tmp_path / "journal"
    limit = 5 << 20
    options = ("--segment-mib", "1", "--no-compress", "--retain-gib", str(limit / (1 << 30)))
    per_segment = ((1 << 20) - 24) // PACKET
    with journal(channel, directory, *options) as process:
        for i in range(12):
            put(channel, i * per_segment, per_segment)
            wait_for(lambda at=i: status(channel)["packets"] == (at + 1) * per_segment, "packets")
            assert sum(path.stat().st_size for path in journal_files(directory)) <= limit
        assert process.stop() == 0
    found = numbers(directory)
    assert found == list(range(found[0], 12 * per_segment))
    assert len(found) >= 3 * per_segment
    assert process.log("journal_segment_removed")


def test_lapped_journal_counts_and_logs_what_it_lost(tmp_path: Path) -> None:
    """Stopped for a while under load: the loss is exact in counters and log, the rest is written."""
    channel, directory = Channel(tmp_path / "live", 1 << 18), tmp_path / "journal"
    with journal(channel, directory) as process:
        put(channel, 0, 10)
        wait_for(lambda: status(channel)["packets"] == 10, "packets")
        process.process.send_signal(signal.SIGSTOP)
        number = put(channel, 10, 20_000)
        process.process.send_signal(signal.SIGCONT)
        wait_for(lambda: process.log("journal_lapped"), "the log of the loss")
        assert process.stop() == 0
    counters = status(channel)
    assert counters["lost_packets"] > 0
    assert counters["packets"] + counters["lost_packets"] == number
    assert sum(entry["lost_packets"] for entry in process.log("journal_lapped")) == counters["lost_packets"]
    assert len(numbers(directory)) == counters["packets"]


@pytest.fixture(params=["tmpfs", "ext4"])
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of 6 MiB, in memory and on a (loopback) disk."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    if request.param == "tmpfs":
        source = ["-t", "tmpfs", "-o", "size=6m", "tmpfs"]
    else:
        image = tmp_path / "image"
        image.write_bytes(bytes(6 << 20))
        subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", "-m", "0", str(image)], check=True)
        source = ["-o", "loop", str(image)]
    subprocess.run(["mount", *source, str(disk)], check=True)
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_full_disk_ends_the_journal_with_an_alarm_and_whole_segments(
    tmp_path: Path, small_disk: Path
) -> None:
    """Exit status 1, an error in the log, `failed` in its state; what was written before is readable.

    Once there is space again the next process goes on where this one stopped.
    """
    channel, directory = Channel(tmp_path / "live", 1 << 24), small_disk / "journal"
    options = ("--segment-mib", "1", "--no-compress")
    with journal(channel, directory, *options) as process:
        process.log_path = tmp_path / "disk" / "journal.log"
        put(channel, 0, 80_000)  # 10 MB
        assert process.process.wait(20) == 1
    log = (small_disk / "journal.log").read_text()
    [alarm] = [json.loads(line) for line in log.splitlines() if '"journal_stopped"' in line]
    assert (alarm["level"], alarm["reason"]) == ("error", "No space left on device")
    assert '"reason": "journal.directory: ' in log
    assert (status(channel)["state"], status(channel)["failures"]) == ("failed", 1)
    before = numbers(directory)
    assert before == list(range(len(before)))
    assert 0 < len(before) < 80_000
    keep = tmp_path / "elsewhere"
    shutil.copytree(directory, keep)
    for path in journal_files(directory):
        path.unlink()
    with journal(channel, directory, *options) as process:
        wait_for(lambda: len(journal_files(directory)) > 2, "it goes on")
    after = numbers_of_whole(directory)
    assert after == list(range(len(before), len(before) + len(after)))


def test_no_room_for_compressing_is_a_warning_and_costs_no_packet(tmp_path: Path, small_disk: Path) -> None:
    """Segments stay as they are while the disk holds no second copy; they are compressed once it does."""
    channel, directory = Channel(tmp_path / "live", 1 << 23), small_disk / "journal"
    per_segment = ((1 << 20) - 24) // PACKET
    filler = small_disk / "filler"
    with journal(channel, directory, "--segment-mib", "1") as process:
        process.log_path = small_disk / "journal.log"
        put(channel, 0, 10)
        wait_for(lambda: status(channel)["packets"] == 10, "the first segment")
        space = os.statvfs(small_disk)
        room = space.f_bavail * space.f_frsize - (1 << 20) - (100 << 10)  # for one more segment, and no copy
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, room)
        put(channel, 10, per_segment)
        wait_for(lambda: status(channel)["packets"] == per_segment + 10, "the second segment")
        warning = wait_for(lambda: process.log("journal_archive_failed"), "the warning")[0]
        assert (warning["level"], warning["reason"]) == ("warning", "No space left on device")
        assert status(channel)["state"] == "writing"
        assert not list(directory.glob("*.tmp"))
        filler.unlink()
        put(channel, per_segment + 10, per_segment)
        wait_for(lambda: len(list(directory.glob("*.zst"))) >= 1, "the compressed segments")
        assert process.stop() == 0
    assert numbers(directory) == list(range(2 * per_segment + 10))


def test_copy_in_the_making_gives_its_room_to_the_next_segment(tmp_path: Path, small_disk: Path) -> None:
    """When only the half-made compressed copy stands in the way, it goes, and no packet is lost for it."""
    channel, directory = Channel(tmp_path / "live", 1 << 23), small_disk / "journal"
    directory.mkdir()
    old = segment_path(directory, "live", 1).with_suffix("")
    with old.open("wb") as file:
        file.write(random.Random(1).randbytes(512 << 10))
        file.truncate(16 << 30)  # a hole: nothing on the disk, seconds of work for the one who copies
    space = os.statvfs(small_disk)
    with (small_disk / "filler").open("wb") as file:
        room = space.f_bavail * space.f_frsize - (1 << 20) - (256 << 10)  # for a segment, or for the copy
        os.posix_fallocate(file.fileno(), 0, room)
    with journal(channel, directory, "--segment-mib", "1") as process:
        process.log_path = small_disk / "journal.log"
        wait_for(lambda: [c for c in directory.glob("*.tmp") if c.stat().st_size > 400 << 10], "the copy")
        put(channel, 0, 10)
        wait_for(lambda: status(channel)["packets"] == 10, "the segment")
        assert (status(channel)["state"], status(channel)["failures"]) == ("writing", 0)
        [entry] = wait_for(lambda: process.log("journal_copy_abandoned"), "the entry in the log")
        assert entry["segment"] == old.name
        (small_disk / "filler").unlink()
        assert process.stop() == 0
        assert "Traceback" not in process.log_path.read_text()
    assert old.exists()
    assert not list(directory.glob("*.tmp"))


def test_segment_that_is_written_is_reserved_on_disk_and_mapped(tmp_path: Path) -> None:
    """All its blocks are there before its packets are, and the process writes it through a mapping."""
    channel, directory = Channel(tmp_path / "live"), tmp_path / "journal"
    with journal(channel, directory, "--segment-mib", "2") as process:
        put(channel, 0, 1)
        wait_for(lambda: status(channel)["packets"] == 1, "the packet")
        [path] = journal_files(directory)
        assert path.stat().st_size == 2 << 20
        assert path.stat().st_blocks * 512 >= 2 << 20
        maps = Path(f"/proc/{process.process.pid}/maps").read_text().splitlines()
        assert [line.split()[1] for line in maps if line.endswith(str(path))] == ["rw-s"]


def test_segments_older_than_the_limit_are_removed(tmp_path: Path) -> None:
    """By the time of their first packet, compressed ones too; younger ones stay."""
    channel, directory = Channel(tmp_path / "live"), tmp_path / "journal"
    directory.mkdir()
    for kind, age_h in ((".pcap", 50), (".pcap.zst", 49), (".pcap.zst", 47), (".pcap", 1)):
        path = segment_path(directory, "live", time.time_ns() - age_h * 3600 * 10**9)
        path.with_name(path.name.replace(".pcap.part", kind)).write_bytes(b"")
    before = journal_files(directory)
    with journal(channel, directory, "--no-compress", "--retain-days", "2") as process:
        wait_for(lambda: journal_files(directory) == before[2:], "the removal of two segments")
        assert process.stop() == 0
    removed = process.log("journal_segment_removed")
    assert [(entry["segment"], entry["reason"]) for entry in removed] == [(p.name, "age") for p in before[:2]]


def numbers_of_whole(directory: Path) -> list[int]:
    """Return the numbers in the finished segments."""
    return [
        int.from_bytes(p.payload[:8])
        for path in journal_files(directory)
        if path.name.endswith(".pcap")
        for p in read(path)
    ]


def test_second_journal_of_one_directory_is_refused(tmp_path: Path) -> None:
    """It waits for the lock of the one before for a while, then says whose place it is."""
    never = threading.Event()
    with writer.locked(tmp_path, never):
        began_s = time.monotonic()
        with (
            pytest.raises(RunError, match="another journal writes here"),
            writer.locked(tmp_path, never, timeout_s=0.2),
        ):
            pass
        assert time.monotonic() - began_s >= 0.2


def test_open_segment_can_be_read_while_it_is_written(tmp_path: Path) -> None:
    """The whole packets of a preallocated file, by path and by directory; never its zeros."""
    channel, directory = Channel(tmp_path / "live"), tmp_path / "journal"
    with journal(channel, directory):
        put(channel, 0, 100)
        wait_for(lambda: status(channel)["packets"] == 100, "packets")
        [segment] = segments(directory)
        assert segment.kind == ".pcap.part"
        for path in (segment.path, directory):
            assert len(open_source(path).data) == 24 + 100 * PACKET


def test_tshark_reads_a_segment_without_a_complaint(tmp_path: Path) -> None:
    """Every frame is UDP with good checksums, times to the nanosecond."""
    tshark = shutil.which("tshark")
    if tshark is None:
        pytest.skip("tshark is not installed")
    channel = Channel(tmp_path / "live")
    core = _core.Journal(str(channel.folder))
    path = tmp_path / "x.pcap"
    core.open(str(path), 1 << 20, 2**62)
    for i in range(50):
        channel.ring.put((0, 1, 8)[i % 3], numbered(i, 40 + i), 1_763_600_000_000_000_001 + i)
    core.pump()
    core.close()
    fields = ["frame.time_epoch", "ip.src", "ip.dst", "udp.dstport", "udp.length"]
    command = [tshark, "-r", str(path), "-T", "fields"]
    for name in (*fields, "ip.checksum.status", "udp.checksum.status", "_ws.expert.message"):
        command += ["-e", name]
    command += ["-o", "udp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert len(rows) == 50
    assert rows[1][0].startswith("1763600000.000000002")
    assert {(row[1], row[2]) for row in rows} == {
        ("0.0.0.0", "239.194.1.1"), ("0.0.0.0", "239.194.1.2"), ("10.1.2.3", "0.0.0.0"),
    }  # fmt: skip
    assert [int(row[4]) for row in rows] == [48 + i for i in range(50)]
    assert {(row[5], row[6]) for row in rows} == {("1", "1")}
