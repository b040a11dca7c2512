"""Market-data feed handler: subscribe to a running channel, read its books, follow its state."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from feedhandler.consumer import Batch, Book, Consumer, FeedState

__version__ = "0.1.0"
__all__ = ["Batch", "Book", "Consumer", "FeedState", "get_include"]


def get_include() -> str:
    """Return the folder of `feedhandler.hpp`, for a C++ compiler's -I."""
    return str(Path(__file__).parent / "include")


def __getattr__(name: str) -> Any:
    """Import the consumer when it is first asked for: most commands do without numpy."""
    if name in ("Batch", "Book", "Consumer", "FeedState"):
        from feedhandler import consumer

        return getattr(consumer, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
