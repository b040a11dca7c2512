"""What a consumer has measured of its own latency."""

from typing import NamedTuple

from feedhandler import _core


class ConsumerLatency(NamedTuple):
    """Histograms of nanoseconds, of the packets that the daemon samples.

    A histogram has `count`, `quantile(share)`, `worst_ns`, `sum_ns` and `buckets()`.
    """

    consume: _core.Histogram
    """From a record's publishing until `poll` had it in the consumer's memory."""
    whole: _core.Histogram
    """From the stamp of the network card or kernel on the packet until then."""
    missed: int
    """Samples that were gone before the consumer came to their records."""
