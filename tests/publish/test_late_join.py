"""A subscriber that comes late gets images of the books and goes on exactly behind them."""

import json
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from feedhandler import Book, Consumer, FeedState, _core
from feedhandler.errors import RunError
from feedhandler.publish import Message, ZmqSubscriber, image_server
from feedhandler.publish.image import REQUEST
from feedhandler.publish.image_server import BOOKS_PER_TURN, REQUEST_BURST
from feedhandler.publish.publisher import Publisher
from tests.support.channels import make_channel, wait_until
from tests.support.exchange import simulated_messages

UNDEF = (1 << 63) - 1
Levels = list[tuple[int, int, int]]


@pytest.fixture
def context() -> Iterator["zmq.Context[zmq.Socket[bytes]]"]:
    """Return a context of its own, ended with whatever it holds."""
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


class Turning:
    """A publisher with an image server, turned by a thread of its own."""

    def __init__(
        self, runtime: Path, context: "zmq.Context[zmq.Socket[bytes]]", name: str = "test", images: str = ""
    ) -> None:
        self.endpoint = f"ipc://{runtime}/{name}-pub"
        images = images or f"ipc://{runtime}/{name}-images"
        self.publisher = Publisher(
            str(runtime / name), self.endpoint, context=context, snapshot_endpoint=images
        )
        assert self.publisher.images is not None
        self.images = self.publisher.images.endpoint
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._turn)
        self._thread.start()

    def _turn(self) -> None:
        while not self._stop.is_set():
            self.publisher.step(0.002)

    def close(self) -> None:
        """Stop the thread, end the publisher."""
        self._stop.set()
        self._thread.join()
        self.publisher.close()


def levels_of(book: Book) -> tuple[Levels, Levels]:
    """Return both sides as plain numbers."""
    return book.bids.tolist(), book.asks.tolist()


def levels_in(record: "object") -> tuple[Levels, Levels]:
    """Return both sides as an mbp-10 record shows them."""
    sides: tuple[Levels, Levels] = ([], [])
    for side, letter in zip(sides, ("bid", "ask"), strict=True):
        for i in range(10):
            level = tuple(int(record[f"{letter}_{part}_{i:02d}"]) for part in ("px", "sz", "ct"))  # type: ignore[index]
            if level[0] != UNDEF:
                side.append(level)
    return sides


def test_late_subscriber_has_the_books_and_what_follows_them(
    runtime: Path, context: "zmq.Context[zmq.Socket[bytes]]"
) -> None:
    """Joined while messages flow: image, then records of later numbers only; at the end the table's books."""
    day = simulated_messages(20_000, symbols=100)
    writer = make_channel(runtime / "test", books=True, ring_bytes=1 << 26)
    writer.set_state(1)
    turning = Turning(runtime, context)
    writer.apply(1, day[:10_000])
    with ZmqSubscriber(
        turning.endpoint, "test", ["mbp-10/"], 1_000_000, context, snapshot_endpoint=turning.images
    ) as subscriber:
        stop, at = threading.Event(), 10_000

        def feed() -> None:
            nonlocal at
            while at < len(day) and not stop.is_set():
                writer.apply(at + 1, day[at : at + 20])
                writer.heartbeat()
                at += 20
                time.sleep(0.001)

        thread = threading.Thread(target=feed)
        thread.start()
        try:
            images = subscriber.join()
        finally:
            stop.set()
            thread.join()
        assert len(images) > BOOKS_PER_TURN  # more than one part
        assert {book.state for book in images.values()} == {FeedState.LIVE}
        writer.apply(at + 1, day[at : at + 2000])
        books = {symbol: levels_of(book) for symbol, book in images.items()}
        seen = {symbol: book.sequence for symbol, book in images.items()}
        assert max(seen.values()) > 10_000

        def same() -> bool:
            while (message := subscriber.receive(0.05)) is not None:
                if message.schema == "feed":
                    continue
                assert int(message.records["sequence"][0]) > seen.get(message.symbol, 0)
                seen[message.symbol] = message.header.channel_seq
                books[message.symbol] = levels_in(message.records[-1])
            with Consumer("test", runtime_dir=runtime) as reader:  # deep changes give no record
                return all(levels_of(reader.book(name)) == levels for name, levels in books.items())

        wait_until(same)
        assert subscriber.lost == 0
        final = subscriber.join()
        assert {symbol: levels_of(book) for symbol, book in final.items()} == books
    turning.close()
    writer.release()


