# ruff: noqa: RUF012  scapy wants fields_desc as a list on the class
"""MoldUDP64 and ITCH 5.0 as scapy layers, written from the specifications alone: nothing here comes from
feedhandler.

Message layouts: Nasdaq TotalView-ITCH 5.0 specification; framing: MoldUDP64 V1.00. All integers are
big-endian.
"""

from scapy.fields import (
    BitField,
    Field,
    FieldLenField,
    IntField,
    LongField,
    PacketListField,
    ShortField,
    StrFixedLenField,
    StrLenField,
)
from scapy.packet import Packet


def _alpha(name: str, length: int, default: bytes = b"") -> Field:
    return StrFixedLenField(name, default.ljust(length), length)


def _header(kind: bytes) -> list[Field]:
    """The 11 bytes that every message starts with.

    The time is nanoseconds since midnight of the exchange's zone.
    """
    return [
        _alpha("type", 1, kind),
        ShortField("locate", 0),
        ShortField("tracking", 0),
        BitField("timestamp", 0, 48),
    ]


class Itch(Packet):
    """An ITCH message; `build()` gives its bytes."""

    name = "ITCH 5.0"

    def extract_padding(self, s: bytes) -> tuple[bytes, bytes]:
        """Leave what follows to the next block."""
        return b"", s


class SystemEvent(Itch):
    """O start of messages, S start of system hours, Q/M start/end of market hours, E end of system hours.

    C end.
    """

    fields_desc = [*_header(b"S"), _alpha("event", 1, b"O")]


class StockDirectory(Itch):
    """Locate to symbol."""

    fields_desc = [
        *_header(b"R"),
        _alpha("stock", 8),
        _alpha("market_category", 1, b"Q"),
        _alpha("financial_status", 1, b"N"),
        IntField("round_lot_size", 100),
        _alpha("round_lots_only", 1, b"N"),
        _alpha("issue_classification", 1, b"C"),
        _alpha("issue_sub_type", 2, b"Z "),
        _alpha("authenticity", 1, b"T"),
        _alpha("short_sale_threshold", 1, b"N"),
        _alpha("ipo_flag", 1, b"N"),
        _alpha("luld_tier", 1, b"1"),
        _alpha("etp_flag", 1, b"N"),
        IntField("etp_leverage", 0),
        _alpha("inverse", 1, b"N"),
    ]


class TradingAction(Itch):
    """H halted, P paused, Q quotation only, T trading."""

    fields_desc = [
        *_header(b"H"),
        _alpha("stock", 8),
        _alpha("state", 1, b"T"),
        _alpha("reserved", 1, b" "),
        _alpha("reason", 4),
    ]


class ShortSaleRestriction(Itch):
    """0 none, 1 in effect, 2 remains in effect."""

    fields_desc = [*_header(b"Y"), _alpha("stock", 8), _alpha("action", 1, b"0")]


class AddOrder(Itch):
    """A displayed order."""

    fields_desc = [
        *_header(b"A"),
        LongField("reference", 0),
        _alpha("side", 1, b"B"),
        IntField("shares", 0),
        _alpha("stock", 8),
        IntField("price", 0),
    ]


class AddOrderMpid(Itch):
    """A displayed order with its market participant."""

    fields_desc = [
        *_header(b"F"),
        LongField("reference", 0),
        _alpha("side", 1, b"B"),
        IntField("shares", 0),
        _alpha("stock", 8),
        IntField("price", 0),
        _alpha("mpid", 4, b"FHFH"),
    ]


class OrderExecuted(Itch):
    """An execution at the order's own price."""

    fields_desc = [*_header(b"E"), LongField("reference", 0), IntField("shares", 0), LongField("match", 0)]


class OrderExecutedWithPrice(Itch):
    """An execution at another price."""

    fields_desc = [
        *_header(b"C"),
        LongField("reference", 0),
        IntField("shares", 0),
        LongField("match", 0),
        _alpha("printable", 1, b"Y"),
        IntField("price", 0),
    ]


class OrderCancel(Itch):
    """Shares taken off."""

    fields_desc = [*_header(b"X"), LongField("reference", 0), IntField("shares", 0)]


class OrderDelete(Itch):
    """The whole rest taken off."""

    fields_desc = [*_header(b"D"), LongField("reference", 0)]


class OrderReplace(Itch):
    """A new reference, share count and price; the side stays."""

    fields_desc = [
        *_header(b"U"),
        LongField("reference", 0),
        LongField("new_reference", 0),
        IntField("shares", 0),
        IntField("price", 0),
    ]


class Trade(Itch):
    """A print against a hidden order."""

    fields_desc = [
        *_header(b"P"),
        LongField("reference", 0),
        _alpha("side", 1, b"B"),
        IntField("shares", 0),
        _alpha("stock", 8),
        IntField("price", 0),
        LongField("match", 0),
    ]


class CrossTrade(Itch):
    """The bulk print of an auction; its share count has 64 bits."""

    fields_desc = [
        *_header(b"Q"),
        LongField("shares", 0),
        _alpha("stock", 8),
        IntField("price", 0),
        LongField("match", 0),
        _alpha("cross_type", 1, b"O"),
    ]


class BrokenTrade(Itch):
    """A print is void."""

    fields_desc = [*_header(b"B"), LongField("match", 0)]


class Imbalance(Itch):
    """Net order imbalance indicator."""

    fields_desc = [
        *_header(b"I"),
        LongField("paired", 0),
        LongField("imbalance", 0),
        _alpha("direction", 1, b"N"),
        _alpha("stock", 8),
        IntField("far", 0),
        IntField("near", 0),
        IntField("reference_price", 0),
        _alpha("cross_type", 1, b"O"),
        _alpha("variation", 1, b"L"),
    ]


class MoldBlock(Packet):
    """A message block; `data` may be empty and still takes a sequence number."""

    name = "MoldUDP64 message block"
    fields_desc = [
        FieldLenField("length", None, length_of="data", fmt="!H"),
        StrLenField("data", b"", length_from=lambda p: p.length),
    ]

    def extract_padding(self, s: bytes) -> tuple[bytes, bytes]:
        """Leave what follows to the next block."""
        return b"", s


class MoldUDP64(Packet):
    """A downstream packet. Count 0: heartbeat, 65535: end of session, both without blocks."""

    name = "MoldUDP64"
    fields_desc = [
        StrFixedLenField("session", b" " * 10, 10),
        LongField("sequence", 1),
        FieldLenField("count", None, count_of="blocks", fmt="!H"),
        PacketListField("blocks", [], MoldBlock, count_from=lambda p: 0 if p.count == 0xFFFF else p.count),
    ]
