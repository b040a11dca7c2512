"""The naive oracle: ITCH 5.0 messages to books and expected DBN records, in plain dicts, with nothing clever.

Written from the message specification and the published mapping to DBN, sharing no code with the product.
Records are tuples in the order of the fields below, so that a test compares them whole:

    mbo     (instrument_id, sequence, ts_event, action, side, order_id, price, size, flags)
    trades  (instrument_id, sequence, ts_event, action, side, price, size, flags, depth)
    mbp     as trades, then the levels: (bid_px, ask_px, bid_sz, ask_sz, bid_ct, ask_ct), ...
"""

import struct
from dataclasses import dataclass, field

UNDEF = 2**63 - 1
LENGTHS = {
    "S": 12, "R": 39, "H": 25, "Y": 20, "L": 26, "V": 35, "W": 12, "K": 28, "J": 35, "h": 21, "A": 36,
    "F": 40, "E": 31, "C": 36, "X": 23, "D": 19, "U": 35, "P": 44, "Q": 40,
    "B": 19, "I": 50, "N": 20, "O": 48,
}  # fmt: skip
STOCK_AT = dict.fromkeys("RHYKJhNO", 11) | {"A": 24, "F": 24, "P": 24, "Q": 19, "I": 28, "L": 15}
LAST, BAD = 128, 4
BIG = 2**32 - 1


@dataclass
class ModelOrder:
    """One displayed order."""

    locate: int
    side: str  # "B" or "A"
    price: int
    shares: int


