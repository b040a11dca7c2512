"""One message as a subscriber gets it, and its place in the feed."""

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedhandler.consumer.schema import DTYPES
from feedhandler.publish.wire import Header

Place = tuple[int, int]
"""(session, sequence number): sessions are counted as they were seen, numbers start again in each."""
BEFORE_ALL: Place = (-1, 0)


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


def behind(message: Message, session: int, place: Place) -> Message | None:
    """Return what of a message (of that session) comes after a place; None when nothing does.

    Records without a number of their own (status, imbalance, definition) come one a message.
    """
    if (session, message.header.channel_seq) <= place:
        return None
    if session != place[0] or "sequence" not in (DTYPES[message.schema].names or ()):
        return message
    records = message.records
    # 32 bits of each number are in its record; all of them lie at or before the header's number
    back = (np.uint32(message.header.channel_seq & 0xFFFFFFFF) - records["sequence"]).astype(np.uint32)
    kept = records[back < message.header.channel_seq - place[1]]
    if len(kept) == len(records):
        return message
    if len(kept) == 0:
        return None
    return replace(message, body=kept.tobytes(), header=replace(message.header, count=len(kept)))


def newest(message: Message) -> Message:
    """Return a message with its last record only."""
    size = len(message.body) // message.header.count
    return replace(message, body=message.body[-size:], header=replace(message.header, count=1))
