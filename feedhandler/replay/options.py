"""What a replay is told: the options of the command, checked."""

import ipaddress
import math
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from feedhandler.errors import UsageError

SCHEMAS = (
    "mbo",
    "mbp-1",
    "mbp-10",
    "trades",
    "status",
    "imbalance",
    "definition",
)  # the order of their bits in the core
DEFAULT_SCHEMAS = ("mbp-1", "trades", "status", "imbalance")
MAX_SEED = 2**64 - 1

Group = tuple[str, int]


@dataclass(frozen=True)
class Faults:
    """Faults of every line, per packet: probabilities, and the mean length of a burst of losses."""

    drop: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    corrupt: float = 0.0
    drop_burst: float = 1.0

    def __post_init__(self) -> None:
        for name in ("drop", "duplicate", "reorder", "corrupt"):
            check_probability(f"--{name}", getattr(self, name))
        if not (math.isfinite(self.drop_burst) and self.drop_burst >= 1):
            raise UsageError(f"--drop-burst: {self.drop_burst:g} is not a mean length in packets, at least 1")


@dataclass(frozen=True)
class ReplayOptions:
    """All that decides what a replay gives; the same options, file and seed give the same bytes."""

    groups: tuple[Group, ...] = ()  # of a capture, line A first; empty: all multicast MoldUDP64
    lines: int = 2  # 0: as many as the file has groups
    faults: Faults = field(default_factory=Faults)
    drop_rewind: float = 0.0  # probability for a request, and for a reply
    rewind: bool = True
    snapshot: bool = False
    seed: int = 0
    symbols: tuple[str, ...] = ()  # empty: all
    trading_day: date | None = None  # None: the capture's
    schemas: tuple[str, ...] = DEFAULT_SCHEMAS

    def __post_init__(self) -> None:
        check_probability("--drop-rewind", self.drop_rewind)
        if self.lines not in (0, 1, 2):
            raise UsageError(f"--lines: {self.lines} is not 1 or 2")
        if not 0 <= self.seed <= MAX_SEED:
            raise UsageError(f"--seed: {self.seed} is not an integer from 0 to 2^64 - 1")
        for schema in self.schemas:
            if schema not in SCHEMAS:
                raise UsageError(f'--schema: "{schema}" is not one of {", ".join(SCHEMAS)}')
        if len(set(self.groups)) < len(self.groups):
            raise UsageError(
                "--group: the same group twice; each line has its own (--lines 2 offers one group twice)"
            )


def check_probability(option: str, value: float) -> None:
    """Raise UsageError unless `value` is a probability."""
    if not 0 <= value <= 1:
        raise UsageError(f"{option}: {value:g} is not a probability from 0 to 1")


def parse_endpoint(option: str, text: str) -> Group:
    """Return (address, port) of ADDRESS:PORT; UsageError names the option."""
    address, colon, port = text.rpartition(":")
    try:
        parsed = ipaddress.IPv4Address(address)
    except ValueError:
        parsed = None
    if not colon or parsed is None or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise UsageError(
            f'{option}: "{text}" is not ADDRESS:PORT with an IPv4 address and a port from 1 to 65535'
        )
    return str(parsed), int(port)


def parse_group(option: str, text: str) -> Group:
    """Return (group, port) of GROUP:PORT; UsageError names the option."""
    group, port = parse_endpoint(option, text)
    if not ipaddress.IPv4Address(group).is_multicast:
        raise UsageError(
            f'{option}: "{text}": {group} is not an IPv4 multicast address (224.0.0.0 to 239.255.255.255)'
        )
    return group, port


def parse_day(option: str, text: str) -> date:
    """Return the trading day of YYYY-MM-DD; years that nanoseconds in 64 bits hold."""
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError:
        raise UsageError(f'{option}: "{text}" is not a date as YYYY-MM-DD') from None
    if not 1970 <= day.year <= 2261:
        raise UsageError(f'{option}: "{text}": the year is not from 1970 to 2261')
    return day


def parse_symbols(option: str, text: str) -> tuple[str, ...]:
    """Return the symbols of A,B,C: each 1 to 8 printable characters, spaces around them cut."""
    symbols = tuple(part.strip() for part in text.split(","))
    for symbol in symbols:
        if not 1 <= len(symbol) <= 8 or not symbol.isascii() or not symbol.isprintable() or " " in symbol:
            raise UsageError(
                f'{option}: "{text}": "{symbol}" is not a symbol of 1 to 8 characters; use A,B,C'
            )
    return tuple(dict.fromkeys(symbols))
