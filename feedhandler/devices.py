"""Network devices and their addresses, asked by what a service may that has no netlink."""

import array
import fcntl
import ipaddress
import socket
import struct
from pathlib import Path

_SIOCGIFCONF = 0x8912


def is_here(interface: str) -> bool:
    """Tell whether this machine has the device or address."""
    try:
        socket.if_nametoindex(interface)
    except OSError:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((str(ipaddress.IPv4Address(interface)), 0))
            except (OSError, ValueError):
                return False
    return True


def device_names() -> str:
    """Return the devices of this machine, as a list for people."""
    lines = Path("/proc/self/net/dev").read_text().splitlines()[2:]  # two lines of headings
    return ", ".join(line.partition(":")[0].strip() for line in lines)


def device_of(interface: str) -> str | None:
    """Return the name of the device meant by a name or by one of its addresses; None: there is none here."""
    if own := _own_name(interface):
        return own
    if found := _addresses().get(interface):
        return _own_name(found)
    try:
        is_loopback = ipaddress.IPv4Address(interface).is_loopback
    except ValueError:  # a device's name may begin with a digit too
        return None
    return _own_name("lo") if is_loopback else None


def address_of(device: str) -> str | None:
    """Return an IPv4 address of the device; None: it has none, or is none."""
    return next((address for address, name in _addresses().items() if name == device), None)


def _own_name(name: str) -> str | None:
    """Return the device's own name: an address may have a label ("eth0:1"), a device further names."""
    try:
        return socket.if_indextoname(socket.if_nametoindex(name))
    except OSError:
        return None


def _addresses() -> dict[str, str]:
    """Return the devices by their IPv4 addresses, also those that a device has beside its first one."""
    entry, room = struct.Struct("16s4x4s16x"), 64
    while True:
        buffer = array.array("B", bytes(room * entry.size))
        address, size = buffer.buffer_info()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            reply = fcntl.ioctl(any_socket, _SIOCGIFCONF, struct.pack("iP", size, address))
        used = struct.unpack("iP", reply)[0]
        if used < size:
            break
        room *= 2
    return {
        socket.inet_ntoa(ip): name.partition(b"\0")[0].decode()
        for name, ip in entry.iter_unpack(buffer.tobytes()[:used])
    }
