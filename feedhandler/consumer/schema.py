"""The schemas of a channel: their ids, and their records as numpy sees them."""

from collections.abc import Iterable
from typing import Any

import databento_dbn as dbn
import numpy as np

from feedhandler import _core
from feedhandler.errors import UsageError

SCHEMA_NAMES: tuple[str, ...] = _core.schema_names
"""Names by schema id; the last, "event", is native and never part of a DBN stream."""

EVENT_DTYPE = np.dtype(
    [
        ("ts", "<i8"),
        ("first", "<u8"),
        ("last", "<u8"),
        ("type", "u1"),
        ("state", "u1"),
        ("previous", "u1"),
        ("line", "u1"),
        ("session", "S12"),
        ("now", "u1"),
        ("before", "u1"),
        ("reserved", "S6"),
    ]
)
"""Layout of `Event` in core/event.hpp: 48 bytes."""

TRADING_DTYPE = np.dtype(
    [
        ("ts", "<i8"),
        ("sequence", "<u8"),
        ("match_number", "<u8"),
        ("type", "u1"),
        ("state", "u1"),
        ("kind", "S1"),
        ("detail", "S1"),
        ("participant", "S4"),
        ("instrument_id", "<u4"),
        ("reserved", "S4"),
        ("shares", "<u8"),
    ]
)
"""Layout of `TradingEvent` in core/event.hpp: an event of type `trading` read as what it is."""

_MESSAGES: dict[str, Any] = {
    "mbo": dbn.MBOMsg,
    "mbp-1": dbn.MBP1Msg,
    "mbp-10": dbn.MBP10Msg,
    "trades": dbn.TradeMsg,
    "status": dbn.StatusMsg,
    "imbalance": dbn.ImbalanceMsg,
    "definition": dbn.InstrumentDefMsg,
}

DTYPES: dict[str, np.dtype[Any]] = {name: np.dtype(message._dtypes) for name, message in _MESSAGES.items()}
"""By schema; field names as in databento_dbn (`bid_px_00`, ...)."""
DTYPES["event"] = EVENT_DTYPE


def schema_mask(schemas: Iterable[str]) -> int:
    """Return the bits of these schemas; UsageError for a name that is none."""
    mask = 0
    for schema in schemas:
        if schema not in SCHEMA_NAMES:
            raise UsageError(f'schema: "{schema}" is none of {", ".join(SCHEMA_NAMES)}')
        mask |= 1 << SCHEMA_NAMES.index(schema)
    return mask


def mask_schemas(mask: int) -> list[str]:
    """Return the names of these bits."""
    return [name for index, name in enumerate(SCHEMA_NAMES) if mask >> index & 1]
