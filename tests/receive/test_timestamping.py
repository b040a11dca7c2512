"""Receive times out of control messages. Hardware clocks are rare: the messages are made here."""

import socket
import struct

from hypothesis import given
from hypothesis import strategies as st

from feedhandler import _core

TIMESTAMPNS, TIMESTAMPING, OVERFLOW = 35, 37, 40
NONE, KERNEL, HARDWARE = 0, 2, 3
SECOND = 1_000_000_000
NOW = 1_795_433_481 * SECOND


def message(kind: int, data: bytes, level: int = socket.SOL_SOCKET, length: int | None = None) -> bytes:
    """Return one control message, padded as the kernel pads it; `length`: what its header claims."""
    size = 16 + len(data) if length is None else length
    return struct.pack("=Qii", size, level, kind) + data + bytes(-len(data) % 8)


def times(software_ns: int, hardware_ns: int) -> bytes:
    """Return a SO_TIMESTAMPING message as the kernel sends it."""
    words = [part for ns in (software_ns, 0, hardware_ns) for part in divmod(ns, SECOND)]
    return message(TIMESTAMPING, struct.pack("=6q", *words))


def test_time_of_the_kernel_alone() -> None:
    """ts[2] is zero, as on any device without a clock: "hardware" must not be said."""
    assert _core.read_control(times(NOW, 0)) == (KERNEL, NOW, None)


def test_time_of_the_hardware_is_preferred() -> None:
    """ts[2] came: it is the time, and the kind says so; TAI is 37 s away and left to who knows the scale."""
    assert _core.read_control(times(NOW, NOW - 5_000)) == (HARDWARE, NOW - 5_000, None)
    assert _core.read_control(times(0, NOW)) == (HARDWARE, NOW, None)
    assert _core.read_control(times(NOW, NOW + 37 * SECOND)) == (HARDWARE, NOW + 37 * SECOND, None)


def test_hardware_clock_that_was_never_set_is_passed_over() -> None:
    """A device's clock starts in 1970, or anywhere: the kernel's time is the better one."""
    for never_set in (1234 * SECOND, NOW - 100 * SECOND, NOW + 100 * SECOND):
        assert _core.read_control(times(NOW, never_set)) == (KERNEL, NOW, None)


def test_drop_counter_comes_beside_the_time_in_any_order() -> None:
    """SO_RXQ_OVFL is read from the same messages."""
    drops = message(OVERFLOW, struct.pack("=I", 191))
    assert _core.read_control(times(NOW, 0) + drops) == (KERNEL, NOW, 191)
    assert _core.read_control(drops + times(NOW, 0)) == (KERNEL, NOW, 191)


def test_plain_nanosecond_time_is_the_kernels() -> None:
    """What a kernel without SO_TIMESTAMPING gives."""
    assert _core.read_control(message(TIMESTAMPNS, struct.pack("=2q", *divmod(NOW, SECOND))))[:2] == (
        KERNEL,
        NOW,
    )


def test_message_cut_short_says_nothing() -> None:
    """MSG_CTRUNC: the kernel shortens the last message to the room there is."""
    whole = times(NOW, NOW)
    for size in range(len(whole)):
        cut = struct.pack("=Q", size) + whole[8:size] if size >= 8 else whole[:size]
        assert _core.read_control(cut)[0] == NONE
        assert _core.read_control(whole[:size])[0] == NONE  # the header claims more than there is


def test_message_of_another_kind_or_level_is_passed_over() -> None:
    """What follows it is read all the same."""
    other = message(58, bytes(16)) + message(TIMESTAMPING, bytes(48), level=0) + message(8, b"\1\2\3\4\5")
    assert _core.read_control(other + times(NOW, NOW)) == (HARDWARE, NOW, None)


def test_of_what_comes_twice_the_first_counts() -> None:
    """An empty one does not hide a full one."""
    assert _core.read_control(times(NOW, 0) + times(NOW + 1, 0))[:2] == (KERNEL, NOW)
    assert _core.read_control(times(0, 0) + times(NOW, NOW))[:2] == (HARDWARE, NOW)
    drops = b"".join(message(OVERFLOW, struct.pack("=I", count)) for count in (5, 6))
    assert _core.read_control(drops)[2] == 5


def test_impossible_times_are_none() -> None:
    """Before 1970, after 2262, more than a second of nanoseconds."""
    for seconds, ns in ((-1, 0), (9_223_372_036, 0), (2**62, 0), (1, SECOND), (1, -1)):
        data = struct.pack("=6q", seconds, ns, 0, 0, seconds, ns)
        assert _core.read_control(message(TIMESTAMPING, data))[0] == NONE


def model(control: bytes) -> tuple[int, int, int | None]:
    """Read the messages anew, by slices of bytes and Python's integers."""
    software = hardware = 0
    drops: int | None = None

    def time_at(data: bytes, index: int) -> int:
        s, ns = struct.unpack_from("=2q", data, 16 * index)
        return s * SECOND + ns if 0 <= s <= 9_223_372_035 and 0 <= ns < SECOND else 0

    while len(control) >= 16:
        size, level, kind = struct.unpack_from("=Qii", control)
        if not 16 <= size <= len(control):
            break
        data = control[16:size]
        if level == socket.SOL_SOCKET and kind == TIMESTAMPING and len(data) >= 48:
            software = software or time_at(data, 0)
            hardware = hardware or time_at(data, 2)
        elif level == socket.SOL_SOCKET and kind == TIMESTAMPNS and len(data) >= 16:
            software = software or time_at(data, 0)
        elif level == socket.SOL_SOCKET and kind == OVERFLOW and len(data) >= 4 and drops is None:
            drops = int.from_bytes(data[:4], "little")
        control = control[-(-size // 8) * 8 :]
    if hardware and (not software or abs(hardware - software) < 100 * SECOND):
        return HARDWARE, hardware, drops
    return (KERNEL, software, drops) if software else (NONE, 0, drops)


_SECONDS = st.one_of(st.sampled_from([0, 1, -1, 2**33, 9_223_372_035, 9_223_372_036]), st.integers(0, 2**31))
_TIMES = st.lists(st.tuples(_SECONDS, st.integers(-1, SECOND)), min_size=3, max_size=3)
_DATA = st.one_of(
    st.binary(max_size=64), _TIMES.map(lambda t: struct.pack("=6q", *(x for p in t for x in p)))
)
_MESSAGES = st.builds(
    message,
    st.sampled_from([TIMESTAMPING, TIMESTAMPING, TIMESTAMPNS, OVERFLOW, 58]),
    _DATA,
    st.sampled_from([socket.SOL_SOCKET, socket.SOL_SOCKET, socket.SOL_SOCKET, 0]),
    st.one_of(st.none(), st.none(), st.none(), st.integers(0, 100), st.just(2**64 - 1)),
)


@given(st.lists(_MESSAGES, max_size=5).map(b"".join), st.integers(0, 400))
def test_any_messages_are_read_as_an_independent_reader_does(control: bytes, size: int) -> None:
    """Whole, cut, of any claimed length, in any order, some twice."""
    assert _core.read_control(control) == model(control)
    assert _core.read_control(control[:size]) == model(control[:size])


@given(st.binary(max_size=200))
def test_any_bytes_do_no_harm(control: bytes) -> None:
    """Noise is read as the model reads it."""
    assert _core.read_control(control) == model(control)
