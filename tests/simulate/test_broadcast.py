"""The exchange on the network: everything arrives, on time, and the counts of what did not are exact."""

import socket
import struct
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from feedhandler import _core
from feedhandler.errors import RunError
from feedhandler.simulate import Line, NetworkSettings, Transmission
from recovery.store import MessageStore
from tests.simulate.day import make_day, split
from tests.support.multicast import free_port, free_ports
from tests.support.wait import wait_for

GROUP_A, GROUP_B = "239.195.7.1", "239.195.7.2"
SESSION = b"SIMULATED1"
SECOND = 1_000_000_000
DAY = (5_000, 10, 5)  # messages, symbols, seed
END = 0xFFFF


class Receiver:
    """A plain Python socket in a multicast group on loopback, read by a thread so that nothing is lost."""

    def __init__(self, group: str, port: int) -> None:
        self.packets: list[bytes] = []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.socket.bind((group, port))
        membership = socket.inet_aton(group) + socket.inet_aton("127.0.0.1")
        self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        self.socket.settimeout(0.05)
        self._stopping = False
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while not self._stopping:
            try:
                self.packets.append(self.socket.recv(65536))
            except TimeoutError:
                continue

    def close(self) -> None:
        """Stop reading."""
        self._stopping = True
        self._thread.join()
        self.socket.close()

    def messages(self) -> dict[int, bytes]:
        """Return the messages of all well-formed packets, by number."""
        out = {}
        for data in self.packets:
            parsed = _core.parse_mold_packet(data)
            if parsed is not None and parsed[0] == "data":
                out |= dict(enumerate(parsed[3], parsed[2]))
        return out

    def ends(self) -> list[bytes]:
        """Return the end-of-session packets."""
        return [data for data in self.packets if len(data) == 20 and data[18:] == b"\xff\xff"]


@pytest.fixture
def lines() -> Iterator[tuple[Receiver, Receiver]]:
    """Receivers of lines A and B."""
    ports = list(free_ports(2))
    both = Receiver(GROUP_A, ports[0]), Receiver(GROUP_B, ports[1])
    yield both
    for receiver in both:
        receiver.close()


def target(name: str, receiver: Receiver, **faults: float) -> _core.LineTarget:
    """Return where the receiver listens."""
    group, port = receiver.socket.getsockname()
    return _core.LineTarget(name, group, port, **faults)


