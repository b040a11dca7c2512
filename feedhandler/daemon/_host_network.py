"""The network side of `feedhandler check`: interfaces, groups, buffers, ports. Joins for a moment only."""

import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from feedhandler import _core
from feedhandler.config import Config, Line
from feedhandler.daemon._dpdk import refusal
from feedhandler.daemon._finding import Finding, error, ok, warning
from feedhandler.devices import address_of, device_names, device_of

WANTED_BUFFER = 64 << 20
"""Bytes asked for per line, as in core/receive/multicast.hpp. The kernel reports twice what it grants."""

_REMEDIES = {
    "receive.packet.ring_mib": "a smaller one",
    "receive.xdp.attach": 'attach = "auto", or a smaller MTU',
    "receive.xdp.zero_copy": 'zero_copy = "auto"',
    "receive.xdp.queues": "queues = []: all that the device has; ethtool -l shows them",
    "receive.dpdk.memory_mib": "a larger one",
    "receive.dpdk.ports": "name a device of this host with arguments that its driver knows",
    "EAL does not start": "correct receive.dpdk.eal; huge pages are needed with receive.dpdk.huge_pages",
    "has a socket of another process": "stop that one: a queue has one socket of AF_XDP",
    "CAP_": "systemd/mode-{mode}.conf gives the unit what this mode needs",
    "not permitted": "systemd/mode-{mode}.conf gives the unit what this mode needs",
}
"""By what is said when sources cannot be opened: the first that is in it."""

_SIOCGIFFLAGS = 0x8913
_IFF_UP, _IFF_LOOPBACK, _IFF_RUNNING, _IFF_MULTICAST = 0x1, 0x8, 0x40, 0x1000


def look(config: Config) -> Iterator[Finding]:
    """Yield what the network lacks for this configuration."""
    devices = [device_of(line.interface) for line in config.line]
    for index, (line, device) in enumerate(zip(config.line, devices, strict=True)):
        yield from _line(f"line[{index}]", line, device, config)
    if config.receive.mode not in ("socket", "onload") and None not in devices:
        yield _mode(config)
    if config.metrics.listen:
        host, _, port = config.metrics.listen.rpartition(":")
        yield _port("metrics.listen", host, int(port), "the feed runs without metrics until the port is free")
    if config.publish.zmq:
        yield _zmq("publish.zmq.endpoint", config.publish.zmq.endpoint)
        if config.publish.zmq.snapshot_endpoint:
            yield _zmq("publish.zmq.snapshot_endpoint", config.publish.zmq.snapshot_endpoint)


def _ioctl(device: str, request: int) -> bytes | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            return fcntl.ioctl(any_socket, request, struct.pack("16s16x8x", device.encode()))
        except OSError:
            return None


def _line(key: str, line: Line, device: str | None, config: Config) -> Iterator[Finding]:
    if device is None:
        yield error(
            f"{key}.interface",
            f'"{line.interface}" is no device or address of this machine',
            f"use one of: {device_names()}",
        )
        return
    reply = _ioctl(device, _SIOCGIFFLAGS)
    flags = struct.unpack_from("H", reply, 16)[0] if reply else 0
    show = f"ip link show {device}"
    if not flags & _IFF_UP:
        yield error(f"{key}.interface", f"{device} is down", f"ip link set {device} up", show)
        return
    if not flags & _IFF_RUNNING:
        yield warning(
            f"{key}.interface", f"{device} has no carrier", "check cable, optic and switch port", show
        )
    if not flags & (_IFF_MULTICAST | _IFF_LOOPBACK):
        remedy = f"ip link set {device} multicast on"
        yield warning(f"{key}.interface", f"{device} is not set to multicast", remedy, show)
    yield from _join(key, line, device, config)
    if config.receive.mode == "socket" and not flags & _IFF_LOOPBACK:
        yield from _reverse_path(key, device)


def line_settings(line: Line) -> _core.LineSettings:
    """Return the line as the core wants it."""
    return _core.LineSettings(line.name, line.group, line.port, line.interface, line.source)


def _mode(config: Config) -> Finding:
    mode = config.receive.mode
    if lacking := refusal(config):
        return error(*lacking, "docs/receive-modes.md says what the mode needs")
    try:
        source = _core.Source([line_settings(line) for line in config.line], config.receive.model_dump())
    except RuntimeError as failure:
        remedies = (remedy for words, remedy in _REMEDIES.items() if words in str(failure))
        remedy = next(remedies, "docs/receive-modes.md says what the mode needs")
        return error("receive.mode", str(failure), remedy.format(mode=mode))
    granted = source.stats(0)
    parts = [f"{mode} can be had", granted.get("attached", "")]
    if granted["buffer_bytes"]:
        parts.append(f"{granted['buffer_bytes'] >> 20} MiB a device")
    return ok("receive.mode", ", ".join(filter(None, parts)))


def _join(key: str, line: Line, device: str, config: Config) -> Iterator[Finding]:
    try:
        granted = _core.Source([line_settings(line)], {"spin": config.receive.spin}).stats(0)
    except RuntimeError as failure:
        yield error(f"{key}.group", str(failure), "check interface, source and net.ipv4.igmp_max_memberships")
        return
    yield ok(f"{key}.group", f"{line.group}:{line.port} can be joined on {device}")
    if config.receive.mode not in ("socket", "onload"):
        return  # nothing is queued at a socket there
    size = granted["buffer_bytes"]
    if size >= 2 * WANTED_BUFFER:
        yield ok(f"{key}.buffer", f"receive buffer of {size >> 20} MiB")
    else:
        yield warning(
            f"{key}.buffer",
            f"receive buffer of {size >> 20} MiB, {2 * WANTED_BUFFER >> 20} wanted: bursts may be lost",
            f"sysctl -w net.core.rmem_max={WANTED_BUFFER}, or give CAP_NET_ADMIN",
            "sysctl net.core.rmem_max",
        )


def _reverse_path(key: str, device: str) -> Iterator[Finding]:
    base = Path("/proc/sys/net/ipv4/conf")
    try:
        strict = max(int((base / name / "rp_filter").read_text()) for name in ("all", device)) == 1
    except (OSError, ValueError):
        return
    if strict:
        yield warning(
            f"{key}.rp_filter",
            f"{device} drops datagrams whose sender it would not route back to",
            f"route the sources by {device}, or sysctl -w net.ipv4.conf.{device}.rp_filter=2",
            f"sysctl net.ipv4.conf.all.rp_filter net.ipv4.conf.{device}.rp_filter",
        )


def _zmq(key: str, endpoint: str) -> Finding:
    kind, _, rest = endpoint.partition("://")
    if kind == "tcp":
        host, _, port = rest.rpartition(":")
        return _port(key, host, int(port), "nothing is published by ZeroMQ until the port is free")
    folder = Path(rest).parent
    if rest.startswith("@") or os.access(folder, os.W_OK | os.X_OK):
        return ok(key, f"{rest} can be made")
    text = f"{folder} is no folder that this user may write: nothing is published by ZeroMQ until it is"
    return warning(key, text, "make it, or choose another path", f"ls -ld {folder}")


def _port(key: str, host: str, port: int, consequence: str) -> Finding:
    address = "0.0.0.0" if host == "*" else address_of(host) or host  # noqa: S104  as the user configured it
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as failure:
            text = f"{host}:{port} cannot be listened on ({(failure.strerror or '').lower()}): {consequence}"
            remedy = "choose another address or port, or stop what listens there"
            return warning(key, text, remedy, f"ss -ltnp sport = :{port}")
    return ok(key, f"{host}:{port} is free")
