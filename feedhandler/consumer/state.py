"""The feed's states, as a consumer sees them."""

from enum import IntEnum


class FeedState(IntEnum):
    """State of the feed. A consumer may act on a book only in LIVE.

    The numbers 0 to 4 are those of the ZeroMQ header; DEAD is told by the reader and never sent by a daemon.
    """

    STARTING = 0
    LIVE = 1
    RECOVERING = 2  # a gap is open: books are as of before it
    STALE = 3  # messages were lost for good, or the daemon hangs
    ENDED = 4
    DEAD = 255  # no daemon
