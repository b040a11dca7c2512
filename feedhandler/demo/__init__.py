"""The whole way in one command: exchange, two lossy lines, daemon, strategy, risk process, and a verdict."""

from feedhandler.demo.scenario import Demo, DemoSettings
from feedhandler.demo.verdict import Check, verdict

__all__ = ["Check", "Demo", "DemoSettings", "verdict"]
