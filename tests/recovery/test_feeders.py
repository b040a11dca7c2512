"""What captures and servers further up bring into a store."""

import io
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dpkt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedhandler.errors import UsageError
from feedhandler.journal.archive import compress
from feedhandler.journal.segments import segment_path, segments
from recovery.feeders import capture
from recovery.feeders.capture import feed_capture
from recovery.feeders.session import SessionFeeder
from recovery.feeders.upstream import TIMEOUT_S, UpstreamFeeder
from recovery.store import MIN_BYTES, MessageStore
from tests.support.capture import read_datagrams
from tests.support.rewind import NaiveRewind

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))  # the folder pcaps is not installed
from pcaps import expected, files  # noqa: E402

PCAPS = sorted(p for p in (ROOT / "pcaps").iterdir() if ".pcap" in p.name and not p.name.endswith(".json"))
SESSION = b"SESSION01 "


def text(number: int) -> bytes:
    """A message that tells its number."""
    return b"message %d" % number


def packet(first: int, *messages: bytes, count: int | None = None) -> bytes:
    """A downstream packet."""
    head = struct.pack(">10sQH", SESSION, first, len(messages) if count is None else count)
    return head + b"".join(struct.pack(">H", len(m)) + m for m in messages)


@pytest.mark.parametrize("capture", PCAPS, ids=lambda p: p.name)
def test_capture_fills_the_store_with_its_last_session(capture: Path) -> None:
    """Whatever container.

    The store holds exactly what a plain reading of the datagrams of that session gives.
    """
    with MessageStore.create() as store:
        datagrams = read_datagrams(capture)
        assert feed_capture(SessionFeeder(store), capture) == len(datagrams)
        parsed = [p for p in (expected.parse(d.payload) for d in datagrams) if p]
        messages = {p[1] + i: m for p in parsed if p[0] == store.session for i, m in enumerate(p[3])}
        assert dict(store.messages()) == messages
        assert store.session == (b"FHCAPTURE2" if "rollover" in capture.name else b"FHCAPTURE1")


def test_configured_session_is_taken_from_a_capture_of_two() -> None:
    """Named, the first session of the rollover is the one that is kept, whole."""
    with MessageStore.create() as store:
        feed_capture(SessionFeeder(store, b"FHCAPTURE1"), ROOT / "pcaps" / "session_rollover.pcap.gz")
        assert store.session == b"FHCAPTURE1"
        assert store.next_missing(1, store.next_sequence) is None
        assert len(store) == store.next_sequence - 1 > 100


@pytest.mark.parametrize("linktype", [1, 101, 113])
@pytest.mark.parametrize("container", ["pcap", "big-endian", "pcapng"])
def test_other_link_types_and_byte_orders_are_read(tmp_path: Path, linktype: int, container: str) -> None:
    """Ethernet, raw IP and Linux cooked; unicast and other protocols are no feed."""
    ip = bytes.fromhex("45000000000000000111000000000000") + socket.inet_aton("239.1.1.1")
    payload = packet(1, text(1), text(2))
    udp = struct.pack(">HHHH", 1, 2, 8 + len(payload), 0) + payload
    datagram = ip[:2] + struct.pack(">H", 20 + len(udp)) + ip[4:] + udp
    unicast = datagram[:16] + socket.inet_aton("10.1.1.1") + datagram[20:]
    link = {1: bytes(12) + b"\x08\x00", 101: b"", 113: bytes(14) + b"\x08\x00"}[linktype]
    frames = [
        (i, link + frame) for i, frame in enumerate((unicast.replace(text(1), text(9)), datagram, b"\x00"))
    ]
    path = tmp_path / "capture"
    if container == "pcapng":
        path.write_bytes(files.pcapng(frames, linktype=linktype))
    else:
        path.write_bytes(
            files.pcap(frames, linktype=linktype, order=">" if container == "big-endian" else "<")
        )
    with MessageStore.create() as store:
        assert feed_capture(SessionFeeder(store), path) == 1
        assert dict(store.messages()) == {1: text(1), 2: text(2)}


