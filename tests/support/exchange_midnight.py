"""A New York whose midnight is near: time zone data of its own, for real processes under the real clock."""

import struct
import time
from pathlib import Path

DAY_S = 86_400


def near_midnight(folder: Path, in_s: int) -> tuple[dict[str, str], int]:
    """Make New York's next midnight `in_s` seconds from now; return (environment, its UTC ns).

    The zone has one offset, as RFC 8536 writes it; Python reads it from $PYTHONTZPATH.
    """
    midnight_s = int(time.time()) + in_s
    offset_s = -(midnight_s % DAY_S)
    if offset_s < -DAY_S // 2:
        offset_s += DAY_S
    counts = struct.pack(">6L", 0, 0, 0, 0, 1, 4)
    data = b"TZif" + bytes(16) + counts + struct.pack(">lBB", offset_s, 0, 0) + b"FNY\0"
    path = folder / "zones" / "America" / "New_York"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return {"PYTHONTZPATH": str(folder / "zones")}, midnight_s * 1_000_000_000
