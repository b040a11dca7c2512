"""Writers that die, hang, stop, restart; readers that stop. Two processes each."""

import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from feedhandler import Consumer, FeedState, _core
from feedhandler.errors import RunError
from tests.support.channels import MBO, end, garbage, make_channel, patterned, start_writer, wait_until

KILLS = 25


def test_killed_writer_is_dead_within_10_ms_and_leaves_no_garbage(runtime: Path) -> None:
    """kill -9 amid full-speed writing, many times: DEAD within 10 ms (median), all that was read is whole."""
    delays_ms, read, bad = [], 0, 0
    for _ in range(KILLS):
        process = start_writer(runtime / "test")
        with Consumer("test", schemas=["mbo"], runtime_dir=runtime) as consumer:
            deadline, expected = time.monotonic() + 0.03, None
            while time.monotonic() < deadline:
                expected = _check(consumer, expected)
            start = time.monotonic_ns()
            os.kill(process.pid, signal.SIGKILL)
            while consumer.state != FeedState.DEAD:
                time.sleep(0.0001)  # the dying process needs a CPU to die on
            delays_ms.append((time.monotonic_ns() - start) / 1e6)
            while (
                after := _check(consumer, expected)
            ) != expected:  # what it had committed is still there, whole
                expected = after
            assert expected is not None
            read += expected[0]
            bad += expected[2]
        end(process)
    print(f"DEAD after ms: median {statistics.median(delays_ms):.3f}, max {max(delays_ms):.3f}; read {read}")
    assert read > 0
    assert bad == 0
    assert statistics.median(delays_ms) < 10.0


def _check(consumer: Consumer, seen: tuple[int, int, int] | None) -> tuple[int, int, int] | None:
    """Poll once; numbers grow by exactly what was read and lost. Returns (read, first number, garbage)."""
    batches = consumer.poll()
    for batch in batches:
        first, last = int(batch.records["order_id"][0]), int(batch.records["order_id"][-1])
        read, base, bad = seen or (0, first - consumer.lost, 0)
        assert last - first + 1 == len(batch)
        assert first == base + read + consumer.lost
        seen = (read + len(batch), base, bad + garbage(batch.records))
    return seen


def test_stopped_reader_is_lapped_and_reports_the_loss(runtime: Path) -> None:
    """A reader process that is SIGSTOPped while the ring turns over: read + lost = written, nothing torn."""
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).resolve().parent.parent)!r})
from feedhandler import Consumer, FeedState
from tests.support.channels import garbage
read = bad = 0
with Consumer(sys.argv[1], schemas=["mbo"]) as consumer:
    print("up", flush=True)
    while True:
        batches = consumer.poll(0.01)
        for batch in batches:
            read += len(batch)
            bad += garbage(batch.records)
        if not batches and consumer.state == FeedState.ENDED:
            break
    print(read, consumer.lost, bad, flush=True)
