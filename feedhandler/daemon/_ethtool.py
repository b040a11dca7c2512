"""What a network device is set to, as `ethtool` shows it, by the same ioctls and no privilege."""

import struct
from typing import NamedTuple

from feedhandler.daemon._device_request import SIOCETHTOOL, device_request

# linux/ethtool.h: the commands, and how many 32-bit words their structures have
_GCOALESCE, _COALESCE_WORDS = 0x0E, 23
_GRINGPARAM, _RING_WORDS = 0x10, 9
_GFLAGS, _GGRO, _VALUE_WORDS = 0x25, 0x2B, 2
_FLAG_LRO = 1 << 15


class Ring(NamedTuple):
    """Receive descriptors: as set, and the most that the device takes."""

    size: int
    most: int


class Coalescing(NamedTuple):
    """How long, and for how many frames, an interrupt may wait; `adaptive`: the driver decides."""

    usecs: int
    frames: int
    adaptive: bool


class DeviceSettings(NamedTuple):
    """None: the driver does not say."""

    ring: Ring | None
    coalescing: Coalescing | None
    gro: bool | None
    lro: bool | None


def read_settings(device: str) -> DeviceSettings:
    """Ask the kernel about one device of this network namespace."""
    ring = _ask(device, _GRINGPARAM, _RING_WORDS)
    coalesce = _ask(device, _GCOALESCE, _COALESCE_WORDS)
    gro, flags = _ask(device, _GGRO, _VALUE_WORDS), _ask(device, _GFLAGS, _VALUE_WORDS)
    return DeviceSettings(
        Ring(size=ring[5], most=ring[1]) if ring else None,
        Coalescing(coalesce[1], coalesce[2], adaptive=bool(coalesce[10])) if coalesce else None,
        bool(gro[1]) if gro else None,
        bool(flags[1] & _FLAG_LRO) if flags else None,
    )


def _ask(device: str, command: int, words: int) -> tuple[int, ...] | None:
    """Return the words of the structure, `cmd` first."""
    request = bytearray(4 * words)
    struct.pack_into("I", request, 0, command)
    try:
        answer = device_request(device, SIOCETHTOOL, request)
    except OSError:
        return None
    return struct.unpack(f"{words}I", answer)
