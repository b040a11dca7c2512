"""A MoldUDP64 re-request server over a message store.

One request, at most one datagram back, to where the request came from. Everything that is not answered is
dropped in silence (the protocol has no reject) and counted by its reason. A reply is at most `max_payload`
bytes for a request of 20, so a forged source address would be worth up to 74 times what it costs; therefore
only listed networks are answered, and no client, nor all together, more than a set number of requests and
bytes a second.
"""

import contextlib
import ipaddress
import selectors
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields

from feedhandler.errors import RunError
from recovery.limits import Bucket, ClientTable, Rate
from recovery.store import MessageStore

HEADER = struct.Struct(">10sQH")  # session, sequence, count; requests and replies alike
MAX_PAYLOAD = 1472  # an Ethernet frame of 1500 bytes without IPv4 and UDP headers
_BATCH = 64  # datagrams in one turn, so that the store's feeder on the same thread is not starved
_KNOWN_HOSTS = 4096
CLIENT_RATE = Rate(requests=2_000, bytes=4_000_000)
TOTAL_RATE = Rate(requests=50_000, bytes=100_000_000)

Network = ipaddress.IPv4Network


@dataclass
class ServerCounters:
    """What came and what became of it.

    Each request counts in exactly one of `replies` and the reasons behind `messages`.
    """

    requests: int = field(
        default=0, metadata={"help": "datagrams that came to the server, whatever they were"}
    )
    replies: int = field(default=0, metadata={"help": "of them, answered with one datagram"})
    reply_bytes: int = field(default=0, metadata={"help": "UDP payload of the replies"})
    messages: int = field(default=0, metadata={"help": "messages in the replies"})
    malformed: int = field(default=0, metadata={"help": "not 20 bytes"})
    not_allowed: int = field(default=0, metadata={"help": "from an address outside gapfill.allow"})
    foreign_session: int = field(
        default=0, metadata={"help": "for another session, compared in all 10 bytes"}
    )
    zero_count: int = field(default=0, metadata={"help": "for no message"})
    out_of_range: int = field(
        default=0, metadata={"help": "from sequence 0, or from beyond the last message stored"}
    )
    not_held: int = field(
        default=0, metadata={"help": "from a message that is missing here or no longer kept"}
    )
    limited_client: int = field(
        default=0, metadata={"help": "over the client's own limit of requests or bytes"}
    )
    limited_total: int = field(default=0, metadata={"help": "over the limit for all clients together"})
    send_errors: int = field(default=0, metadata={"help": "replies that the kernel did not take"})


COUNTER_HELP = {f.name: f.metadata["help"] for f in fields(ServerCounters)}


@dataclass(frozen=True)
class ServerSettings:
    """Who is answered, and how much. `allow` empty: everybody."""

    max_payload: int = MAX_PAYLOAD
    allow: tuple[Network, ...] = ()
    client_rate: Rate = CLIENT_RATE
    total_rate: Rate = TOTAL_RATE
    max_clients: int = 4096


