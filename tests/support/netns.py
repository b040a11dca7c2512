"""Two network namespaces joined by a veth pair, for tests that are root; gone when the block is left."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Veth:
    """Names and addresses of both ends."""

    sender: str
    receiver: str
    sender_address: str = "198.18.0.1"
    receiver_address: str = "198.18.0.2"
    sender_device: str = "vS"
    receiver_device: str = "vR"

    @staticmethod
    def inside(namespace: str) -> list[str]:
        """Return the words to put before a command so that it runs in the namespace."""
        return ["ip", "netns", "exec", namespace]


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=30)


@contextlib.contextmanager
def veth_pair(tag: str) -> Iterator[Veth]:
    """Make both namespaces, with a route for multicast; `tag` and the process id make the names unique."""
    name = f"fh{os.getpid()}{tag}"
    pair = Veth(f"{name}S", f"{name}R")
    try:
        _ip("netns", "add", pair.sender)
        _ip("netns", "add", pair.receiver)
        _ip(
            *("link", "add", pair.sender_device, "netns", pair.sender),
            *("type", "veth", "peer", "name", pair.receiver_device, "netns", pair.receiver),
        )
        for namespace, device, address in (
            (pair.sender, pair.sender_device, pair.sender_address),
            (pair.receiver, pair.receiver_device, pair.receiver_address),
        ):
            _ip("-n", namespace, "addr", "add", f"{address}/24", "dev", device)
            _ip("-n", namespace, "link", "set", device, "up")
            _ip("-n", namespace, "link", "set", "lo", "up")
            _ip("-n", namespace, "route", "add", "239.0.0.0/8", "dev", device)
        yield pair
    finally:
        for namespace in (pair.sender, pair.receiver):
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True, timeout=30)
