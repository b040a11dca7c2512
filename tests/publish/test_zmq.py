"""ZeroMQ, end to end, with real sockets."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import zmq

from feedhandler import FeedState
from feedhandler.publish import Message, ZmqSubscriber
from feedhandler.publish.publisher import Publisher
from feedhandler.publish.wire import Header, widen
from tests.support import itch_messages as itch
from tests.support.channels import MBO, make_channel, patterned, wait_until

STATE, GAP_OPEN, GAP_CLOSED, GAP_LOST, LINE_DOWN, SESSION_START = 1, 2, 3, 4, 5, 7


@pytest.fixture
def context() -> Iterator["zmq.Context[zmq.Socket[bytes]]"]:
    """Return a context of its own, ended with whatever it holds."""
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


def joined(publisher: Publisher, subscriber: ZmqSubscriber) -> None:
    """Turn the publisher until the subscriber hears it: from then on nothing is missed for being early."""

    def heard() -> bool:
        publisher._next_heartbeat = 0.0
        publisher.step(0.0)
        return subscriber.receive(0.01) is not None

    wait_until(heard)
    while subscriber.receive(0.05) is not None:
        pass


def received(
    publisher: Publisher, subscriber: ZmqSubscriber, enough: Callable[[list[Message]], bool]
) -> list[Message]:
    """Turn the publisher until what the subscriber got (without heartbeats) is enough."""
    messages: list[Message] = []

    def turn() -> bool:
        publisher.step(0.01)
        while (message := subscriber.receive(0.01)) is not None:
            if message.schema != "feed" or message.event["event"] != "heartbeat":
                messages.append(message)
        return enough(messages)

    wait_until(turn)
    return messages


def test_a_padded_session_has_one_name(runtime: Path, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
    """A name of less than ten characters: events and heartbeats tell the same, or it looks like another."""
    writer = make_channel(runtime / "test", books=True, schema_mask=0b1)
    publisher = Publisher(str(runtime / "test"), f"ipc://{runtime}/s", context=context)
    subscriber = ZmqSubscriber(f"ipc://{runtime}/s", "test", context=context)
    joined(publisher, subscriber)
    writer.event(SESSION_START, state=1, first=1, session="DAY1      ")
    writer.put_counters([], {}, {}, {}, session="DAY1      ")
    publisher._next_heartbeat = 0.0
    names: list[str] = []

    def told() -> bool:
        publisher.step(0.01)
        while (message := subscriber.receive(0.01)) is not None:
            if message.schema == "feed":
                names.extend(filter(None, [message.event.get("session")]))
        return len(names) >= 2

    wait_until(told)
    assert set(names) == {"DAY1"}
    subscriber.close()
    publisher.close()


def test_frames_topics_and_headers(runtime: Path, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
    """Three frames; topic CHANNEL/SCHEMA/SYMBOL/; header <QQIHBB; body of count records: byte for byte."""
    writer = make_channel(runtime / "test", books=True, schema_mask=0b1011)
    writer.set_state(1)
    publisher = Publisher(str(runtime / "test"), f"ipc://{runtime}/s", context=context)
    subscriber = ZmqSubscriber(f"ipc://{runtime}/s", "test", context=context)
    joined(publisher, subscriber)
    writer.apply(1, [itch.add(1, "B", 100, 10_0000), itch.add(2, "S", 50, 10_0100), itch.executed(1, 40)])
    messages = received(publisher, subscriber, lambda got: len(got) >= 3)
    by_topic = {message.topic: message for message in messages}
    assert set(by_topic) == {"test/mbo/AAA/", "test/mbp-1/AAA/", "test/trades/AAA/"}
    mbo = by_topic["test/mbo/AAA/"]
    assert (mbo.header.topic_seq, mbo.header.channel_seq, mbo.header.count, mbo.header.state) == (1, 3, 5, 1)
    assert len(mbo.header.pack()) == 24
    assert len(mbo.body) == 5 * 56
    assert mbo.records["action"].tolist() == [b"A", b"A", b"T", b"F", b"C"]
    assert by_topic["test/trades/AAA/"].records["size"].tolist() == [40]
    writer.apply(4, [itch.delete(2)])
    again = received(publisher, subscriber, lambda got: len(got) >= 2)
    assert {message.header.topic_seq for message in again} == {2}
    assert subscriber.lost == 0
    assert subscriber.state == FeedState.LIVE
    subscriber.close()
    publisher.close()
    writer.release()


def test_prefixes_are_exact(runtime: Path, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
    """A subscription to A does not bring AA."""
    writer = make_channel(runtime / "test", books=True)
    publisher = Publisher(str(runtime / "test"), f"ipc://{runtime}/s", context=context)
    subscriber = ZmqSubscriber(f"ipc://{runtime}/s", "test", topics=["mbo/A/"], context=context)
    joined(publisher, subscriber)
    writer.apply(
        1,
        [
            itch.add(1, "B", 1, 10_0000, locate=1, stock="AA"),
            itch.add(2, "B", 1, 10_0000, locate=2, stock="A"),
        ],
    )
    messages = received(publisher, subscriber, lambda got: len(got) >= 1)
    assert [(message.topic, int(message.records["order_id"][0])) for message in messages] == [
        ("test/mbo/A/", 2)
    ]
    subscriber.close()
    publisher.close()
    writer.release()


def test_instrument_that_is_given_to_another_symbol_changes_its_topic(
    runtime: Path, context: "zmq.Context[zmq.Socket[bytes]]"
) -> None:
    """A new day gives instrument ids to others: records of one symbol never go out under another's topic."""
    writer = make_channel(runtime / "test", books=True, schema_mask=1)
    publisher = Publisher(str(runtime / "test"), f"ipc://{runtime}/s", context=context)
    subscriber = ZmqSubscriber(f"ipc://{runtime}/s", "test", topics=["mbo/"], context=context)
    joined(publisher, subscriber)
    writer.apply(1, [itch.add(1, "B", 1, 10_0000, stock="AAA")])
    first = received(publisher, subscriber, lambda got: len(got) >= 1)
    writer.apply(1, [itch.directory(stock="CCC"), itch.add(9, "B", 1, 10_0000, stock="CCC")])
    second = received(publisher, subscriber, lambda got: len(got) >= 1)
    assert [message.topic for message in first + second] == ["test/mbo/AAA/", "test/mbo/CCC/"]
    subscriber.close()
    publisher.close()
    writer.release()


