"""Builders of ITCH 5.0 messages for tests, one function a type, from the specification's layouts."""

import struct


def _head(kind: str, locate: int, ts: int) -> bytes:
    return struct.pack(">cHH", kind.encode(), locate, 0) + ts.to_bytes(6, "big")


def _stock(symbol: str) -> bytes:
    return symbol.ljust(8).encode()


def add(
    ref: int,
    side: str,
    shares: int,
    price: int,
    locate: int = 1,
    stock: str = "AAA",
    ts: int = 0,
    mpid: str = "",
) -> bytes:
    """A, or F when an attribution is given; price with 4 implied decimals."""
    body = struct.pack(">QcI8sI", ref, side.encode(), shares, _stock(stock), price)
    return _head("F" if mpid else "A", locate, ts) + body + mpid.encode()


def executed(ref: int, shares: int, locate: int = 1, ts: int = 0, match: int = 1) -> bytes:
    """E."""
    return _head("E", locate, ts) + struct.pack(">QIQ", ref, shares, match)


def executed_with_price(
    ref: int, shares: int, price: int, printable: str = "Y", locate: int = 1, ts: int = 0, match: int = 1
) -> bytes:
    """C."""
    return _head("C", locate, ts) + struct.pack(">QIQcI", ref, shares, match, printable.encode(), price)


def cancel(ref: int, shares: int, locate: int = 1, ts: int = 0) -> bytes:
    """X: shares taken off."""
    return _head("X", locate, ts) + struct.pack(">QI", ref, shares)


def delete(ref: int, locate: int = 1, ts: int = 0) -> bytes:
    """D."""
    return _head("D", locate, ts) + struct.pack(">Q", ref)


def replace(old: int, new: int, shares: int, price: int, locate: int = 1, ts: int = 0) -> bytes:
    """U."""
    return _head("U", locate, ts) + struct.pack(">QQII", old, new, shares, price)


def trade(shares: int, price: int, locate: int = 1, stock: str = "AAA", ts: int = 0, match: int = 1) -> bytes:
    """P, not displayed."""
    return _head("P", locate, ts) + struct.pack(">QcI8sIQ", 0, b"B", shares, _stock(stock), price, match)


def cross(
    shares: int, price: int, locate: int = 1, stock: str = "AAA", ts: int = 0, kind: str = "O"
) -> bytes:
    """Q: the share count has 64 bits."""
    return _head("Q", locate, ts) + struct.pack(">Q8sIQc", shares, _stock(stock), price, 1, kind.encode())


def broken(match: int = 1, locate: int = 1, ts: int = 0) -> bytes:
    """B."""
    return _head("B", locate, ts) + struct.pack(">Q", match)


def trading_action(
    state: str, reason: str = "    ", locate: int = 1, stock: str = "AAA", ts: int = 0
) -> bytes:
    """H."""
    return _head("H", locate, ts) + struct.pack(
        ">8scc4s", _stock(stock), state.encode(), b" ", reason.encode()
    )


def operational_halt(action: str, locate: int = 1, stock: str = "AAA", ts: int = 0) -> bytes:
    """h."""
    return _head("h", locate, ts) + struct.pack(">8scc", _stock(stock), b"Q", action.encode())


def short_sale(action: str, locate: int = 1, stock: str = "AAA", ts: int = 0) -> bytes:
    """Y."""
    return _head("Y", locate, ts) + struct.pack(">8sc", _stock(stock), action.encode())


def directory(
    locate: int = 1, stock: str = "AAA", ts: int = 0, lot: int = 100, sub_type: str = "Z "
) -> bytes:
    """R."""
    rest = b"N" + b"C" + sub_type.encode() + b"P" + b"N" + b"N" + b"1" + b"N" + struct.pack(">I", 0) + b"N"
    return _head("R", locate, ts) + _stock(stock) + b"QN" + struct.pack(">I", lot) + rest


def imbalance(
    paired: int,
    shares: int,
    direction: str,
    far: int,
    near: int,
    reference: int,
    locate: int = 1,
    stock: str = "AAA",
    ts: int = 0,
    kind: str = "O",
    variation: str = "L",
) -> bytes:
    """I."""
    body = struct.pack(">QQc8sIII", paired, shares, direction.encode(), _stock(stock), far, near, reference)
    return _head("I", locate, ts) + body + kind.encode() + variation.encode()


def system_event(event: str = "O", ts: int = 0) -> bytes:
    """S."""
    return _head("S", 0, ts) + event.encode()
