"""The servers under attack: memory and traffic stay bounded, and an honest client is served meanwhile."""

import ipaddress
import itertools
import json
import multiprocessing
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recovery.glimpse import (
    LOAD_S,
    LOGOUT_S,
    Client,
    GlimpseCounters,
    GlimpseServer,
    GlimpseSettings,
    StoreImages,
)
from recovery.limits import Rate
from recovery.server import RequestHandler, ServerSettings
from recovery.soupbintcp import Phase, login_request, packet
from recovery.store import MessageStore
from tests.recovery.test_glimpse import filled as filled_day
from tests.recovery.test_glimpse import load
from tests.recovery.test_glimpse import serving as serving_snapshots
from tests.recovery.test_server import HOST, client, filled, request, serving
from tests.support.multicast import free_port
from tests.support.wait import wait_for

OTHER = "127.0.0.77"  # an honest client's address

# ---- the re-request server


@given(st.lists(st.tuples(st.binary(max_size=64), st.integers(0, 2**32 - 1)), max_size=50))
@settings(max_examples=100, deadline=None)
def test_random_bytes_from_anywhere_are_counted_once_and_forgotten(
    datagrams: list[tuple[bytes, int]],
) -> None:
    """Whatever comes from whomever: no exception, no answer, one reason, no place in the client table."""
    with filled(range(1, 20)) as store:
        handler = RequestHandler(store, ServerSettings(), 0.0)
        for datagram, host in datagrams:
            assert handler.handle(datagram, str(ipaddress.IPv4Address(host)), 0.0) is None
        counters = asdict(handler.counters)
        assert counters.pop("requests") == len(datagrams) == sum(counters.values())
        assert len(handler.clients) == 0


def forged(source: int, server: tuple[str, int], payload: bytes) -> bytes:
    """An IPv4 datagram that claims to come from `source`; the kernel fills its checksum in."""
    udp = struct.pack(">HHHH", 5000, server[1], 8 + len(payload), 0) + payload
    to = socket.inet_aton(server[0])
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, socket.IPPROTO_UDP, 0)
    return head + struct.pack(">I", source) + to + udp


@pytest.mark.skipif(os.geteuid() != 0, reason="forging source addresses needs root")
def test_forged_sources_fill_no_memory_and_move_bounded_traffic() -> None:
    """Twenty thousand invented addresses, each asking for everything: two tables that stay small."""
    limits = ServerSettings(client_rate=Rate(100, 1e6), total_rate=Rate(500, 400_000), max_clients=256)
    with (
        filled() as store,
        serving(store, limits) as server,
        client(server, OTHER) as honest,
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as attacker,
    ):
        honest.settimeout(0.05)
        begin, served, asked = time.monotonic(), 0, 0
        for i in range(20_000):
            attacker.sendto(forged(0x7F010000 + i, server.address, request(1, 65534)), server.address)
        wait_for(lambda: server.counters.requests > 10_000, "the flood")  # the kernel drops some
        took = time.monotonic() - begin
        assert server.counters.reply_bytes <= (1 + took) * 400_000 + 1472
        assert server.counters.replies <= (1 + took) * 500 + 1
        assert server.counters.limited_total > 5_000
        assert len(server.handler.clients) == 256
        assert len(server.handler._allowed) <= 4096
        while served < 20:  # the buckets fill again: nobody is shut out for good
            assert asked < 200, server.counters
            asked += 1
            honest.send(request(1 + served, 1))
            served += bool(select.select([honest], [], [], 0.05)[0] and honest.recv(2048))


def storm(server: tuple[str, int], seed: int, raging: Any) -> None:
    """Until killed: random bytes, requests for everything, foreign sessions, from forty addresses."""
    chance = random.Random(seed)
    with ExitStack() as stack:
        sockets = []
        for i in range(40):
            sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sock.bind((f"127.0.{2 + seed}.{i + 1}", 0))
            sock.setblocking(False)
            sockets.append(sock)
        datagrams = [chance.randbytes(chance.randrange(1500)) for _ in range(20)]
        datagrams += [
            request(1, 65534),
            request(0, 1),
            request(1, 1, b"FOREIGN   "),
            request(2**64 - 1, 9),
        ] * 10
        for turn in itertools.count():
            if turn == 100:
                raging.set()
            for sock in sockets:
                try:
                    sock.sendto(chance.choice(datagrams), server)
                except OSError:
                    continue


