"""A time as people read it."""


def duration(ns: float | None) -> str:
    """Return nanoseconds in the unit that suits them."""
    if ns is None:
        return "-"
    for unit, size in (("ns", 1), ("µs", 1e3), ("ms", 1e6)):
        if ns < 1000 * size:
            return f"{ns:.0f} ns" if unit == "ns" else f"{ns / size:.3g} {unit}"
    return f"{ns / 1e9:.3g} s"