def broadcast(targets: list[_core.LineTarget], **options: object) -> _core.Broadcast:
    """Return a broadcast of the test's day."""
    settings = {"session": SESSION.decode(), "messages_per_s": 1_000_000, "linger_ns": SECOND // 2} | options
    return _core.Broadcast(_core.Exchange(*DAY), targets, **settings)


def test_everything_arrives_on_both_lines(lines: tuple[Receiver, Receiver]) -> None:
    """Both lines bring the whole day in order, then the end of the session several times."""
    sent = broadcast([target("A", lines[0]), target("B", lines[1])])
    sent.run()
    expected = dict(enumerate(split(make_day(*DAY)), 1))
    for name, line in zip("AB", lines, strict=True):
        wait_for(lambda line=line: len(line.ends()) >= 2, "end of session")
        assert line.messages() == expected
        assert all(data[:10] == SESSION for data in line.packets)
        assert all(struct.unpack_from(">Q", data, 10)[0] == 5001 for data in line.ends())
        assert max(map(len, line.packets)) <= 1472
        assert sent.counts[name]["delivered"] == len(line.packets)
    assert sent.messages == 5000


def test_counts_say_exactly_what_did_not_arrive(lines: tuple[Receiver, Receiver]) -> None:
    """With all faults on, the packets and message numbers lost agree with what a socket sees."""
    faults = {"drop": 0.1, "drop_burst": 4, "duplicate": 0.05, "reorder": 0.1, "corrupt": 0.1}
    sent = broadcast(
        [target("A", lines[0], **faults), target("B", lines[1], drop=0.3)], messages_per_s=100_000
    )
    sent.run()
    for name, line in zip("AB", lines, strict=True):
        counts = sent.counts[name]
        wait_for(lambda line=line, counts=counts: len(line.packets) >= counts["delivered"], "last packet")
        assert len(line.packets) == counts["delivered"]
        assert counts["offered_messages"] == 5000
        assert counts["lost_messages"] == 5000 - len(line.messages())
        assert counts["corrupted"] == sum(_core.parse_mold_packet(data) is None for data in line.packets)
    assert sent.counts["A"]["lost_messages"] != sent.counts["B"]["lost_messages"]


def test_same_faults_lose_the_same_packets_on_all_lines(lines: tuple[Receiver, Receiver]) -> None:
    """What one line lost the other has not brought either, so that only a re-request can."""
    faults = {"drop": 0.1, "drop_burst": 4}
    sent = broadcast(
        [target(name, line, **faults) for name, line in zip("AB", lines, strict=True)], same_faults=True
    )
    sent.run()
    for name, line in zip("AB", lines, strict=True):
        delivered = sent.counts[name]["delivered"]
        wait_for(lambda line=line, delivered=delivered: len(line.packets) >= delivered, "last packet")
    assert 0 < len(lines[0].messages()) < 5000
    assert lines[0].messages() == lines[1].messages()


def test_lateness_never_adds_up(lines: tuple[Receiver, Receiver]) -> None:
    """Polled late and unevenly, as many messages are out at every instant as the rate says."""
    sent = broadcast([target("A", lines[0])], messages_per_s=1000)
    now = start = 7 * SECOND
    for number, lateness in enumerate([1, 0, 300_000_000, 5, 17_000_003, 0, 900_000_000] * 2):
        due = sent.poll(now)
        while due <= now:
            due = sent.poll(now)
        allowed = (now - start) * 1000 // SECOND
        first = max(struct.unpack_from(">Q", data, 10)[0] for data in wait_packets(lines[0], number))
        assert first - 1 <= allowed < sent.messages + 1, (first, allowed, sent.messages)
        now = due + lateness


def wait_packets(line: Receiver, _: int) -> list[bytes]:
    """Return the data packets, once there is one."""
    return wait_for(lambda: [d for d in line.packets if len(d) > 20], "a packet")


def test_due_times_are_exact(lines: tuple[Receiver, Receiver]) -> None:
    """A packet is due its number over the rate after the first one, to the nanosecond, at odd rates too."""
    sent = broadcast([target("A", lines[0])], messages_per_s=7919)
    start = now = 1_700_000_000 * SECOND
    checked = 0
    while sent.messages < 4000:
        due = sent.poll(now)
        if due > now and due - now < SECOND // 2:
            assert (due - start) == sent.messages * SECOND // 7919
            checked += 1
        now = max(due, now)
    assert checked > 500


def test_bursts_keep_the_mean_rate(lines: tuple[Receiver, Receiver]) -> None:
    """With bursts of 500 the messages go 500 at a time, twice a second at a rate of 1,000."""
    sent = broadcast([target("A", lines[0])], messages_per_s=1000, burst=500)
    start = now = 0
    at: dict[int, int] = {}
    while sent.messages < 3000:
        due = sent.poll(now)
        at[now] = sent.messages
        now = max(due, now)
    assert sorted(at) == [start + i * SECOND // 2 for i in range(len(at))]
    for instant, messages in at.items():
        assert 0 <= messages - (instant * 1000 // SECOND + 500) < 64  # the last packet may hold some more


def test_heartbeats_each_second_when_idle(lines: tuple[Receiver, Receiver]) -> None:
    """Before the first message and whenever nothing is due for a second, a heartbeat says the next number."""
    sent = broadcast([target("A", lines[0])], messages_per_s=1, lead_ns=3 * SECOND)
    now = 0
    for _ in range(4):
        now = sent.poll(now)
    assert (
        now == 4 * SECOND
    )  # heartbeats at 0, 1, 2; at 3 the first message (alone: the next is minutes later)
    wait_for(lambda: len(lines[0].packets) == 4, "three heartbeats and a packet")
    heads = [struct.unpack_from(">QH", data, 10) for data in lines[0].packets]
    assert heads == [(1, 0), (1, 0), (1, 0), (1, 1)]


def test_delayed_packets_go_out_when_the_line_falls_silent(lines: tuple[Receiver, Receiver]) -> None:
    """A packet that reordering holds back does not wait for traffic that may not come."""
    sent = broadcast([target("A", lines[0], reorder=1.0)], messages_per_s=1, burst=10**6, linger_ns=1)
    now = 0
    while not sent.over:
        now = max(now, sent.poll(now))
    expected = dict(enumerate(split(make_day(*DAY)), 1))
    wait_for(lambda: lines[0].messages() == expected, "all messages")


def test_a_cut_session_ends_with_what_was_sent(lines: tuple[Receiver, Receiver]) -> None:
    """Stopped in the middle, the session ends with the number after the last message, within a second."""
    sent = broadcast([target("A", lines[0])], messages_per_s=10_000, linger_ns=60 * SECOND)
    thread = threading.Thread(target=sent.run)
    thread.start()
    wait_for(lambda: sent.messages > 100, "messages")
    stopped = time.monotonic()
    sent.stop()
    thread.join()
    assert time.monotonic() - stopped < 1
    wait_for(lambda: lines[0].ends(), "end of session")
    assert {struct.unpack_from(">Q", data, 10)[0] for data in lines[0].ends()} == {sent.messages + 1}
    assert sorted(lines[0].messages()) == list(range(1, sent.messages + 1))


@pytest.mark.parametrize(("max_messages", "max_bytes"), [(1 << 16, 1 << 20), (1 << 17, 1 << 23)])
def test_the_store_holds_what_was_sent(
    lines: tuple[Receiver, Receiver], max_messages: int, max_bytes: int
) -> None:
    """The store answers for every number it keeps, also when its ring has come round many times."""
    store = MessageStore.create(session=SESSION, max_messages=max_messages, max_bytes=max_bytes)
    day = (150_000, 10, 5)
    memory = np.frombuffer(store.memory, np.uint8)
    sent = _core.Broadcast(
        _core.Exchange(*day),
        [target("A", lines[0], drop=1.0)],
        session=SESSION.decode(),
        messages_per_s=10**9,
        linger_ns=0,
        store=memory,
    )
    sent.run()
    expected = list(split(make_day(*day)))
    held = dict(store.messages())
    assert max(held) == 150_000
    assert all(message == expected[number - 1] for number, message in held.items())
    assert len(held) > 30_000
    assert sorted(held) == list(range(min(held), 150_001))
    count, blocks = store.messages_from(149_000, 20, 1452)
    assert count == 20
    assert list(split(blocks)) == expected[148_999 : 148_999 + 20]


def test_requests_are_answered_while_it_sends(lines: tuple[Receiver, Receiver]) -> None:
    """The re-request server gives what a line lost, under the session, to a plain socket."""
    group, port = lines[0].socket.getsockname()
    rewind = ("127.0.0.1", free_port())
    settings = NetworkSettings(
        lines=(Line("A", group, port, {"drop": 0.5, "drop_burst": 5}),),
        messages_per_s=50_000,
        linger_s=60,
        rewind=rewind,
        seed=4,
    )
    transmission = Transmission(_core.Exchange(*DAY), settings, DAY[0])
    thread = threading.Thread(target=transmission.run)
    thread.start()
    expected = dict(enumerate(split(make_day(*DAY)), 1))
    wait_for(lambda: transmission.broadcast.messages == 5000 and lines[0].ends(), "the end")
    have = lines[0].messages()
    missing = set(expected) - set(have)
    assert len(missing) > 500
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.settimeout(5)
        while missing:
            asker.sendto(struct.pack(">10sQH", SESSION, min(missing), 100), rewind)
            kind, session, first, messages = _core.parse_mold_packet(asker.recv(2048))
            assert (kind, session, first) == ("data", SESSION, min(missing))
            have |= dict(enumerate(messages, first))
            missing -= set(range(first, first + len(messages)))
    assert have == expected
    transmission.stop()
    thread.join()
    summary = transmission.summary()
    assert summary["messages"] == 5000
    assert summary["rewind"]["replies"] == summary["rewind"]["requests"] > 0


def test_lost_requests_are_not_answered(lines: tuple[Receiver, Receiver]) -> None:
    """With --drop-rewind 1 the server stays silent, and counts nothing."""
    group, port = lines[0].socket.getsockname()
    rewind = ("127.0.0.1", free_port())
    settings = NetworkSettings(lines=(Line("A", group, port),), linger_s=60, rewind=rewind, drop_rewind=1.0)
    transmission = Transmission(_core.Exchange(*DAY), settings, DAY[0])
    thread = threading.Thread(target=transmission.run)
    thread.start()
    wait_for(lambda: transmission.broadcast.messages > 100, "messages")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.settimeout(0.2)
        asker.sendto(struct.pack(">10sQH", SESSION, 1, 10), rewind)
        with pytest.raises(TimeoutError):
            asker.recv(2048)
    transmission.stop()
    thread.join()


def test_a_line_that_cannot_be_sent_on_is_named() -> None:
    """An interface that this machine does not have: one line that names line, group and interface."""
    settings = NetworkSettings(lines=(Line("A", GROUP_A, 4000),), interface="nosuch0", rewind=None)
    with pytest.raises(RunError, match=r"line A: 239\.195\.7\.1:4000 by nosuch0"):
        Transmission(_core.Exchange(*DAY), settings, DAY[0])
    with pytest.raises(RunError, match=r"by 192\.0\.2\.77"):
        Transmission(
            _core.Exchange(*DAY),
            NetworkSettings(lines=(Line("A", GROUP_A, 4000),), interface="192.0.2.77", rewind=None),
            DAY[0],
        )
