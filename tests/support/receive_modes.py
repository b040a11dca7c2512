"""The receive modes as the tests run them: conformance and fault tests go through all entries of MODES."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tests.support.onload import preloaded
from tests.support.xdp import DRIVER_TIMES

Settings = Callable[[Sequence[str]], dict[str, Any]]
"""From the devices of the lines to the table [receive]."""

DELIVERED, NOWHERE = "delivered", "nowhere"
"""What becomes of a frame, if it is not the counter of `receive` that it is counted in.

NOWHERE: kept out before anybody counts.
"""


def as_toml(settings: Mapping[str, Any]) -> str:
    """Return the settings as they stand below `[receive]` in a configuration."""
    lines = [f"{key} = {_toml(value)}" for key, value in settings.items() if not isinstance(value, dict)]
    for name, table in settings.items():
        if isinstance(table, dict):
            lines += [f"[receive.{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if not isinstance(value, dict):
        return json.dumps(value)
    return "{" + ", ".join(f"{json.dumps(key)} = {_toml(inner)}" for key, inner in value.items()) + "}"


def _nothing() -> dict[str, str]:
    return {}


@dataclass(frozen=True)
class Mode:
    """One way to receive."""

    name: str
    settings: Settings
    fate: Mapping[str, str]
    """What becomes of frames that are not plain datagrams of a line, by CASES: see above.

    A sum such as "delivered+by_kernel": both.
    """
    small: Settings
    """With the smallest buffer that there is, at most 16,000 datagrams."""
    large: Settings
    """With room for `large_room` datagrams."""
    large_room: int = 20_000
    small_prefix: tuple[str, ...] = ()
    """Words before the command that make the buffer small."""
    environment: Callable[[], dict[str, str]] = field(default=_nothing)
    """Variables of the receiver's process."""
    past_kernel: bool = True
    """Frames are taken before the kernel's IP stack: drops are the device's."""
    time_kind: str = "kernel"
    granted: Mapping[str, Any] = field(default_factory=dict)
    """What `stats` says that it got."""
    refused: str = ""
    """What a second process on the device is told, as a regular expression; empty: it is not refused."""
    left_behind: str = ""
    """What a process is told after another one was killed on the device; empty: nothing is left there."""
    clean: Settings | None = None
    """Settings that remove what was left behind."""
    capabilities: tuple[str, ...] = ()
    """All that it needs."""
    kept: tuple[str, ...] = ()
    """Those that it needs to the end."""

    @property
    def setting(self) -> str:
        """`receive.mode`; several modes here may be one there."""
        return str(self.settings(["lo"])["mode"])


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
    settings=lambda _: {"mode": "socket"},
    fate=dict.fromkeys(CASES, NOWHERE) | {"fragment": DELIVERED, "options": DELIVERED},
    small=lambda _: {"mode": "socket"},
    large=lambda _: {"mode": "socket"},
    # Then it is what net.core.rmem_max allows.
    small_prefix=("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"),
    past_kernel=False,
)
PACKET = Mode(
    "packet",
    settings=lambda _: {"mode": "packet"},
    fate=dict.fromkeys(CASES, NOWHERE)
    | {"fragment": "fragments", "options": DELIVERED, "vlan": "tagged", "bad checksum": "bad_checksums"},
    small=lambda _: {"mode": "packet", "packet": {"ring_mib": 1}},
    large=lambda _: {"mode": "packet", "packet": {"ring_mib": 64}},
    capabilities=("net_raw",),
)

XDP = Mode(
    "xdp",
    settings=lambda _: {"mode": "xdp"},
    fate=dict.fromkeys(CASES, NOWHERE)
    | dict.fromkeys(("fragment", "options"), "delivered+by_kernel")
    | {"other sender": "other_traffic", "bad checksum": "bad_checksums"},
    small=lambda _: {"mode": "xdp", "xdp": {"frames": 64}},
    large=lambda _: {"mode": "xdp", "xdp": {"frames": 32768}},
    granted={"attached": "native", "frame_times": "driver" if DRIVER_TIMES else "kernel"},
    refused=r'XDP program \d+ "fh_lines" of process \d+ \(.+\) is there already: a device has one program',
    capabilities=("net_raw", "net_admin", "bpf"),
)


