"""Captures of several sessions: which of them is played, from which number, with whose day's times."""

import datetime as dt
from pathlib import Path

import numpy as np
import pytest

from feedhandler.consumer.schema import DTYPES
from feedhandler.replay.options import Faults
from tests.support.exchange import simulated_messages
from tests.support.replay_files import (
    GROUP_A,
    GROUP_B,
    Records,
    link,
    mold,
    mold_end,
    pcap,
    play,
    udp,
)

MS, SECOND = 10**6, 10**9
MONDAY, TUESDAY = dt.date(2026, 11, 2), dt.date(2026, 11, 3)
MIDNIGHT = int(dt.datetime(2026, 11, 3, 5, tzinfo=dt.UTC).timestamp()) * SECOND  # Tuesday's
ONE, TWO = b"SESSION01 ", b"SESSION02 "
FIRST, SECOND_RUN = simulated_messages(400, seed=1), simulated_messages(500, seed=2)
Frames = list[tuple[int, bytes]]


def both(at: int, payload: bytes) -> Frames:
    """Return a packet on both lines."""
    return [(at + skew, link(udp(payload, group))) for skew, group in enumerate((GROUP_A, GROUP_B))]


def run_of(messages: list[bytes], session: bytes, begin: int, *, end: bool = True) -> Frames:
    """Return the packets of a session, one each millisecond."""
    frames: Frames = []
    for first in range(0, len(messages), 10):
        frames += both(begin + first // 10 * MS, mold(first + 1, messages[first : first + 10], session))
    if end:
        frames += both(begin + len(messages) // 10 * MS, mold_end(len(messages) + 1, session))
    return frames


def heartbeat(session: bytes, number: int) -> bytes:
    """Return a packet that only tells the next number."""
    return mold(number, [], session)


def mbo(folder: Path, frames: Frames, **options: object) -> tuple[np.ndarray, dict]:
    """Return the mbo records of a replay, and its counts."""
    path, records = folder / "x.pcap", Records()
    path.write_bytes(pcap(frames))
    played = play(path, records, schemas=("mbo",), **options)
    return np.frombuffer(bytes(records.data.get("mbo", b"")), DTYPES["mbo"]), played.counts


BEFORE = MIDNIGHT - 3600 * SECOND
AFTER = MIDNIGHT + 3600 * SECOND
CASES = {
    "rollover with a day change": (
        run_of(FIRST, ONE, BEFORE) + run_of(SECOND_RUN, TWO, AFTER), TUESDAY,
    ),
    "rollover on one day": (
        run_of(FIRST, ONE, BEFORE) + run_of(SECOND_RUN, TWO, BEFORE + SECOND), MONDAY,
    ),
    "the same session again the next day": (
        run_of(FIRST, ONE, BEFORE) + run_of(SECOND_RUN, ONE, AFTER), TUESDAY,
    ),
    "the same session again without an end": (
        run_of(FIRST, ONE, BEFORE, end=False) + run_of(SECOND_RUN, ONE, BEFORE + 60 * SECOND), MONDAY,
    ),
    "the next day's session although no end was told": (
        run_of(FIRST, ONE, BEFORE, end=False) + run_of(SECOND_RUN, TWO, AFTER), TUESDAY,
    ),
    "heartbeats of the next day's session before midnight": (
        run_of(FIRST, ONE, BEFORE) + both(BEFORE + 60 * SECOND, heartbeat(TWO, 1))
        + both(MIDNIGHT - 1000, heartbeat(TWO, 1)) + run_of(SECOND_RUN, TWO, AFTER), TUESDAY,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("drop", [0.0, 0.2])
def test_each_session_is_played_as_alone_with_the_times_of_its_day(
    tmp_path: Path, case: str, drop: float
) -> None:
    """Two sessions one behind the other, books cleared between: the records of each as it alone gives."""
    frames, day = CASES[case]
    options = {"faults": Faults(drop=drop)} if drop else {}
    records, counts = mbo(tmp_path, frames, **options)
    assert counts["messages"] == len(FIRST) + len(SECOND_RUN)
    assert (counts["unrecovered"], counts["state"]) == (0, "ENDED")
    cleared = np.flatnonzero(records["sequence"] == 0)
    assert cleared.size > 0
    assert (np.diff(cleared) == 1).all()
    assert set(records["action"][cleared].tolist()) == {b"R"}
    alone = [
        mbo(tmp_path, run_of(FIRST, ONE, BEFORE), trading_day=MONDAY)[0],
        mbo(tmp_path, run_of(SECOND_RUN, ONE, BEFORE), trading_day=day)[0],
    ]
    for got, expected in zip((records[: cleared[0]], records[cleared[-1] + 1 :]), alone, strict=True):
        for name in ("ts_event", "sequence", "order_id", "price", "size", "action", "side", "instrument_id"):
            assert (got[name] == expected[name]).all(), name


def test_date_given_counts_for_every_session(tmp_path: Path) -> None:
    """--date is the user's word against the capture's."""
    frames, _ = CASES["rollover with a day change"]
    records, _ = mbo(tmp_path, frames, trading_day=MONDAY)
    of_second = records[np.flatnonzero(records["sequence"] == 0)[-1] + 1 :]
    alone, _ = mbo(tmp_path, run_of(SECOND_RUN, TWO, BEFORE), trading_day=MONDAY)
    assert (of_second["ts_event"] == alone["ts_event"]).all()


STRAYS = {
    "another session in the middle of one": (BEFORE + 5 * MS, ONE, TWO),
    "number 1 again at once": (BEFORE + 50 * MS, ONE, ONE),
    "another session after a silence on the same day": (BEFORE + 60 * SECOND, ONE, TWO),
    "number 1 again from a line that never spoke": (BEFORE + 60 * SECOND, ONE, ONE),
}


@pytest.mark.parametrize("case", STRAYS)
def test_stray_packets_change_nothing(tmp_path: Path, case: str) -> None:
    """Foreign ones, and late copies: the records are those without them."""
    at, session, other = STRAYS[case]
    frames = run_of(FIRST, session, BEFORE, end=False)
    if case == "number 1 again from a line that never spoke":
        frames = frames[::2]
        strays = [(at, link(udp(mold(1, FIRST[:10], other), GROUP_B)))]
    else:
        strays = both(at, mold(1, SECOND_RUN[:10], other))
    expected, _ = mbo(tmp_path, frames)
    records, counts = mbo(tmp_path, sorted(frames + strays))
    assert counts["messages"] == len(FIRST)
    assert (records["sequence"] == expected["sequence"]).all()
    assert (records["ts_event"] == expected["ts_event"]).all()
