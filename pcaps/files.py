"""Capture files as bytes, from (time in ns, frame).

Written here so that they do not change with a library's version.
"""

import struct

LINKTYPE_ETHERNET = 1
Frame = tuple[int, bytes]


def pcap(
    frames: list[Frame], *, nanoseconds: bool = True, linktype: int = LINKTYPE_ETHERNET, order: str = "<"
) -> bytes:
    """A pcap file, in byte order `order` ("<" or ">")."""
    magic, unit = (0xA1B23C4D, 1) if nanoseconds else (0xA1B2C3D4, 1000)
    out = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, linktype)]
    for time, frame in frames:
        seconds, rest = divmod(time, 1_000_000_000)
        out.append(struct.pack(order + "IIII", seconds, rest // unit, len(frame), len(frame)) + frame)
    return b"".join(out)


def pcapng(frames: list[Frame], *, nanoseconds: bool = True, linktype: int = LINKTYPE_ETHERNET) -> bytes:
    """A pcapng file: section header, one interface, enhanced packets."""
    unit = 1 if nanoseconds else 1000  # without the option if_tsresol, times are in microseconds
    options = struct.pack("<HHB3xHH", 9, 1, 9, 0, 0) if nanoseconds else b""
    out = [
        _block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)),
        _block(1, struct.pack("<HHI", linktype, 0, 0) + options),
    ]
    for time, frame in frames:
        ticks = time // unit
        head = struct.pack("<IIIII", 0, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), len(frame))
        out.append(_block(6, head + frame + bytes(-len(frame) % 4)))
    return b"".join(out)


def _block(kind: int, body: bytes) -> bytes:
    length = struct.pack("<I", 12 + len(body))
    return struct.pack("<I", kind) + length + body + length
