"""Books and records compared with the naive model after every message."""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedhandler import _core
from tests.support import itch_messages as itch
from tests.support.dbn_rows import tuples
from tests.support.model_book import Model

MIDNIGHT = 1_580_360_400_000_000_000
STREAMS = {"mbo": "mbo", "trades": "trades", "mbp-1": "mbp1", "mbp-10": "mbp10"}

# Few of everything, so that messages meet: neighbours and far references, both ends, prices around a touch
# and far from it, nothing and too much.
REFS = [0, 1, 2, 3, 4, 5, 6, 4095, 4096, 10**6, 2**36 - 1, 2**36, 2**40 + 7, 2**63, 2**64 - 2, 2**64 - 1]
PRICES = [0, 1, 2**32 - 1, 2_000_000_000, *range(1_000_000, 1_000_018)]
SHARES = [0, 1, 5, 100, 100, 100, 2**32 - 1]
refs = st.sampled_from(REFS)
prices = st.sampled_from(PRICES)
shares = st.sampled_from(SHARES)
locates = st.sampled_from([0, 1, 65535])
sides = st.sampled_from("BS")

messages = st.one_of(
    st.builds(itch.add, refs, sides, shares, prices, locates),
    st.builds(itch.add, refs, sides, shares, prices, locates, mpid=st.just("NITE")),
    st.builds(itch.executed, refs, shares, locates),
    st.builds(itch.executed_with_price, refs, shares, prices, st.sampled_from("YN"), locates),
    st.builds(itch.cancel, refs, shares, locates),
    st.builds(itch.delete, refs, locates),
    st.builds(itch.replace, refs, refs, shares, prices, locates),
    st.builds(itch.trade, shares, prices, locates),
    st.builds(itch.cross, st.sampled_from([0, 5, 2**32 - 1, 2**32, 2**64 - 1]), prices, locates),
    st.builds(itch.trading_action, st.sampled_from("HPQT"), st.just("LUDP"), locates),
    st.builds(itch.directory, locates),
    st.builds(itch.broken),
    st.sampled_from([b"", b"Z", b"z\x00\x01\x02", b"A", b"D" * 18, b"A" * 37, b"\x00" * 36, b"U" * 34]),
)


class Pair:
    """The product and the model side by side, fed the same."""

    def __init__(self, **limits: int) -> None:
        self.core = _core.BookNormalizer(midnight_ns=MIDNIGHT, **limits)
        self.model = Model(midnight_ns=MIDNIGHT)
        self.sequence = 0

    def apply(self, *batch: bytes, announced: list[bytes] | None = None) -> None:
        """One packet, after a forecast if there is one."""
        if announced is not None:
            self.core.announce(announced)
        self.core.apply(self.sequence + 1, list(batch), ts_recv_ns=MIDNIGHT + 5)
        for message in batch:
            self.sequence += 1
            self.model.apply(self.sequence, message)

    def compare_records(self) -> None:
        """Since the last comparison."""
        records = self.core.take_records()
        for schema, name in STREAMS.items():
            expected = getattr(self.model, name)
            assert tuples(schema, records[schema]) == expected, schema
            expected.clear()

    def compare_books(self, locates: tuple[int, ...] = (0, 1, 65535)) -> None:
        """All levels, all queues, the shared table, the counters."""
        for locate in locates:
            for side in "BA":
                levels = self.model.levels(locate, side)
                assert self.core.levels(locate, side == "B") == levels
                for price, _, _ in levels:
                    queue = self.model.queue(locate, side, price)
                    assert self.core.queue(locate, side == "B", price) == queue
            view = self.core.view(locate)
            if view is not None:
                scaled = {
                    s: [(p * 100_000, q, n) for p, q, n in self.model.levels(locate, s)[:10]] for s in "BA"
                }
                assert view["bids"] == scaled["B"]
                assert view["asks"] == scaled["A"]
                assert not view["incomplete"]
        counters = self.core.counters()
        assert counters.pop("orders") == len(self.model.orders)
        assert counters.pop("refused_orders") == 0
        assert counters == self.model.counters
        assert self.core.audit() == ""


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(messages, st.just("clear")), max_size=60))
def test_any_stream_gives_the_models_books_and_records_after_every_message(stream):
    """Contradicting, hostile and ordinary messages, one a packet, with clears in between."""
    pair = Pair()
    for message in stream:
        if message == "clear":
            pair.core.clear(pair.sequence, 7)
            pair.model.clear(pair.sequence, 7)
        else:
            pair.apply(message)
        pair.compare_records()
        pair.compare_books()


@settings(max_examples=100, deadline=None)
@given(st.lists(messages, max_size=80))
def test_looking_ahead_over_a_packet_changes_nothing(stream):
    """The same stream as one packet: what is fetched early must not be applied early."""
    pair = Pair()
    pair.apply(*stream)
    pair.compare_records()
    pair.compare_books()


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(messages, min_size=1, max_size=20), st.none() | st.lists(messages, max_size=80)),
        max_size=8,
    )
)
def test_a_forecast_of_a_burst_changes_nothing_whether_right_or_wrong(packets):
    """Packets announced together, announced as something else, or not at all."""
    pair = Pair()
    coming = [message for packet, _ in packets for message in packet]
    pair.core.announce(coming)
    for packet, announced in packets:
        pair.apply(*packet, announced=announced)
    pair.compare_records()
    pair.compare_books()


