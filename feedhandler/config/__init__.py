"""The configuration of a channel: TOML and environment to validated settings; errors name the key."""

from feedhandler.config._gapfill import Gapfill, GapfillConfig
from feedhandler.config._load import Problem, load, load_gapfill, problems
from feedhandler.config._models import (
    Channel,
    Config,
    Dpdk,
    Journal,
    Line,
    Metrics,
    Publish,
    Receive,
    Recovery,
    Server,
    Snapshot,
    Zmq,
)

__all__ = [
    "Channel",
    "Config",
    "Dpdk",
    "Gapfill",
    "GapfillConfig",
    "Journal",
    "Line",
    "Metrics",
    "Problem",
    "Publish",
    "Receive",
    "Recovery",
    "Server",
    "Snapshot",
    "Zmq",
    "load",
    "load_gapfill",
    "problems",
]
