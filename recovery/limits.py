"""Rate limits: token buckets with the clock passed in.

Per client in a table of bounded size and for all together.
"""

from collections import OrderedDict
from dataclasses import dataclass

BURST_S = 1.0  # a bucket holds this many seconds of its rate


@dataclass(frozen=True)
class Rate:
    """What may be answered in a second: requests, and reply bytes (UDP payload)."""

    requests: float
    bytes: float


class Bucket:
    """Tokens for requests and for reply bytes; full at first, refilled by the time that passes."""

    __slots__ = ("_bytes", "_rate", "_requests", "_then")

    def __init__(self, rate: Rate, now_s: float) -> None:
        self._rate = rate
        self._requests = max(1.0, rate.requests * BURST_S)
        self._bytes = rate.bytes * BURST_S
        self._then = now_s

    def ready(self, now_s: float) -> bool:
        """Whether a request may be answered now. The reply may overdraw the bytes once.

        Its size is not yet known.
        """
        passed = now_s - self._then
        if passed > 0.0:
            rate = self._rate
            self._then = now_s
            self._requests = min(max(1.0, rate.requests * BURST_S), self._requests + rate.requests * passed)
            self._bytes = min(rate.bytes * BURST_S, self._bytes + rate.bytes * passed)
        return self._requests >= 1.0 and self._bytes > 0.0

    def take(self, size: int) -> None:
        """Pay for one reply of `size` bytes."""
        self._requests -= 1.0
        self._bytes -= size


class ClientTable:
    """One bucket a client address, at most `capacity` of them; the one unused for longest makes room.

    A flood from invented addresses can push clients out, which gives them a full bucket again: the limit for
    all together is what holds then.
    """

    def __init__(self, rate: Rate, capacity: int) -> None:
        self._rate = rate
        self._capacity = capacity
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def bucket(self, host: str, now_s: float) -> Bucket:
        """Return the bucket of `host`, a full one when it is not known."""
        bucket = self._buckets.get(host)
        if bucket is None:
            if len(self._buckets) >= self._capacity:
                self._buckets.popitem(last=False)
            bucket = self._buckets[host] = Bucket(self._rate, now_s)
        else:
            self._buckets.move_to_end(host)
        return bucket
