"""Images of books: what a late subscriber asks for, and how they lie in a message."""

import struct
from collections.abc import Sequence

import numpy as np

from feedhandler.consumer.book import LEVEL_DTYPE, Book
from feedhandler.consumer.state import FeedState

REQUEST = b"IMAGE/1"
"""First frame of a request; the symbols follow, a frame each; none: all."""
MAX_SYMBOLS = 4096
"""More in one request are refused: ask for all instead."""
_HEAD = struct.Struct("<8sQqBBBB4x")


def pack_book(symbol: str, raw: tuple[int, int, int, int, bool, bytes, bytes]) -> bytes:
    """Return one book as a frame, from what the compiled consumer read: 32 bytes, then 24 a level."""
    sequence, ts_event, state, status, incomplete, bids, asks = raw
    if incomplete and state == FeedState.LIVE:
        state = int(FeedState.STALE)
    counts = len(bids) // LEVEL_DTYPE.itemsize, len(asks) // LEVEL_DTYPE.itemsize
    return _HEAD.pack(symbol.encode(), sequence, ts_event, *counts, state, status) + bids + asks


def unpack_book(frame: bytes) -> Book:
    """Return the book in a frame; ValueError if it is none."""
    if len(frame) < _HEAD.size:
        raise ValueError(f"not a book: {len(frame)} bytes")
    symbol, sequence, ts_event, bid_count, ask_count, state, status = _HEAD.unpack_from(frame)
    if len(frame) != _HEAD.size + (bid_count + ask_count) * LEVEL_DTYPE.itemsize:
        raise ValueError(f"not a book of {bid_count} and {ask_count} levels: {len(frame)} bytes")
    return Book(
        symbol=symbol.rstrip(b"\0").decode(),
        state=FeedState(state),
        sequence=sequence,
        ts_event=ts_event,
        trading_status=chr(status) if status else "",
        bids=np.frombuffer(frame, LEVEL_DTYPE, bid_count, _HEAD.size),
        asks=np.frombuffer(frame, LEVEL_DTYPE, ask_count, _HEAD.size + bid_count * LEVEL_DTYPE.itemsize),
    )


def request(symbols: Sequence[str]) -> list[bytes]:
    """Return the frames of a request."""
    return [REQUEST, *(symbol.encode() for symbol in symbols)]
