#!/usr/bin/env python3
"""Watch positions, exposure, price bands and staleness; say ten times a second whether quoting is allowed.

It fails closed: whatever it cannot vouch for is forbidden, and the moment the feed is not LIVE it says so.

    python examples/risk_monitor.py xnas-itch --risk ipc:///tmp/risk --orders ipc:///tmp/orders
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass, field

import zmq

from feedhandler import Consumer, FeedState


@dataclass(frozen=True)
class Limits:
    """What is tolerated; money in dollars."""

    position_shares: int = 10_000  # per symbol
    exposure: float = 50_000_000.0  # sum over symbols of |position| x mid price
    band: float = 0.10  # a quote may be this far from the mid price, as a share of it
    silence_s: float = 2.0  # no record for so long: the book may be old


@dataclass
class Account:
    """What the strategy has done, by its own word."""

    positions: dict[str, int] = field(default_factory=dict)
    quotes: dict[str, tuple[int, int]] = field(default_factory=dict)

    def take(self, message: dict[str, object]) -> None:
        """Apply one message of the strategy."""
        if "fill" in message:
            symbol = str(message["fill"])
            self.positions[symbol] = self.positions.get(symbol, 0) + int(str(message["shares"]))
            self.quotes.pop(symbol, None)
        elif "quote" in message:
            self.quotes[str(message["quote"])] = (int(str(message["bid"])), int(str(message["ask"])))
        elif "pull" in message:
            self.quotes.clear()


def mid_price(consumer: Consumer, symbol: str) -> float | None:
    """Return the mid price in dollars, or None when there is no book or a side of it is empty."""
    try:
        book = consumer.book(symbol)
    except KeyError:  # a daemon just started may not have heard of it yet
        return None
    if len(book.bids) == 0 or len(book.asks) == 0:
        return None
    return (int(book.bids["price"][0]) + int(book.asks["price"][0])) / 2e9


def exposure(consumer: Consumer, account: Account) -> float:
    """Return the gross exposure in dollars; a position without a price counts as infinite: fail closed."""
    total = 0.0
    for symbol, shares in account.positions.items():
        if shares:
            mid = mid_price(consumer, symbol)
            total += abs(shares) * mid if mid is not None else float("inf")
    return total


def verdict(consumer: Consumer, account: Account, limits: Limits, quiet_s: float) -> str:
    """Return why quoting is forbidden, or "" when it is allowed."""
    state = consumer.state
    if state != FeedState.LIVE:
        return f"feed {state.name}"
    if quiet_s > limits.silence_s:
        return f"no record for {quiet_s:.1f} s"
    for symbol, shares in account.positions.items():
        if abs(shares) > limits.position_shares:
            return f"position {symbol} {shares} over {limits.position_shares}"
    gross = exposure(consumer, account)
    if gross > limits.exposure:
        return f"exposure {gross:,.0f} over {limits.exposure:,.0f}"
    for symbol, (bid, ask) in account.quotes.items():
        mid = mid_price(consumer, symbol)
        if (
            mid is None
            or abs(bid / 1e9 - mid) > limits.band * mid
            or abs(ask / 1e9 - mid) > limits.band * mid
        ):
            return f"quote {symbol} {bid / 1e9:.2f}/{ask / 1e9:.2f} outside the band around {mid}"
    return "" if consumer.state == FeedState.LIVE else "feed changed while looking"


def watch(consumer: Consumer, orders: zmq.Socket, risk: zmq.Socket, limits: Limits, seconds: float) -> None:
    """Speak every 100 ms, and at once when the word changes."""
    account = Account()
    last_record = time.monotonic()
    end = last_record + seconds
    spoken, speak_at, report_at = "not yet", 0.0, 0.0
    while (now := time.monotonic()) < end:
        if consumer.poll(timeout_s=0.002):
            last_record = now
        while orders.poll(0):
            account.take(orders.recv_json())
        reason = verdict(consumer, account, limits, now - last_record)
        if reason != spoken or now >= speak_at:
            risk.send_json({"allow": not reason, "reason": reason})
            speak_at = now + 0.1
        if reason != spoken:
            say("forbids" if reason else "allows", reason=reason)
            spoken = reason
        if now >= report_at:
            report_at = now + 1.0
            gross = exposure(consumer, account)
            say(
                "status",
                state=consumer.state.name,
                positions=sum(map(bool, account.positions.values())),
                exposure=gross,
            )
    say("done", state=consumer.state.name, positions=account.positions)


def say(event: str, **facts: object) -> None:
    """Print one JSON line."""
    print(json.dumps({"who": "risk", "event": event, "at_ns": time.monotonic_ns(), **facts}), flush=True)


def main() -> int:
    """Parse the options and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("channel")
    parser.add_argument("--runtime-dir", default=None)
    parser.add_argument("--risk", required=True, metavar="ENDPOINT", help="where to publish the verdict")
    parser.add_argument(
        "--orders", required=True, metavar="ENDPOINT", help="where the strategy publishes quotes and fills"
    )
    parser.add_argument("--seconds", type=float, default=float("inf"))
    options = parser.parse_args()
    context = zmq.Context()
    risk = context.socket(zmq.PUB)
    risk.bind(options.risk)
    orders = context.socket(zmq.SUB)
    orders.setsockopt(zmq.SUBSCRIBE, b"")
    orders.connect(options.orders)
    try:
        with Consumer(
            options.channel, schemas=["trades", "mbp-1"], runtime_dir=options.runtime_dir
        ) as consumer:
            watch(consumer, orders, risk, Limits(), options.seconds)
    except KeyboardInterrupt:
        pass
    finally:
        context.destroy(linger=0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
