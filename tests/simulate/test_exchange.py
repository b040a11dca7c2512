"""The simulated day is one that an exchange could have sent, with the mix of a real one; always the same."""

import hashlib
import struct
from collections import Counter

import pytest

from feedhandler import _core
from tests.simulate.day import LENGTHS, Judge, kind, locate, make_day, split, time_ns

SECOND = 1_000_000_000
OPEN = (9 * 60 + 30) * 60 * SECOND
CLOSE = 16 * 3600 * SECOND


@pytest.mark.parametrize(
    ("messages", "symbols", "seed"),
    [
        (200_000, 100, 1),
        (60_000, 1, 2),
        (60_000, 3, 3),
        (60_000, 2000, 4),
        (5_000, 10, 5),
        (60_000, 20, 2**64 - 1),
    ],
)
def test_no_message_that_an_exchange_would_not_send(messages: int, symbols: int, seed: int) -> None:
    """References are known, quantities there, best and oldest trade first, nothing is crossed, time rises."""
    judge = Judge()
    for message in split(make_day(messages, symbols, seed)):
        judge.see(message)
    judge.end_event()
    assert sum(judge.counts.values()) == messages
    assert judge.counts["E"] > 50
    assert len(judge.orders) > 10


@pytest.mark.parametrize("symbols", [1, 2, 7, 8, 500])
@pytest.mark.parametrize("more", [0, 1, 7, 19, 20, 21, 150, 2001])
def test_the_day_has_exactly_the_messages_asked_for(symbols: int, more: int) -> None:
    """From the shortest day on, the last message is S C and has the number asked for."""
    messages = _core.Exchange.least_messages(symbols) + more
    day = list(split(make_day(messages, symbols, 3)))
    assert len(day) == messages
    system = [chr(m[11]) for m in day if kind(m) == "S"]
    assert system == ["O", "S", "Q", "M", "E", "C"]
    assert (kind(day[0]), kind(day[-1]), chr(day[-1][11])) == ("S", "S", "C")


# Per cent of all messages on two published days, 2018-03-29 and 2019-12-30; how far ours may be off.
MIX = {"A": (44.3, 1.5), "F": (0.88, 0.1), "D": (43.0, 1.6), "U": (7.6, 0.6), "E": (2.2, 0.3),
       "C": (0.05, 0.15), "X": (1.65, 0.2), "P": (0.36, 0.1),
       "I": (1.5, 0.2), "Q": (0.006, 0.16)}  # fmt: skip


def test_mix_of_a_real_day() -> None:
    """A million messages have the shares of a NASDAQ day (crosses weigh more in a day 300 times shorter)."""
    exchange = _core.Exchange(messages=1_000_000, symbols=800, seed=11)
    while exchange.next(1 << 20):
        pass
    shares = {name: 100 * count / 1_000_000 for name, count in exchange.counts.items()}
    print("\ntype  ours %  real %")
    for name, (real, _) in MIX.items():
        print(f"{name:4} {shares[name]:7.3f} {real:7.3f}")
    for name, (real, tolerance) in MIX.items():
        assert abs(shares[name] - real) <= tolerance, f"{name}: {shares[name]:.3f} %, a real day has {real} %"
    assert sum(exchange.counts.values()) == 1_000_000
    assert abs(exchange.adds_near / exchange.added_orders - 0.83) < 0.04
    assert abs(exchange.opened_levels / exchange.added_orders - 0.26) < 0.04


def test_popularity_falls_with_the_rank() -> None:
    """The busiest of 1,000 stocks has the share that 1 / (rank + 20) gives, within a tenth."""
    counts = Counter(locate(m) for m in split(make_day(200_000, 1000, 6)) if kind(m) in "AFDUX")
    weights = [1 / (rank + 20) for rank in range(1000)]
    busiest = counts.most_common(1)[0][1] / counts.total()
    assert abs(busiest / (weights[0] / sum(weights)) - 1) < 0.1


def test_lifetimes_and_references() -> None:
    """Half the references are displayed; many orders go within thousands of messages, a few per cent stay."""
    born: dict[int, int] = {}
    ages, newest, closed = [], 0, 0
    for number, message in enumerate(split(make_day(200_000, 100, 1))):
        if kind(message) in "AF":
            newest = struct.unpack_from(">Q", message, 11)[0]
            born[newest] = number
        elif kind(message) == "U":
            newest = struct.unpack_from(">Q", message, 19)[0]
        elif kind(message) == "D" and time_ns(message) < CLOSE:
            reference = struct.unpack_from(">Q", message, 11)[0]
            if reference in born:
                ages.append(number - born[reference])
        closed += kind(message) == "U"
    assert 0.4 < (len(born) + closed) / newest < 0.6
    assert 0.3 < sum(age < 3000 for age in ages) / len(born) < 0.8
    assert len(ages) / len(born) < 0.9


def test_all_23_types_occur() -> None:
    """Every message type of the protocol is in a day of a few thousand messages."""
    assert {kind(m) for m in split(make_day(5_000, 10, 5))} == set(LENGTHS)