def test_feed_events_in_order_with_their_fields(
    runtime: Path, context: "zmq.Context[zmq.Socket[bytes]]"
) -> None:
    """The whole trace of a hole that closes and one that does not; the header has the state after it."""
    writer = make_channel(runtime / "test", lines=["A", "B"])
    publisher = Publisher(str(runtime / "test"), f"ipc://{runtime}/s", context=context)
    subscriber = ZmqSubscriber(f"ipc://{runtime}/s", "test", context=context)
    joined(publisher, subscriber)
    writer.event(SESSION_START, first=1, session="S1", ts_ns=1)
    writer.event(STATE, state=1, previous=0, ts_ns=2)
    writer.event(GAP_OPEN, state=2, first=5, last=9, ts_ns=3)
    writer.event(STATE, state=2, previous=1, ts_ns=4)
    writer.event(GAP_CLOSED, state=2, first=5, last=9, ts_ns=5)
    writer.event(STATE, state=1, previous=2, ts_ns=6)
    writer.event(LINE_DOWN, state=1, line=1, ts_ns=7)
    writer.event(GAP_LOST, state=3, first=20, last=21, ts_ns=8)
    writer.event(STATE, state=3, previous=1, ts_ns=9)
    messages = received(publisher, subscriber, lambda got: len(got) >= 9)
    assert [message.event for message in messages] == [
        {"event": "session_start", "ts": 1, "session": "S1", "next_sequence": 1},
        {"event": "state", "ts": 2, "state": "LIVE", "previous": "STARTING"},
        {"event": "gap_open", "ts": 3, "first": 5, "last": 9},
        {"event": "state", "ts": 4, "state": "RECOVERING", "previous": "LIVE"},
        {"event": "gap_closed", "ts": 5, "first": 5, "last": 9},
        {"event": "state", "ts": 6, "state": "LIVE", "previous": "RECOVERING"},
        {"event": "line_down", "ts": 7, "line": "B"},
        {"event": "gap_lost", "ts": 8, "first": 20, "last": 21},
        {"event": "state", "ts": 9, "state": "STALE", "previous": "LIVE"},
    ]
    assert [message.header.state for message in messages] == [0, 1, 2, 2, 2, 1, 1, 3, 3]
    assert subscriber.lost == 0
    subscriber.close()
    publisher.close()
    writer.release()