@contextmanager
def attacked(server: tuple[str, int], attackers: int) -> Iterator[None]:
    """Storms from processes of their own."""
    spawn = multiprocessing.get_context("spawn")
    raging = [spawn.Event() for _ in range(attackers)]
    processes = [
        spawn.Process(target=storm, args=(server, i, event), daemon=True) for i, event in enumerate(raging)
    ]
    for process in processes:
        process.start()
    try:
        assert all(event.wait(20) for event in raging)
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def resident_kib(pid: int) -> int:
    """Memory of a process."""
    return next(
        int(line.split()[1])
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmRSS")
    )


def test_gapfill_under_everything_at_once_serves_an_honest_client(tmp_path: Path) -> None:
    """A storm from another process against the real one: every hole filled, memory and answers bounded."""
    day = tmp_path / "day.itch"
    day.write_bytes(b"".join(struct.pack(">H", 30) + b"%030d" % n for n in range(1, 5001)))
    port, config, log = free_port(), tmp_path / "gapfill.toml", tmp_path / "log"
    config.write_text(
        f'[gapfill]\nlisten = "127.0.0.1:{port}"\nsource = "binaryfile"\nfile = "{day}"\n'
        'session = "SESSION01"\nclient_requests_per_s = 200\nclient_bytes_per_s = 100_000\n'
        "requests_per_s = 20_000\nbytes_per_s = 5_000_000\n"
    )
    command = [
        sys.executable,
        "-c",
        "from feedhandler.cli import main; main()",
        "gapfill",
        "--config",
        config,
    ]
    with log.open("wb") as errors:
        process = subprocess.Popen(command, stderr=errors)
    address = (HOST, port)
    try:
        wait_for(lambda: '"serving"' in log.read_text(), "gapfill")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as honest, attacked(address, 1):
            honest.bind((OTHER, 0))
            honest.connect(address)
            began = time.monotonic()
            before, waited = 0, []
            for number in range(1, 101):
                select.select([], [], [], max(0.0, began + number / 50 - time.monotonic()))  # 50 a second
                asked = time.monotonic()
                reply = b""
                while reply[:20] != request(number, 1):
                    assert time.monotonic() < asked + 5, f"message {number} is not served"
                    honest.send(request(number, 1))
                    if select.select([honest], [], [], 0.05)[0]:
                        reply = honest.recv(2048)
                waited.append(time.monotonic() - asked)
                if number == 20:
                    before = resident_kib(process.pid)
            assert resident_kib(process.pid) < before + 2048
        lasted = time.monotonic() - began
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
    told = json.loads(log.read_text().splitlines()[-1])
    assert told["malformed"] > 100
    assert told["foreign_session"] > 100
    assert told["limited_client"] > 100
    assert told["reply_bytes"] <= 41 * (2 + lasted) * 100_000
    assert sorted(waited)[50] < 0.5, waited


# ---- the snapshot server


def connected(stack: ExitStack, server: GlimpseServer, host: str = HOST) -> socket.socket:
    """A connection from an address."""
    connection = socket.create_connection(server.address, timeout=5, source_address=(host, 0))
    return stack.enter_context(connection)


MANY = GlimpseSettings(max_clients=8, logins_per_s=1000)


@pytest.mark.parametrize("hosts", [1, 40])
@pytest.mark.parametrize("said", [b"", login_request("u", "p")[:20]])
def test_connections_that_never_log_in_keep_nobody_out(said: bytes, hosts: int) -> None:
    """Forty of them, silent or stuck in their login, from one address or as many: room is made for others."""
    with ExitStack() as stack:
        store = stack.enter_context(filled_day(500))
        server = stack.enter_context(serving_snapshots(store, MANY))
        for i in range(40):
            connected(stack, server, f"127.0.3.{1 + i % hosts}").sendall(said)
        wait_for(lambda: server.counters.connections == 40, "connections")
        assert server.counters.too_many >= 32
        _, messages = load(server.address)
        assert messages[-1] == b"G" + b"501".rjust(20)


