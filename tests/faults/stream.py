"""The lossless stream of one session, and the books after each of its messages by the naive model."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

from tests.support import itch_messages as itch
from tests.support.model_book import Model

LOCATES = (1, 2, 3)
SYMBOLS = {1: "AAA", 2: "BBB", 3: "CCC"}
MESSAGES = 120
PRICE_SCALE = 100_000  # 4 implied decimals to 1e-9

# Of every instrument: bids, asks as (price in 1e-9, size, orders), and the trading status.
Books = dict[int, tuple[list[tuple[int, int, int]], list[tuple[int, int, int]], str]]
Record = tuple[object, ...]


@dataclass(frozen=True)
class Stream:
    """Messages by number; books[n] are those after message n, records[n] what message n must give."""

    session: bytes
    messages: dict[int, bytes]
    books: list[Books]
    records: dict[str, set[Record]]


def order_flow(seed: int, count: int) -> list[bytes]:
    """Return directory and states, then orders: hardly a message that leaves the books as they were."""
    rng = random.Random(seed)
    out = [itch.system_event("O")]
    for locate in LOCATES:
        out.append(itch.directory(locate, SYMBOLS[locate]))
        out.append(itch.trading_action("T", locate=locate, stock=SYMBOLS[locate]))
    live: dict[int, tuple[int, int]] = {}  # reference: locate, shares
    reference = 0
    while len(out) < count:
        ts, roll = len(out) * 1000, rng.random()
        if len(live) < 4 or roll < 0.5:
            reference += rng.randrange(1, 4)
            locate, shares = rng.choice(LOCATES), rng.randrange(1, 9) * 100
            side = rng.choice("BS")
            price = 1_000_000 + rng.randrange(1, 12) * (100 if side == "S" else -100)
            live[reference] = (locate, shares)
            out.append(itch.add(reference, side, shares, price, locate, SYMBOLS[locate], ts))
            continue
        old = rng.choice(list(live))
        locate, shares = live.pop(old)
        if roll < 0.62:
            out.append(itch.delete(old, locate, ts))
        elif roll < 0.75:
            reference += rng.randrange(1, 4)
            live[reference] = (locate, 100)
            out.append(itch.replace(old, reference, 100, 1_000_000 + rng.randrange(-9, 10) * 100, locate, ts))
        elif roll < 0.9 and shares > 100:
            live[old] = (locate, shares - 100)
            out.append(itch.executed(old, 100, locate, ts, match=len(out)))
        elif shares > 50:
            live[old] = (locate, shares - 50)
            out.append(itch.cancel(old, 50, locate, ts))
        else:
            out.append(itch.delete(old, locate, ts))
    return out


@cache
def stream(session: bytes, seed: int, count: int = MESSAGES) -> Stream:
    """Build the stream of a session."""
    model, status = Model(), dict.fromkeys(LOCATES, "")
    messages = dict(enumerate(order_flow(seed, count), 1))
    books = [_books(model, status)]
    for number, message in messages.items():
        model.apply(number, message)
        if message[:1] == b"H":
            status[int.from_bytes(message[1:3], "big")] = chr(message[19])
        books.append(_books(model, status))
    records: dict[str, set[Record]] = {
        "mbo": set(model.mbo),
        "trades": set(model.trades),
        "mbp-1": set(model.mbp1),
        "mbp-10": set(model.mbp10),
    }
    return Stream(session, messages, books, records)


def _books(model: Model, status: dict[int, str]) -> Books:
    out: Books = {}
    for locate in LOCATES:
        bids, asks = (
            [(price * PRICE_SCALE, size, orders) for price, size, orders in model.levels(locate, side)[:10]]
            for side in "BA"
        )
        out[locate] = (bids, asks, status[locate])
    return out