@dataclass
class Model:
    """Books of all instruments: orders in arrival order, levels summed anew whenever somebody asks."""

    midnight_ns: int = 0
    live: bool = True
    orders: dict[int, ModelOrder] = field(default_factory=dict)
    had_order: set[int] = field(default_factory=set)
    symbols: dict[int, str] = field(default_factory=dict)
    counters: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ["messages", "malformed_messages", "unknown_messages", "unknown_orders"], 0
        )
    )
    mbo: list[tuple] = field(default_factory=list)
    trades: list[tuple] = field(default_factory=list)
    mbp1: list[tuple] = field(default_factory=list)
    mbp10: list[tuple] = field(default_factory=list)

    # ---- what the books look like ----

    def levels(self, locate: int, side: str) -> list[tuple[int, int, int]]:
        """Return (price, size, orders), best first."""
        sums: dict[int, list[int]] = {}
        for order in self.orders.values():
            if order.locate == locate and order.side == side:
                level = sums.setdefault(order.price, [0, 0])
                level[0] += order.shares
                level[1] += 1
        return [(price, *sums[price]) for price in sorted(sums, reverse=side == "B")]

    def queue(self, locate: int, side: str, price: int) -> list[int]:
        """Return the references at a price, first in the queue first: a dict keeps the order of arrival."""
        return [ref for ref, o in self.orders.items() if (o.locate, o.side, o.price) == (locate, side, price)]

    def pairs(self, locate: int, count: int) -> tuple[tuple[int, ...], ...]:
        """Return the levels as mbp records show them."""
        bids, asks = self.levels(locate, "B"), self.levels(locate, "A")
        out = []
        for i in range(count):
            bid = bids[i] if i < len(bids) else None
            ask = asks[i] if i < len(asks) else None
            out.append((
                bid[0] * 100_000 if bid else UNDEF, ask[0] * 100_000 if ask else UNDEF,
                min(bid[1], BIG) if bid else 0, min(ask[1], BIG) if ask else 0,
                bid[2] if bid else 0, ask[2] if ask else 0,
            ))  # fmt: skip
        return tuple(out)

    def rank(self, locate: int, side: str, price: int) -> int:
        """Return at which place the level stands."""
        return [level[0] for level in self.levels(locate, side)].index(price)

    # ---- messages ----

    def apply(self, sequence: int, message: bytes) -> None:
        """Apply one message; the records it must give are appended."""
        self.counters["messages"] += 1
        if not message:
            return
        kind = chr(message[0])
        if kind not in LENGTHS:
            self.counters["unknown_messages"] += 1
            return
        if len(message) != LENGTHS[kind]:
            self.counters["malformed_messages"] += 1
            return
        locate = struct.unpack_from(">H", message, 1)[0]
        self.sequence = sequence
        self.ts = self.midnight_ns + int.from_bytes(message[5:11], "big")
        if kind in STOCK_AT and (kind == "R" or locate not in self.symbols):
            at = STOCK_AT[kind]
            self.symbols[locate] = message[at : at + 8].decode("latin-1").rstrip(" ")
        handler = getattr(self, f"_on_{kind}", None)
        if handler is not None:
            handler(locate, message)

    def _on_A(self, locate: int, message: bytes) -> None:  # noqa: N802
        ref, side, shares, _, price = struct.unpack_from(">QcI8sI", message, 11)
        before = self._both(locate)
        removed_rank = None
        if ref in self.orders:
            self.counters["unknown_orders"] += 1
            removed_rank = self._drop_live(ref, locate)
        self._finish_add(locate, ref, "B" if side == b"B" else "A", price, shares, before, removed_rank)

    _on_F = _on_A  # noqa: N815

    def _on_U(self, locate: int, message: bytes) -> None:  # noqa: N802
        old, new, shares, price = struct.unpack_from(">QQII", message, 11)
        if old not in self.orders:
            self.counters["unknown_orders"] += 1
            return
        order = self.orders[old]
        before = self._both(order.locate)
        old_rank = self.rank(order.locate, order.side, order.price)
        del self.orders[old]
        self._mbo(order.locate, "C", order.side, old, order.price, order.shares, 0)
        if new in self.orders:
            self.counters["unknown_orders"] += 1
            self._drop_live(new, order.locate)
            old_rank = None
        self._finish_add(order.locate, new, order.side, price, shares, before, old_rank)

    def _drop_live(self, ref: int, locate: int) -> None:
        order = self.orders[ref]
        if order.locate != locate:  # another instrument's book: a change of its own
            self._reduce(ref, order.shares)
            return
        del self.orders[ref]
        self._mbo(locate, "C", order.side, ref, order.price, order.shares, 0)

    def _finish_add(self, locate, ref, side, price, shares, before, old_rank) -> None:
        self.orders[ref] = ModelOrder(locate, side, price, shares)
        self.had_order.add(locate)
        self._mbo(locate, "A", side, ref, price, shares, LAST)
        depth = self.rank(locate, side, price)
        if depth >= 10:
            if old_rank is None:
                after = self._both(locate)
                changed = [i for i in range(10) if before[0][i] != after[0][i] or before[1][i] != after[1][i]]
                old_rank = changed[0] if changed else 0
            depth = old_rank
        self._mbp_if_changed(locate, before, "A", side, price, shares, depth)

    def _on_E(self, locate: int, message: bytes) -> None:  # noqa: N802
        ref, shares = struct.unpack_from(">QI", message, 11)
        self._execute(ref, shares, None, printable=True)

    def _on_C(self, locate: int, message: bytes) -> None:  # noqa: N802
        ref, shares, _, printable, price = struct.unpack_from(">QIQcI", message, 11)
        self._execute(ref, shares, price, printable=printable != b"N")

    def _execute(self, ref: int, shares: int, price: int | None, *, printable: bool) -> None:
        order = self.orders.get(ref)
        if order is None or shares > order.shares:
            self.counters["unknown_orders"] += 1
        if order is None:
            return
        shares = min(shares, order.shares)
        price = order.price if price is None else price
        aggressor = "A" if order.side == "B" else "B"
        if printable:
            self._mbo(order.locate, "T", aggressor, 0, price, shares, 0)
        self._mbo(order.locate, "F", order.side, ref, price, shares, 0)
        rank = self.rank(order.locate, order.side, order.price)
        self._reduce(ref, shares, silent=printable)
        if printable:
            self._trade(order.locate, aggressor, price, shares, rank)

    def _on_X(self, locate: int, message: bytes) -> None:  # noqa: N802
        ref, shares = struct.unpack_from(">QI", message, 11)
        if ref not in self.orders or shares > self.orders[ref].shares:
            self.counters["unknown_orders"] += 1
        if ref in self.orders:
            self._reduce(ref, min(shares, self.orders[ref].shares))

    def _on_D(self, locate: int, message: bytes) -> None:  # noqa: N802
        (ref,) = struct.unpack_from(">Q", message, 11)
        if ref in self.orders:
            self._reduce(ref, self.orders[ref].shares)
        else:
            self.counters["unknown_orders"] += 1

    def _reduce(self, ref: int, shares: int, *, silent: bool = False) -> None:
        """Take shares off; unless silent, tell it in the mbp schemas as a cancel."""
        order = self.orders[ref]
        before = self._both(order.locate)
        rank = self.rank(order.locate, order.side, order.price)
        self._mbo(order.locate, "C", order.side, ref, order.price, shares, LAST)
        order.shares -= shares
        if order.shares == 0:
            del self.orders[ref]
        if not silent:
            self._mbp_if_changed(order.locate, before, "C", order.side, order.price, shares, rank)

    def _on_P(self, locate: int, message: bytes) -> None:  # noqa: N802
        shares, _, price = struct.unpack_from(">I8sI", message, 20)
        self._print(locate, price, shares)

    def _on_Q(self, locate: int, message: bytes) -> None:  # noqa: N802
        shares, _, price = struct.unpack_from(">Q8sI", message, 11)
        if shares:
            self._print(locate, price, min(shares, BIG))

    def _print(self, locate: int, price: int, shares: int) -> None:
        self._mbo(locate, "T", "N", 0, price, shares, LAST)
        self._trade(locate, "N", price, shares, 0)

    def clear(self, sequence: int, ts_ns: int) -> None:
        """Everything up to a number is lost for good, or a new session starts."""
        self.orders.clear()
        empty = (UNDEF, UNDEF, 0, 0, 0, 0)
        for locate in sorted(self.had_order):
            self.mbo.append((locate, sequence, ts_ns, "R", "N", 0, UNDEF, 0, LAST | BAD))
            head = (locate, sequence, ts_ns, "R", "N", UNDEF, 0, LAST | BAD, 0)
            self.mbp1.append((*head, empty))
            self.mbp10.append(head + (empty,) * 10)
        self.had_order.clear()

    # ---- records ----

    def _both(self, locate: int) -> tuple[list, list]:
        """Return the first ten levels of both sides, sizes not clamped, padded."""
        sides = []
        for side in "BA":
            levels = self.levels(locate, side)[:10]
            sides.append(levels + [None] * (10 - len(levels)))
        return sides[0], sides[1]

    def _flags(self, flags: int) -> int:
        return flags if self.live else flags | BAD

    def _mbo(self, locate, action, side, ref, price, size, flags) -> None:
        head = (locate, self.sequence, self.ts, action, side)
        self.mbo.append((*head, ref, price * 100_000, size, self._flags(flags)))

    def _event(self, locate, action, side, price, size, depth) -> tuple:
        return (locate, self.sequence, self.ts, action, side, price * 100_000, size, self._flags(LAST), depth)

    def _trade(self, locate, side, price, size, rank) -> None:
        depth = rank if rank < 10 else 0
        self.trades.append(self._event(locate, "T", side, price, size, depth))
        self.mbp1.append((*self._event(locate, "T", side, price, size, 0), *self.pairs(locate, 1)))
        self.mbp10.append((*self._event(locate, "T", side, price, size, depth), *self.pairs(locate, 10)))

    def _mbp_if_changed(self, locate, before, action, side, price, size, depth) -> None:
        after = self._both(locate)
        if before[0][0] != after[0][0] or before[1][0] != after[1][0]:
            self.mbp1.append((*self._event(locate, action, side, price, size, 0), *self.pairs(locate, 1)))
        if before != after:
            self.mbp10.append(
                (*self._event(locate, action, side, price, size, depth), *self.pairs(locate, 10))
            )


class Orders(Model):
    """The model without trades and mbp records: levels are summed only when a test asks for them."""

    def _both(self, locate: int) -> tuple[list, list]:
        return [None] * 10, [None] * 10

    def rank(self, locate: int, side: str, price: int) -> int:
        """Return what only those records have."""
        return 0

    def _trade(self, locate, side, price, size, rank) -> None:
        pass

    def _mbp_if_changed(self, locate, before, action, side, price, size, depth) -> None:
        pass