"""
    writer = make_channel(runtime / "test")
    writer.set_state(1)
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(runtime / "test")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    written = 0
    for turn in range(6):
        if turn % 2 == 1:
            os.kill(process.pid, signal.SIGSTOP)
        for _ in range(40):
            writer.heartbeat()
            writer.write(MBO, patterned(written, 1000).view(np.uint8), written)
            written += 1000
        os.kill(process.pid, signal.SIGCONT)
    deadline = time.monotonic() + 20
    writer.set_state(4)
    while process.poll() is None and time.monotonic() < deadline:
        writer.heartbeat()
        time.sleep(0.005)
    read, lost, bad = map(int, process.communicate(timeout=5)[0].split())
    assert read + lost == written
    assert lost > 0
    assert bad == 0
    writer.release()


def test_stopped_writer_is_stale_after_a_second_and_live_again(runtime: Path) -> None:
    """A daemon that hangs, though it lives, is STALE after one second without a heartbeat."""
    process = start_writer(runtime / "test", "idle")
    with Consumer("test", schemas=["mbo"], runtime_dir=runtime) as consumer:
        wait_until(lambda: consumer.state == FeedState.LIVE)
        os.kill(process.pid, signal.SIGSTOP)
        start = time.monotonic()
        wait_until(lambda: consumer.state == FeedState.STALE)
        assert time.monotonic() - start > 0.9
        os.kill(process.pid, signal.SIGCONT)
        wait_until(lambda: consumer.state == FeedState.LIVE)
    end(process)


def test_clean_stop_is_dead(runtime: Path) -> None:
    """A daemon that was stopped is no daemon."""
    writer = make_channel(runtime / "test")
    writer.set_state(1)
    with Consumer("test", schemas=["mbo"], runtime_dir=runtime) as consumer:
        assert consumer.state == FeedState.LIVE
        writer.release()
        assert consumer.state == FeedState.DEAD


def test_writer_that_is_taken_down_without_release_is_dead(runtime: Path) -> None:
    """Memory that is unmapped while its mutex is held cannot be marked by the kernel: the writer marks it."""
    writer = make_channel(runtime / "test")
    with Consumer("test", schemas=["mbo"], runtime_dir=runtime) as consumer:
        assert consumer.state == FeedState.STARTING
        del writer
        assert consumer.state == FeedState.DEAD


def test_files_of_a_machine_that_crashed_are_dead(runtime: Path) -> None:
    """Files that say "alive" without anybody holding their lock (a reboot, a copy) are DEAD at attaching."""
    writer = make_channel(runtime / "test")
    writer.set_state(1)
    shutil.copytree(runtime / "test", runtime / "copy")
    assert _core.ChannelReader(str(runtime / "test")).state == FeedState.LIVE
    assert _core.ChannelReader(str(runtime / "copy")).state == FeedState.DEAD
    writer.release()


def test_second_daemon_of_a_channel_is_refused(runtime: Path) -> None:
    """One channel, one daemon: the second is told so and the first is not disturbed."""
    writer = make_channel(runtime / "test")
    with pytest.raises(RunError, match="another daemon"):
        make_channel(runtime / "test")
    assert _core.ChannelReader(str(runtime / "test")).alive
    writer.release()


def test_consumer_moves_to_the_restarted_daemon_and_reads_it_from_its_first_record(runtime: Path) -> None:
    """Old files stay mapped and whole; the new ring is read from the start; the move is counted."""
    writer = make_channel(runtime / "test", epoch=1)
    with Consumer("test", schemas=["mbo"], runtime_dir=runtime) as consumer:
        writer.write(MBO, patterned(0, 10).view(np.uint8), 0)
        writer.release()
        del writer
        writer = make_channel(runtime / "test", epoch=2)
        writer.write(MBO, patterned(10, 10).view(np.uint8), 0)
        numbers: list[int] = []
        wait_until(
            lambda: (
                bool(numbers.extend(n for b in consumer.poll(0.01) for n in b.records["order_id"]))
                or len(numbers) >= 20
            )
        )
        assert numbers == list(range(20))
        assert (consumer.restarts, consumer.epoch, consumer.lost) == (1, 2, 0)
        assert consumer.state == FeedState.STARTING
    writer.release()


def test_failed_start_leaves_the_last_counters_readable(runtime: Path) -> None:
    """A daemon that ends before it owns the channel takes its half-made files away and leaves the old."""
    writer = make_channel(runtime / "test", epoch=1)
    writer.put_counters([], {}, {}, {"messages": 7}, "S", 5)
    writer.release()
    del writer
    _core.ChannelWriter(str(runtime / "test"), "test", epoch=2)
    reader = _core.ChannelReader(str(runtime / "test"))
    assert reader.counters()["feed"]["messages"] == 7
    assert not list((runtime / "test").glob("*.new"))


def test_gap_history_keeps_the_newest_1024(runtime: Path) -> None:
    """Older holes fall out, the total goes on, an update reaches the entry it belongs to."""
    writer = make_channel(runtime / "test")
    for i in range(1100):
        assert writer.add_gap({"first": i + 1, "last": i + 1, "opened_ns": i}) == i
    writer.update_gap(1099, {"first": 1100, "last": 1100, "closed_ns": 5})
    writer.update_gap(3, {"first": 666, "last": 666})  # long gone: its place belongs to another
    reader = _core.ChannelReader(str(runtime / "test"))
    gaps = reader.gaps()
    assert reader.gap_count == 1100
    assert [gap["first"] for gap in gaps] == list(range(77, 1101))
    assert gaps[-1]["closed_ns"] == 5
    writer.release()
