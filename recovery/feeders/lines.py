"""The live lines: multicast sockets whose packets go into the store.

The first copy of each message winning.
"""

import contextlib
import fcntl
import socket
import struct
import time

from feedhandler.config import Line
from feedhandler.errors import RunError
from recovery.feeders.session import SessionFeeder

_IP_MULTICAST_ALL = 49  # linux/in.h; 0: only groups this socket joined
_IP_ADD_SOURCE_MEMBERSHIP = 39
_SIOCGIFADDR = 0x8915
_RECEIVE_BUFFER = 32 << 20
_BATCH = 256  # datagrams in one turn of the loop


class LineSocket:
    """One line's socket, joined to its group. `index` names the line in errors, as the file does."""

    def __init__(self, line: Line, index: int, feeder: SessionFeeder) -> None:
        self.name = line.name
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._feeder = feeder
        self._buffer = bytearray(65536)
        self._view = memoryview(self._buffer)
        try:
            self._join(line)
        except OSError as error:
            self.socket.close()
            place = f'line[{index}]: "{line.group}:{line.port}" on "{line.interface}"'
            raise RunError(f"{place}: cannot be joined: {error.strerror or error}") from error

    def _join(self, line: Line) -> None:
        sock = self.socket
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        with contextlib.suppress(OSError):  # beyond net.core.rmem_max with CAP_NET_ADMIN only
            sock.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_RCVBUFFORCE", 33), _RECEIVE_BUFFER)
        sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        sock.bind((line.group, line.port))
        group = socket.inet_aton(line.group)
        interface = interface_address(sock, line.interface)
        if line.source:
            request = group + interface + socket.inet_aton(line.source)
            sock.setsockopt(socket.IPPROTO_IP, _IP_ADD_SOURCE_MEMBERSHIP, request)
        else:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group + interface)

    def receive_pending(self) -> None:
        """Feed what lies in the socket, at most one batch."""
        receive, feed, buffer, view = self.socket.recv_into, self._feeder.on_packet, self._buffer, self._view
        with contextlib.suppress(BlockingIOError):
            for _ in range(_BATCH):
                length = receive(buffer)
                feed(bytes(view[:length]), time.time_ns())

    def close(self) -> None:
        """Leave the group."""
        self.socket.close()


def interface_address(sock: socket.socket, interface: str) -> bytes:
    """Return the IPv4 address, 4 bytes, of an interface given by address or device name."""
    with contextlib.suppress(OSError):
        return socket.inet_aton(interface)
    request = struct.pack("256s", interface.encode())
    return fcntl.ioctl(sock.fileno(), _SIOCGIFADDR, request)[20:24]
