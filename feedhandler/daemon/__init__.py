"""The daemon of one channel: lifecycle, watchdog, helper processes. The feed itself is in the core."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from feedhandler.daemon._service import run

__all__ = ["run"]


def __getattr__(name: str) -> Any:
    """Import the service when it is asked for: the helper processes need the log alone."""
    if name == "run":
        from feedhandler.daemon import _service

        return _service.run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
