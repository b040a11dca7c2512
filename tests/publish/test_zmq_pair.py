"""Both publishers of a hot pair, real sockets: one stream."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from feedhandler import Consumer, FeedState
from feedhandler.publish import ZmqSubscriber
from feedhandler.publish.publisher import Publisher
from tests.support import itch_messages as itch
from tests.support.channels import make_channel, wait_until
from tests.support.exchange import simulated_messages

DAY = simulated_messages(6_000, symbols=8)


@pytest.fixture
def context() -> Iterator["zmq.Context[zmq.Socket[bytes]]"]:
    """Return a context of its own, ended with whatever it holds."""
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


class Hosts:
    """Two channels, `a` and `b`, each with its publisher, and a subscriber of both."""

    def __init__(self, runtime: Path, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
        self.writers = [make_channel(runtime / name, books=True, ring_bytes=1 << 24) for name in "ab"]
        for writer in self.writers:
            writer.set_state(1)
        self.endpoints = [f"ipc://{runtime}/pub-{name}" for name in "ab"]
        self.images = [f"ipc://{runtime}/images-{name}" for name in "ab"]
        self.publishers: list[Publisher | None] = [
            Publisher(str(runtime / name), where, 1_000_000, context, snapshot_endpoint=images)
            for name, where, images in zip("ab", self.endpoints, self.images, strict=True)
        ]
        self.subscriber = ZmqSubscriber(
            *(self.endpoints, ["a", "b"], ["mbo/"], 1_000_000, context),
            snapshot_endpoint=self.images,
            hold_s=0.2,  # tests share their machine
        )
        self.numbers: dict[str, list[int]] = {}
        heard: set[str] = set()

        def both_heard() -> bool:
            self.turn()
            for publisher in self.publishers:
                assert publisher is not None
                publisher._next_heartbeat = 0.0
            while (message := self.subscriber.receive(0.005)) is not None:
                heard.add(message.topic)
            return len(heard) == 2

        wait_until(both_heard)

    def turn(self) -> None:
        """Turn the publishers that are left."""
        for writer in self.writers:
            writer.heartbeat()
        for publisher in self.publishers:
            if publisher is not None:
                publisher.step(0.0)

    def read(self) -> int:
        """Read what there is; return how many records there were so far."""
        self.turn()
        while (message := self.subscriber.receive(0.002)) is not None:
            if message.schema != "feed":
                got = self.numbers.setdefault(message.symbol, [])
                got += [int(record["order_id"]) << 32 | int(record["sequence"]) for record in message.records]
        return sum(map(len, self.numbers.values()))

    def close(self) -> None:
        """Leave nothing behind."""
        self.subscriber.close()
        for publisher in self.publishers:
            if publisher is not None:
                publisher.close()
        for writer in self.writers:
            writer.release()


def expected(runtime: Path) -> dict[str, list[int]]:
    """Return what a lossless channel publishes, by symbol."""
    writer = make_channel(runtime / "lossless", books=True, ring_bytes=1 << 24, schema_mask=1)
    writer.set_state(1)
    found: dict[str, list[int]] = {}
    with Consumer("lossless", ["mbo"], runtime_dir=runtime) as consumer:
        writer.apply(1, DAY)
        while batches := consumer.poll():
            for batch in batches:
                for record in batch.records:
                    name = consumer.symbol(int(record["instrument_id"]))
                    assert name is not None
                    number = int(record["order_id"]) << 32 | int(record["sequence"])
                    found.setdefault(name, []).append(number)
    writer.release()
    return found


def test_one_publisher_ends_and_the_stream_goes_on(
    runtime: Path, context: "zmq.Context[zmq.Socket[bytes]]"
) -> None:
    """Both publish in batches of their own, then one is gone: per symbol, every record once and in order."""
    wanted = expected(runtime)
    hosts = Hosts(runtime, context)
    at = [0, 0]
    for index, step in ((0, 700), (1, 300), (1, 900), (0, 1100), (1, 400)):
        hosts.writers[index].apply(at[index] + 1, DAY[at[index] : at[index] + step])
        at[index] += step
        hosts.read()
    gone = hosts.publishers[0]
    assert gone is not None
    gone.close()
    hosts.publishers[0] = None
    hosts.writers[0].release()
    for _ in range(8):
        hosts.writers[1].apply(at[1] + 1, DAY[at[1] : at[1] + 550])
        at[1] += 550
        hosts.read()
    assert at[1] == len(DAY)
    total = sum(map(len, wanted.values()))
    wait_until(lambda: hosts.read() >= total)
    assert hosts.numbers == wanted
    assert hosts.subscriber.state == FeedState.LIVE
    hosts.close()


def test_stale_publisher_does_not_outrun_the_live_one(
    runtime: Path, context: "zmq.Context[zmq.Socket[bytes]]"
) -> None:
    """One is STALE and a little ahead: what is delivered is LIVE."""
    hosts = Hosts(runtime, context)
    a, b = hosts.writers
    a.set_state(3)
    a.apply(1, [itch.add(1, "B", 100, 10_0000), itch.add(2, "B", 100, 10_0100)])
    b.apply(1, [itch.add(1, "B", 100, 10_0000), itch.add(2, "B", 100, 10_0100)])
    states = []

    def two() -> bool:
        hosts.turn()
        while (message := hosts.subscriber.receive(0.0)) is not None:
            if message.schema != "feed":
                states.extend([message.header.state] * message.header.count)
        return len(states) >= 2

    wait_until(two)
    assert states == [FeedState.LIVE, FeedState.LIVE]
    assert hosts.subscriber.state == FeedState.LIVE
    hosts.close()


def test_publisher_that_stands_still_is_not_live_beside_one_that_goes_on(
    runtime: Path, context: "zmq.Context[zmq.Socket[bytes]]"
) -> None:
    """Its host is gone without a word, the other is STALE: nobody is told LIVE for three seconds more."""
    hosts = Hosts(runtime, context)
    a, b = hosts.writers
    for writer in (a, b):
        writer.apply(1, DAY[:200])
    wait_until(lambda: hosts.read() > 0 and hosts.subscriber.state == FeedState.LIVE)
    gone, hosts.publishers[0] = hosts.publishers[0], None
    b.set_state(3)
    b.apply(201, DAY[200:400])

    def not_live() -> bool:
        hosts.read()
        return hosts.subscriber.state == FeedState.STALE

    wait_until(not_live, 2.0)
    assert gone is not None
    gone.close()
    hosts.close()
