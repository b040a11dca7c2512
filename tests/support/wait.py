"""Waiting on conditions, with deadlines."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(condition: Callable[[], T], what: str, timeout_s: float = 20.0, interval_s: float = 0.005) -> T:
    """Return the first true value of `condition`; fail, saying `what`, when there is none in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"no {what} within {timeout_s} s"
        time.sleep(interval_s)