class RequestHandler:
    """Decides about one request at a time; knows neither sockets nor clocks."""

    def __init__(self, store: MessageStore, settings: ServerSettings, now_s: float) -> None:
        self.store = store
        self.settings = settings
        self.counters = ServerCounters()
        self.clients = ClientTable(settings.client_rate, settings.max_clients)
        self._total = Bucket(settings.total_rate, now_s)
        self._allowed: dict[str, bool] = {}

    def handle(self, request: bytes | memoryview, host: str, now_s: float) -> bytes | None:
        """Return the one datagram that answers `request` from the address `host`, or None.

        `now_s` never goes back.
        """
        counters, store = self.counters, self.store
        counters.requests += 1
        if len(request) != HEADER.size:
            counters.malformed += 1
            return None
        if not self.is_allowed(host):
            counters.not_allowed += 1
            return None
        session, sequence, count = HEADER.unpack(request)
        if session != store.session:
            counters.foreign_session += 1
            return None
        if count == 0:
            counters.zero_count += 1
            return None
        if not 1 <= sequence < store.next_sequence:
            counters.out_of_range += 1
            return None
        bucket = self.clients.bucket(host, now_s)
        if not bucket.ready(now_s):
            counters.limited_client += 1
            return None
        if not self._total.ready(now_s):
            counters.limited_total += 1
            return None
        held, blocks = store.messages_from(sequence, count, self.settings.max_payload - HEADER.size)
        size = HEADER.size + len(blocks)
        bucket.take(size if held else 0)
        self._total.take(size if held else 0)
        if not held:
            counters.not_held += 1
            return None
        counters.replies += 1
        counters.reply_bytes += size
        counters.messages += held
        return HEADER.pack(session, sequence, held) + blocks

    def is_allowed(self, host: str) -> bool:
        """Whether `host` lies in one of the listed networks."""
        known = self._allowed.get(host)
        if known is None:
            if len(self._allowed) >= _KNOWN_HOSTS:
                self._allowed.clear()
            address = ipaddress.IPv4Address(host)
            networks = self.settings.allow
            known = self._allowed[host] = not networks or any(address in network for network in networks)
        return known


class RewindServer:
    """The handler on a UDP socket; other sockets can share its loop (`watch`)."""

    def __init__(
        self, store: MessageStore, address: tuple[str, int], settings: ServerSettings | None = None
    ) -> None:
        settings = settings or ServerSettings()
        self.handler = RequestHandler(store, settings, time.monotonic())
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            self._socket.bind(address)
        except OSError as error:
            self._socket.close()
            raise RunError(f'gapfill.listen: "{address[0]}:{address[1]}": {error.strerror}') from error
        self.address: tuple[str, int] = self._socket.getsockname()
        self._buffer = bytearray(2048)
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._socket, selectors.EVENT_READ, self.serve_pending)
        self._selector.register(self._wake_reader, selectors.EVENT_READ, self._drain_wake)
        self._stopping = False

    @property
    def counters(self) -> ServerCounters:
        """What came and what became of it, so far."""
        return self.handler.counters

    def watch(self, source: socket.socket, ready: Callable[[], None]) -> None:
        """Call `ready` from the loop whenever `source` can be read."""
        self._selector.register(source, selectors.EVENT_READ, ready)

    def run(self, *, each_s: float = 1.0, tick: Callable[[float], None] | None = None) -> None:
        """Serve until `stop`; `tick(now_s)` is called about every `each_s` seconds."""
        due = time.monotonic() + each_s
        while not self._stopping:
            for key, _ in self._selector.select(max(0.0, due - time.monotonic())):
                key.data()
            now_s = time.monotonic()
            if now_s >= due:
                due = now_s + each_s
                if tick is not None:
                    tick(now_s)

    def serve_pending(self) -> None:
        """Answer what lies in the socket, at most one batch."""
        receive, send, buffer = self._socket.recvfrom_into, self._socket.sendto, self._buffer
        handle, view = self.handler.handle, memoryview(self._buffer)
        now_s = time.monotonic()
        for _ in range(_BATCH):
            try:
                length, client = receive(buffer)
            except BlockingIOError:
                return
            reply = handle(view[:length], client[0], now_s)
            if reply is not None:
                try:
                    send(reply, client)
                except OSError:
                    self.handler.counters.send_errors += 1

    def stop(self) -> None:
        """End `run`; may be called from a signal handler or another thread."""
        self._stopping = True
        with contextlib.suppress(BlockingIOError):  # full: enough wake-ups are on their way
            self._wake_writer.send(b"x")

    def _drain_wake(self) -> None:
        self._wake_reader.recv(64)

    def close(self) -> None:
        """Close the sockets; the store stays open."""
        self._selector.close()
        for each in (self._socket, self._wake_reader, self._wake_writer):
            each.close()

    def __enter__(self) -> "RewindServer":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()
