"""Consumer: what it promises to strategies and risk."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import databento_dbn
import numpy as np
import pytest

import feedhandler
from feedhandler import Consumer, FeedState, _core
from feedhandler.consumer.schema import DTYPES
from feedhandler.errors import UsageError
from tests.support import itch_messages as itch
from tests.support.channels import MBO, make_channel, patterned, wait_until

STATE, GAP_OPEN = 1, 2
TWO_SYMBOLS = [
    itch.add(1, "B", 100, 10_0000),
    itch.add(2, "S", 200, 10_0100),
    itch.add(3, "S", 300, 20_0000, locate=2, stock="BBB"),
    itch.executed(1, 40),
]


def test_field_names_are_those_of_databento() -> None:
    """Every schema's dtype has the names, offsets and size of databento_dbn's record."""
    assert DTYPES["mbp-1"] == np.dtype(databento_dbn.MBP1Msg._dtypes)
    assert DTYPES["mbp-1"].names[-6:] == (
        "bid_px_00", "ask_px_00", "bid_sz_00", "ask_sz_00", "bid_ct_00", "ask_ct_00"
    )  # fmt: skip
    sizes = {
        "mbo": 56,
        "mbp-1": 80,
        "mbp-10": 368,
        "trades": 48,
        "status": 40,
        "imbalance": 112,
        "definition": 520,
        "event": 48,
    }
    assert {name: dtype.itemsize for name, dtype in DTYPES.items()} == sizes


def test_batches_are_in_feed_order_across_schemas(runtime: Path) -> None:
    """Records of several schemas come in the order of their messages, in runs of one schema."""
    writer = make_channel(runtime / "test", books=True)
    writer.set_state(1)
    with Consumer("test", schemas=["mbo", "mbp-1"], runtime_dir=runtime) as consumer:
        writer.apply(1, TWO_SYMBOLS)
        batches = consumer.poll(1.0)
        sequences = [int(n) for batch in batches for n in batch.records["sequence"]]
        assert sequences == sorted(sequences)
        assert [batch.schema for batch in batches] == ["mbo", "mbp-1"] * 4
        assert sequences.count(4) == 4  # T, F, C and one mbp-1
        assert all(batch.state == FeedState.LIVE for batch in batches)
    writer.release()


def test_symbols_filter_follows_names_as_they_become_known(runtime: Path) -> None:
    """A symbol may be asked for before the feed has named it; records of others never come."""
    writer = make_channel(runtime / "test", books=True)
    with Consumer("test", schemas=["mbo", "event"], symbols=["BBB"], runtime_dir=runtime) as consumer:
        assert consumer.symbols() == {}
        writer.apply(1, TWO_SYMBOLS)
        writer.event(GAP_OPEN, first=5, last=6)
        batches = consumer.poll(1.0)
        assert [(batch.schema, len(batch)) for batch in batches] == [("mbo", 1), ("event", 1)]
        assert int(batches[0].records["order_id"][0]) == 3
        assert consumer.symbol(2) == "BBB"
        assert consumer.symbols() == {1: "AAA", 2: "BBB"}
    writer.release()


def test_trading_events_follow_their_message_and_the_symbols_filter(runtime: Path) -> None:
    """Match numbers come behind the records of the same message; those of other symbols never come."""
    writer = make_channel(runtime / "test", books=True)
    with Consumer("test", schemas=["trades", "event"], symbols=["AAA"], runtime_dir=runtime) as consumer:
        writer.apply(1, [*TWO_SYMBOLS, itch.executed(3, 1, locate=2, match=8), itch.executed(1, 5, match=9)])
        batches = consumer.poll(1.0)
        assert [batch.schema for batch in batches] == ["trades", "event", "trades", "event"]
        events = [row for batch in batches for row in batch.trading]
        assert [(row["sequence"], row["match_number"], row["kind"]) for row in events] == [
            (4, 1, b"E"),
            (6, 9, b"E"),
        ]
        assert len(batches[0].trading) == 0
    writer.release()


def test_depth_of_the_channel_bounds_a_book(runtime: Path) -> None:
    """`publish.depth` levels a side, the best ones, whatever lies behind them."""
    writer = make_channel(runtime / "test", books=True, depth=2)
    writer.apply(1, [itch.add(1 + i, "B", 1, 10_0000 - i) for i in range(4)] + [itch.add(9, "S", 1, 11_0000)])
    with Consumer("test", schemas=["event"], runtime_dir=runtime) as consumer:
        book = consumer.book("AAA")
        assert book.bids["price"].tolist() == [10_000_000_000, 9_999_900_000]
        assert len(book.asks) == 1
    writer.release()


def test_book_has_levels_sequence_and_state(runtime: Path) -> None:
    """A late joiner reads the book at once: levels in 1e-9, its message, the state that goes with it."""
    writer = make_channel(runtime / "test", books=True)
    writer.set_state(1)
    writer.apply(1, TWO_SYMBOLS)
    with Consumer("test", schemas=["event"], runtime_dir=runtime) as consumer:
        book = consumer.book("AAA")
        assert book.bids.tolist() == [(10_000_000_000, 60, 1)]
        assert book.asks.tolist() == [(10_010_000_000, 200, 1)]
        assert (book.sequence, book.state) == (4, FeedState.LIVE)
        writer.set_state(2)
        assert consumer.book("AAA").state == FeedState.RECOVERING
        with pytest.raises(KeyError):
            consumer.book("ZZZ")
        writer.release()
        assert consumer.book("AAA").state == FeedState.DEAD


def test_book_that_a_writer_died_in_is_never_handed_out(runtime: Path) -> None:
    """A sequence lock left odd by a dead writer: no levels, and a state that forbids."""
    writer = make_channel(runtime / "test", books=True)
    writer.set_state(1)
    writer.apply(1, TWO_SYMBOLS)
    blocks_at, block = 4096 + 65536 * 16, 704
    with (runtime / "test" / "books").open("r+b") as file:
        file.seek(blocks_at + block)
        version = int.from_bytes(file.read(8), "little")
        file.seek(blocks_at + block)
        file.write((version + 1).to_bytes(8, "little"))
    with Consumer("test", schemas=["event"], runtime_dir=runtime) as consumer:
        book = consumer.book("AAA")
        assert len(book.bids) == len(book.asks) == 0
        assert book.state != FeedState.LIVE
    writer.release()


def test_state_is_visible_before_any_record_that_follows_it(runtime: Path) -> None:
    """Whenever a record is read, the state is at least as new as the record's."""
    writer = make_channel(runtime / "test")
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            writer.heartbeat()
            writer.set_state(1 + number % 2)
            writer.write(MBO, patterned(number, 1).view(np.uint8), number)
            number += 1
            time.sleep(0.0005)

    thread = threading.Thread(target=write)
    with Consumer("test", schemas=["mbo"], runtime_dir=runtime) as consumer:
        thread.start()
        seen = 0
        while seen < 100:
            for batch in consumer.poll(1.0):
                assert batch.state == 1 + int(batch.records["order_id"][0]) % 2
                seen += len(batch)
        stop.set()
        thread.join()
        assert consumer.lost == 0
    writer.release()


