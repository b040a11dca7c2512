"""A batch: consecutive records of one schema."""

import numpy as np
from numpy.typing import NDArray

from feedhandler.consumer.schema import DTYPES, TRADING_DTYPE
from feedhandler.consumer.state import FeedState
from feedhandler.names import EVENT_NAMES

_TRADING = next(number for number, name in EVENT_NAMES.items() if name == "trading")


class Batch:
    """Consecutive records of one schema, published in one state of the feed.

    The records lie in memory of their own: they stay valid for as long as they are referred to.
    """

    __slots__ = ("_buffer", "_offset", "count", "schema", "sequence", "state")

    def __init__(
        self, schema: str, state: FeedState, sequence: int, buffer: NDArray[np.uint8], offset: int, count: int
    ) -> None:
        self.schema = schema
        self.state = state
        """State of the feed when the records were published; never DEAD."""
        self.sequence = sequence
        """MoldUDP64 number of the last record's message, its low 32 bits."""
        self.count = count
        self._buffer = buffer
        self._offset = offset

    @property
    def records(self) -> NDArray[np.void]:
        """The records as a structured array of shape (count,), fields as in databento_dbn; no copy."""
        return np.frombuffer(self._buffer, DTYPES[self.schema], self.count, self._offset)

    @property
    def trading(self) -> NDArray[np.void]:
        """The trading events in a batch of events: what DBN records have no field for.

        Structured array with `sequence` (as the DBN records of the same message, but all 64 bits), `kind`
        (E execution, P print, X cross, B broken trade, A attributed order), `match_number`, `detail` (of an
        execution: printable, Y or N; of a cross: its type), `participant` (MPID) and the exact `shares`.
        """
        events = self.records if self.schema == "event" else np.empty(0, DTYPES["event"])
        trading: NDArray[np.void] = events[events["type"] == _TRADING].view(TRADING_DTYPE)
        return trading

    def tobytes(self) -> bytes:
        """Return the records as DBN bytes, back to back."""
        return self.records.tobytes()

    def __len__(self) -> int:
        return self.count

    def __repr__(self) -> str:
        return f"<Batch {self.schema} of {self.count}, {self.state.name}>"
