"""SoupBinTCP: framing, login, heartbeats, silence; whatever bytes come, no exception and no false message."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.soupbintcp import (
    ClientSession,
    Framer,
    Phase,
    ProtocolError,
    ServerSession,
    login_request,
    number,
    packet,
)


@given(st.lists(st.tuples(st.sampled_from([b"S", b"H", b"+"]), st.binary(max_size=60))), st.integers(1, 40))
def test_packets_survive_any_splitting(packets: list[tuple[bytes, bytes]], piece: int) -> None:
    """TCP may split and join packets anywhere."""
    stream = b"".join(packet(kind, payload) for kind, payload in packets)
    framer = Framer()
    out = [p for at in range(0, len(stream), piece) for p in framer.feed(stream[at : at + piece])]
    assert out == packets


def test_length_zero_is_an_error() -> None:
    """A packet has at least its type."""
    with pytest.raises(ProtocolError):
        list(Framer().feed(b"\0\0"))


def test_layouts_of_the_login() -> None:
    """Offsets as specified: text left-justified, session and number right-justified."""
    assert login_request("me", "secret", "DAY1", 1) == (
        b"\0\x2fL" + b"me    " + b"secret    " + b"      DAY1" + b"                   1"
    )


@pytest.mark.parametrize(("field", "value"), [(b"   12", 12), (b"00012", 12), (b"12   ", 12), (b"     ", 0)])
def test_numbers_in_every_padding(field: bytes, value: int) -> None:
    """Blanks on either side, or zeros."""
    assert number(field) == value


def open_pair() -> tuple[ClientSession, ServerSession]:
    """Both ends, logged in at time 0."""
    client, server = ClientSession("me", "pw", 0.0), ServerSession(0.0)
    server.receive(bytes(client.output), 0.0)
    client.output.clear()
    assert server.login == ("me", "pw", "", 1)
    server.accept("DAY1", 1, 0.0)
    assert list(client.receive(bytes(server.output), 0.0)) == []
    server.output.clear()
    assert (client.phase, client.session, client.next_sequence) == (Phase.OPEN, "DAY1", 1)
    return client, server


def test_sequenced_messages_are_counted() -> None:
    """No number travels: the client counts from what the login told."""
    client, server = open_pair()
    server.send(b"S", b"one", 0.0)
    server.send(b"S", b"two", 0.0)
    assert list(client.receive(bytes(server.output), 0.0)) == [b"one", b"two"]
    assert client.next_sequence == 3


def test_heartbeats_after_a_second_and_death_after_fifteen() -> None:
    """Each end speaks when it has said nothing for a second, and gives up a silent peer."""
    client, server = open_pair()
    for peer, beat in ((client, b"\0\1R"), (server, b"\0\1H")):
        peer.tick(0.9)
        assert not peer.output
        peer.tick(1.0)
        assert bytes(peer.output) == beat
        peer.tick(14.9)
        assert peer.phase is Phase.OPEN
        peer.tick(15.0)
        assert (peer.phase, peer.reason) == (Phase.CLOSED, "silent")


def test_a_refused_login_closes_the_client() -> None:
    """J, with its reason."""
    client, server = ClientSession("me", "pw", 0.0), ServerSession(0.0)
    server.reject("A", 0.0)
    assert list(client.receive(bytes(server.output), 0.0)) == []
    assert (client.phase, client.reason) == (Phase.CLOSED, "login refused: A")


def test_who_does_not_log_in_is_dropped() -> None:
    """After thirty seconds, however much the client talks."""
    server = ServerSession(0.0)
    for second in range(30):
        server.receive(packet(b"+", b"hello"), second)
        server.tick(second)
        assert server.phase is Phase.LOGIN
    server.tick(30.0)
    assert (server.phase, server.reason) == (Phase.CLOSED, "no login")


def test_messages_before_the_login_is_accepted_are_an_error() -> None:
    """Nothing that arrives too early is taken for a message."""
    client = ClientSession("me", "pw", 0.0)
    assert list(client.receive(packet(b"S", b"early"), 0.0)) == []
    assert client.phase is Phase.CLOSED


@given(st.binary(max_size=200))
def test_no_bytes_break_either_end(data: bytes) -> None:
    """A peer may send anything: the session goes on or closes."""
    client, server = open_pair()
    list(client.receive(data, 1.0))
    server.receive(data, 1.0)
    fresh = ServerSession(0.0)
    fresh.receive(data, 1.0)
    assert fresh.login is None or fresh.login[3] >= 0
