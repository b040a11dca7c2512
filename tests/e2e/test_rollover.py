"""One daemon through two trading days."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from feedhandler.config import load
from feedhandler.consumer import Consumer, FeedState
from feedhandler.daemon import _feed
from tests.support.daemon import write_config
from tests.support.exchange import Exchange, Line, simulated_messages
from tests.support.multicast import free_port
from tests.support.wait import wait_for

HOUR = 3600 * 10**9


def test_next_session_belongs_to_the_day_on_which_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the end of the session the next one starts at number 1, LIVE, with times of the new day."""
    midnight = time.time_ns() + 10**9  # the new day begins in a second
    days = [(midnight - 24 * HOUR, 20260105), (midnight, 20260106), (midnight + 24 * HOUR, 20260107)]
    monkeypatch.setattr(_feed, "trading_days", lambda _setting: days)
    line = Line("A", f"239.202.{os.getpid() % 250}.1", free_port())
    feed = _feed.make_feed(load(write_config(tmp_path, [line]), {}), tmp_path / "live")
    feed.start()
    messages = simulated_messages(1000)
    first, second = (Exchange(messages, [line], session) for session in (b"MONDAY0001", b"TUESDAY001"))
    try:
        consumer = Consumer(str(tmp_path / "live"), ["mbo"])
        first.send(1000)
        first.end()
        wait_for(lambda: consumer.state == FeedState.ENDED, "the end of Monday")
        monday = np.concatenate([batch.records.copy() for batch in consumer.poll(1.0)])
        assert consumer.info["trading_day"] == 20260105
        wait_for(lambda: time.time_ns() > midnight, "Tuesday")
        second.send(1000)
        wait_for(
            lambda: consumer.state == FeedState.LIVE and consumer.next_sequence == 1001, "Tuesday's messages"
        )
        tuesday = np.concatenate([batch.records.copy() for batch in consumer.poll(1.0)])
        assert consumer.info["trading_day"] == 20260106
    finally:
        assert feed.stop(timeout_ms=5000)
        first.close()
        second.close()
    cleared = tuesday[tuesday["sequence"] == 0]
    assert len(cleared) > 0
    assert set(cleared["action"].tolist()) == {b"R"}
    rest = tuesday[tuesday["sequence"] > 0]
    assert (rest["ts_event"] == monday["ts_event"] + 24 * HOUR).all()
    assert (rest["order_id"] == monday["order_id"]).all()
