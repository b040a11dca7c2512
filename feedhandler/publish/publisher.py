"""Reads a channel's ring in batches and publishes them on a ZeroMQ PUB socket."""

import json
import time
from typing import Any

import numpy as np
import zmq

from feedhandler import _core
from feedhandler.consumer.schema import EVENT_DTYPE, SCHEMA_NAMES
from feedhandler.metrics.snapshot import STATE_NAMES
from feedhandler.names import EVENT_NAMES, NATIVE_EVENTS
from feedhandler.publish.endpoint import bind
from feedhandler.publish.image_server import ImageServer
from feedhandler.publish.wire import Header, widen

_EVENT = SCHEMA_NAMES.index("event")
_ALL = 2 * (1 << _EVENT) - 1  # schemas: the next daemon may publish others than this one
HEARTBEAT_S = 0.5
"""At least every second is promised."""


class Publisher:
    """One PUB socket for one channel. `step` is one turn; `close` tells the end.

    A slow subscriber loses messages at its own high-water mark and sees the hole in `topic_seq`; nobody else
    notices. If this process is itself too slow for the ring, what it lost may have been of any topic:
    `topic_seq` skips a number on every topic, also on those that are published for the first time later.
    """

    def __init__(
        self,
        directory: str,
        endpoint: str,
        high_water_mark: int = 10_000,
        context: "zmq.Context[Any] | None" = None,
        *,
        snapshot_endpoint: str = "",
    ) -> None:
        """Bind; `snapshot_endpoint`: where late subscribers get images of books, "" = nowhere."""
        self.channel: str = _core.ChannelReader(directory).info()["channel"]
        self._consumer = _core.Consumer(directory, _ALL, [], 0)
        self._epoch = time.time_ns() // 1_000_000 & 0xFFFFFFFF
        self._topic_seq: dict[bytes, int] = {}
        self._feed_topic = f"{self.channel}/feed/".encode()
        self._session: str = self._consumer.session()  # of what was published last
        self._passed = 0  # all up to this number has been published
        self._skipped = 0  # how often every topic skipped a number
        self._lost = 0
        self._told_state = int(self._consumer.state)
        self._next_heartbeat = 0.0
        context = context or zmq.Context.instance()
        self._socket = context.socket(zmq.PUB)
        self._socket.set(zmq.SNDHWM, high_water_mark)
        self._socket.set(zmq.LINGER, 200)
        self._socket.set(zmq.MAXMSGSIZE, 256)  # of what peers send: subscriptions
        bind(self._socket, endpoint)
        self.images = (
            ImageServer(self._consumer, self.channel, snapshot_endpoint, context)
            if snapshot_endpoint
            else None
        )

    @property
    def endpoint(self) -> str:
        """The endpoint as bound: a wildcard port is resolved."""
        return str(self._socket.getsockopt_string(zmq.LAST_ENDPOINT))

    def step(self, timeout_s: float = 0.1) -> None:
        """Publish what there is, waiting for at most `timeout_s`; then what is due: state, heartbeat."""
        if self.images is not None and self.images.waiting:
            timeout_s = 0.0 if self.images.busy else min(timeout_s, 0.005)
        known = self._consumer.next_sequence
        groups = self._consumer.poll_groups(timeout_s, 1 << 20)
        if (lost := self._consumer.lost) != self._lost:
            self._lost = lost
            self._skip_a_number()
        self._passed = 0 if groups else max(0, known - 1)
        for schema, state, sequence, instrument_id, count, bodies in groups:
            channel_seq = widen(sequence, self._consumer.next_sequence)
            self._passed = max(self._passed, channel_seq - 1)
            if schema == _EVENT:
                self._publish_event(np.frombuffer(bodies, EVENT_DTYPE)[0])
            else:
                self._send(self._topic(schema, instrument_id), channel_seq, count, state, bodies)
        if not groups and (state := int(self._consumer.state)) != self._told_state:
            self._publish_state(
                state, time.time_ns()
            )  # no event tells it: the daemon died, hangs, or woke up
        if time.monotonic() >= self._next_heartbeat:
            self._heartbeat()
        if self.images is not None:
            self.images.turn(self._epoch)

    def close(self) -> None:
        """Publish what is left, and DEAD if that is so; let go of the socket."""
        self.step(0.0)
        self.step(0.0)
        self._socket.close()
        if self.images is not None:
            self.images.close()

    def _topic(self, schema: int, instrument_id: int) -> bytes:
        symbol = self._consumer.symbol(instrument_id)  # asked each time: a new day gives the id to another
        return f"{self.channel}/{SCHEMA_NAMES[schema]}/{symbol or instrument_id}/".encode()

    def _send(self, topic: bytes, channel_seq: int, count: int, state: int, body: bytes) -> None:
        topic_seq = self._topic_seq.get(topic, self._skipped) + 1
        self._topic_seq[topic] = topic_seq
        header = Header(topic_seq, channel_seq, self._epoch, count, state)
        self._socket.send_multipart((topic, header.pack(), body))

    def _skip_a_number(self) -> None:
        self._skipped += 1
        self._topic_seq = {topic: number + 1 for topic, number in self._topic_seq.items()}
        self._topic_seq.setdefault(self._feed_topic, self._skipped)

    def _feed(self, state: int, values: dict[str, Any], last: int | None = None) -> None:
        if last is None:
            last = max(0, self._consumer.next_sequence - 1)
        self._send(self._feed_topic, last, 1, state, json.dumps(values, separators=(",", ":")).encode())

    def _publish_state(self, state: int, ts_ns: int) -> None:
        if state == self._told_state:
            return
        previous, self._told_state = self._told_state, state
        names = {"state": STATE_NAMES[state], "previous": STATE_NAMES[previous]}
        self._feed(state, {"event": "state", "ts": ts_ns, **names})

    def _publish_event(self, event: Any) -> None:
        name = EVENT_NAMES.get(int(event["type"]))
        ts, state = int(event["ts"]), int(event["state"])
        if name == "state":
            self._publish_state(state, ts)
            return
        if name is None or name in NATIVE_EVENTS:
            return
        values: dict[str, Any] = {"event": name, "ts": ts}
        if name.startswith("gap_") or name.startswith("snapshot_"):
            values |= {"first": int(event["first"]), "last": int(event["last"])}
        elif name.startswith("line_"):
            index = int(event["line"])
            lines = self._consumer.info()["lines"]
            values["line"] = lines[index] if index < len(lines) else index
        else:
            session = bytes(event["session"]).rstrip(b"\0 ").decode("ascii", "replace")
            if name == "session_start":
                self._session, self._passed = session, 0
            values |= {"session": session, "next_sequence": int(event["first"])}
        self._feed(state, values)

    def _heartbeat(self) -> None:
        self._next_heartbeat = time.monotonic() + HEARTBEAT_S
        state = int(self._consumer.state)
        told = {
            "state": STATE_NAMES[state],
            "next_sequence": self._consumer.next_sequence,
            "session": self._session,
        }
        self._feed(state, {"event": "heartbeat", "ts": time.time_ns(), **told}, self._passed)