def random_stream(seed: int, count: int, pick_ref, pick_price) -> list[bytes]:
    """A consistent random order flow over three instruments, references drawn by the caller."""
    rng = random.Random(seed)
    live: list[tuple[int, int]] = []
    out = []
    for _ in range(count):
        roll = rng.random()
        locate = rng.randrange(1, 4)
        if not live or roll < 0.45:
            ref = pick_ref(rng)
            live.append((ref, locate))
            out.append(itch.add(ref, rng.choice("BS"), rng.randrange(1, 500), pick_price(rng), locate))
            continue
        i = rng.randrange(len(live))
        ref, locate = live[i]
        if roll < 0.75:
            live[i] = live[-1]
            live.pop()
            out.append(itch.delete(ref, locate))
        elif roll < 0.85:
            new = pick_ref(rng)
            live[i] = (new, locate)
            out.append(itch.replace(ref, new, rng.randrange(1, 500), pick_price(rng), locate))
        elif roll < 0.93:
            out.append(itch.executed(ref, rng.randrange(1, 200), locate))
        else:
            out.append(itch.cancel(ref, rng.randrange(1, 100), locate))
    return out


def counting(start: int, step: int):
    """References that rise, or fall when the step is negative."""
    state = [start]

    def pick(rng: random.Random) -> int:
        state[0] += rng.randrange(1, abs(step)) * (1 if step > 0 else -1)
        return state[0]

    return pick


@pytest.mark.parametrize(
    ("name", "pick_ref"),
    [
        ("dense", counting(0, 3)),
        ("sparse within the directory", lambda rng: rng.randrange(2**36)),
        ("sparse beyond it", lambda rng: rng.randrange(2**64)),
        (
            "falling",
            (lambda base: lambda rng: base.__setitem__(0, base[0] - rng.randrange(1, 9)) or base[0])([2**20]),
        ),
    ],
)
def test_order_references_of_any_kind_find_their_orders(name, pick_ref):
    """With two index pages only, so that pages are evicted, recycled and taken again all the time."""
    pair = Pair(index_pages=2, orders=4096)
    stream = random_stream(1, 1500, pick_ref, lambda rng: 1_000_000 + rng.randrange(40) * 100)
    for i in range(0, len(stream), 7):
        pair.apply(*stream[i : i + 7])
        pair.compare_records()
    pair.compare_books((1, 2, 3))
    assert pair.core.index_pages <= 2


def test_old_survivors_of_many_pages_are_still_found():
    """One order of each page rests while the pages before it are given up: bounded memory, no loss."""
    core = _core.BookNormalizer(index_pages=3)
    for page in range(50):
        core.apply(1, [itch.add(page * 4096 + i, "B", 1, 100 + page) for i in range(10)])
        core.apply(1, [itch.delete(page * 4096 + i) for i in range(9)])
    assert core.index_pages <= 3
    assert core.sparse_references >= 47
    core.apply(1, [itch.delete(page * 4096 + 9) for page in range(50)])
    assert core.counters()["unknown_orders"] == 0
    assert core.counters()["orders"] == 0
    assert core.sparse_references == 0


def test_ten_thousand_levels_a_side_stay_in_order():
    """Opened in random order, changed everywhere, closed in another random order; the view is always full."""
    rng = random.Random(5)
    core = _core.BookNormalizer(schema_mask=0)
    for side, base in (("B", 1_000_000), ("S", 1_010_000)):
        prices = [base + i for i in range(10_000)]
        rng.shuffle(prices)
        core.apply(1, [itch.add(p, side, p % 97 + 1, p) for p in prices])
        expected = [(p, p % 97 + 1, 1) for p in sorted(prices, reverse=side == "B")]
        assert core.levels(1, side == "B") == expected
    assert core.audit() == ""
    prices = [1_000_000 + i for i in range(20_000)]
    rng.shuffle(prices)
    for done in range(0, 20_000, 500):
        core.apply(1, [itch.delete(p) for p in prices[done : done + 500]])
        assert core.audit() == ""
    assert core.levels(1, True) == core.levels(1, False) == []
    assert core.counters()["unknown_orders"] == 0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(12, 60))
def test_levels_move_between_block_and_depth_without_loss(seed, width):
    """More levels than the block holds, best ones opening and closing: refill and overflow at work."""
    pair = Pair()
    picks = lambda rng: 1_000_000 + rng.randrange(width)  # noqa: E731
    for message in random_stream(seed, 400, counting(0, 3), picks):
        pair.apply(message)
    pair.compare_records()
    pair.compare_books((1, 2, 3))


