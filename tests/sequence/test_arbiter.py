"""The arbiter against a fixed clock: whole traces, one test a failure mode."""

from feedhandler import _core

SESSION = b"SESSION001"
SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


def body(number: int) -> bytes:
    """Give message `number` bytes of its own."""
    return b"%d" % number


def packet(first: int, count: int, session: bytes = SESSION) -> bytes:
    """Make a data packet of messages first, first + 1, ..."""
    return _core.encode_mold_packet(session, first, [body(n) for n in range(first, first + count)])


def messages(first: int, count: int) -> tuple[str, int, list[bytes]]:
    """Give the trace entry of those messages delivered in one call."""
    return ("messages", first, [body(n) for n in range(first, first + count)])


def test_partially_obsolete_packet_delivers_its_tail() -> None:
    """A packet whose first number is old still brings its new messages (helix drops it whole)."""
    arbiter = _core.Arbiter(lines=2)
    assert arbiter.on_packet(0, packet(1, 3), START) == [
        ("session_start", SESSION, 1),
        ("state", "STARTING", "LIVE"),
        messages(1, 3),
    ]
    assert arbiter.on_packet(1, packet(2, 4), START) == [messages(4, 2)]
