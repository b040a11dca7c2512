"""The re-request server: what it answers, and above all what it does not."""

import ipaddress
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedhandler.errors import RunError
from recovery.limits import Rate
from recovery.server import COUNTER_HELP, RequestHandler, RewindServer, ServerCounters, ServerSettings
from recovery.store import MessageStore
from tests.support.rewind import NaiveRewind
from tests.support.wait import wait_for

SESSION = b"SESSION01 "
HOST = "127.0.0.1"
UNLIMITED = Rate(requests=1e12, bytes=1e15)
OPEN = ServerSettings(client_rate=UNLIMITED, total_rate=UNLIMITED)


def request(first: int, count: int, session: bytes = SESSION) -> bytes:
    """The 20 bytes of a request."""
    return struct.pack(">10sQH", session, first, count)


def text(sequence: int) -> bytes:
    """A message that tells its number; some are empty, some long."""
    return (b"%d " % sequence * 20)[: sequence % 9 * 12]


def filled(numbers: Iterator[int] | range = range(1, 1001)) -> MessageStore:
    """A store with these numbers."""
    store = MessageStore.create(session=SESSION)
    for number in numbers:
        store.append(number, text(number))
    return store


@given(
    st.sets(st.integers(1, 80)),
    st.lists(
        st.tuples(
            st.one_of(st.integers(0, 90), st.sampled_from([2**64 - 1, 2**63, 2**48])),
            st.one_of(st.integers(0, 90), st.sampled_from([65534, 65535])),
            st.sampled_from([SESSION, b"SESSION01", b"SESSION01\0", b"session01 ", bytes(10)]),
            st.integers(-1, 1),
        ),
        max_size=30,
    ),
    st.sampled_from([128, 200, 1472, 9000]),
)
@settings(max_examples=200, deadline=None)
def test_every_request_is_answered_as_the_naive_server_does(
    numbers: set[int], requests: list[tuple[int, int, bytes, int]], max_payload: int
) -> None:
    """Session in all ten bytes, count, range and size: the same bytes or the same silence.

    Every request counted once.
    """
    naive = NaiveRewind(SESSION, {n: text(n) for n in numbers}, max_payload)
    with filled(iter(sorted(numbers))) as store:
        handler = RequestHandler(store, ServerSettings(max_payload, (), UNLIMITED, UNLIMITED), 0.0)
        for first, count, session, cut in requests:
            datagram = request(first, count, session.ljust(10, b"\1"))
            datagram = datagram[:-1] if cut < 0 else datagram + b"\0" * cut
            reply = handler.handle(datagram, HOST, 0.0)
            assert reply == naive.answer(datagram)
            assert reply is None or len(reply) <= max_payload
        counters = asdict(handler.counters)
        assert counters.pop("requests") == len(requests)
        for not_a_fate in ("reply_bytes", "messages", "send_errors"):
            counters.pop(not_a_fate)
        assert sum(counters.values()) == len(requests)


@pytest.mark.parametrize(
    ("datagram", "reason"),
    [
        (b"", "malformed"),
        (request(1, 1)[:19], "malformed"),
        (request(1, 1) + b"\0", "malformed"),
        (request(1, 1, b"OTHER     "), "foreign_session"),
        (request(1, 1, b" SESSION01"), "foreign_session"),
        (request(1, 0), "zero_count"),
        (request(0, 5), "out_of_range"),
        (request(1001, 1), "out_of_range"),
        (request(2**64 - 1, 65535), "out_of_range"),
        (request(500, 1), "not_held"),
    ],
)
def test_silence_is_counted_by_its_reason(datagram: bytes, reason: str) -> None:
    """No reject exists in the protocol: nothing goes out, and exactly one counter tells why."""
    with filled(n for n in range(1, 1001) if n != 500) as store:
        handler = RequestHandler(store, OPEN, 0.0)
        assert handler.handle(datagram, HOST, 0.0) is None
        expected = ServerCounters(requests=1)
        setattr(expected, reason, 1)
        assert handler.counters == expected


