"""The daemon's log: one JSON object a line on stderr; readable lines when stderr is a terminal."""

import sys
from contextlib import suppress
from typing import TextIO, cast

import structlog


class _Losing:
    """A stream that loses what cannot be written: a full disk behind the log ends no feed."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


def open_log(channel: str) -> structlog.typing.FilteringBoundLogger:
    """Return the log of a channel; every entry carries its name."""
    terminal = sys.stderr.isatty()
    renderer = structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Losing(sys.stderr))),
    )
    log: structlog.typing.FilteringBoundLogger = structlog.get_logger(channel=channel)
    return log