def test_zeromq_pub_drops_silently_at_its_high_water_mark_but_the_slow_subscriber_learns_it(
    runtime: Path, context: "zmq.Context[zmq.Socket[bytes]]"
) -> None:
    """A subscriber that does not take its messages can count those it lost; the other one loses none."""
    writer = make_channel(runtime / "test", ring_bytes=1 << 22)
    publisher = Publisher(str(runtime / "test"), f"ipc://{runtime}/s", high_water_mark=200, context=context)
    fast = ZmqSubscriber(f"ipc://{runtime}/s", "test", context=context)
    slow = ZmqSubscriber(f"ipc://{runtime}/s", "test", high_water_mark=10, context=zmq.Context.instance())
    joined(publisher, fast)
    joined(publisher, slow)
    while fast.receive(0.05) is not None:
        pass
    before, read = fast.lost, 0
    body = patterned(0, 1)
    body["instrument_id"] = 7
    for number in range(3000):
        writer.heartbeat()
        writer.write(MBO, body.view(np.uint8), number)
        publisher.step(0.0)
        while read <= number:  # keeps up, however slow the machine
            message = fast.receive(5.0)
            assert message is not None
            read += message.schema == "mbo"
    assert fast.lost == before
    last = 0
    while (message := slow.receive(0.2)) is not None:
        last = max(last, message.header.topic_seq if message.schema == "mbo" else 0)
    for number in range(3):  # what comes after the hole shows the hole
        writer.write(MBO, body.view(np.uint8), number)
        publisher.step(0.01)
    wait_until(lambda: (publisher.step(0.0), slow.receive(0.01), slow.lost > 0)[-1])
    assert last + slow.lost >= 2900
    slow.close()
    fast.close()
    publisher.close()
    writer.release()


def test_lapped_publisher_skips_a_number_on_every_topic(
    runtime: Path, context: "zmq.Context[zmq.Socket[bytes]]"
) -> None:
    """When the publisher is too slow for the ring, every subscriber sees a loss, on topics old and new."""
    writer = make_channel(runtime / "test", ring_bytes=1 << 16)
    publisher = Publisher(str(runtime / "test"), f"ipc://{runtime}/s", context=context)
    subscriber = ZmqSubscriber(f"ipc://{runtime}/s", "test", context=context)
    joined(publisher, subscriber)
    body = patterned(0, 1)
    body["instrument_id"] = 7
    writer.write(MBO, body.view(np.uint8), 1)
    received(publisher, subscriber, lambda got: len(got) >= 1)
    assert subscriber.lost == 0
    bodies = patterned(0, 5000)
    bodies["instrument_id"] = 8
    bodies["instrument_id"][-1] = 7
    writer.write(MBO, bodies.view(np.uint8), 1)
    messages = received(publisher, subscriber, lambda got: any(message.symbol == "7" for message in got))
    numbers = {message.symbol: message.header.topic_seq for message in messages}
    assert numbers == {"7": 3, "8": 2}
    assert subscriber.lost >= 1
    subscriber.close()
    publisher.close()
    writer.release()


