"""One connection to one publisher: counts what is missed, knows the feed's state and session."""

import json
import time
from collections.abc import Sequence
from typing import Any

import zmq

from feedhandler.consumer.state import FeedState
from feedhandler.publish.message import Message, Place
from feedhandler.publish.wire import Header

SILENCE_S = 3.0
"""Without a heartbeat for so long the publisher is gone: DEAD."""


class Link:
    """A SUB socket on one channel. `sessions` is shared by the links of a pair: both tell them by name."""

    def __init__(
        self,
        endpoint: str,
        channel: str,
        topics: Sequence[str],
        high_water_mark: int,
        context: "zmq.Context[Any]",
        sessions: list[str],
    ) -> None:
        self.channel = channel
        self.restarts = 0
        self.epoch: int | None = None
        self.joined = False
        """Whether the feed's topic was heard: it is subscribed to last, so all others are active by then."""
        self.session = 0
        self.sessions = sessions
        self._feed = f"{channel}/feed/"
        self._last: dict[str, int] = {}
        self._state = FeedState.DEAD
        self._heard_s = -SILENCE_S
        self.socket = context.socket(zmq.SUB)
        self.socket.set(zmq.RCVHWM, high_water_mark)
        self.socket.set(zmq.LINGER, 0)
        for prefix in dict.fromkeys([f"{channel}/{topic}" for topic in topics or ("",)]):
            self.socket.setsockopt_string(zmq.SUBSCRIBE, prefix)
        self.socket.setsockopt_string(zmq.SUBSCRIBE, self._feed)
        self.socket.connect(endpoint)

    @property
    def state(self) -> FeedState:
        """State as last heard; DEAD before the first message and after 3 s of silence."""
        return self._state if time.monotonic() - self._heard_s < SILENCE_S else FeedState.DEAD

    def receive(self) -> tuple[Message, bool] | None:
        """Return the next message that is here, and whether it is this publisher's first of its topic."""
        try:
            topic_frame, header_frame, body = self.socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None
        topic, header = topic_frame.decode(), Header.unpack(header_frame)
        if header.epoch != self.epoch:
            self.restarts += self.epoch is not None
            self.epoch = header.epoch
            self._last.clear()
        first = topic not in self._last
        lost = header.topic_seq - self._last.get(topic, header.topic_seq - 1) - 1
        self._last[topic] = header.topic_seq
        message = Message(topic, header, body, lost)
        self._heard_s = time.monotonic()
        if topic == self._feed:
            self.joined = True
            self._follow_session(json.loads(body).get("session"))
        if topic == self._feed or lost == 0:
            self._state = FeedState(header.state)
        return message, first

    def place(self, message: Message) -> Place:
        """Return where a message of records ends. Number 0 clears the books for the session to come."""
        number = message.header.channel_seq
        rollover = number == 0 and message.header.state != FeedState.LIVE
        return (self.session + rollover, number)

    def close(self) -> None:
        """Let go of the socket."""
        self.socket.close()

    def _follow_session(self, name: str | None) -> None:
        if not name or self.sessions[self.session] == name:
            return
        if name not in self.sessions[self.session :]:
            self.sessions.append(name)
        self.session = self.sessions.index(name, self.session)
