"""A book as it stands: up to ten levels a side, and the state of the feed that goes with it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feedhandler.consumer.state import FeedState

LEVEL_DTYPE = np.dtype(
    {
        "names": ["price", "size", "orders"],
        "formats": ["<i8", "<u8", "<u4"],
        "offsets": [0, 8, 16],
        "itemsize": 24,
    }
)
"""Layout of `BookLevel` in core/book/table_reader.hpp; price in 1e-9."""


@dataclass(frozen=True, slots=True)
class Book:
    """One instrument's book after the message with number `sequence`.

    Act on it only if `state` is LIVE. `bids` and `asks`: structured arrays of shape (levels,), best first,
    fields `price` (int64, 1e-9), `size` (shares), `orders`.
    """

    symbol: str
    state: FeedState
    sequence: int
    """MoldUDP64 number of the last message that changed the book; 0: none yet."""
    ts_event: int
    """Exchange time of that message, UTC nanoseconds."""
    trading_status: str
    """The exchange's letter (T trading, H halted, P paused, Q quotation only); "" before it was told."""
    bids: NDArray[np.void]
    asks: NDArray[np.void]


def make_book(symbol: str, raw: tuple[int, int, int, int, bool, bytes, bytes]) -> Book:
    """Return the book that the compiled consumer read; one that the handler had no room for is never LIVE."""
    sequence, ts_event, state, status, incomplete, bids, asks = raw
    feed_state = FeedState(state)
    if incomplete and feed_state == FeedState.LIVE:
        feed_state = FeedState.STALE
    return Book(
        symbol=symbol,
        state=feed_state,
        sequence=sequence,
        ts_event=ts_event,
        trading_status=chr(status) if status else "",
        bids=np.frombuffer(bids, LEVEL_DTYPE),
        asks=np.frombuffer(asks, LEVEL_DTYPE),
    )
