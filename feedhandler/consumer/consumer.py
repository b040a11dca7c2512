"""Follow a channel: its records, the state of its feed, its books."""

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from feedhandler import _core
from feedhandler.consumer.batch import Batch
from feedhandler.consumer.book import Book, make_book
from feedhandler.consumer.latency import ConsumerLatency
from feedhandler.consumer.schema import SCHEMA_NAMES, mask_schemas, schema_mask
from feedhandler.consumer.state import FeedState
from feedhandler.errors import UsageError
from feedhandler.runtime_dir import channel_dir

_STATES = {state.value: state for state in FeedState}
_FOREVER_S = 1e9
_DBN_MASK = (1 << SCHEMA_NAMES.index("event")) - 1
CONFLATED = ("mbp-1", "mbp-10")
"""Schemas of which the newest record says all: what `conflate` can be asked for."""


class Consumer:
    """A reader of one channel's shared memory; it can neither slow nor harm the daemon or other consumers.

    Records come from the moment of attaching on. A consumer that falls behind by more than the ring holds
    loses the oldest records and goes on with the newest; `lost` counts exactly how many it lost. When the
    daemon dies, `state` is DEAD; when it is started again the consumer moves to its new memory by itself,
    reads it from its first record, and `restarts` counts the move: what the feed carried in between was never
    in a ring and is not in `lost`.

    Given several channels of the same feed (a hot pair: two daemons, two hosts) it delivers one stream: each
    message once, in order, whichever channel has it first; when one dies, hangs or turns STALE the other goes
    on by itself. `state` and `book` are those of the best channel.

    Use one from one thread only.
    """

    def __init__(
        self,
        channel: str | Sequence[str],
        schemas: Sequence[str] | None = None,
        symbols: Sequence[str] | None = None,
        runtime_dir: str | os.PathLike[str] | None = None,
        *,
        spin_s: float = 50e-6,
        conflate: bool = False,
        takeover_s: float = 0.007,
        measure_latency: bool = False,
    ) -> None:
        """Attach to a channel given by name or path, or to the channels of a hot pair.

        `schemas`: names of DBN schemas, or "event" for the feed's own events; None: every DBN schema that the
        channel publishes. `symbols`: only records of these; empty or None: all. Events always pass.
        `spin_s`: how long `poll` spins for a record before it starts to sleep: 20 microseconds at first, then
        longer, never over half a millisecond. More lowers the latency and burns the core.
        `conflate`: the latest state instead of history: each `poll` returns all that there is, of each symbol
        only the newest mbp-1 and mbp-10 record; `conflated` counts the others. Where records were overwritten
        before they were read, whole books take their place (action N, flag 32).
        `takeover_s`: for how long one channel of a pair may stand still before the other's word is taken.
        `measure_latency`: keep how long records took to come here, see `latency`; of a single channel only.

        Raises UsageError for a channel, schema or symbol that cannot be, RunError for unreadable files.
        """
        channels = [channel] if isinstance(channel, str) else list(channel)
        folders = [channel_dir(name, runtime_dir) for name in channels]
        _check_pair(channels, folders)
        mask = _mask(folders, schemas, conflate=conflate)
        for symbol in symbols or ():
            if not 1 <= len(symbol.encode()) <= 8:
                raise UsageError(f'symbols: "{symbol}": 1 to 8 characters are allowed')
        if measure_latency and len(folders) > 1:
            raise UsageError("measure_latency: True; it is measured of a single channel, not of a pair")
        self.channel = "+".join(folder.name for folder in folders)
        self._folders = folders
        spin_ns = int(spin_s * 1e9)
        self._core: _core.Consumer | _core.PairConsumer | None
        if len(folders) == 1:
            self._core = _core.Consumer(str(folders[0]), mask, list(symbols or ()), spin_ns, conflate)
        else:
            self._core = _core.PairConsumer(
                [str(folder) for folder in folders],
                mask,
                list(symbols or ()),
                spin_ns,
                conflate,
                int(takeover_s * 1e9),
            )
        if measure_latency and isinstance(self._core, _core.Consumer):
            self._core.measure_latency()

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

        It grows in the `poll` that returns the first records behind the hole. Of a pair: only what no channel
        could deliver; at most so many, for some of a hole may have been delivered before.
        """
        return int(self._open.lost)

    @property
    def conflated(self) -> int:
        """Records that a newer one of the same symbol and schema took the place of (`conflate`)."""
        return int(self._open.conflated)

    @property
    def delivered_from(self) -> dict[str, int]:
        """Records delivered out of each channel of a pair, by its folder; empty for a single channel."""
        if not isinstance(self._open, _core.PairConsumer):
            return {}
        return dict(zip(map(str, self._folders), self._open.delivered_from, strict=True))

    @property
    def latency(self) -> ConsumerLatency | None:
        """What the records of sampled packets took until `poll` had them; None without `measure_latency`."""
        measured = self._open.latency() if isinstance(self._open, _core.Consumer) else None
        return ConsumerLatency(*measured) if measured is not None else None

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
    def _open(self) -> "_core.Consumer | _core.PairConsumer":
        if self._core is None:
            raise ValueError("this consumer is closed")
        return self._core

    def __enter__(self) -> "Consumer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _check_pair(channels: list[str], folders: list[Path]) -> None:
    if not channels:
        raise UsageError("channel: none given; at least one is needed")
    resolved = [folder.resolve() for folder in folders]
    for index, folder in enumerate(resolved):
        if folder in resolved[:index]:
            raise UsageError(f'channel: "{channels[index]}" is given twice; a pair is two channels')
    datasets = [str(_core.ChannelReader(str(folder)).info()["dataset"]) for folder in folders]
    for name, dataset in zip(channels, datasets, strict=True):
        if dataset != datasets[0]:
            raise UsageError(
                f'channel: "{name}" carries {dataset}; the others of the pair carry {datasets[0]}'
            )


def _mask(folders: list[Path], schemas: Sequence[str] | None, *, conflate: bool) -> int:
    published = _DBN_MASK
    for folder in folders:
        published &= int(_core.ChannelReader(str(folder)).info()["schema_mask"])
    allowed = published & schema_mask(CONFLATED) if conflate else published
    mask = allowed & _DBN_MASK if schemas is None else schema_mask(schemas)
    if missing := mask_schemas(mask & _DBN_MASK & ~published):
        raise UsageError(
            f'schema: "{missing[0]}" is not published by channel {folders[0].name}, '
            f"which has {', '.join(mask_schemas(published & _DBN_MASK))}"
        )
    if missing := mask_schemas(mask & _DBN_MASK & ~allowed):
        raise UsageError(
            f'schema: "{missing[0]}" cannot be conflated; these can: {", ".join(mask_schemas(allowed))}'
        )
    return mask
