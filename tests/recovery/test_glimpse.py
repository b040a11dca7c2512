"""The snapshot server: images equal the lossless books exactly between two messages; who is refused."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from feedhandler.errors import RunError
from recovery.glimpse import Client, GlimpseCounters, GlimpseServer, GlimpseSettings, StoreImages
from recovery.soupbintcp import ClientSession, Phase, login_request, packet
from recovery.store import MessageStore
from tests.simulate.day import make_day, split
from tests.support.model_book import Orders
from tests.support.snapshot import model_of, queues, soup_packets
from tests.support.wait import wait_for

SESSION = b"SESSION01 "
DAY = list(split(make_day(3000, 8, 3)))


def filled(count: int) -> MessageStore:
    """A store with the first `count` messages of the day."""
    store = MessageStore.create(session=SESSION)
    for number, message in enumerate(DAY[:count], 1):
        store.append(number, message)
    return store


@pytest.mark.parametrize("count", [0, 1, 50, 700, 1501, 2600, 3000])
def test_image_is_the_books_between_two_messages(count: int) -> None:
    """Orders, shares and queues as the naive model has them after exactly the messages before G."""
    with filled(count) as store:
        image = StoreImages(store).image()
    assert image is not None
    assert image[0] == count + 1
    packets = soup_packets(image[1])
    assert {kind for kind, _ in packets} == {"S"}
    messages = [payload for _, payload in packets]
    assert messages[-1] == b"G" + str(count + 1).encode().rjust(20)
    assert {chr(m[0]) for m in messages} <= set("RSHYhNAFG")
    rebuilt, lossless = model_of(messages[:-1]), model_of(DAY[:count])
    assert queues(rebuilt) == queues(lossless)
    for locate, symbol in rebuilt.symbols.items():
        assert lossless.symbols[locate] == symbol


def test_orders_carry_time_and_attribution_of_their_last_message() -> None:
    """An A or F of the feed that still stands comes again as it was."""
    with filled(2000) as store:
        image = StoreImages(store).image()
    assert image is not None
    model = Orders()
    model_of(DAY[:2000], model)
    feed = {m[11:19]: m for m in DAY[:2000] if m[:1] in (b"A", b"F")}
    told = {p[11:19]: p for _, p in soup_packets(image[1]) if p[:1] in (b"A", b"F")}
    same = [ref for ref in told if ref in feed and told[ref][20:24] == feed[ref][20:24]]
    assert len(same) > 20
    assert all(told[ref] == feed[ref] for ref in same)


def test_a_store_that_lost_its_beginning_gives_no_image() -> None:
    """An image without the first message would be a wrong book."""
    store = MessageStore.create(session=SESSION)
    store.append(2, DAY[1])
    with store:
        assert StoreImages(store).image() is None


LOGINS = [
    (login_request("user", "pw"), None),
    (login_request("USER", "PW", "SESSION01"), None),
    (login_request("user", "wrong"), b"A"),
    (login_request("else", "pw"), b"A"),
    (login_request("user", "pw", "OTHER"), b"S"),
    (login_request("user", "pw", "", 5), b"S"),
]


@pytest.mark.parametrize(("login", "refusal"), LOGINS)
def test_login_is_checked(login: bytes, refusal: bytes | None) -> None:
    """Name, password (in any case), session, and sequence 1."""
    with filled(100) as store:
        client = Client(
            StoreImages(store), GlimpseSettings(username="user", password="pw"), GlimpseCounters(), 0.0
        )
        client.receive(login, 0.0)
        answer = soup_packets(bytes(client.pending()))
        assert len(answer) == 1
        if refusal is None:
            assert answer[0][0] == "A"
        else:
            assert answer[0] == ("J", refusal)
            assert client.session.phase is Phase.CLOSED


def test_a_client_that_does_not_read_is_dropped() -> None:
    """After fifteen seconds without progress; the image keeps no heartbeat waiting."""
    with filled(100) as store:
        counters = GlimpseCounters()
        client = Client(StoreImages(store), GlimpseSettings(), counters, 0.0)
        client.receive(login_request("u", "p"), 0.0)
        client.sent(len(client.pending()), 0.0)
        client.tick(14.9)
        assert client.session.phase is Phase.OPEN
        client.tick(15.0)
        assert client.session.reason == "does not read"
        assert counters.dropped == 1


@contextmanager
def serving(store: MessageStore, settings: GlimpseSettings | None = None) -> Iterator[GlimpseServer]:
    """A server on a free port, in a thread."""
    with GlimpseServer(store, ("127.0.0.1", 0), settings) as server:
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield server
        finally:
            server.stop()
            thread.join()


def load(address: tuple[str, int]) -> tuple[ClientSession, list[bytes]]:
    """Log in, read until G or the end."""
    session = ClientSession("user", "pw", 0.0)
    messages: list[bytes] = []
    with socket.create_connection(address, timeout=5) as connection:
        connection.sendall(session.output)
        while not (messages and messages[-1][:1] == b"G") and (data := connection.recv(65536)):
            messages += session.receive(data, 0.0)
        if session.phase is Phase.OPEN:
            connection.sendall(packet(b"O"))
            while connection.recv(65536):
                pass
    return session, messages


def test_a_whole_snapshot_over_tcp() -> None:
    """From the login to G; then the client logs out and the server closes."""
    with filled(3000) as store, serving(store) as server:
        session, messages = load(server.address)
        assert session.session == "SESSION01"
        assert messages[-1] == b"G" + b"3001".rjust(20)
        assert queues(model_of(messages[:-1])) == queues(model_of(DAY))
        assert server.counters.completed == 1


def test_too_many_clients_and_too_many_logins_are_turned_away() -> None:
    """Connections are bounded, in number and in rate of one address."""
    with filled(10) as store, serving(store, GlimpseSettings(max_clients=2, logins_per_s=4)) as server:
        connections = [socket.create_connection(server.address) for _ in range(20)]
        counters = server.counters
        wait_for(lambda: counters.connections == 20, "connections")
        wait_for(lambda: counters.too_many + counters.limited == 19, "all closed but one")
        assert len(server._clients) == 1
        assert min(counters.too_many, counters.limited) >= 1
        for connection in connections:
            connection.close()


def test_rubbish_closes_the_connection() -> None:
    """What is not SoupBinTCP is not listened to."""
    with (
        filled(10) as store,
        serving(store) as server,
        socket.create_connection(server.address, timeout=5) as connection,
    ):
        connection.sendall(struct.pack(">H", 60000) + b"x")
        assert connection.recv(10) == b""


def test_a_port_in_use_is_one_line() -> None:
    """The error names the option and the address."""
    with filled(1) as store, serving(store) as server:
        port = server.address[1]
        with pytest.raises(RunError, match=f'--snapshot: "127.0.0.1:{port}"'):
            GlimpseServer(store, ("127.0.0.1", port))
