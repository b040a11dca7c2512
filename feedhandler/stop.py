"""Being told to stop, by SIGTERM or SIGINT."""

import math
import os
import select
import signal
from types import FrameType
from typing import Protocol


class Stop(Protocol):
    """What whoever works until told to stop needs to know."""

    def is_set(self) -> bool:
        """Tell whether to stop."""
        ...

    def wait(self, timeout: float | None = None, /) -> bool:
        """Return whether to stop, after `timeout` seconds at the latest."""
        ...


class StopSignal:
    """Set by SIGTERM and SIGINT. One a process, made on its main thread.

    Not a threading.Event: its `set` takes a lock, and a handler runs on the very thread that may be holding
    it in `wait`. The process would hang, about once in some thousand signals.
    """

    def __init__(self) -> None:
        self._set = False
        self._wake = os.eventfd(0)
        self._poll = select.poll()
        self._poll.register(self._wake, select.POLLIN)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._set = True
        os.eventfd_write(self._wake, 1)

    def is_set(self) -> bool:
        """Tell whether a signal came."""
        return self._set

    def wait(self, timeout: float | None = None, /) -> bool:
        """Return whether a signal came, after `timeout` seconds at the latest."""
        if not self._set:  # a signal that comes right here ends the poll too
            self._poll.poll(None if timeout is None else math.ceil(timeout * 1000))
        return self._set
