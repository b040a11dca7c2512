"""What `feedhandler simulate` is told, checked."""

import ipaddress
import math
from dataclasses import dataclass, field

from feedhandler import _core
from feedhandler.errors import UsageError

FAULTS = ("drop", "drop_burst", "duplicate", "reorder", "corrupt")
MOST_SYMBOLS = 65_534
_SESSION_CHARACTERS = 10


@dataclass(frozen=True)
class Line:
    """A multicast group that the exchange sends on, with the faults of the line."""

    name: str
    group: str
    port: int
    faults: dict[str, float] = field(default_factory=dict)


def parse_lines(text: str) -> list[Line]:
    """Read `A=GROUP:PORT,B=GROUP:PORT`: one to eight lines."""
    lines = []
    for part in text.split(","):
        name, equals, endpoint = part.strip().partition("=")
        if not equals or not name:
            raise UsageError(f'--send: "{part}" is not NAME=GROUP:PORT')
        group, port = parse_endpoint("--send", endpoint)
        if not ipaddress.IPv4Address(group).is_multicast:
            raise UsageError(
                f'--send: "{group}" is not an IPv4 multicast address (224.0.0.0 to 239.255.255.255)'
            )
        lines.append(Line(name, group, port))
    if len({line.name for line in lines}) < len(lines):
        raise UsageError(f'--send: "{text}" names a line twice')
    if len(lines) > 8:
        raise UsageError(f"--send: {len(lines)} lines, at most 8")
    return lines


def parse_endpoint(option: str, text: str) -> tuple[str, int]:
    """Read `ADDRESS:PORT` with an IPv4 address; UsageError names the option."""
    address, colon, port = text.rpartition(":")
    try:
        ipaddress.IPv4Address(address)
    except ValueError:
        colon = ""
    if not (colon and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise UsageError(
            f'{option}: "{text}" is not ADDRESS:PORT with an IPv4 address and a port from 1 to 65535'
        )
    return address, int(port)


def with_faults(lines: list[Line], values: dict[str, str]) -> list[Line]:
    """Give each line its faults: a value is for all lines, or `A=0.1,B=0.02` (the others: none)."""
    faults: dict[str, dict[str, float]] = {line.name: {} for line in lines}
    for name, text in values.items():
        option = "--" + name.replace("_", "-")
        for line_name, value in _per_line(option, text, list(faults)).items():
            faults[line_name][name] = _checked(option, value)
    return [Line(line.name, line.group, line.port, faults[line.name]) for line in lines]


def _per_line(option: str, text: str, names: list[str]) -> dict[str, str]:
    if "=" not in text:
        return dict.fromkeys(names, text)
    values = {}
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        if name not in names:
            raise UsageError(f'{option}: "{part}": no line is named "{name}": {", ".join(names)}')
        values[name] = value
    return values


def _checked(option: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if option == "--drop-burst":
        if not 1 <= value < math.inf:
            raise UsageError(f'{option}: "{text}" is not a mean length in packets, at least 1')
    elif not 0 <= value <= 1:
        raise UsageError(f'{option}: "{text}" is not a probability from 0 to 1')
    return value


def checked_session(text: str) -> str:
    """Return the session padded to the ten characters that MoldUDP64 compares."""
    if not 1 <= len(text) <= _SESSION_CHARACTERS or not (text.isascii() and text.isprintable()):
        raise UsageError(f'--session: "{text}" is not 1 to 10 printable ASCII characters')
    return text.ljust(_SESSION_CHARACTERS)


def checked_symbols(messages: int, symbols: int | None) -> int:
    """Return the number of symbols; by default as many as suit the day (messages 0: a day without end)."""
    if symbols is None:
        return max(1, min(8000, messages // 200)) if messages else 1000
    least = _core.Exchange.least_messages(symbols)
    if messages and messages < least:
        raise UsageError(f"--messages: {messages} is too few for {symbols} symbols: at least {least}")
    return symbols
