"""Real daemons through the exchange's midnight, and what their journals are exported to."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from feedhandler import _core
from feedhandler.consumer import Consumer, FeedState
from tests.support.daemon import COMMAND, Daemon, environment, running, write_config
from tests.support.exchange import Exchange, Line, simulated_messages
from tests.support.exchange_midnight import near_midnight
from tests.support.multicast import free_ports
from tests.support.wait import wait_for

HOUR_NS = 3600 * 10**9
SOON_S = 3
TOO_SLOW = "it took longer than that to send a day"
FIRST, SECOND = simulated_messages(600, seed=1), simulated_messages(700, seed=2)


@dataclass
class Night:
    """A daemon with a journal, and an exchange's lines; midnight in New York is some seconds away."""

    daemon: Daemon
    consumer: Consumer
    lines: list[Line]
    journal: Path
    env: dict[str, str]
    midnight_ns: int

    def exchange(self, messages: list[bytes], session: bytes) -> Exchange:
        return Exchange(messages, self.lines, session)

    def wait_for_midnight(self) -> None:
        wait_for(lambda: time.time_ns() > self.midnight_ns, "midnight in New York")

    def records(self, upto: int) -> np.ndarray:
        """Return the records that came, once the daemon has all messages below `upto`."""
        wait_for(lambda: self.consumer.next_sequence == upto, f"messages up to {upto}")
        return np.concatenate([batch.records.copy() for batch in self.consumer.poll(1.0)])

    def journaled(self) -> int:
        """Return how many packets are in the journal."""
        return int((_core.journal_status(str(self.daemon.runtime_dir / "live")) or {}).get("packets", 0))

    def exported(self) -> list[dict]:
        """Return the days that `export` makes of the journal."""
        words = ["export", str(self.journal), "-o", str(self.journal.parent / "out"), "--json"]
        done = subprocess.run(
            [*COMMAND, *words, "--schema", "mbo"],
            env=environment(**self.env), capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return list(json.loads(done.stdout)["days"])


@contextmanager
def night(folder: Path, in_s: int, line_down_s: float = 3.0) -> Iterator[Night]:
    """A night, over afterwards; the daemon has started a second before midnight, however long it takes."""
    ports = free_ports(2)
    lines = [Line(n, f"239.202.{os.getpid() % 250}.{i}", next(ports)) for i, n in enumerate("AB")]
    journal = folder / "journal"
    extra = f'[journal]\ndirectory = "{journal}"\n'
    config = write_config(folder, lines, extra=extra, receive=f"line_down_s = {line_down_s}\n")
    while True:
        env, midnight_ns = near_midnight(folder, in_s)
        with (
            running(config, folder / "run", env=env) as daemon,
            Consumer("live", ["mbo"], runtime_dir=folder / "run") as consumer,
        ):
            if time.time_ns() < midnight_ns - 10**9:
                yield Night(daemon, consumer, lines, journal, env, midnight_ns)
                return
        in_s *= 2


def assert_times(records: np.ndarray, messages: list[bytes], midnight_ns: int) -> None:
    """Every record has its message's time of that day."""
    kept = records[records["sequence"] > 0]
    offsets = np.array([int.from_bytes(message[5:11]) for message in messages], np.int64)
    assert kept.size > 0
    assert (kept["ts_event"].astype(np.int64) == midnight_ns + offsets[kept["sequence"] - 1]).all()


def test_session_belongs_to_the_day_of_its_first_message(tmp_path: Path) -> None:
    """Rollover with a day change: the new session's heartbeats begin before midnight, its messages after.

    Times, trading day, books and export: each session has its own day.
    """
    with night(tmp_path, SOON_S) as here:
        monday, tuesday = (here.exchange(m, s) for m, s in ((FIRST, b"MONDAY0001"), (SECOND, b"TUESDAY001")))
        monday.send(600)
        monday.end()
        of_monday = here.records(601)
        assert here.consumer.state == FeedState.ENDED
        tuesday.heartbeat()
        wait_for(lambda: here.consumer.next_sequence == 1, "the new session")
        assert time.time_ns() < here.midnight_ns, TOO_SLOW
        trading_days = [here.consumer.info["trading_day"]]
        here.wait_for_midnight()
        tuesday.send(700)
        of_tuesday = here.records(701)
        assert here.consumer.state == FeedState.LIVE
        trading_days.append(here.consumer.info["trading_day"])
        tuesday.end()
        wait_for(lambda: here.consumer.state == FeedState.ENDED, "the end")
        for exchange in (monday, tuesday):
            exchange.close()
        sent = sum(line.sent_packets for line in here.lines)
        wait_for(lambda: here.journaled() == sent, "all packets in the journal")
        assert here.daemon.stop() == 0
        days = here.exported()
    assert_times(of_monday, FIRST, here.midnight_ns - 24 * HOUR_NS)
    assert_times(of_tuesday, SECOND, here.midnight_ns)
    cleared = of_tuesday[of_tuesday["sequence"] == 0]
    assert set(cleared["action"].tolist()) == {b"R"}
    assert [(day["date"].replace("-", ""), day["messages"]) for day in days] == [
        (str(trading_days[0]), 600),
        (str(trading_days[1]), 700),
    ]


def test_session_whose_end_was_not_heard_gives_way_when_its_day_is_over(tmp_path: Path) -> None:
    """The lines fell silent without an end; after midnight another session comes.

    The books of the day before would stay LIVE for ever otherwise.
    """
    with night(tmp_path, SOON_S, line_down_s=0.3) as here:
        monday, tuesday = (
            here.exchange(messages, session)
            for messages, session in ((FIRST, b"MONDAY0001"), (SECOND, b"TUESDAY001"))
        )
        monday.send(600)
        here.records(601)
        assert time.time_ns() < here.midnight_ns, TOO_SLOW
        wait_for(lambda: here.daemon.reader.counters()["lines"][1]["down"] == 1, "silence")
        here.wait_for_midnight()
        wait_for(lambda: here.daemon.reader.counters()["lines"][0]["down"] == 1, "silence")

        def started() -> bool:
            tuesday.heartbeat()
            return here.consumer.next_sequence == 1

        wait_for(started, "the new session", interval_s=0.05)
        tuesday.send(700)
        of_tuesday = here.records(701)
        assert here.consumer.state == FeedState.LIVE
        names = [entry["event"] for entry in here.daemon.log()]
        assert "session_end" not in names
        counters = here.daemon.stat()
        monday.close()
        tuesday.close()
    assert_times(of_tuesday, SECOND, here.midnight_ns)
    lines = counters["lines"].values()
    assert [line["late"] + line["won"] for line in lines] == [1300] * 2


def test_second_run_of_a_session_is_followed_after_a_silence(tmp_path: Path) -> None:
    """The same name from number 1 on the same day, as an exchange that is started twice: all of it comes."""
    with night(tmp_path, 3600, line_down_s=0.2) as here:
        for messages in (FIRST, SECOND):
            run = here.exchange(messages, b"SIMULATED1")
            run.send(len(messages))
            run.end()
            records = here.records(len(messages) + 1)
            wait_for(lambda: here.consumer.state == FeedState.ENDED, "the end")
            run.close()
            for line in (0, 1):
                wait_for(lambda i=line: here.daemon.reader.counters()["lines"][i]["down"] == 1, "silence")
        assert here.daemon.stat()["messages"] == len(FIRST) + len(SECOND)
        assert_times(records, SECOND, here.midnight_ns - 24 * HOUR_NS)
        starts = [e for e in here.daemon.log() if e["event"] == "session_start"]
        assert [start["session"] for start in starts] == ["SIMULATED1"] * 2
