"""What tests of XDP programs do to a device."""

import array
import contextlib
import fcntl
import json
import socket
import struct
import subprocess
from pathlib import Path
from typing import Any

from feedhandler import _core
from tests.support.netns import Veth, inside

_SIOCETHTOOL, _SET_CHANNELS = 0x8946, 0x3D

BTF = Path("/sys/kernel/btf/vmlinux")
TIME_FUNCTION = "bpf_xdp_metadata_rx_timestamp"
DRIVER_TIMES = BTF.exists() and _core.btf_function(BTF.read_bytes(), TIME_FUNCTION) > 0
"""Whether this kernel lets a filter ask a driver for its times: Linux 6.3, with BTF."""


def set_two_queues(pair: Veth) -> None:
    """Let both ends receive and send by two queues."""
    for namespace, device in (
        (pair.receiver, pair.receiver_device),
        (pair.sender, pair.sender_device),
    ):
        request = array.array("B", struct.pack("9I", _SET_CHANNELS, 0, 0, 0, 0, 2, 2, 0, 0))
        ask = struct.pack("16sP16x", device.encode(), request.buffer_info()[0])
        with inside(namespace), socket.socket() as any_socket:
            fcntl.ioctl(any_socket, _SIOCETHTOOL, ask)


def program_on(pair: Veth) -> dict[str, Any]:
    """Return what the kernel says of the XDP program on the receiver's device; {}: there is none."""
    command = ["ip", "-n", pair.receiver, "-j", "link", "show", "dev", pair.receiver_device]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    [found] = json.loads(text)
    return dict(found.get("xdp", {}))


def take_program_off(pair: Veth) -> None:
    """Leave no XDP program on the receiver's device."""
    command = ["ip", "-n", pair.receiver, "link", "set", pair.receiver_device, "xdp", "off"]
    subprocess.run(command, check=True, timeout=30)


def leave_program(pair: Veth) -> None:
    """Attach one without a link, as DPDK and libxdp do, and forget it: it stays."""
    before = _programs_open()
    unattached = _core.XdpFilter([], 1792)
    [fd] = _programs_open() - before
    with inside(pair.receiver), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as netlink:
        index = socket.if_nametoindex(pair.receiver_device)
        nested, xdp, xdp_fd, set_link, acknowledge = 0x8000, 43, 1, 19, 5
        attribute = struct.pack("=HHHHI", 12, nested | xdp, 8, xdp_fd, fd)
        link = struct.pack("=BxHiII", 0, 0, index, 0, 0) + attribute
        netlink.send(struct.pack("=IHHII", 16 + len(link), set_link, acknowledge, 1, 0) + link)
        assert struct.unpack_from("=i", netlink.recv(4096), 16) == (0,)
    del unattached


def _programs_open() -> set[int]:
    """Return the descriptors of this process that are programs."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of the list itself
            if str(entry.readlink()) == "anon_inode:bpf-prog":
                found.add(int(entry.name))
    return found