def test_one_address_holds_no_more_than_half_of_the_places() -> None:
    """Eight sessions of one address that never log out: four are let in, and others find a place."""
    with ExitStack() as stack:
        store = stack.enter_context(filled_day(500))
        server = stack.enter_context(serving_snapshots(store, MANY))
        for _ in range(8):
            connected(stack, server, "127.0.3.1").sendall(login_request("u", "p"))
        wait_for(lambda: server.counters.connections == 8, "connections")
        wait_for(lambda: server.counters.completed == 4, "snapshots")
        assert server.counters.too_many == 4
        _, messages = load(server.address)
        assert messages[-1] == b"G" + b"501".rjust(20)


def in_session(store: MessageStore, counters: GlimpseCounters) -> Client:
    """A client that has logged in at 0 s and has its answer, but nothing of the image."""
    made = Client(StoreImages(store), GlimpseSettings(), counters, 0.0)
    made.receive(login_request("u", "p"), 0.0)
    made.sent(len(made.pending()), 0.0)
    return made


def alive(made: Client, until_s: float, step: Callable[[float], None]) -> float:
    """Let time pass a second at a time, the client doing `step`; return when its session is closed."""
    now_s = 0.0
    while made.session.phase is not Phase.CLOSED and now_s < until_s:
        now_s += 1.0
        made.receive(packet(b"R"), now_s)
        step(now_s)
        made.tick(now_s)
    return now_s


def test_a_client_that_reads_a_byte_a_second_is_dropped() -> None:
    """It makes progress and is never silent, but its place is not for ever."""
    counters = GlimpseCounters()
    with filled_day(3000) as store:
        made = in_session(store, counters)
        assert alive(made, 2 * LOAD_S, lambda now_s: made.sent(1, now_s)) == LOAD_S
    assert (made.session.reason, counters.dropped, made.over) == ("too slow", 1, True)


def test_a_client_that_never_logs_out_is_dropped() -> None:
    """It has the whole image, sends heartbeats, and reads none of ours."""
    counters = GlimpseCounters()
    with filled_day(500) as store:
        made = in_session(store, counters)
        made.sent(len(made.pending()), 0.0)
        assert alive(made, 2 * LOAD_S, lambda _: None) == LOGOUT_S
    assert (made.session.reason, counters.dropped, made.over) == ("no logout", 1, True)
    made.tick(LOGOUT_S + 1)
    assert counters.dropped == 1


@given(
    st.lists(
        st.one_of(st.binary(max_size=400), st.sampled_from([b"\0\1R", b"\0\1O", login_request("u", "p")]))
    )
)
@settings(max_examples=100, deadline=None)
def test_random_bytes_end_a_session_or_wait_for_more(pieces: list[bytes]) -> None:
    """No exception, nothing answered but one login, no more kept than one short packet."""
    counters = GlimpseCounters()
    with filled_day(20) as store:
        made = Client(StoreImages(store), GlimpseSettings(), counters, 0.0)
        for now_s, piece in enumerate(pieces):
            if made.session.phase is Phase.CLOSED:
                break
            made.receive(piece, now_s)
            assert len(made.session.output) < 100
            assert len(made.session._framer._buffer) < 260
    assert counters.snapshots <= 1
    assert counters.dropped == made.session.reason.startswith("protocol error")


def test_half_closed_reset_and_garbage_connections_leave_their_places() -> None:
    """Whatever ends or breaks a connection, in whatever phase, and the server goes on."""
    chance = random.Random(5)
    with filled_day(2000) as store, serving_snapshots(store, MANY) as server:
        for i in range(60):
            with socket.create_connection(server.address, timeout=5) as connection:
                connection.sendall((b"", login_request("u", "p"), login_request("u", "p")[:9])[i % 3])
                if i % 4 == 0:
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65536):
                        pass
                elif i % 4 == 1:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                elif i % 4 == 2:
                    connection.sendall(chance.randbytes(3000))
        wait_for(lambda: server.counters.connections == 60 and not server._clients, "free places")
        _, messages = load(server.address)
        assert messages[-1] == b"G" + b"2001".rjust(20)


def test_a_session_name_beyond_ascii_ends_no_server() -> None:
    """The lines named it; a login is answered all the same."""
    with MessageStore.create(session=b"S\xe9SSION   ") as store, serving_snapshots(store) as server:
        session, messages = load(server.address)
        assert session.session == "S?SSION"
        assert messages[-1][:1] == b"G"
