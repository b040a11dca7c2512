"""DBN bytes to the tuples that the naive model expects, by databento_dbn's own layouts."""

import databento_dbn
import numpy as np

MESSAGES = {
    "mbo": databento_dbn.MBOMsg, "trades": databento_dbn.TradeMsg, "mbp-1": databento_dbn.MBP1Msg,
    "mbp-10": databento_dbn.MBP10Msg, "status": databento_dbn.StatusMsg,
    "imbalance": databento_dbn.ImbalanceMsg, "definition": databento_dbn.InstrumentDefMsg,
}  # fmt: skip


def rows(schema: str, data: bytes) -> np.ndarray:
    """Return the records as a structured array."""
    return np.frombuffer(data, dtype=np.dtype(MESSAGES[schema]._dtypes))


def tuples(schema: str, data: bytes) -> list[tuple]:
    """Return the records as the model writes them."""
    out = []
    for row in rows(schema, data):
        head = (
            int(row["instrument_id"]), int(row["sequence"]), int(row["ts_event"]),
            row["action"].decode(), row["side"].decode(),
        )  # fmt: skip
        price, size, flags = int(row["price"]), int(row["size"]), int(row["flags"])
        if schema == "mbo":
            out.append((*head, int(row["order_id"]), price, size, flags))
            continue
        levels = []
        for i in range({"trades": 0, "mbp-1": 1, "mbp-10": 10}[schema]):
            names = [
                f"{name}_{i:02}" for name in ("bid_px", "ask_px", "bid_sz", "ask_sz", "bid_ct", "ask_ct")
            ]
            levels.append(tuple(int(row[name]) for name in names))
        out.append((*head, price, size, flags, int(row["depth"]), *levels))
    return out
