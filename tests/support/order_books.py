"""Books by the plainest means, fast enough to follow a feed: orders in a dict, levels summed when asked."""

import struct
from collections import defaultdict

Levels = list[tuple[int, int, int]]


class OrderBooks:
    """Applies ITCH 5.0 messages; shares no code with the product."""

    def __init__(self) -> None:
        self.orders: dict[int, list[int]] = {}
        """Reference to [locate, side, price, shares]."""
        self.symbols: dict[int, str] = {}

    def apply(self, message: bytes) -> None:
        """Apply one message that does not contradict the others."""
        kind = message[0]
        if kind in b"AF":
            locate = int.from_bytes(message[1:3], "big")
            reference, side, shares, stock, price = struct.unpack_from(">QcI8sI", message, 11)
            self.symbols.setdefault(locate, stock.decode("ascii").rstrip())
            self.orders[reference] = [locate, side[0], price, shares]
        elif kind in b"ECX":
            reference, shares = struct.unpack_from(">QI", message, 11)
            order = self.orders[reference]
            order[3] -= shares
            if order[3] == 0:
                del self.orders[reference]
        elif kind in b"D":
            del self.orders[struct.unpack_from(">Q", message, 11)[0]]
        elif kind in b"U":
            old, new, shares, price = struct.unpack_from(">QQII", message, 11)
            locate, side, _, _ = self.orders.pop(old)
            self.orders[new] = [locate, side, price, shares]

    def levels(self, depth: int = 10) -> dict[str, tuple[Levels, Levels]]:
        """Return (bids, asks) of each symbol that ever had an order: (price in 1e-9, shares, orders)."""
        sums: dict[tuple[int, int], dict[int, list[int]]] = defaultdict(dict)
        for locate, side, price, shares in self.orders.values():
            level = sums[locate, side].setdefault(price, [0, 0])
            level[0] += shares
            level[1] += 1
        return {
            symbol: (
                _best(sums[locate, ord("B")], depth, highest=True),
                _best(sums[locate, ord("S")], depth, highest=False),
            )
            for locate, symbol in self.symbols.items()
        }


def _best(levels: dict[int, list[int]], depth: int, *, highest: bool) -> Levels:
    return [(price * 100_000, *levels[price]) for price in sorted(levels, reverse=highest)[:depth]]