def test_long_reading_says_that_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A day of packets takes longer than a service manager waits for a start."""
    monkeypatch.setattr(capture, "PROGRESS_PACKETS", 7)
    signs: list[None] = []
    with MessageStore.create() as store:
        count = feed_capture(SessionFeeder(store), ROOT / "pcaps" / "clean.pcap", lambda: signs.append(None))
    assert len(signs) == count // 7 > 2


def test_segment_that_is_compressed_or_removed_while_those_before_are_read_is_found(tmp_path: Path) -> None:
    """Of a journal that is being written: the copy is read in its place, what was too old is left out."""
    records = list(dpkt.pcap.Reader(io.BytesIO((ROOT / "pcaps" / "clean.pcap").read_bytes())))
    paths = []
    for number in range(3):
        path = segment_path(tmp_path, "live", number + 1).with_suffix("")
        with path.open("wb") as file:
            writer = dpkt.pcap.Writer(file)
            for at, frame in records[number * 20 : (number + 1) * 20]:
                writer.writepkt(frame, at)
        paths.append(path)

    class Disturbed(SessionFeeder):
        """The first packet is taken just when the journal tidies."""

        def on_packet(self, payload: bytes | memoryview, now_ns: int = 0) -> int:
            if self.counters.packets == 0:
                assert compress(segments(tmp_path)[1], threading.Event())
                paths[2].unlink()
            return super().on_packet(payload, now_ns)

    with MessageStore.create() as store:
        assert feed_capture(Disturbed(store), tmp_path) == 40
    assert not paths[1].exists()


def test_cut_capture_is_refused_with_its_name(tmp_path: Path) -> None:
    """A file that breaks off in its header is no capture."""
    (tmp_path / "cut.pcap").write_bytes((ROOT / "pcaps" / "clean.pcap").read_bytes()[:20])
    with MessageStore.create() as store, pytest.raises(UsageError, match=r'cut.pcap": not a whole pcap'):
        feed_capture(SessionFeeder(store), tmp_path / "cut.pcap")


@given(st.sets(st.integers(1, 300)), st.integers(0, 310), st.integers(0, 310))
@settings(max_examples=200, deadline=None)
def test_missing_ranges_are_those_of_a_set(numbers: set[int], first: int, end: int) -> None:
    """The lowest run of numbers never stored, however the messages came."""
    with MessageStore.create(session=SESSION, max_messages=1, max_bytes=1) as store:
        for number in sorted(numbers, key=lambda n: n * 7919 % 311):
            store.append(number, text(number))
        missing = [n for n in range(max(first, 1), end) if n not in numbers]
        run = next(((b, e) for b in missing[:1] for e in range(b, end + 1) if e == end or e in numbers), None)
        assert store.next_missing(first, end) == run


def test_overwritten_messages_are_not_missing() -> None:
    """A bounded store must not ask for the whole day again."""
    with MessageStore.create(session=SESSION, max_messages=1, max_bytes=MIN_BYTES) as store:
        for number in range(1, 4001):
            if number != 3990:
                store.append(number, bytes(500))
        assert 1 not in store
        assert store.next_missing(1, 4001) == (3990, 3991)


@contextmanager
def upstream(servers: int) -> Iterator[tuple[SessionFeeder, UpstreamFeeder, list[socket.socket]]]:
    """A feeder with an empty store, and sockets that play the servers."""
    sockets = []
    for _ in range(servers):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5)
        sockets.append(sock)
    with MessageStore.create() as store:
        feeder = SessionFeeder(store)
        asking = UpstreamFeeder(feeder, [sock.getsockname() for sock in sockets])
        try:
            yield feeder, asking, sockets
        finally:
            asking.close()
            for sock in sockets:
                sock.close()


def serve_once(naive: NaiveRewind, sock: socket.socket, asking: UpstreamFeeder) -> bytes:
    """Answer one request and let the feeder have the reply; returns the request."""
    request, client = sock.recvfrom(100)
    if reply := naive.answer(request):
        sock.sendto(reply, client)
        asking.socket.settimeout(5)
        asking.socket.recvfrom(1, socket.MSG_PEEK)
        asking.socket.setblocking(False)
        asking.receive_pending()
    return request


def test_holes_of_both_lines_are_filled_from_upstream_one_request_at_a_time() -> None:
    """A head, a hole, and a tail that only a heartbeat tells of: each asked for exactly.

    And only after a tick.
    """
    naive = NaiveRewind(SESSION, {n: text(n) for n in range(1, 100)})
    with upstream(1) as (feeder, asking, (sock,)):
        feeder.on_packet(packet(5, *(text(n) for n in range(5, 50))))
        feeder.on_packet(packet(60, *(text(n) for n in range(60, 90))))
        feeder.on_packet(packet(100, count=0))
        asking.tick(time.monotonic())
        assert asking.requests == 0
        asking.tick(time.monotonic())
        requests = [struct.unpack(">10sQH", serve_once(naive, sock, asking)) for _ in range(3)]
        assert requests == [(SESSION, 1, 4), (SESSION, 50, 10), (SESSION, 90, 10)]
        assert dict(feeder.store.messages()) == naive.messages
        asking.tick(time.monotonic())
        assert (asking.requests, asking.messages) == (3, 24)


def test_silent_server_gives_way_to_the_next_and_what_nobody_has_does_not_block_the_rest() -> None:
    """The first server is silent, the second lacks number 3: it is passed over, and 6 comes all the same."""
    naive = NaiveRewind(SESSION, {n: text(n) for n in range(1, 10) if n != 3})
    with upstream(2) as (feeder, asking, (silent, good)):
        for n in (1, 2, 4, 5, 7, 8, 9):
            feeder.on_packet(packet(n, text(n)))
        now, step = time.monotonic() + 1000, TIMEOUT_S + 0.01
        asking.tick(now)
        asking.tick(now)
        assert struct.unpack(">10sQH", silent.recv(100)) == (SESSION, 3, 1)
        asking.tick(now + step)
        assert struct.unpack(">10sQH", good.recv(100)) == (SESSION, 3, 1)
        asking.tick(now + 2 * step)  # nobody has 3
        asking.tick(now + 2 * step)
        assert struct.unpack(">10sQH", silent.recv(100)) == (SESSION, 6, 1)
        asking.tick(now + 3 * step)
        assert struct.unpack(">10sQH", serve_once(naive, good, asking)) == (SESSION, 6, 1)
        assert dict(feeder.store.messages()) == naive.messages


def test_reply_of_a_stranger_or_beyond_the_known_is_not_taken() -> None:
    """Only configured servers, only the store's session, only numbers that the lines told of."""
    with (
        upstream(1) as (feeder, asking, (sock,)),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger,
    ):
        stranger.bind(("127.0.0.1", 0))
        feeder.on_packet(packet(1, text(1)))
        feeder.on_packet(packet(3, text(3)))
        asking.tick(0.0)
        asking.tick(0.0)
        request, client = sock.recvfrom(100)
        stranger.sendto(packet(2, b"forged"), client)
        sock.sendto(packet(2, b"forged").replace(SESSION, b"SESSION02 "), client)
        sock.sendto(packet(2, b"forged", b"forged", b"beyond"), client)
        sock.sendto(packet(2, b"forged")[:-1], client)
        sock.sendto(packet(2, text(2)), client)
        deadline = time.monotonic() + 5
        while 2 not in feeder.store:
            assert time.monotonic() < deadline
            asking.receive_pending()
        assert request == struct.pack(">10sQH", SESSION, 2, 1)
        assert dict(feeder.store.messages()) == {n: text(n) for n in (1, 2, 3)}
        assert feeder.store.session == SESSION
