"""Two network namespaces joined by a veth pair, for tests that are root; gone when the block is left."""

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


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


def add_link(pair: Veth) -> Veth:
    """Join the namespaces of `pair` by one more veth pair; return its names and addresses."""
    more = Veth(pair.sender, pair.receiver, "198.19.0.1", "198.19.0.2", "vS2", "vR2")
    _ip(
        *("link", "add", more.sender_device, "netns", more.sender),
        *("type", "veth", "peer", "name", more.receiver_device, "netns", more.receiver),
    )
    for namespace, device, address in (
        (more.sender, more.sender_device, more.sender_address),
        (more.receiver, more.receiver_device, more.receiver_address),
    ):
        _ip("-n", namespace, "addr", "add", f"{address}/24", "dev", device)
        _ip("-n", namespace, "link", "set", device, "up")
    return more


def without_ipv6(namespace: str) -> None:
    """Keep IPv6 from sending anything by itself: some tests count every frame."""
    for scope in ("all", "default"):
        command = ["sysctl", "-qw", f"net.ipv6.conf.{scope}.disable_ipv6=1"]
        subprocess.run([*Veth.inside(namespace), *command], check=True, capture_output=True, timeout=30)


@contextlib.contextmanager
def two_receivers(tag: str) -> Iterator[tuple[Veth, Veth]]:
    """Make a sender's namespace and two receivers', all on one bridge: two hosts that take the same lines."""
    with receivers_on_bridge(tag, 2) as (first, second):
        yield first, second


SNOOPING = "mcast_snooping 1 mcast_query_interval 100 mcast_query_response_interval 50 "
SNOOPING += "mcast_membership_interval 260 mcast_startup_query_interval 25"
"""In 10 ms: who has joined is asked every second, and forgotten 2.6 s after the last answer."""


@contextlib.contextmanager
def receivers_on_bridge(tag: str, count: int, *, snooping: bool = False) -> Iterator[list[Veth]]:
    """Make a sender's namespace with a bridge, and `count` receivers' on its ports.

    With `snooping` the bridge sends a group only where it was joined, as switches do; without it everywhere.
    """
    name = f"fh{os.getpid()}{tag}"
    sender = f"{name}S"
    pairs = [
        Veth(sender, f"{name}{i}", "198.18.0.1", f"198.18.0.{i + 1}", f"vS{i}", "vR")
        for i in range(1, count + 1)
    ]
    try:
        _ip("netns", "add", sender)
        how = SNOOPING if snooping else "mcast_snooping 0"  # without a querier it would forget who has joined
        _ip("-n", sender, "link", "add", "br0", "type", "bridge", *how.split())
        _ip("-n", sender, "addr", "add", "198.18.0.1/24", "dev", "br0")
        if snooping:  # afterwards: a querier floods for as long as answers took when it began
            _ip("-n", sender, "link", "set", "br0", "type", "bridge", "mcast_querier", "1")
        for device in ("lo", "br0"):
            _ip("-n", sender, "link", "set", device, "up")
        _ip("-n", sender, "route", "add", "239.0.0.0/8", "dev", "br0")
        for pair in pairs:
            _ip("netns", "add", pair.receiver)
            _ip(
                *("link", "add", pair.sender_device, "netns", sender),
                *("type", "veth", "peer", "name", pair.receiver_device, "netns", pair.receiver),
            )
            _ip("-n", sender, "link", "set", pair.sender_device, "master", "br0", "up")
            _ip(
                *("-n", pair.receiver, "addr", "add", f"{pair.receiver_address}/24"),
                *("dev", pair.receiver_device),
            )
            for device in ("lo", pair.receiver_device):
                _ip("-n", pair.receiver, "link", "set", device, "up")
            _ip("-n", pair.receiver, "route", "add", "239.0.0.0/8", "dev", pair.receiver_device)
        yield pairs
    finally:
        for namespace in (sender, *(pair.receiver for pair in pairs)):
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True, timeout=30)


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Put this thread into a network namespace: sockets made here stay there."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open() as home, Path("/run/netns", namespace).open() as there:
        if libc.setns(there.fileno(), 0x40000000):
            raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
        try:
            yield
        finally:
            libc.setns(home.fileno(), 0x40000000)