def test_replace_across_the_spread_moves_to_the_new_price_on_its_own_side():
    """Even where it crosses: matching is the exchange's affair."""
    pair = Pair()
    pair.apply(itch.add(1, "B", 100, 1_000_000), itch.add(2, "S", 100, 1_000_100))
    pair.apply(itch.replace(1, 3, 50, 1_000_200))
    pair.compare_records()
    pair.compare_books()
    assert pair.core.levels(1, True) == [(1_000_200, 50, 1)]


def test_level_sizes_beyond_32_bits_are_exact_in_the_book_and_clamped_in_records():
    """Three orders of the largest size."""
    pair = Pair()
    for ref in range(3):
        pair.apply(itch.add(ref, "B", 2**32 - 1, 1_000_000))
    pair.compare_records()
    pair.compare_books()
    assert pair.core.levels(1, True) == [(1_000_000, 3 * (2**32 - 1), 3)]


def test_full_order_pool_refuses_marks_and_keeps_going():
    """An order that finds no room is counted, its book marked in table and records; other books are not."""
    core = _core.BookNormalizer(orders=2)
    core.apply(1, [itch.add(1, "B", 1, 10), itch.add(2, "B", 1, 11), itch.add(3, "B", 1, 12, locate=2)])
    assert core.counters()["refused_orders"] == 1
    assert core.view(2)["incomplete"]
    assert not core.view(1)["incomplete"]
    core.take_records()
    core.apply(4, [itch.delete(3, locate=2), itch.delete(1), itch.add(4, "B", 1, 13, locate=2)])
    mbo = tuples("mbo", core.take_records()["mbo"])
    assert [(r[0], r[3], r[8]) for r in mbo] == [(1, "C", 128), (2, "A", 128 | 4)]
    assert core.counters()["unknown_orders"] == 1
    core.clear(6, 0)
    assert not core.view(2)["incomplete"]
    assert core.audit() == ""


def test_full_level_pool_refuses_marks_and_keeps_going():
    """Levels beyond the pool are refused; those that were there stay right."""
    core = _core.BookNormalizer(deep_nodes=1)
    core.apply(1, [itch.add(p, "B", 1, p) for p in range(1, 200)])
    counters = core.counters()
    assert counters["refused_orders"] + counters["orders"] == 199
    assert counters["refused_orders"] > 0
    assert core.view(1)["incomplete"]
    assert core.audit() == ""


def test_books_apply_orders_through_a_halt():
    """Trading status is a field of the book, not a gate."""
    core = _core.BookNormalizer()
    core.apply(1, [itch.add(1, "B", 100, 10), itch.trading_action("H", "T1  "), itch.add(2, "B", 50, 10)])
    view = core.view(1)
    assert view["bids"] == [(10 * 100_000, 150, 2)]
    assert view["trading_status"] == "H"


def test_new_session_knows_neither_status_nor_number_of_the_old_one():
    """Whether an instrument had orders or not, whether they were lost before or not."""
    core = _core.BookNormalizer()
    core.apply(1, [itch.trading_action("H", "T1  "), itch.add(1, "B", 100, 10, locate=2)])
    core.apply(3, [itch.trading_action("T", "    ", locate=2)])
    core.clear(4, 0)
    assert (core.view(1)["trading_status"], core.view(2)["trading_status"]) == ("H", "T")
    core.clear(0, 0)
    for instrument in (1, 2):
        view = core.view(instrument)
        assert (view["trading_status"], view["sequence"], view["bids"]) == ("", 0, [])


def read_binaryfile(path: Path) -> list[bytes]:
    """Length-prefixed messages."""
    data = path.read_bytes()
    out = []
    at = 0
    while at + 2 <= len(data):
        length = int.from_bytes(data[at : at + 2], "big")
        if length == 0:
            break
        out.append(data[at + 2 : at + 2 + length])
        at += 2 + length
    return out


def test_real_aapl_messages_give_the_expected_levels(real_data):
    """1,001 messages of 2020-01-30 against the levels that another project's tests state."""
    folder = real_data / "aapl-20200130"
    stream = read_binaryfile(folder / "first-1001.itch")
    pair = Pair()
    pair.apply(*stream)
    pair.compare_records()
    lines = (folder / "expected-levels-after-1001.csv").read_text().split()[1:]
    expected = sorted(
        (s, round(float(p) * 10_000), int(q)) for s, p, q in (line.split(",") for line in lines)
    )
    instrument = pair.core.instrument("AAPL")
    found = [("B", p, q) for p, q, _ in pair.core.levels(instrument, True)]
    found += [("S", p, q) for p, q, _ in pair.core.levels(instrument, False)]
    assert sorted(found) == expected
    assert pair.core.counters()["unknown_orders"] == 0
    pair.compare_books((instrument,))


def test_cut_from_mid_stream_reports_its_399_unresolved_references(real_data):
    """First thousand messages from 09:30:00 of 2019-12-30: older orders are unknown, the rest goes on."""
    path = real_data / "nasdaq-20191230-0930" / "12302019_SNIPPET.NASDAQ_ITCH50"
    stream = read_binaryfile(path)
    pair = Pair()
    pair.apply(*stream)
    pair.compare_records()
    assert pair.core.counters()["unknown_orders"] == 399
    pair.compare_books(tuple(pair.model.symbols))
