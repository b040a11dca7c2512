#!/usr/bin/env python3
r"""Quote both sides of a few symbols from the top five levels of their books, and measure tick to quote.

It acts only while two conditions hold, and pulls its quotes the moment one does not:
the feed is LIVE, and the risk monitor has allowed quoting within the last 250 ms.

    python examples/quoting_strategy.py xnas-itch --symbols AAPL,MSFT \
        --risk ipc:///tmp/risk --orders ipc:///tmp/orders

The "venue" is a paper one: a trade at or through a quote fills it. Fills and quotes go out on --orders
(PUB, JSON).
"""

import argparse
import contextlib
import json
import sys
import time
from collections import deque
from dataclasses import dataclass

import numpy as np
import zmq

from feedhandler import Book, Consumer, FeedState

TICK = 10_000_000  # one cent in 1e-9
QUOTE_SHARES = 100
PERMISSION_LIFETIME_NS = 250_000_000


@dataclass
class Quote:
    """A two-sided quote; prices in 1e-9."""

    bid: int
    ask: int


def two_sided_quote(book: Book) -> Quote | None:
    """Return a quote around the size-weighted price of the top five levels, or None when a side is empty.

    More size on the bid leans the price towards the ask. The quote never crosses the book's own touch.
    """
    bids, asks = book.bids[:5], book.asks[:5]
    if len(bids) == 0 or len(asks) == 0:
        return None
    bid_size, ask_size = int(bids["size"].sum()), int(asks["size"].sum())
    best_bid, best_ask = int(bids["price"][0]), int(asks["price"][0])
    fair = (best_bid * ask_size + best_ask * bid_size) // (bid_size + ask_size)
    half_spread = max((best_ask - best_bid) // 2, TICK)
    bid = min((fair - half_spread) // TICK * TICK, best_ask - TICK)
    ask = max(-(-(fair + half_spread) // TICK) * TICK, best_bid + TICK)
    return Quote(bid, ask) if bid > 0 else None


class Permission:
    """The risk monitor's word, which must be fresh: silence forbids."""

    def __init__(self, context: zmq.Context, endpoint: str) -> None:
        self._socket = context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.CONFLATE, 1)  # only the newest word counts
        self._socket.setsockopt(zmq.SUBSCRIBE, b"")
        self._socket.connect(endpoint)
        self._allowed_at_ns = 0
        self.reason = "no word from the risk monitor"

    def granted(self) -> bool:
        """Return whether quoting is allowed right now."""
        now_ns = time.monotonic_ns()
        if self._socket.poll(0):
            word = json.loads(self._socket.recv())
            self.reason = word["reason"]
            self._allowed_at_ns = now_ns if word["allow"] else 0
        if self._allowed_at_ns and now_ns - self._allowed_at_ns > PERMISSION_LIFETIME_NS:
            self._allowed_at_ns, self.reason = 0, "the risk monitor is silent"
        return self._allowed_at_ns != 0


class Strategy:
    """Holds the quotes; acts on books, pulls on doubt."""

    def __init__(self, consumer: Consumer, permission: Permission, orders: zmq.Socket) -> None:
        self.consumer, self.permission, self.orders = consumer, permission, orders
        self.quotes: dict[str, Quote] = {}
        self.quoted = self.filled = self.pulled = 0
        self.tick_to_quote_ns: deque[int] = deque(maxlen=10_000)
        self.reason = "not yet"

    def say(self, event: str, **facts: object) -> None:
        """Print one JSON line and tell the risk monitor."""
        line = json.dumps({"who": "strategy", "event": event, "at_ns": time.monotonic_ns(), **facts})
        print(line, flush=True)

    def may_act(self) -> bool:
        """Check both conditions; pull all quotes at the first doubt."""
        state = self.consumer.state
        if state != FeedState.LIVE:
            reason = f"feed {state.name}"
        else:
            reason = "" if self.permission.granted() else self.permission.reason
        if reason and self.quotes:
            self.pulled += len(self.quotes)
            self.quotes.clear()
            self.orders.send_json({"pull": "all"})
        if reason != self.reason:
            self.reason = reason
            self.say("refuses" if reason else "quoting", reason=reason, quotes_pulled=self.pulled)
        return not reason

    def on_top_of_book(self, symbol: str, ts_recv_ns: int) -> None:
        """Requote one symbol after its book changed."""
        try:
            book = self.consumer.book(symbol)
        except KeyError:  # the daemon was restarted just now and has not heard of it yet
            return
        if book.state != FeedState.LIVE:
            return
        quote = two_sided_quote(book)
        if quote is None or quote == self.quotes.get(symbol):
            return
        self.quotes[symbol] = quote
        self.quoted += 1
        self.tick_to_quote_ns.append(time.time_ns() - ts_recv_ns)
        self.orders.send_json({"quote": symbol, "bid": quote.bid, "ask": quote.ask})

    def on_trades(self, symbol: str, prices: np.ndarray) -> None:
        """Fill quotes that a print traded at or through."""
        quote = self.quotes.get(symbol)
        if quote is None:
            return
        for shares, price, hit in (
            (QUOTE_SHARES, quote.bid, bool((prices <= quote.bid).any())),
            (-QUOTE_SHARES, quote.ask, bool((prices >= quote.ask).any())),
        ):
            if hit:
                self.filled += 1
                self.quotes.pop(symbol, None)
                self.orders.send_json({"fill": symbol, "shares": shares, "price": price})

    def summary(self) -> dict[str, object]:
        """Return what it did, with the tick-to-quote distribution in microseconds."""
        facts: dict[str, object] = {
            "quotes": self.quoted,
            "fills": self.filled,
            "lost_records": self.consumer.lost,
        }
        if self.tick_to_quote_ns:
            low, middle, high = np.percentile(np.array(self.tick_to_quote_ns) / 1e3, [50, 99, 100])
            facts |= {
                "tick_to_quote_us": {"p50": round(low, 1), "p99": round(middle, 1), "max": round(high, 1)}
            }
        return facts


def follow(strategy: Strategy, symbol_of: dict[int, str], seconds: float) -> None:
    """Run until `seconds` have passed."""
    consumer = strategy.consumer
    end = time.monotonic() + seconds
    report_at = time.monotonic() + 1.0
    while (now := time.monotonic()) < end:
        batches = consumer.poll(timeout_s=0.002)
        if now >= report_at:
            report_at = now + 1.0
            strategy.say("status", state=consumer.state.name, **strategy.summary())
        if not strategy.may_act():
            continue
        for batch in batches:
            ids = batch.records["instrument_id"]
            for instrument_id in np.unique(ids):
                if int(instrument_id) not in symbol_of:
                    symbol_of.update(consumer.symbols())
                symbol = symbol_of[int(instrument_id)]
                own = batch.records[ids == instrument_id]
                if batch.schema == "trades":
                    strategy.on_trades(symbol, own["price"])
                else:
                    strategy.on_top_of_book(symbol, int(own["ts_recv"][-1]))


def main() -> int:
    """Parse the options and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("channel")
    parser.add_argument("--symbols", default="", help="comma-separated; default all")
    parser.add_argument("--runtime-dir", default=None)
    parser.add_argument("--risk", required=True, metavar="ENDPOINT", help="where the risk monitor speaks")
    parser.add_argument(
        "--orders", required=True, metavar="ENDPOINT", help="where to publish quotes and fills"
    )
    parser.add_argument("--seconds", type=float, default=float("inf"))
    options = parser.parse_args()
    symbols = [s for s in options.symbols.split(",") if s]
    context = zmq.Context()
    orders = context.socket(zmq.PUB)
    orders.bind(options.orders)
    try:
        with Consumer(
            options.channel, schemas=["mbp-1", "trades"], symbols=symbols, runtime_dir=options.runtime_dir
        ) as consumer:
            strategy = Strategy(consumer, Permission(context, options.risk), orders)
            with contextlib.suppress(KeyboardInterrupt):
                follow(strategy, {}, options.seconds)
            strategy.say("done", state=consumer.state.name, **strategy.summary())
    finally:
        context.destroy(linger=0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