def test_no_session_yet_answers_nobody() -> None:
    """A store that has seen no packet has no session that a request could name."""
    with MessageStore.create() as store:
        handler = RequestHandler(store, OPEN, 0.0)
        for session in (bytes(10), b" " * 10):
            assert handler.handle(request(1, 1, session), HOST, 0.0) is None
        assert handler.counters.foreign_session == 2


def test_request_for_the_earlier_session_is_not_answered_with_the_new_ones_messages() -> None:
    """After a rollover the same numbers are other messages."""
    with filled() as store:
        handler = RequestHandler(store, OPEN, 0.0)
        assert handler.handle(request(1, 1), HOST, 0.0) is not None
        store.reset(b"SESSION02 ")
        store.append(1, b"new")
        assert handler.handle(request(1, 1), HOST, 0.0) is None
        reply = handler.handle(request(1, 1, b"SESSION02 "), HOST, 0.0)
        assert reply == request(1, 1, b"SESSION02 ") + b"\x00\x03new"


def test_reply_of_a_server_is_no_request_to_another() -> None:
    """Two servers set upon each other by a forged address fall silent at once."""
    with filled() as store:
        handler = RequestHandler(store, OPEN, 0.0)
        for count in (1, 9, 65535):
            reply = handler.handle(request(9, count), HOST, 0.0)
            assert reply is not None
            assert handler.handle(reply, HOST, 0.0) is None


def test_client_over_its_rate_is_limited_and_recovers_with_time() -> None:
    """Ten a second: ten at once, then one every tenth of a second."""
    with filled() as store:
        settings = ServerSettings(client_rate=Rate(10, 1e9), total_rate=UNLIMITED)
        handler = RequestHandler(store, settings, 0.0)
        assert sum(handler.handle(request(1, 1), HOST, 0.0) is not None for _ in range(50)) == 10
        assert handler.counters.limited_client == 40
        assert handler.handle(request(1, 1), HOST, 0.09) is None
        assert handler.handle(request(1, 1), HOST, 0.11) is not None
        assert handler.handle(request(1, 1), "127.0.0.2", 0.11) is not None
        served = sum(handler.handle(request(1, 1), HOST, 1 + i / 1000) is not None for i in range(10_000))
        assert 108 <= served <= 110


def test_bytes_are_limited_as_well_as_requests() -> None:
    """A client that asks for full datagrams gets its bytes a second and at most one datagram more."""
    with filled() as store:
        settings = ServerSettings(client_rate=Rate(1e9, 20_000), total_rate=UNLIMITED)
        handler = RequestHandler(store, settings, 0.0)
        for i in range(50_000):
            handler.handle(request(1, 1000), HOST, i / 10_000)
        assert 6 * 20_000 - 1472 <= handler.counters.reply_bytes <= 6 * 20_000 + 1472


def test_requests_that_bring_nothing_use_up_the_rate_too() -> None:
    """Asking for what is not held costs the server a search: it is paid for."""
    with filled(n for n in range(1, 101) if n != 50) as store:
        handler = RequestHandler(store, ServerSettings(client_rate=Rate(10, 1e9), total_rate=UNLIMITED), 0.0)
        for _ in range(10):
            assert handler.handle(request(50, 1), HOST, 0.0) is None
        assert handler.handle(request(1, 1), HOST, 0.0) is None
        assert (handler.counters.not_held, handler.counters.limited_client) == (10, 1)


def test_flood_from_ever_new_addresses_is_bounded_in_bytes_and_memory() -> None:
    """Invented addresses have a full bucket each: the limit for all holds, and the table does not grow."""
    with filled() as store:
        settings = ServerSettings(client_rate=Rate(100, 1e6), total_rate=Rate(1000, 500_000), max_clients=256)
        handler = RequestHandler(store, settings, 0.0)
        for i in range(100_000):
            host = str(ipaddress.IPv4Address(0x7F000000 + i))
            handler.handle(request(1, 1000), host, i / 50_000)
        assert handler.counters.reply_bytes <= 3 * 500_000 + 1472
        assert handler.counters.replies <= 3000
        assert handler.counters.limited_total > 90_000
        assert len(handler.clients) == 256
        assert len(handler._allowed) <= 4096


