"""A simulated day taken apart, and the naive exchange that judges it. Shares no code with the product."""

import struct
from collections import Counter
from collections.abc import Iterator
from functools import cache

from feedhandler import _core

LENGTHS = {
    "S": 12, "R": 39, "H": 25, "Y": 20, "L": 26, "V": 35, "W": 12, "K": 28, "J": 35, "h": 21, "A": 36,
    "F": 40, "E": 31, "C": 36, "X": 23, "D": 19, "U": 35, "P": 44, "Q": 40, "B": 19, "I": 50, "N": 20,
    "O": 48,
}  # fmt: skip
MATCH_AT = {"E": 23, "C": 23, "P": 36, "Q": 31}


@cache
def make_day(messages: int, symbols: int, seed: int, batch: int = 1 << 20) -> bytes:
    """Return a whole day as BinaryFILE records."""
    exchange = _core.Exchange(messages=messages, symbols=symbols, seed=seed)
    return b"".join(iter(lambda: exchange.next(batch), b""))


def split(records: bytes) -> Iterator[bytes]:
    """Yield the messages of BinaryFILE records."""
    at = 0
    while at < len(records):
        size = struct.unpack_from(">H", records, at)[0]
        yield records[at + 2 : at + 2 + size]
        at += 2 + size


def kind(message: bytes) -> str:
    """Return the message type."""
    return chr(message[0])


def locate(message: bytes) -> int:
    """Return the stock locate."""
    return int.from_bytes(message[1:3], "big")


def time_ns(message: bytes) -> int:
    """Return nanoseconds since midnight."""
    return int.from_bytes(message[5:11], "big")


class Judge:
    """Follows a day message by message, and fails at the first that no exchange would send."""

    def __init__(self) -> None:
        self.orders: dict[int, list[int]] = {}  # reference: locate, side (0 buy), shares, price
        self.levels: dict[tuple[int, int], dict[int, int]] = {}  # (locate, side): price to shares
        self.queues: dict[
            tuple[int, int, int], list[int]
        ] = {}  # (locate, side, price): references, oldest first
        self.state: dict[int, str] = {}
        self.halted: set[int] = set()  # by message h
        self.touched: set[int] = set()
        self.counts: Counter[str] = Counter()
        self.newest_reference = self.newest_match = self.time_ns = 0

    def best(self, stock: int, side: int) -> int | None:
        """Return the best price of a side (0 buy, 1 sell)."""
        prices = self.levels.get((stock, side))
        if not prices:
            return None
        return min(prices) if side else max(prices)

    def see(self, message: bytes) -> None:
        """Check and apply one message."""
        name = kind(message)
        assert len(message) == LENGTHS[name]
        assert time_ns(message) >= self.time_ns, "time goes back"
        if time_ns(message) > self.time_ns:
            self.end_event()
        self.time_ns = time_ns(message)
        self.counts[name] += 1
        if name in MATCH_AT:
            match = int.from_bytes(message[MATCH_AT[name] : MATCH_AT[name] + 8], "big")
            assert match > self.newest_match, "match numbers do not rise"
            self.newest_match = match
        handler = getattr(self, "_on_" + name, None)
        if handler is not None:
            handler(locate(message), message)
            self.touched.add(locate(message))

    def end_event(self) -> None:
        """After all messages of one instant no stock that trades may be crossed or locked."""
        for stock in self.touched:
            bid, ask = self.best(stock, 0), self.best(stock, 1)
            if self.state.get(stock) == "T" and bid is not None and ask is not None:
                assert bid < ask, f"stock {stock} is crossed: {bid} {ask}"
        self.touched.clear()

    def _add(self, stock: int, reference: int, side: int, shares: int, price: int) -> None:
        assert reference > self.newest_reference, "references do not rise"
        assert shares > 0
        assert 0 < price < 2_000_000_000
        self.newest_reference = reference
        self.orders[reference] = [stock, side, shares, price]
        level = self.levels.setdefault((stock, side), {})
        level[price] = level.get(price, 0) + shares
        self.queues.setdefault((stock, side, price), []).append(reference)

    def _take(self, stock: int, reference: int, shares: int | None) -> list[int]:
        order = self.orders[reference]  # an unknown reference is a KeyError
        assert order[0] == stock
        shares = order[2] if shares is None else shares
        assert 0 < shares <= order[2], "more than is left"
        level = self.levels[stock, order[1]]
        level[order[3]] -= shares
        order[2] -= shares
        if not level[order[3]]:
            del level[order[3]]
        if not order[2]:
            del self.orders[reference]
            queue = self.queues[stock, order[1], order[3]]
            queue.remove(reference)
            if not queue:
                del self.queues[stock, order[1], order[3]]
        return order

    def _on_A(self, stock: int, message: bytes) -> None:  # noqa: N802
        reference, side, shares, _, price = struct.unpack_from(">QcI8sI", message, 11)
        assert self.state[stock] in "TQ", "an order enters a stock that takes none"
        self._add(stock, reference, 0 if side == b"B" else 1, shares, price)

    _on_F = _on_A  # noqa: N815

    def _on_U(self, stock: int, message: bytes) -> None:  # noqa: N802
        old, new, shares, price = struct.unpack_from(">QQII", message, 11)
        self._add(stock, new, self._take(stock, old, None)[1], shares, price)

    def _on_X(self, stock: int, message: bytes) -> None:  # noqa: N802
        reference, shares = struct.unpack_from(">QI", message, 11)
        assert shares < self.orders[reference][2], "a whole cancel is a D"
        self._take(stock, reference, shares)

    def _on_D(self, stock: int, message: bytes) -> None:  # noqa: N802
        self._take(stock, struct.unpack_from(">Q", message, 11)[0], None)

    def _on_E(self, stock: int, message: bytes) -> None:  # noqa: N802
        reference, shares = struct.unpack_from(">QI", message, 11)
        _, side, _, price = self.orders[reference]
        assert price == self.best(stock, side), "a worse price trades first"
        assert self.queues[stock, side, price][0] == reference, "a newer order trades first"
        in_cross = kind(message) == "C" and message[31:32] == b"N"
        assert in_cross or (self.state[stock] == "T" and stock not in self.halted), "trades while halted"
        self._take(stock, reference, shares)

    _on_C = _on_E  # noqa: N815

    def _on_H(self, stock: int, message: bytes) -> None:  # noqa: N802
        self.state[stock] = chr(message[19])

    def _on_h(self, stock: int, message: bytes) -> None:
        (self.halted.add if message[20:21] == b"H" else self.halted.discard)(stock)
