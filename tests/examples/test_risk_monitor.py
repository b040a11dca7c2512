"""The risk monitor fails closed."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from feedhandler import FeedState
from feedhandler.consumer.book import LEVEL_DTYPE, Book

path = Path(__file__).resolve().parents[2] / "examples" / "risk_monitor.py"
spec = importlib.util.spec_from_file_location("risk_monitor", path)
assert spec is not None
assert spec.loader is not None
risk = importlib.util.module_from_spec(spec)
sys.modules["risk_monitor"] = risk
spec.loader.exec_module(risk)

DOLLAR = 1_000_000_000


class Feed:
    """What the monitor looks at, with a state that can be set."""

    def __init__(self) -> None:
        self.state = FeedState.LIVE
        self.books = {"AAPL": (100, 101)}

    def book(self, symbol: str) -> Book:
        if symbol not in self.books:
            raise KeyError(symbol)
        bid, ask = self.books[symbol]
        sides = [np.array([(p * DOLLAR, 10, 1)] if p else [], LEVEL_DTYPE) for p in (bid, ask)]
        return Book(symbol, self.state, 1, 0, "T", *sides)


@pytest.fixture
def feed() -> Feed:
    return Feed()


def word(feed: Feed, quiet_s: float = 0.0, **account: Any) -> str:
    return str(risk.verdict(feed, risk.Account(**account), risk.Limits(), quiet_s))


def test_allows_when_all_is_well(feed: Feed) -> None:
    """A live feed, a small position, a quote near the market: allowed."""
    quotes = {"AAPL": (100 * DOLLAR, 101 * DOLLAR)}
    assert word(feed, positions={"AAPL": 100}, quotes=quotes) == ""


@pytest.mark.parametrize("state", [s for s in FeedState if s is not FeedState.LIVE])
def test_forbids_unless_live(feed: Feed, state: FeedState) -> None:
    """Any state but LIVE forbids."""
    feed.state = state
    assert word(feed) == f"feed {state.name}"


def test_forbids_when_records_stop(feed: Feed) -> None:
    """A feed that is LIVE but silent may be old."""
    assert word(feed, quiet_s=2.1) == "no record for 2.1 s"


def test_forbids_a_position_over_the_limit(feed: Feed) -> None:
    """Long or short."""
    assert "position AAPL -10001" in word(feed, positions={"AAPL": -10_001})


def test_forbids_exposure_over_the_limit(feed: Feed) -> None:
    """Exposure is gross, in dollars."""
    feed.books["BRK.A"] = (500_000, 500_002)
    assert "exposure 50,500,101" in word(feed, positions={"BRK.A": 101})


def test_a_position_without_a_price_is_infinite(feed: Feed) -> None:
    """What cannot be valued is forbidden: no book, or one side of it empty."""
    assert "exposure inf" in word(feed, positions={"ZZZ": 1})
    feed.books["AAPL"] = (100, 0)
    assert "exposure inf" in word(feed, positions={"AAPL": 1})


def test_forbids_a_quote_outside_the_band(feed: Feed) -> None:
    """A quote 10 % from the mid price is an error of somebody's."""
    assert "outside the band" in word(feed, quotes={"AAPL": (80 * DOLLAR, 101 * DOLLAR)})