def test_poll_returns_early_and_empty_when_the_state_changes(runtime: Path) -> None:
    """A risk process that waits for records learns of a change without waiting for its time-out."""
    writer = make_channel(runtime / "test")
    writer.set_state(1)
    with Consumer("test", schemas=["mbo"], runtime_dir=runtime) as consumer:
        assert consumer.poll(0.01) == []
        timer = threading.Timer(0.1, writer.set_state, (3,))
        start = time.monotonic()
        timer.start()
        assert consumer.poll(5.0) == []
        assert time.monotonic() - start < 4.0
        assert consumer.state == FeedState.STALE
    writer.release()


def test_timeout_is_honoured_and_leaves_the_interpreter_free(runtime: Path) -> None:
    """poll waits about as long as it was told, and other threads run meanwhile."""
    writer = make_channel(runtime / "test")
    turns, stop = [0], threading.Event()

    def spin() -> None:
        while not stop.is_set():
            turns[0] += 1

    thread = threading.Thread(target=spin)
    thread.start()
    with Consumer("test", schemas=["mbo"], runtime_dir=runtime) as consumer:
        consumer.poll(0.0)
        before, start = turns[0], time.monotonic()
        consumer.poll(0.2)
        assert 0.15 < time.monotonic() - start < 3.0
        assert turns[0] > before + 100
    stop.set()
    thread.join()
    writer.release()


def test_ctrl_c_ends_a_waiting_poll(runtime: Path) -> None:
    """SIGINT while poll waits raises KeyboardInterrupt well before the time-out."""
    writer = make_channel(runtime / "test")
    code = (
        "import sys; from feedhandler import Consumer\n"
        "with Consumer(sys.argv[1], schemas=['mbo']) as c:\n    print('up', flush=True); c.poll(30)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(runtime / "test")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    start = time.monotonic()
    os.kill(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=10)
    assert time.monotonic() - start < 5
    assert "KeyboardInterrupt" in stderr
    writer.release()


def test_consumers_are_counted_until_they_close(runtime: Path) -> None:
    """Each attached consumer counts once; a closed one no more."""
    writer = make_channel(runtime / "test")
    reader = _core.ChannelReader(str(runtime / "test"))
    with (
        Consumer("test", schemas=["mbo"], runtime_dir=runtime),
        Consumer("test", schemas=["mbo"], runtime_dir=runtime),
    ):
        assert reader.consumers() == 2
    assert reader.consumers() == 0
    writer.release()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schemas": ["mbp1"]}, 'schema: "mbp1" is none of'),
        ({"schemas": ["mbo"]}, 'schema: "mbo" is not published by channel test, which has mbp-1, trades'),
        ({"symbols": ["TOOLONGNAME"]}, 'symbols: "TOOLONGNAME"'),
    ],
)
def test_what_cannot_be_consumed_is_refused_in_one_line(
    runtime: Path, options: dict[str, list[str]], message: str
) -> None:
    """Unknown schemas, unpublished schemas and impossible symbols name themselves."""
    writer = make_channel(runtime / "test", schema_mask=0b1010)
    with pytest.raises(UsageError) as error:
        Consumer("test", runtime_dir=runtime, **options)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
    writer.release()


