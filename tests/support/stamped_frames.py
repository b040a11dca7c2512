"""Frames that seem to come from a card with a clock: sent by a veth pair, with a hardware time as we like.

The kernel lets a test run of a traffic control program (BPF_PROG_TEST_RUN) say when the hardware took the
frame. The program here sends the frame on by a device, and the time stays with it on its way through the
pair: whatever receives at the other end finds it where a card's driver would have put it.
"""

import ctypes
import os
import socket
import struct

from tests.support.netns import inside

_SYS_BPF = 321  # x86-64
_PROG_LOAD, _PROG_TEST_RUN, _SCHED_CLS = 5, 10, 3
_CLONE_REDIRECT, _ADJUST_ROOM, _ROOM_MAC = 13, 50, 1
_SK_BUFF_BYTES, _HWTSTAMP_AT = 192, 184
_ROOM = 256
"""What lies between Ethernet and IP until the program takes it out: room before the frame. Without it the
kernel would copy the frame for XDP, and not its time."""


def _bpf(command: int, request: bytes) -> tuple[int, bytes]:
    buffer = ctypes.create_string_buffer(request.ljust(144, b"\0"))
    libc = ctypes.CDLL(None, use_errno=True)
    out = libc.syscall(_SYS_BPF, command, buffer, len(buffer.raw))
    if out < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return out, buffer.raw


def _instruction(code: int, to: int = 0, source: int = 0, value: int = 0) -> bytes:
    return struct.pack("=BBhi", code, to | source << 4, 0, value)


def _address(of: bytes) -> int:
    return ctypes.cast(ctypes.c_char_p(of), ctypes.c_void_p).value or 0


class StampedSender:
    """Sends IPv4 packets by one device of a namespace, with hardware times."""

    def __init__(self, namespace: str, device: str) -> None:
        self.namespace = namespace
        with inside(namespace):
            index = socket.if_nametoindex(device)
        move, move_register, call, leave = 0xB7, 0xBF, 0x85, 0x95
        code = b"".join(
            (
                _instruction(move_register, 6, 1),
                _instruction(move, 2, value=-_ROOM),
                _instruction(move, 3, value=_ROOM_MAC),
                _instruction(move, 4),
                _instruction(call, value=_ADJUST_ROOM),
                struct.pack("=BBhi", 0x55, 0, 4, 0),  # if r0 != 0 leave
                _instruction(move_register, 1, 6),
                _instruction(move, 2, value=index),
                _instruction(move, 3),
                _instruction(call, value=_CLONE_REDIRECT),
                _instruction(leave),
            )
        )
        licence = b"GPL"
        load = struct.pack("=IIQQ", _SCHED_CLS, len(code) // 8, _address(code), _address(licence))
        self.program, _ = _bpf(_PROG_LOAD, load)

    def send(self, ip: bytes, to: bytes, hardware_ns: int) -> None:
        """Send a packet to an Ethernet address; 0: without a time."""
        frame = to + b"\x02\0\0\0\0\x01" + b"\x08\x00" + bytes(_ROOM) + ip
        context = bytes(_HWTSTAMP_AT) + struct.pack("=Q", hardware_ns)
        run = struct.pack(
            *("=IIIIQQIIIIQ", self.program, 0, len(frame), 0, _address(frame), 0),
            *(1, 0, len(context), 0, _address(context)),
        )
        with inside(self.namespace):
            _, answer = _bpf(_PROG_TEST_RUN, run)
        (failed,) = struct.unpack_from("=i", answer, 4)
        assert failed == 0, os.strerror(-failed)

    def close(self) -> None:
        """Give the program back."""
        os.close(self.program)

    def __enter__(self) -> "StampedSender":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
