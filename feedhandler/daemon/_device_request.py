"""Requests to the driver of a network device."""

import array
import fcntl
import socket
import struct

SIOCETHTOOL = 0x8946


def device_request(device: str, request: int, data: bytearray) -> bytes:
    """Send `data` to the device's driver and return what it makes of it; OSError when it refuses."""
    buffer = array.array("B", data)
    address, _ = buffer.buffer_info()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, request, struct.pack("16sP16x", device.encode(), address))
    return buffer.tobytes()
