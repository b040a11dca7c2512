"""The dialect `modify` of mbo records, naively: from the records of `databento`, one by one."""

from typing import Any


def modified(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows as the dialect has them."""
    rest: dict[int, tuple[int, int]] = {}  # order: (instrument, size)
    out = []
    for row in rows:
        row = dict(row)
        order, instrument = row["order_id"], row["instrument_id"]
        if row["action"] == b"A":
            rest[order] = (instrument, row["size"])
        elif row["action"] == b"R":
            rest = {key: value for key, value in rest.items() if value[0] != instrument}
        elif row["action"] == b"C" and order in rest:
            left = rest[order][1] - row["size"]
            if left > 0:
                rest[order] = (instrument, left)
                row.update(action=b"M", size=left)
            else:
                del rest[order]
        out.append(row)
    return out
