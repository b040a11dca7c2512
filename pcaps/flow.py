"""A small seeded stream of ITCH messages: a morning of three made-up symbols, as bytes."""

import random
from dataclasses import dataclass

from pcaps import layers

SYMBOLS = {1: b"FHAAA", 2: b"FHBB", 7: b"FHCCCCCC"}
OPEN_NS = 34_200_000_000_000  # 09:30 in nanoseconds since midnight
TICK = 100  # one cent, in 1/10000


@dataclass
class _Order:
    locate: int
    side: bytes
    shares: int
    price: int


class Flow:
    """Makes messages one after the other; `take(n)` gives the next n."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311  repeatable, not secret
        self._orders: dict[int, _Order] = {}
        self._reference = 1000
        self._match = 1
        self._time = OPEN_NS
        self._mid = {locate: 100_000 * (1 + i) for i, locate in enumerate(SYMBOLS)}
        self._pending = list(self._opening())

    def take(self, count: int) -> list[bytes]:
        """The next `count` messages."""
        while len(self._pending) < count:
            self._pending.append(self._next().build())
        taken, self._pending = self._pending[:count], self._pending[count:]
        return taken

    def live(self) -> list[int]:
        """References of the orders live behind the messages made so far."""
        return list(self._orders)

    def _make(self, kind: type[layers.Itch], locate: int, **fields: object) -> layers.Itch:
        self._time += self._random.randrange(1_000, 30_000)
        return kind(locate=locate, timestamp=self._time, **fields)

    def _opening(self) -> list[bytes]:
        made = [self._make(layers.SystemEvent, 0, event=b"Q")]
        for locate, symbol in SYMBOLS.items():
            stock = symbol.ljust(8)
            made.append(self._make(layers.StockDirectory, locate, stock=stock))
            made.append(self._make(layers.TradingAction, locate, stock=stock))
            made.append(self._make(layers.ShortSaleRestriction, locate, stock=stock))
            made.append(
                self._make(
                    layers.Imbalance,
                    locate,
                    stock=stock,
                    paired=500,
                    imbalance=70,
                    direction=b"B",
                    far=self._mid[locate],
                    near=self._mid[locate],
                    reference_price=self._mid[locate],
                )
            )
            shares = 0 if locate == 2 else 5_000_000_000 if locate == 7 else 500
            made.append(
                self._make(
                    layers.CrossTrade,
                    locate,
                    stock=stock,
                    shares=shares,
                    price=self._mid[locate] if shares else 0,
                    match=self._next_match(),
                )
            )
        return [message.build() for message in made]

    def _next_match(self) -> int:
        self._match += 1
        return self._match

    def _next(self) -> layers.Itch:
        choose = self._random.random()
        if len(self._orders) < 12 or choose < 0.44:
            return self._add()
        if choose < 0.47:
            return self._print()
        if choose < 0.48:
            return self._state()
        reference = self._random.choice(list(self._orders))
        order = self._orders[reference]
        if choose < 0.72:
            del self._orders[reference]
            return self._make(layers.OrderDelete, order.locate, reference=reference)
        if choose < 0.82:
            return self._replace(reference, order)
        taken = order.shares if self._random.random() < 0.4 else self._random.randrange(1, order.shares + 1)
        order.shares -= taken
        if not order.shares:
            del self._orders[reference]
        if choose < 0.92:
            return self._make(
                layers.OrderExecuted,
                order.locate,
                reference=reference,
                shares=taken,
                match=self._next_match(),
            )
        if choose < 0.95:
            printable = b"N" if self._random.random() < 0.3 else b"Y"
            return self._make(
                layers.OrderExecutedWithPrice,
                order.locate,
                reference=reference,
                shares=taken,
                match=self._next_match(),
                printable=printable,
                price=order.price + TICK,
            )
        return self._make(layers.OrderCancel, order.locate, reference=reference, shares=taken)

    def _new_reference(self) -> int:
        self._reference += self._random.choice((1, 1, 2, 5))
        return self._reference

    def _price(self, locate: int, side: bytes) -> int:
        away = TICK * self._random.choice((1, 1, 2, 2, 3, 4, 6, 9))
        return self._mid[locate] + (-away if side == b"B" else away)

    def _add(self) -> layers.Itch:
        locate = self._random.choice((1, 1, 1, 2, 7))
        if self._random.random() < 0.1:
            self._mid[locate] += self._random.choice((-TICK, TICK))
        order = _Order(locate, self._random.choice((b"B", b"S")), 100 * self._random.randrange(1, 9), 0)
        order.price = self._price(locate, order.side)
        reference = self._new_reference()
        self._orders[reference] = order
        kind = layers.AddOrderMpid if self._random.random() < 0.05 else layers.AddOrder
        return self._make(
            kind,
            locate,
            reference=reference,
            side=order.side,
            shares=order.shares,
            stock=SYMBOLS[locate].ljust(8),
            price=order.price,
        )

    def _replace(self, reference: int, order: _Order) -> layers.Itch:
        del self._orders[reference]
        new = self._new_reference()
        price = order.price if self._random.random() < 0.3 else self._price(order.locate, order.side)
        shares = order.shares if self._random.random() < 0.3 else 100 * self._random.randrange(1, 9)
        self._orders[new] = _Order(order.locate, order.side, shares, price)
        return self._make(
            layers.OrderReplace,
            order.locate,
            reference=reference,
            new_reference=new,
            shares=shares,
            price=price,
        )

    def _print(self) -> layers.Itch:
        locate = self._random.choice(list(SYMBOLS))
        if self._random.random() < 0.2:
            return self._make(layers.BrokenTrade, locate, match=self._match)
        return self._make(
            layers.Trade,
            locate,
            shares=self._random.randrange(1, 400),
            stock=SYMBOLS[locate].ljust(8),
            price=self._mid[locate],
            match=self._next_match(),
        )

    def _state(self) -> layers.Itch:
        locate = self._random.choice(list(SYMBOLS))
        return self._make(
            layers.TradingAction,
            locate,
            stock=SYMBOLS[locate].ljust(8),
            state=self._random.choice((b"H", b"Q", b"T")),
            reason=b"T1  ",
        )
