"""Follows a hot pair and logs what is delivered, when.

    python -m benchmarks.takeover_follow LOG shm|zmq WHERE...

A process of its own, so that nothing else of the benchmark delays it. WHERE: the folders of both channels, or
the endpoints of both publishers. Prints "up" when it follows both and, each time that it has moved to a
restarted one, how often it did; at SIGTERM what was lost.
"""

import json
import signal
import struct
import sys
import time
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from feedhandler import Consumer, FeedState
from feedhandler.consumer.schema import DTYPES
from feedhandler.publish import ZmqSubscriber

CHUNK = struct.Struct("<qII")
"""Delivered at (ns UTC), state as published, number of mbo records behind it."""


def write(log: BinaryIO, state: FeedState, count: int, records: bytes) -> None:
    """Append records delivered now."""
    log.write(CHUNK.pack(time.time_ns(), int(state) & 0xFF, count) + records)


def read(data: bytes) -> tuple[NDArray[np.int64], NDArray[np.void]]:
    """Return (when each record was delivered, the records) out of a piece of a log."""
    times, records, at = [], [], 0
    while at < len(data):
        when, _, count = CHUNK.unpack_from(data, at)
        at += CHUNK.size
        times.append(np.full(count, when))
        records.append(np.frombuffer(data, DTYPES["mbo"], count, at))
        at += count * DTYPES["mbo"].itemsize
    return np.concatenate(times), np.concatenate(records)


def _say(word: object) -> None:
    print(word, flush=True)


def follow_memory(log: BinaryIO, folders: list[str], stopped: list[int]) -> dict[str, object]:
    """Follow two channels in shared memory."""
    with Consumer(folders, ["mbo"]) as consumer:
        _say("up")
        moved = 0
        while not stopped:
            for batch in consumer.poll(0.05):
                write(log, batch.state, len(batch.records), batch.records.tobytes())
            if consumer.restarts != moved:
                moved = consumer.restarts
                _say(moved)
        return {"lost": consumer.lost, "delivered_from": list(consumer.delivered_from.values())}


def follow_zmq(log: BinaryIO, endpoints: list[str], stopped: list[int]) -> dict[str, object]:
    """Follow two publishers."""
    with ZmqSubscriber(endpoints, "live", ["mbo/"], 1_000_000) as subscriber:
        up, moved = False, 0
        while not stopped:
            if (message := subscriber.receive(0.05)) is not None and message.schema != "feed":
                write(log, FeedState(message.header.state), message.header.count, message.body)
            if not up and subscriber.covered:
                up = True
                _say("up")
            if subscriber.restarts != moved and subscriber.covered:
                moved = subscriber.restarts
                _say(moved)
        return {"lost": subscriber.lost}


def main() -> None:
    """Follow until SIGTERM."""
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stopped.append(number))
    path, transport, *where = sys.argv[1:]
    with Path(path).open("wb", buffering=0) as log:
        found = (follow_memory if transport == "shm" else follow_zmq)(log, where, stopped)
    _say(json.dumps(found))


if __name__ == "__main__":
    main()