def test_no_such_channel(runtime: Path) -> None:
    """A channel that does not exist is bad usage."""
    with pytest.raises(UsageError, match='CHANNEL: "nope": no such channel'):
        Consumer("nope", runtime_dir=runtime)


def test_counters_are_one_whole_copy(runtime: Path) -> None:
    """Counters read while they are written always add up."""
    writer = make_channel(runtime / "test")
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            writer.put_counters(
                [{"messages": number, "won": number}], {"open": number}, {}, {"messages": number}, "S", number
            )

    thread = threading.Thread(target=write)
    thread.start()
    reader = _core.ChannelReader(str(runtime / "test"))
    wait_until(lambda: reader.counters()["ts_ns"] > 100)
    for _ in range(500):
        counters = reader.counters()
        number = counters["feed"]["messages"]
        assert {counters["ts_ns"], counters["gaps"]["open"], counters["lines"][0]["won"]} <= {number, number}
    stop.set()
    thread.join()
    writer.release()


def test_cpp_consumer_builds_with_one_include_folder(runtime: Path, tmp_path: Path) -> None:
    """examples/consumer.cpp compiles with only -I, prints live trades, and says when there is no daemon."""
    source = Path(__file__).resolve().parents[2] / "examples" / "consumer.cpp"
    program = tmp_path / "consumer"
    flags = [
        "-std=c++20",
        "-O1",
        "-Wall",
        "-Wextra",
        "-Wconversion",
        "-Werror",
        f"-I{feedhandler.get_include()}",
    ]
    subprocess.run(["g++", *flags, str(source), "-o", str(program)], check=True)
    writer = make_channel(runtime / "test", books=True)
    writer.set_state(1)
    process = subprocess.Popen(
        [program, str(runtime / "test"), "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: _core.ChannelReader(str(runtime / "test")).consumers() == 1)
    writer.heartbeat()
    writer.apply(1, TWO_SYMBOLS)
    out, err = process.communicate(timeout=10)
    assert out == "AAA      40 @ 10.0000  act 10.0000 10.0100\n"
    assert (process.returncode, err) == (0, "lost 0\n")
    writer.release()
    dead = subprocess.run(
        [program, str(runtime / "test")], capture_output=True, text=True, check=False, timeout=10
    )
    assert (dead.returncode, dead.stderr) == (1, "no daemon\n")


def test_symbol_of_unprintable_bytes_is_shown_and_harms_nobody(runtime: Path) -> None:
    """The stock field of one message may hold any bytes: the names of all others can still be asked for."""
    folder = runtime / "test"
    writer = make_channel(folder, books=True)
    odd = itch.directory(locate=2, stock="ODD").replace(b"ODD     ", b"O\xff\0D    ")
    writer.apply(1, [itch.directory(locate=1, stock="AAPL"), odd])
    with Consumer(str(folder)) as consumer:
        assert consumer.symbols() == {1: "AAPL", 2: "O??D"}
        assert consumer.symbol(2) == "O??D"
    writer.release()


def test_symbol_that_moved_to_another_instrument_in_a_new_session_is_found_there(runtime: Path) -> None:
    """Instrument ids are of a day: the book of yesterday's id, empty and LIVE, is never taken for today's."""
    folder = runtime / "test"
    writer = make_channel(folder, books=True)
    writer.set_state(1)
    writer.apply(1, [itch.directory(5, "AAPL"), itch.add(1, "B", 100, 10_0000, 5, "AAPL")])
    writer.clear(0)
    writer.apply(1, [itch.directory(3, "AAPL"), itch.add(1, "B", 100, 20_0000, 3, "AAPL")])
    with Consumer(str(folder)) as consumer:
        book = consumer.book("AAPL")
        assert [int(price) for price in book.bids["price"]] == [20 * 10**9]
        assert consumer.symbols() == {3: "AAPL"}
        # The id left over may come back by an order alone: it is named again.
        writer.apply(3, [itch.add(2, "B", 100, 30_0000, 5, "ZZZ")])
        assert consumer.symbols() == {3: "AAPL", 5: "ZZZ"}
        assert [int(price) for price in consumer.book("ZZZ").bids["price"]] == [30 * 10**9]
    writer.release()
