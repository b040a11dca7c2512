"""The configuration of a channel: TOML and environment to validated settings; errors name the key."""

from feedhandler.config._load import Problem, load, problems
from feedhandler.config._models import (
    Channel,
    Config,
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
    "problems",
]
