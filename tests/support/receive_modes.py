"""The receive modes as the tests run them: conformance and fault tests go through all entries of MODES."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Settings = Callable[[Sequence[str]], dict[str, Any]]
"""From the devices of the lines to the table [receive]."""

DELIVERED, NOWHERE = "delivered", "nowhere"
"""What becomes of a frame, if it is not the counter of `receive` that it is counted in.

NOWHERE: kept out before anybody counts.
"""


def _nothing() -> dict[str, str]:
    return {}


@dataclass(frozen=True)
class Mode:
    """One way to receive."""

    name: str
    settings: Settings
    small: Settings
    """With the smallest buffer that there is."""
    fate: Mapping[str, str]
    """What becomes of frames that are not plain datagrams of a line: see CASES."""
    environment: Callable[[], dict[str, str]] = field(default=_nothing)
    """Variables of the receiver's process."""
    exclusive: bool = False
    """One process has the device for itself; a second one is refused."""
    two_devices: bool = True
    capabilities: tuple[str, ...] = ()
    """All that it needs."""


CASES = (
    "other group",
    "other port",
    "unicast",
    "other sender",
    "fragment",
    "options",
    "vlan",
    "bad checksum",
)

SOCKET = Mode(
    "socket",
    lambda _: {"mode": "socket"},
    lambda _: {"mode": "socket"},
    dict.fromkeys(CASES, NOWHERE) | {"fragment": DELIVERED, "options": DELIVERED},
)
PACKET = Mode(
    "packet",
    lambda _: {"mode": "packet"},
    lambda _: {"mode": "packet", "packet": {"ring_mib": 1}},
    dict.fromkeys(CASES, NOWHERE)
    | {"fragment": "fragments", "options": DELIVERED, "vlan": "tagged", "bad checksum": "bad_checksums"},
    capabilities=("net_raw",),
)

MODES = [SOCKET, PACKET]