def test_honest_client_is_served_while_listed_addresses_flood() -> None:
    """Two hundred sources flood, each held to its own rate: who keeps to the rate gets every answer."""
    with filled() as store:
        settings = ServerSettings(client_rate=Rate(50, 1e5), total_rate=Rate(20_000, 50e6))
        handler = RequestHandler(store, settings, 0.0)
        answers = 0
        for i in range(200_000):  # two seconds
            now = i / 100_000
            handler.handle(request(1, 1000), f"127.0.1.{i % 200}", now)
            if i % 4000 == 0:
                answers += handler.handle(request(1 + i // 4000, 1), "127.0.0.9", now) is not None
        assert answers == 50
        assert handler.counters.limited_total == 0
        assert handler.counters.replies < 200 * 3 * 50 + 51


def test_address_outside_the_list_gets_nothing_however_it_asks() -> None:
    """Not listed: silence before the session is even looked at, and no place in the client table."""
    with filled() as store:
        allow = (ipaddress.IPv4Network("10.1.0.0/16"), ipaddress.IPv4Network("127.0.0.1"))
        handler = RequestHandler(store, ServerSettings(allow=allow), 0.0)
        for host, allowed in (("10.1.255.1", 1), ("10.2.0.1", 0), ("127.0.0.1", 1), ("127.0.0.2", 0)):
            assert (handler.handle(request(1, 1), host, 0.0) is not None) == allowed
        assert handler.counters.not_allowed == 2
        assert len(handler.clients) == 2


def test_every_counter_has_its_description() -> None:
    """A counter that nobody explains cannot be added."""
    assert set(COUNTER_HELP) == set(asdict(ServerCounters()))
    assert all(COUNTER_HELP.values())


# -- over real sockets


@contextmanager
def serving(store: MessageStore, settings: ServerSettings = OPEN) -> Iterator[RewindServer]:
    """A server in a thread of its own."""
    with RewindServer(store, (HOST, 0), settings) as server:
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield server
        finally:
            server.stop()
            thread.join(timeout=1.0)
            assert not thread.is_alive(), "the server did not stop within a second"


@contextmanager
def client(server: RewindServer, host: str = HOST) -> Iterator[socket.socket]:
    """A socket at an address of its own, connected to the server."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        sock.connect(server.address)
        sock.settimeout(5.0)
        yield sock


def test_one_datagram_a_request_and_none_larger_than_the_payload() -> None:
    """A thousand messages asked for at once: one datagram; the rest is for the client to ask for again."""
    with filled() as store, serving(store) as server, client(server) as sock:
        missing, datagrams = 1, 0
        while missing <= 1000:
            sock.send(request(missing, 1001 - missing))
            reply = sock.recv(65536)
            assert not select.select([sock], [], [], 0)[0]
            datagrams += 1
            session, first, count = struct.unpack_from(">10sQH", reply)
            assert (session, first) == (SESSION, missing)
            assert 20 < len(reply) <= 1472
            missing += count
        # whatever else had been sent would have arrived before the answer to this last one
        sock.send(request(7, 1))
        assert sock.recv(65536) == request(7, 1) + struct.pack(">H", len(text(7))) + text(7)
        assert server.counters.replies == datagrams + 1 == server.counters.requests


def test_unanswered_requests_cost_no_datagram_on_the_wire() -> None:
    """Whatever is not answered sends nothing at all: only the good request's reply arrives."""
    with filled() as store, serving(store) as server, client(server) as sock:
        for datagram in (
            b"",
            b"x" * 1400,
            request(0, 1),
            request(1, 0),
            request(5000, 1),
            request(1, 1, b"OTHER     "),
        ):
            sock.send(datagram)
        sock.send(request(3, 2))
        assert struct.unpack_from(">10sQH", sock.recv(65536)) == (SESSION, 3, 2)
        assert not select.select([sock], [], [], 0)[0]
        assert (server.counters.requests, server.counters.replies) == (7, 1)


def test_honest_client_fills_its_gap_through_a_flood_over_sockets() -> None:
    """Floods from listed and unlisted loopback addresses; the honest one asks, retries.

    And gets all of 1000 messages.
    """
    settings = ServerSettings(
        allow=(ipaddress.IPv4Network("127.0.0.0/24"),),
        client_rate=Rate(200, 200_000),
        total_rate=Rate(20_000, 20e6),
    )
    ended = threading.Event()

    def flood(server: RewindServer) -> None:
        sockets = []
        for i in range(2, 42):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind((f"127.0.{i % 2}.{i}", 0))
            sock.setblocking(False)
            sockets.append(sock)
        while not ended.is_set():
            for sock in sockets:
                try:
                    sock.sendto(request(1, 65534), server.address)
                except BlockingIOError:
                    continue
        for sock in sockets:
            sock.close()

    with filled() as store, serving(store, settings) as server, client(server) as sock:
        flooder = threading.Thread(target=flood, args=(server,))
        flooder.start()
        try:
            counters = server.counters
            wait_for(lambda: counters.not_allowed > 1000 and counters.limited_client > 1000, "flood")
            got, deadline = 0, time.monotonic() + 20
            sock.settimeout(0.05)
            while got < 1000:
                assert time.monotonic() < deadline, (got, server.counters)
                sock.send(request(got + 1, 1000 - got))
                try:
                    reply = sock.recv(65536)
                except TimeoutError:
                    continue
                _, first, count = struct.unpack_from(">10sQH", reply)
                if first == got + 1:
                    got += count
        finally:
            ended.set()
            flooder.join()
        assert len(server.handler.clients) <= 41


def test_address_in_use_is_named() -> None:
    """A second server on the same port: one line with the address."""
    with (
        filled() as store,
        RewindServer(store, (HOST, 0)) as first,
        pytest.raises(
            RunError, match=rf'gapfill.listen: "127.0.0.1:{first.address[1]}": Address already in use'
        ),
    ):
        RewindServer(store, first.address)


# -- faults of known clients and servers


def test_server_that_never_compares_the_session_is_not_this_one() -> None:
    """One differing byte anywhere in the ten, blanks included.

    And nothing is sent (nassau serves any session).
    """
    with filled() as store:
        handler = RequestHandler(store, OPEN, 0.0)
        for place in range(10):
            session = bytearray(SESSION)
            session[place] ^= 1
            assert handler.handle(request(1, 1, bytes(session)), HOST, 0.0) is None
        assert handler.counters.foreign_session == 10


def test_request_that_left_its_session_uninitialised_is_not_answered() -> None:
    """Zeros or garbage in the session field (helix) name no session."""
    with filled() as store:
        handler = RequestHandler(store, OPEN, 0.0)
        for session in (bytes(10), b"\xff" * 10, b"\x00" + SESSION[1:]):
            assert handler.handle(request(1, 1, session), HOST, 0.0) is None


@pytest.mark.parametrize("count", [0xFFFE, 0xFFFF])
def test_client_that_always_asks_for_0xfffe_messages_gets_one_datagram(count: int) -> None:
    """As many as fit (helix asks so); the reply's own count never looks like an end of session."""
    with filled() as store:
        handler = RequestHandler(store, OPEN, 0.0)
        reply = handler.handle(request(990, count), HOST, 0.0)
        assert reply is not None
        assert struct.unpack_from(">10sQH", reply) == (SESSION, 990, 11)


def test_request_from_below_one_is_not_moved_to_one() -> None:
    """Sequence 0 is no message: the answer starts exactly where it was asked to.

    Or there is none (nassau ignores it too).
    """
    with filled() as store:
        handler = RequestHandler(store, OPEN, 0.0)
        assert handler.handle(request(0, 5), HOST, 0.0) is None
        assert handler.counters.out_of_range == 1
