"""The quoting strategy: what it quotes, and when it must not."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from feedhandler import FeedState
from feedhandler.consumer.book import LEVEL_DTYPE, Book

CENT = 10_000_000


def load(name: str) -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


strategy = load("quoting_strategy")

levels = st.lists(
    st.tuples(st.integers(1, 500), st.integers(1, 10_000)), min_size=1, max_size=10, unique_by=lambda x: x[0]
)


def book(bids: list[tuple[int, int]], asks: list[tuple[int, int]]) -> Book:
    def side(levels: list[tuple[int, int]]) -> np.ndarray:
        return np.array([(price * CENT, size, 1) for price, size in levels], LEVEL_DTYPE)

    return Book("X", FeedState.LIVE, 1, 0, "T", side(bids), side(asks))


@given(levels, levels)
def test_quote_never_crosses_the_touch(below: list[tuple[int, int]], above: list[tuple[int, int]]) -> None:
    """Whatever the book: bid below the best ask, ask above the best bid, bid below ask."""
    bids = sorted(((1000 - p, s) for p, s in below), reverse=True)
    asks = sorted((1000 + p, s) for p, s in above)
    quote = strategy.two_sided_quote(book(bids, asks))
    assert quote is not None
    assert quote.bid < asks[0][0] * CENT
    assert quote.ask > bids[0][0] * CENT
    assert quote.bid < quote.ask
    assert quote.bid % CENT == quote.ask % CENT == 0


def test_no_quote_without_two_sides() -> None:
    """A one-sided book gives no quote."""
    assert strategy.two_sided_quote(book([], [(1001, 5)])) is None
    assert strategy.two_sided_quote(book([(999, 5)], [])) is None


def test_silence_of_the_risk_monitor_forbids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A permission lives for 250 ms: a risk monitor that says nothing more has forbidden."""
    now_ns = 1_000_000_000
    monkeypatch.setattr(strategy.time, "monotonic_ns", lambda: now_ns)
    with zmq.Context() as context, context.socket(zmq.XPUB) as risk:
        risk.bind(f"ipc://{tmp_path}/risk")
        permission = strategy.Permission(context, f"ipc://{tmp_path}/risk")
        try:
            assert not permission.granted()
            assert risk.poll(5000)  # the subscription has arrived
            risk.recv()
            risk.send_string(json.dumps({"allow": True, "reason": ""}))
            assert permission._socket.poll(5000)
            assert permission.granted()
            now_ns += 249_000_000
            assert permission.granted()
            now_ns += 2_000_000
            assert not permission.granted()
            assert permission.reason == "the risk monitor is silent"
        finally:
            permission._socket.close()