def _generic(settings: Settings) -> Settings:
    def made(devices: Sequence[str]) -> dict[str, Any]:
        table = settings(devices)
        return table | {"xdp": table.get("xdp", {}) | {"attach": "generic"}}

    return made


XDP_GENERIC = replace(
    XDP,
    name="xdp-generic",
    settings=_generic(XDP.settings),
    small=_generic(XDP.small),
    large=_generic(XDP.large),
    granted={"attached": "generic", "frame_times": "kernel"},
)

ONLOAD = Mode(
    "onload",
    settings=lambda _: {"mode": "onload", "onload": {"zero_copy": True}},
    fate={**SOCKET.fate, "other sender": "other_traffic"},
    small=lambda _: {"mode": "onload", "onload": {"zero_copy": True}},
    large=lambda _: {"mode": "onload", "onload": {"zero_copy": True}},
    # The stand-in brings what sockets of the kernel bring.
    environment=preloaded,
    small_prefix=SOCKET.small_prefix,
    past_kernel=False,
    time_kind="user",
    granted={"accelerated": True, "zero_copy": True},
)

ONLOAD_COPIES = replace(
    ONLOAD,
    name="onload-copies",
    settings=lambda _: {"mode": "onload"},
    small=lambda _: {"mode": "onload"},
    large=lambda _: {"mode": "onload"},
    granted={"accelerated": True, "zero_copy": False},
)


def _dpdk(driver: str, options: str = "", **settings: Any) -> Settings:
    """Return settings with a virtual device of DPDK over each of the lines' devices."""

    def of(devices: Sequence[str]) -> dict[str, Any]:
        ports = {device: f"{driver}{number},iface={device}{options}" for number, device in enumerate(devices)}
        return {"mode": "dpdk", "dpdk": {"ports": ports, **settings}}

    return of


DPDK_PACKET = Mode(
    "dpdk-packet",
    settings=_dpdk("net_af_packet", rx_descriptors=1024),
    # Its driver has the kernel put fragments together.
    fate=PACKET.fate | {"fragment": DELIVERED},
    small=_dpdk("net_af_packet", ",blocksz=4096,framesz=2048,framecnt=512"),
    large=_dpdk("net_af_packet", ",blocksz=4096,framesz=2048,framecnt=32768"),
    time_kind="none",
    capabilities=("net_raw", "net_admin"),
)

DPDK_XDP = Mode(
    "dpdk-xdp",
    settings=_dpdk("net_af_xdp"),
    # Its filter is ours; what it leaves to the kernel finds no socket there.
    fate=dict.fromkeys(CASES, NOWHERE)
    | {
        "fragment": "fragments",
        "options": DELIVERED,
        "other sender": "other_traffic",
        "bad checksum": "bad_checksums",
    },
    small=_dpdk("net_af_xdp", rx_descriptors=512),
    large=_dpdk("net_af_xdp", rx_descriptors=32768),
    # The driver hands 2,048 frames to the kernel, however many descriptors there are.
    large_room=2000,
    time_kind="none",
    refused=r'XDP program \d+ "fh_dpdk_lines" of process \d+ \(.+\) is there already',
    left_behind=r'XDP program \d+ "fh_dpdk_lines" is there already, left behind by a feedhandler that was',
    clean=_dpdk("net_af_xdp", remove_leftover=True),
    capabilities=("net_raw", "net_admin", "bpf"),
    kept=("net_admin",),
)

MODES = [SOCKET, PACKET, XDP, XDP_GENERIC, ONLOAD, ONLOAD_COPIES, DPDK_PACKET, DPDK_XDP]
