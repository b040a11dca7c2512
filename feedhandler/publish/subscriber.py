"""Subscribe to a ZeroMQ publisher, and learn what was lost on the way."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import zmq
from numpy.typing import NDArray

from feedhandler.consumer.schema import DTYPES
from feedhandler.consumer.state import FeedState
from feedhandler.publish.wire import Header

SILENCE_S = 3.0
"""Without a heartbeat for so long the publisher is gone: DEAD."""


@dataclass(frozen=True, slots=True)
class Message:
    """What one message brought."""

    topic: str
    header: Header
    body: bytes
    lost: int
    """Messages of this topic lost just before this one."""

    @property
    def schema(self) -> str:
        """Schema of the records, or "feed"."""
        return self.topic.split("/")[1]

    @property
    def symbol(self) -> str:
        """Symbol of the records; "" for a feed event."""
        return self.topic.split("/")[2]

    @property
    def records(self) -> NDArray[np.void]:
        """The records, shape (count,), fields as in databento_dbn."""
        return np.frombuffer(self.body, DTYPES[self.schema], self.header.count)

    @property
    def event(self) -> dict[str, Any]:
        """The feed event, as a dictionary."""
        return dict(json.loads(self.body))


class ZmqSubscriber:
    """A SUB socket on one channel that counts by topic what it missed.

    `topics`: "SCHEMA/SYMBOL/" or prefixes of it, without the channel; empty: all. Feed events always come.
    What is lost before a topic's first message cannot be known. A new epoch starts the counting again.
    """

    def __init__(
        self,
        endpoint: str,
        channel: str,
        topics: Sequence[str] = (),
        high_water_mark: int = 10_000,
        context: "zmq.Context[Any] | None" = None,
    ) -> None:
        self.lost = 0
        """Messages lost, over all topics and epochs."""
        self.restarts = 0
        """How often the publisher was seen to have started anew: what fell in between is unknown."""
        self._feed = f"{channel}/feed/"
        self._epoch: int | None = None
        self._last: dict[str, int] = {}
        self._state = FeedState.DEAD
        self._heard_s = -SILENCE_S
        self._socket = (context or zmq.Context.instance()).socket(zmq.SUB)
        self._socket.set(zmq.RCVHWM, high_water_mark)
        self._socket.set(zmq.LINGER, 0)
        for prefix in {f"{channel}/{topic}" for topic in topics or ("",)} | {self._feed}:
            self._socket.setsockopt_string(zmq.SUBSCRIBE, prefix)
        self._socket.connect(endpoint)

    @property
    def state(self) -> FeedState:
        """State of the feed as last heard; DEAD before the first message and after 3 s of silence."""
        return self._state if time.monotonic() - self._heard_s < SILENCE_S else FeedState.DEAD

    def receive(self, timeout_s: float = 1.0) -> Message | None:
        """Return the next message, None on time-out."""
        if not self._socket.poll(int(timeout_s * 1000)):
            return None
        topic_frame, header_frame, body = self._socket.recv_multipart()
        topic, header = topic_frame.decode(), Header.unpack(header_frame)
        message = Message(topic, header, body, self._count_loss(topic, header))
        self._heard_s = time.monotonic()
        if topic == self._feed or message.lost == 0:
            self._state = FeedState(header.state)
        return message

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()

    def __enter__(self) -> "ZmqSubscriber":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _count_loss(self, topic: str, header: Header) -> int:
        if header.epoch != self._epoch:
            self.restarts += self._epoch is not None
            self._epoch = header.epoch
            self._last.clear()
        lost = header.topic_seq - self._last.get(topic, header.topic_seq - 1) - 1
        self._last[topic] = header.topic_seq
        self.lost += lost
        return lost