def test_process_beats_survives_the_daemon_and_tells_dead(runtime: Path) -> None:
    """The process: heartbeats each second, DEAD when the daemon is gone, the next daemon when it comes."""
    writer = make_channel(runtime / "test", epoch=1)
    writer.set_state(1)
    endpoint = f"ipc://{runtime}/s"
    command = [sys.executable, "-m", "feedhandler.publish", str(runtime / "test"), "--endpoint", endpoint]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    events: list[dict[str, object]] = []
    with ZmqSubscriber(endpoint, "test") as subscriber:

        def heard(**wanted: object) -> bool:
            writer.heartbeat()
            if (message := subscriber.receive(0.01)) is not None:
                events.append(message.event)
            return any(wanted.items() <= event.items() for event in events)

        wait_until(lambda: heard(event="heartbeat", state="LIVE"), 20)
        count = len(events)
        wait_until(lambda: heard() and len(events) >= count + 3, 20)
        gaps = np.diff([event["ts"] for event in events if event["event"] == "heartbeat"])
        assert float(np.median(gaps)) < 1e9
        writer.release()
        wait_until(lambda: heard(event="state", state="DEAD", previous="LIVE"))
        assert subscriber.state == FeedState.DEAD
        del writer
        writer = make_channel(runtime / "test", epoch=2)
        writer.event(STATE, state=1, previous=0, ts_ns=77)
        wait_until(lambda: heard(event="state", ts=77, state="LIVE"))
        wait_until(lambda: heard(event="heartbeat") and subscriber.state == FeedState.LIVE)
        assert subscriber.restarts == 0
    os.kill(process.pid, signal.SIGTERM)
    _, stderr = process.communicate(timeout=10)
    assert (process.returncode, stderr) == (0, "")
    writer.release()


def test_group_may_connect_to_a_socket_in_the_file_system(runtime: Path) -> None:
    """Whatever the umask: to connect is to write, and the unit lets its group only read what it makes."""
    writer = make_channel(runtime / "test")
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    before = os.umask(0o027)
    try:
        endpoints = [f"ipc://{runtime}/{name}" for name in ("records", "images")]
        publisher = Publisher(
            str(runtime / "test"), endpoints[0], context=context, snapshot_endpoint=endpoints[1]
        )
    finally:
        os.umask(before)
    assert [stat.S_IMODE((runtime / name).stat().st_mode) for name in ("records", "images")] == [0o660] * 2
    publisher.close()
    context.term()
    writer.release()


def test_endpoint_that_cannot_be_bound_is_one_line(runtime: Path) -> None:
    """An endpoint in use or impossible: its name, the reason, exit status 1."""
    writer = make_channel(runtime / "test")
    command = [
        sys.executable,
        "-m",
        "feedhandler.publish",
        str(runtime / "test"),
        "--endpoint",
        "tcp://203.0.113.1:1",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 1
    entry = json.loads(done.stderr)
    assert (entry["channel"], entry["event"], entry["helper"]) == (
        "test",
        "helper failed",
        "feedhandler.publish",
    )
    assert entry["reason"].startswith('publish.zmq.endpoint (--endpoint): "tcp://203.0.113.1:1": ')
    writer.release()


@pytest.mark.parametrize("near", [0, 5, 2**32 - 1, 2**32, 2**32 + 7, 3 * 2**32 - 2])
@pytest.mark.parametrize("step", [-3, 0, 3, 1000])
def test_sequence_numbers_are_widened_across_the_32_bit_border(near: int, step: int) -> None:
    """Records carry the low 32 bits; the header's 64 bits are those next to the feed's number."""
    number = near + step
    if number >= 0:
        assert widen(number & 0xFFFFFFFF, near) == number


def test_header_of_another_version_is_refused() -> None:
    """A subscriber does not guess at frames that it does not know."""
    frame = Header(1, 2, 3, 4, 1).pack()
    assert Header.unpack(frame) == Header(1, 2, 3, 4, 1)
    with pytest.raises(ValueError, match="not a header of version 1"):
        Header.unpack(frame[:-1] + b"\x02")


def test_new_epoch_starts_the_counting_again(
    runtime: Path, context: "zmq.Context[zmq.Socket[bytes]]"
) -> None:
    """A restarted publisher is seen as such, not as a loss of minus so many."""
    writer = make_channel(runtime / "test")
    with ZmqSubscriber(f"ipc://{runtime}/s", "test", context=context) as subscriber:
        first = Publisher(str(runtime / "test"), f"ipc://{runtime}/s", context=context)
        joined(first, subscriber)
        first.close()
        time.sleep(0.002)  # the epoch counts milliseconds
        second = Publisher(str(runtime / "test"), f"ipc://{runtime}/s", context=context)
        joined(second, subscriber)
        assert (subscriber.restarts, subscriber.lost) == (1, 0)
        second.close()
    writer.release()
