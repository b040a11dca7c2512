"""When packets are due: counted from the first one, so that no error adds up."""

import time

FOREVER_NS = 2**63 - 1
_LONGEST_SLEEP_S = 0.5


def due_ns(first_ns: int, started_ns: int, speed: float | None) -> int:
    """Return the input's time up to which packets are due now.

    `first_ns` is the first packet's, `started_ns` the monotonic clock when it was played. `speed` None: all
    are due.
    """
    if speed is None:
        return FOREVER_NS - 1
    return first_ns + int((time.monotonic_ns() - started_ns) * speed)


def wait(next_ns: int, first_ns: int, started_ns: int, speed: float | None) -> None:
    """Sleep until the packet of time `next_ns` is due."""
    if speed is None or next_ns == FOREVER_NS:
        return
    due = started_ns + (next_ns - first_ns) / speed
    while (left_s := (due - time.monotonic_ns()) / 1e9) > 0:
        time.sleep(min(left_s, _LONGEST_SLEEP_S))
