"""A plain sender of datagrams to multicast groups."""

import itertools
import os
import socket
from collections.abc import Iterator

_ports = itertools.count(20000 + os.getpid() * 37 % 20000)


def free_ports(count: int) -> Iterator[int]:
    """Yield UDP ports that nobody has bound now; another process draws from elsewhere."""
    found = 0
    while found < count:
        port = next(_ports)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found += 1
        yield port


def free_port() -> int:
    """Return one of `free_ports`."""
    return next(free_ports(1))


class Sender:
    """Sends from one address; the groups' datagrams leave by that address's device."""

    def __init__(self, address: str = "127.0.0.1", port: int = 0) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, port))
        self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
        self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)

    def send(self, payload: bytes, group: str, port: int) -> None:
        """Send one datagram."""
        self.socket.sendto(payload, (group, port))

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()

    def __enter__(self) -> "Sender":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
