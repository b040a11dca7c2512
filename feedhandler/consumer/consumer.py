"""Follow a channel: its records, the state of its feed, its books."""

import os
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from feedhandler import _core
from feedhandler.config.runtime_dir import channel_dir
from feedhandler.consumer.batch import Batch
from feedhandler.consumer.book import Book, make_book
from feedhandler.consumer.schema import SCHEMA_NAMES, mask_schemas, schema_mask
from feedhandler.consumer.state import FeedState
from feedhandler.errors import UsageError

_STATES = {state.value: state for state in FeedState}
_FOREVER_S = 1e9
_DBN_MASK = (1 << SCHEMA_NAMES.index("event")) - 1


class Consumer:
    """A reader of one channel's shared memory; it can neither slow nor harm the daemon or other consumers.

    Records come from the moment of attaching on. A consumer that falls behind by more than the ring holds
    loses the oldest records and goes on with the newest; `lost` counts exactly how many it lost. When the
    daemon dies, `state` is DEAD; when it is started again the consumer moves to its new memory by itself,
    reads it from its first record, and `restarts` counts the move: what the feed carried in between was never
    in a ring and is not in `lost`.

    Use one from one thread only.
    """

    def __init__(
        self,
        channel: str,
        schemas: Sequence[str] | None = None,
        symbols: Sequence[str] | None = None,
        runtime_dir: str | os.PathLike[str] | None = None,
        *,
        spin_s: float = 50e-6,
    ) -> None:
        """Attach to a channel given by name or path.

        `schemas`: names of DBN schemas, or "event" for the feed's own events; None: every DBN schema that the
        channel publishes. `symbols`: only records of these; empty or None: all. Events always pass.
        `spin_s`: how long `poll` spins for a record before it starts to sleep: 20 microseconds at first, then
        longer, never over half a millisecond. More lowers the latency and burns the core.

        Raises UsageError for a channel, schema or symbol that cannot be, RunError for unreadable files.
        """
        folder = channel_dir(channel, runtime_dir)
        published = int(_core.ChannelReader(str(folder)).info()["schema_mask"])
        mask = published & _DBN_MASK if schemas is None else schema_mask(schemas)
        if missing := mask_schemas(mask & _DBN_MASK & ~published):
            raise UsageError(
                f'schema: "{missing[0]}" is not published by channel {folder.name}, '
                f"which has {', '.join(mask_schemas(published & _DBN_MASK))}"
            )
        for symbol in symbols or ():
            if not 1 <= len(symbol.encode()) <= 8:
                raise UsageError(f'symbols: "{symbol}": 1 to 8 characters are allowed')
        self.channel = folder.name
        self._core: _core.Consumer | None = _core.Consumer(
            str(folder), mask, list(symbols or ()), int(spin_s * 1e9)
        )

    def poll(self, timeout_s: float = 0.0, max_bytes: int = 1 << 20) -> list[Batch]:
        """Return the next records as batches in feed order, waiting for at most `timeout_s` seconds.

        Empty on time-out, and when the state has changed while it waited: look at `state`. A batch holds
        consecutive records of one schema; at most about `max_bytes` come at once. The interpreter is free
        meanwhile; Ctrl-C works.
        """
        found = self._open.poll(min(timeout_s, _FOREVER_S), max_bytes)
        if found is None:
            return []
        buffer, runs = found
        return [
            Batch(SCHEMA_NAMES[schema], _STATES[state], sequence, buffer, offset, count)
            for schema, state, sequence, offset, count in runs
        ]

    def book(self, symbol: str) -> Book:
        """Return the book of a symbol as it stands, and the feed's state: act on it only if that is LIVE.

        Raises KeyError for a symbol that the feed has not named (yet).
        """
        raw = self._open.book(symbol)
        if raw is None:
            raise KeyError(symbol)
        return make_book(symbol, raw)

    def symbol(self, instrument_id: int) -> str | None:
        """Return the symbol of an instrument id; None when the feed has not named it (yet)."""
        return self._open.symbol(instrument_id) or None

    def symbols(self) -> dict[int, str]:
        """Return the symbols that the feed has named so far, by instrument id."""
        return dict(self._open.symbols())

    @property
    def state(self) -> FeedState:
        """State of the feed now, by a load or two: DEAD without a daemon, STALE if it hung for a second."""
        return _STATES[self._open.state]

    @property
    def lost(self) -> int:
        """Records of the wanted schemas (any symbol) that were overwritten before they were read; exact.

        It grows in the `poll` that returns the first records behind the hole.
        """
        return int(self._open.lost)

    @property
    def restarts(self) -> int:
        """How often the consumer has moved to a restarted daemon."""
        return int(self._open.restarts)

    @property
    def epoch(self) -> int:
        """Start time of the daemon being read, UTC nanoseconds; new at each start."""
        return int(self._open.epoch)

    @property
    def next_sequence(self) -> int:
        """MoldUDP64 number that the feed expects next."""
        return int(self._open.next_sequence)

    @property
    def info(self) -> dict[str, Any]:
        """What the daemon wrote once: channel, dataset, trading_day, lines, servers, schema_mask, depth..."""
        return dict(self._open.info())

    def close(self) -> None:
        """Let go of the shared memory."""
        self._core = None

    @property
    def _open(self) -> "_core.Consumer":
        if self._core is None:
            raise ValueError("this consumer is closed")
        return self._core

    def __enter__(self) -> "Consumer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
