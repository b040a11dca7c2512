"""The daemon's log: one JSON object a line on stderr; readable lines when stderr is a terminal."""

import sys

import structlog


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
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    log: structlog.typing.FilteringBoundLogger = structlog.get_logger(channel=channel)
    return log
