"""A snapshot taken apart, and its books compared with the naive model's. Shares no code with the product."""

import struct

from tests.support.model_book import Model, Orders


def soup_packets(data: bytes) -> list[tuple[str, bytes]]:
    """(type, payload) of each SoupBinTCP packet; the last must be whole."""
    out, at = [], 0
    while at < len(data):
        (size,) = struct.unpack_from(">H", data, at)
        assert at + 2 + size <= len(data)
        out.append((chr(data[at + 2]), data[at + 3 : at + 2 + size]))
        at += 2 + size
    return out


def model_of(messages: list[bytes], model: Model | None = None, first: int = 1) -> Model:
    """The naive books after these messages."""
    model = model or Orders()
    for sequence, message in enumerate(messages, first):
        model.apply(sequence, message)
    return model


def queues(model: Model) -> dict[tuple, list[tuple[int, int]]]:
    """(locate, side, price) to (reference, shares) in queue order."""
    out: dict[tuple, list[tuple[int, int]]] = {}
    for reference, order in model.orders.items():
        out.setdefault((order.locate, order.side, order.price), []).append((reference, order.shares))
    return out
