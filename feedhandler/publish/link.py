"""One connection to one publisher: counts what is missed, knows the feed's state and session."""

import time
from collections.abc import Sequence
from typing import Any

import zmq

from feedhandler.consumer.state import FeedState
from feedhandler.publish.message import BEFORE_ALL, Message, Place
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
        self.joined: Place | None = None
        """Where the feed stood when its topic was first heard in this epoch: it is subscribed to last, so all
        that was published behind that place is heard, or seen to be lost."""
        self.passed: Place = BEFORE_ALL
        """Up to here, says the last heartbeat, everything has been published."""
        self.furthest: Place = BEFORE_ALL
        """Of the records heard."""
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
            self.joined = None
        first = topic not in self._last
        lost = header.topic_seq - self._last.get(topic, header.topic_seq - 1) - 1
        self._last[topic] = header.topic_seq
        message = Message(topic, header, body, lost)
        self._heard_s = time.monotonic()
        self._state = FeedState(header.state)
        if topic == self._feed:
            self._hear_feed(message)
        else:
            self.furthest = max(self.furthest, self.place(message))
        return message, first

    def place(self, message: Message) -> Place:
        """Return where a message of records ends. Number 0 clears the books for the session to come."""
        number = message.header.channel_seq
        rollover = number == 0 and message.header.state != FeedState.LIVE
        return (self.session + rollover, number)

    def close(self) -> None:
        """Let go of the socket."""
        self.socket.close()

    def session_of(self, name: str) -> int:
        """Return the count of a session by its name; the present one for no name."""
        if not name or self.sessions[self.session] == name:
            return self.session
        if name not in self.sessions[self.session :]:
            self.sessions.append(name)
        return self.sessions.index(name, self.session)

    def _hear_feed(self, message: Message) -> None:
        event = message.event
        self.session = self.session_of(event.get("session", ""))
        if event["event"] == "heartbeat":
            self.passed = (self.session, message.header.channel_seq)
        if self.joined is None:
            self.joined = (self.session, event.get("next_sequence", message.header.channel_seq + 1) - 1)
