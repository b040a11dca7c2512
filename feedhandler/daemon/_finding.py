"""What a look at the host has found."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One thing looked at. An error: the daemon or its journal cannot work; a warning: not well.

    `remedy`: what sets it right; `show`: the command that shows the same to people.
    """

    check: str
    status: Literal["ok", "warning", "error"]
    text: str
    remedy: str = ""
    show: str = ""


def ok(check: str, text: str, show: str = "") -> Finding:
    """Report that nothing is wrong."""
    return Finding(check, "ok", text, show=show)


def warning(check: str, text: str, remedy: str, show: str = "") -> Finding:
    """Report what costs speed or safety."""
    return Finding(check, "warning", text, remedy, show)


def error(check: str, text: str, remedy: str, show: str = "") -> Finding:
    """Report what keeps the daemon from working."""
    return Finding(check, "error", text, remedy, show)
