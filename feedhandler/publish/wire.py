"""The three frames of a ZeroMQ message: topic, header, body."""

import struct
from dataclasses import astuple, dataclass

VERSION = 1
_HEADER = struct.Struct("<QQIHBB")


@dataclass(frozen=True, slots=True)
class Header:
    """Second frame, 24 bytes little-endian."""

    topic_seq: int
    """1, 2, 3... per topic and epoch: a step of more than one is a loss."""
    channel_seq: int
    """MoldUDP64 number of the last message in the body."""
    epoch: int
    """New at each start of the publisher."""
    count: int
    """Records in the body."""
    state: int
    """State of the feed when the body was published; 255: no daemon."""
    version: int = VERSION

    def pack(self) -> bytes:
        """Return the frame."""
        return _HEADER.pack(*astuple(self))

    @classmethod
    def unpack(cls, frame: bytes) -> "Header":
        """Return the header in a frame; ValueError if it is none of this version."""
        if len(frame) != _HEADER.size or frame[-1] != VERSION:
            raise ValueError(f"not a header of version {VERSION}: {len(frame)} bytes")
        return cls(*_HEADER.unpack(frame))


def widen(low: int, near: int) -> int:
    """Return the 64-bit sequence number with these low 32 bits that is nearest to `near`."""
    step = (low - near) & 0xFFFFFFFF
    return max(0, near + (step - (1 << 32) if step >= 1 << 31 else step))
