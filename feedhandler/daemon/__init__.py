"""The daemon of one channel: lifecycle, watchdog, helper processes. The feed itself is in the core."""

from feedhandler.daemon._service import run

__all__ = ["run"]
