"""Told to stop by a signal, at whatever moment."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from feedhandler.stop import StopSignal


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Give the signals back to whoever had them."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def interrupted_at(step: int, call: Callable[[], Any]) -> bool:
    """Run `call`, a signal coming before its step-th instruction of Python; False when there are fewer."""
    steps = 0

    def trace(frame: FrameType, event: str, _argument: object) -> Callable[..., Any]:
        nonlocal steps
        frame.f_trace_opcodes = True
        if event == "opcode":
            if steps == step:
                signal.raise_signal(signal.SIGTERM)
            steps += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return steps > step


@pytest.mark.timeout(60)
def test_a_signal_at_any_moment_of_waiting_ends_it() -> None:
    """The handler runs on the waiting thread between any two instructions: it must never wait for it."""
    step = 0
    while True:
        stop = StopSignal()
        came = interrupted_at(step, lambda stop=stop: stop.wait(0.001))
        assert stop.is_set() == came
        assert stop.wait(0.001) == came
        os.close(stop._wake)
        if not came:
            break
        step += 1
    assert step > 10