def _as_of(
    shown: dict[tuple[str, int], tuple[Levels, Levels]], symbol: str, sequence: int
) -> tuple[Levels, Levels]:
    """Return what the last record at or before a number showed: deeper changes give none."""
    numbers = [number for name, number in shown if name == symbol and number <= sequence]
    return shown[symbol, max(numbers)] if numbers else ([], [])


def test_image_is_the_book_at_its_number(runtime: Path, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
    """An image of one symbol equals what the record of that number showed."""
    day = simulated_messages(3_000, symbols=5)
    writer = make_channel(runtime / "test", books=True, ring_bytes=1 << 24)
    writer.set_state(1)
    turning = Turning(runtime, context)
    with ZmqSubscriber(
        turning.endpoint, "test", ["mbp-10/"], 1_000_000, context, snapshot_endpoint=turning.images
    ) as subscriber:
        subscriber.join()
        shown: dict[tuple[str, int], tuple[Levels, Levels]] = {}
        for at in range(0, 3000, 500):
            writer.apply(at + 1, day[at : at + 500])
            symbols = list(_core.Consumer(str(runtime / "test"), 0, [], 0).symbols().values())
            images = {}

            def caught_up(symbols: list[str] = symbols, images: dict[str, Book] = images) -> bool:
                while (message := subscriber.receive(0.02)) is not None:
                    if message.schema != "feed":
                        for record in message.records:
                            shown[message.symbol, int(record["sequence"])] = levels_in(record)
                if not images:
                    with ZmqSubscriber(
                        turning.endpoint, "test", ["none/"], 10, context, snapshot_endpoint=turning.images
                    ) as other:
                        images |= other.join(symbols[:2])
                return all(
                    _as_of(shown, name, book.sequence) == levels_of(book) for name, book in images.items()
                )

            wait_until(caught_up)
            assert set(images) == set(symbols[:2])
    turning.close()
    writer.release()


def test_requests_are_limited_and_bad_ones_refused(
    runtime: Path, context: "zmq.Context[zmq.Socket[bytes]]"
) -> None:
    """One who asks for everything without end gets errors; publishing goes on; nonsense is answered."""
    writer = make_channel(runtime / "test", books=True)
    writer.set_state(1)
    turning = Turning(runtime, context)
    socket = context.socket(zmq.REQ)
    socket.connect(turning.images)
    socket.send(b"what?")
    assert b"not a request" in socket.recv()
    errors = 0
    for _ in range(3 * int(REQUEST_BURST)):
        socket.send(REQUEST)
        errors += b"too many requests" in socket.recv_multipart()[0]
    assert errors >= REQUEST_BURST
    socket.close(linger=0)
    turning.close()
    writer.release()


def test_images_of_another_channel_are_refused(
    runtime: Path, context: "zmq.Context[zmq.Socket[bytes]]"
) -> None:
    """The endpoint of another feed's images: its books are not this one's."""
    writers = [make_channel(runtime / name, books=True) for name in ("test", "other")]
    turning = [Turning(runtime, context, name) for name in ("test", "other")]
    with (
        ZmqSubscriber(
            turning[0].endpoint, "test", context=context, snapshot_endpoint=turning[1].images
        ) as subscriber,
        pytest.raises(RunError, match='images of "other", not of "test"'),
    ):
        subscriber.join()
    for one in turning:
        one.close()
    for writer in writers:
        writer.release()


def test_image_of_a_new_session_is_not_mixed_with_the_old_ones_messages(
    runtime: Path, context: "zmq.Context[zmq.Socket[bytes]]"
) -> None:
    """The image is ahead of the stream by a rollover: numbers start again, and the old ones are higher."""
    writer = make_channel(runtime / "test", books=True, ring_bytes=1 << 24)
    writer.put_counters([], {}, {}, {}, session="S1")
    writer.set_state(1)
    endpoint, images = f"ipc://{runtime}/pub", f"ipc://{runtime}/images"
    publisher = Publisher(str(runtime / "test"), endpoint, context=context, snapshot_endpoint=images)
    day = simulated_messages(400, symbols=3)
    with ZmqSubscriber(
        endpoint, "test", ["mbp-10/"], 100_000, context, snapshot_endpoint=images
    ) as subscriber:

        def heard() -> bool:
            publisher._next_heartbeat = 0.0
            publisher.step(0.0)
            return subscriber.receive(0.005) is not None

        wait_until(heard)
        writer.apply(1, day)  # of S1, not published yet when the image is taken
        writer.clear(0)
        writer.event(7, 1, 4, 1, 0, session="S2")  # session_start
        writer.put_counters([], {}, {}, {}, session="S2")
        writer.apply(1, day[:200])
        stop = threading.Event()

        def serve() -> None:
            while not stop.is_set():
                assert publisher.images is not None
                publisher.images.turn(1)
                time.sleep(0.001)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            books = subscriber.join()
        finally:
            stop.set()
            thread.join()
        writer.apply(201, day[200:])
        seen = {symbol: book.sequence for symbol, book in books.items()}
        sessions = []
        reader = Consumer("test", runtime_dir=runtime)
        shown: dict[str, tuple[Levels, Levels]] = {}

        def all_there() -> bool:
            publisher.step(0.0)
            while (message := subscriber.receive(0.002)) is not None:
                if message.schema == "feed":
                    sessions.append(message.event.get("session"))
                    continue
                assert "S2" in sessions
                for record in message.records:
                    assert int(record["sequence"]) > seen[message.symbol]
                    seen[message.symbol] = int(record["sequence"])
                    shown[message.symbol] = levels_in(record)
            return len(shown) == len(books) and all(
                shown[name] == levels_of(reader.book(name)) for name in shown
            )

        wait_until(all_there)
        reader.close()
    publisher.close()
    writer.release()


def test_peer_that_does_not_read_is_bounded_and_slow_one_gets_all(
    runtime: Path, context: "zmq.Context[zmq.Socket[bytes]]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ask for all books; one never reads and is given up, the other reads late and misses no part."""
    monkeypatch.setattr(image_server, "UNREAD_S", 1.5)
    monkeypatch.setattr(image_server, "SEND_BUFFER", 4096)
    writer = make_channel(runtime / "test", books=True, ring_bytes=1 << 24)
    writer.set_state(1)
    writer.apply(1, simulated_messages(12_000, symbols=3000))
    turning = Turning(runtime, context, images="tcp://127.0.0.1:*")  # the kernel holds little, as it is told
    deaf, slow = (context.socket(zmq.DEALER) for _ in range(2))
    for socket in (deaf, slow):
        socket.set(zmq.RCVHWM, 1)
        socket.set(zmq.RCVBUF, 4096)
        socket.connect(turning.images)
        socket.send(REQUEST)
    server = turning.publisher.images
    assert server is not None
    wait_until(lambda: server.waiting and not server.busy)
    parts, books = [], 0
    while not parts or parts[-1]["more"]:
        assert slow.poll(5000)
        header, *frames = slow.recv_multipart()
        parts.append(json.loads(header))
        books += len(frames)
    assert [part["part"] for part in parts] == list(range(len(parts)))
    assert len(parts) > 3 * image_server.UNREAD_PARTS
    assert books == len(_core.Consumer(str(runtime / "test"), 0, [], 0).symbols())
    wait_until(lambda: not server.waiting)
    for socket in (deaf, slow):
        socket.close(linger=0)
    turning.close()
    writer.release()


def test_names_that_nobody_has_do_not_hold_up_publishing(
    runtime: Path, context: "zmq.Context[zmq.Socket[bytes]]"
) -> None:
    """4,096 unknown symbols are looked up in as many turns as known ones."""
    writer = make_channel(runtime / "test", books=True)
    turning = Turning(runtime, context)
    with context.socket(zmq.DEALER) as socket:
        socket.connect(turning.images)
        socket.send_multipart([REQUEST, *(b"X%d" % i for i in range(4096))])
        parts = 0
        more = True
        while more:
            assert socket.poll(5000)
            more = json.loads(socket.recv_multipart()[0])["more"]
            parts += 1
        assert parts > 4096 / BOOKS_PER_TURN
    turning.close()
    writer.release()


def test_splice_by_the_documents_words(runtime: Path, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
    """As docs/zeromq.md tells it, with nothing but zmq, json and struct: ends with the book table's books."""
    day = simulated_messages(20_000, symbols=100)
    writer = make_channel(runtime / "test", books=True, ring_bytes=1 << 26)
    writer.put_counters([], {}, {}, {}, session="S1")
    writer.set_state(1)
    turning = Turning(runtime, context)
    writer.apply(1, day[:10_000])
    feed = context.socket(zmq.SUB)
    feed.set(zmq.RCVHWM, 0)
    feed.subscribe(b"test/mbp-10/")
    feed.subscribe(b"test/feed/")
    feed.connect(turning.endpoint)
    kept: list[list[bytes]] = []
    while not kept or kept[-1][0] != b"test/feed/":  # 1
        assert feed.poll(5000)
        kept.append(feed.recv_multipart())
    ask = context.socket(zmq.DEALER)
    ask.connect(turning.images)
    ask.send_multipart([b"IMAGE/1"])  # 2
    books: dict[bytes, tuple[Levels, Levels]] = {}
    last: dict[bytes, int] = {}
    at, more = 10_000, True
    while more:  # 3
        if at < 15_000:
            writer.apply(at + 1, day[at : at + 100])
            at += 100
        while feed.poll(0):
            kept.append(feed.recv_multipart())
        if not ask.poll(1):
            continue
        header, *frames = ask.recv_multipart()
        more = json.loads(header)["more"]
        assert json.loads(header)["session"] == "S1"
        for frame in frames:
            symbol, sequence, _, bids, asks, state, _ = struct.unpack_from("<8sQqBBBB4x", frame)
            levels = [struct.unpack_from("<qQI4x", frame, 32 + 24 * i) for i in range(bids + asks)]
            assert state == 1
            books[symbol.rstrip(b"\0")] = (levels[:bids], levels[bids:])
            last[symbol.rstrip(b"\0")] = sequence
    writer.apply(at + 1, day[at:])

    def follow(topic: bytes, head: bytes, body: bytes) -> None:  # 4
        if topic == b"test/feed/":
            return
        _, _, symbol, _ = topic.split(b"/")
        _, channel_seq, _, count, _, version = struct.unpack("<QQIHBB", head)
        assert version == 1
        size = len(body) // count
        for i in range(count):
            record = body[i * size : (i + 1) * size]
            (low,) = struct.unpack_from("<I", record, 44)
            number = channel_seq - ((channel_seq - low) & 0xFFFFFFFF)
            if number <= last.get(symbol, 0):
                continue
            sides: tuple[Levels, Levels] = ([], [])
            for j in range(10):
                pair = struct.unpack_from("<qqIIII", record, 48 + 32 * j)
                for side in (0, 1):
                    if pair[side] != UNDEF:
                        sides[side].append((pair[side], pair[2 + side], pair[4 + side]))
            books[symbol], last[symbol] = sides, number

    def same() -> bool:
        while kept or feed.poll(20):
            follow(*(kept.pop(0) if kept else feed.recv_multipart()))
        with Consumer("test", runtime_dir=runtime) as reader:
            return all(levels_of(reader.book(name.decode())) == book for name, book in books.items())

    wait_until(same)
    assert len(books) > BOOKS_PER_TURN
    for socket in (feed, ask):
        socket.close(linger=0)
    turning.close()
    writer.release()


def test_join_without_a_publisher_says_so(runtime: Path, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
    """Nobody there: an error in time, not a wait without end."""
    with (
        ZmqSubscriber(
            f"ipc://{runtime}/none", "test", context=context, snapshot_endpoint=f"ipc://{runtime}/none2"
        ) as subscriber,
        pytest.raises(RunError, match="no heartbeat"),
    ):
        subscriber.join(timeout_s=0.2)


def test_conflated_subscriber_has_the_newest_and_counts_the_rest(
    runtime: Path, context: "zmq.Context[zmq.Socket[bytes]]"
) -> None:
    """A busy caller gets one record a symbol, that of the book as it stands."""
    day = simulated_messages(5_000, symbols=5)
    writer = make_channel(runtime / "test", books=True, ring_bytes=1 << 24)
    writer.set_state(1)
    turning = Turning(runtime, context)
    with ZmqSubscriber(
        turning.endpoint,
        "test",
        ["mbp-10/"],
        1_000_000,
        context,
        snapshot_endpoint=turning.images,
        conflate=True,
    ) as subscriber:
        subscriber.join()
        writer.apply(1, day)
        newest: dict[str, Message] = {}
        records = 0

        def all_newest() -> bool:
            nonlocal records
            while (message := subscriber.receive(0.05)) is not None:
                if message.schema != "feed":
                    assert message.header.count == 1
                    records += 1
                    newest[message.symbol] = message
            with Consumer("test", runtime_dir=runtime) as reader:
                return all(
                    levels_in(newest[name].records[0]) == levels_of(reader.book(name))
                    if name in newest
                    else reader.book(name).sequence == 0
                    for name in reader.symbols().values()
                )

        wait_until(all_newest)
        assert records < 1000 < subscriber.conflated
        assert subscriber.lost == 0
    turning.close()
    writer.release()