def test_order_of_the_day() -> None:
    """Directory before the system opens, then orders, crosses at open and close, times as on a real day."""
    day = list(split(make_day(60_000, 20, 2**64 - 1)))
    system = {chr(m[11]): i for i, m in enumerate(day) if kind(m) == "S"}
    spin = [(kind(m), locate(m)) for m in day[1:61]]
    assert spin == [(name, stock) for stock in range(1, 21) for name in "RHY"]
    assert all(kind(m) in "RHYLV" for m in day[1 : system["S"]])
    hours = {code: time_ns(day[i]) / (3600 * SECOND) for code, i in system.items()}
    assert hours["S"] == 4
    assert 9.5 <= hours["Q"] < 9.5001
    assert 16 <= hours["M"] < 16.0001
    assert hours["E"] == 20
    trades_before_open = [m for m in day[: system["Q"]] if kind(m) == "Q"]
    assert trades_before_open == []
    for code, cross in (("Q", "O"), ("M", "C")):
        after = day[system[code] + 1 :]
        crosses = [chr(m[39]) for m in after if kind(m) == "Q"]
        assert crosses[:18] == [cross] * 18  # of 20 stocks two are halted until their first trade
    imbalances = [m for m in day if kind(m) == "I" and m[48:49] == b"O"]
    assert imbalances
    assert all((9 * 60 + 25) * 60 * SECOND <= time_ns(m) <= OPEN for m in imbalances)


def test_halts_run_their_course() -> None:
    """News, collar and venue halts: each state follows the one before, and a cross resumes trading."""
    stocks: dict[int, list[str]] = {}
    for message in split(make_day(300_000, 50, 9)):
        name = kind(message)
        if name == "H":
            stocks.setdefault(locate(message), []).append(chr(message[19]) + message[21:25].decode().strip())
        elif name in "JhW" or (name == "Q" and message[39:40] == b"H"):
            stocks.setdefault(locate(message), []).append(name)
    courses = {
        " ".join(states[1:] if states[0] == "T" else states) for states in stocks.values() if len(states) > 1
    }
    assert any("HT1 QT3 Q T" in course for course in courses)
    assert any("PLUDP J" in course and "Q Q T" in course for course in courses)
    assert any("HIPO1 QIPOQ Q T" in course for course in courses)
    assert any("h h" in course for course in courses)


def test_cross_prints_share_the_instant_of_their_bulk_print() -> None:
    """Each C with N is followed at the same time by the stock's Q, at its price, of at least its shares."""
    pending: dict[int, list[tuple[int, int, int]]] = {}
    bulk = 0
    for message in split(make_day(200_000, 100, 1)):
        if kind(message) == "C" and message[31:32] == b"N":
            shares, price = struct.unpack_from(">I", message, 19)[0], struct.unpack_from(">I", message, 32)[0]
            pending.setdefault(locate(message), []).append((time_ns(message), shares, price))
        elif kind(message) == "Q":
            shares, _, price = struct.unpack_from(">Q8sI", message, 11)
            prints = pending.pop(locate(message), [])
            assert all(at == time_ns(message) and at_price == price for at, _, at_price in prints)
            assert sum(part for _, part, _ in prints) <= 2 * shares
            bulk += bool(prints)
    assert not pending
    assert bulk > 10


def test_bursts_at_the_open() -> None:
    """In some millisecond after the open messages come at more than a million a second."""
    milliseconds = Counter(
        time_ns(m) // 1_000_000 for m in split(make_day(200_000, 100, 1)) if time_ns(m) >= OPEN
    )
    assert max(milliseconds.values()) > 1000


def test_same_seed_same_bytes_on_every_machine() -> None:
    """The bytes are pinned: a change of the order flow is a decision, not an accident."""
    digests = {
        (200_000, 500, 1): "62c374432cfafbca5ff242376d8d3b1252ef7c86c766ff0b81fb7a2843124a66",
        (60_000, 1, 2): "8cc49f81f623530697447f4867bb28ca545c353b133447907e587c702c5203c0",
    }
    for arguments, digest in digests.items():
        assert hashlib.sha256(make_day(*arguments)).hexdigest() == digest


def test_batch_size_does_not_matter() -> None:
    """Taken byte by byte or whole, the day is the same."""
    assert make_day(5_000, 10, 5, batch=1) == make_day(5_000, 10, 5, batch=1 << 22)


def test_another_seed_gives_another_day() -> None:
    """Seeds tell days apart, but not the names of the stocks."""
    one, two = make_day(5_000, 10, 5), make_day(5_000, 10, 6)
    assert one != two
    names = [{m[11:19] for m in split(day) if kind(m) == "R"} for day in (one, two)]
    assert names[0] == names[1]
    assert b"AAPL    " in names[0]


def test_memory_is_bounded() -> None:
    """With room for a thousand orders a long day still runs, by the rules."""
    exchange = _core.Exchange(messages=100_000, symbols=50, seed=1, max_orders=1000)
    judge, most = Judge(), 0
    while batch := exchange.next(1 << 14):
        most = max(most, exchange.live_orders)
        for message in split(batch):
            judge.see(message)
    assert 900 < most <= 1000
    assert sum(judge.counts.values()) == 100_000


def test_a_day_without_end_goes_on() -> None:
    """Without a number of messages trading does not close."""
    exchange = _core.Exchange(messages=0, symbols=10, seed=1)
    judge = Judge()
    while exchange.messages < 1_000_000:
        batch = exchange.next(1 << 20)
        assert batch
        if exchange.messages < 100_000:
            for message in split(batch):
                judge.see(message)
    assert exchange.counts["S"] == 3
    assert exchange.counts["E"] > 10_000
