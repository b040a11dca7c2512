"""A snapshot server: the books as of one message, over SoupBinTCP (GLIMPSE 5.0).

A client logs in with sequence 1 and gets the image as of the last message stored at that moment: directory,
states, every displayed order, and `G` with the number of the first message that the image does not contain.
Whoever may not log in, asks too often, does not read, reads too slowly or does not log out is dropped; memory
is bounded by the number of clients. One address has at most half of the places, and when they are taken the
connection that has waited longest without a login makes room: a client that logs in at once finds a place.
"""

import contextlib
import hmac
import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields

from feedhandler import _core
from feedhandler.errors import RunError
from recovery.limits import ClientTable, Rate
from recovery.soupbintcp import DEAD_S, Phase, ServerSession
from recovery.store import MessageStore

TICK_S = 0.25
_BLOCKS = 1 << 20  # bytes applied at a time
LOAD_S = 600.0  # a client that has not taken the whole image by then is dropped
LOGOUT_S = 15.0  # a client that has it and does not log out


class StoreImages:
    """Images of the books after the messages of a store, which must hold them from number 1 on.

    The books follow the store whenever `follow` is called; a store that overwrites what was not yet applied
    ends it: there is no image any more.
    """

    def __init__(self, store: MessageStore) -> None:
        self._store = store
        self._books = _core.SnapshotImage()
        self._image: tuple[int, bytes] = (0, b"")

    @property
    def session(self) -> str:
        """The MoldUDP64 session whose books these are."""
        return self._store.session.decode("ascii", "replace").strip()

    def follow(self) -> bool:
        """Apply all that is stored by now; False when messages are missing."""
        books, end = self._books, self._store.next_sequence
        while books.next_sequence < end:
            first = books.next_sequence
            count, blocks = self._store.messages_from(first, end - first, _BLOCKS)
            if not count:
                return False
            books.apply(first, count, blocks)
        return True

    def image(self) -> tuple[int, bytes] | None:
        """Return (first message not in it, SoupBinTCP packets), or None when there is none to give."""
        if not self.follow() or not self._books.complete:
            return None
        sequence = self._books.next_sequence
        if self._image[0] != sequence:
            self._image = (sequence, self._books.image())
        return self._image


@dataclass
class GlimpseCounters:
    """What came and what became of it."""

    connections: int = field(default=0, metadata={"help": "TCP connections that were accepted"})
    too_many: int = field(
        default=0,
        metadata={"help": "of them, closed for want of a place, at once or for one that came later"},
    )
    limited: int = field(default=0, metadata={"help": "of them, over the client's limit of logins"})
    refused: int = field(default=0, metadata={"help": "logins refused"})
    snapshots: int = field(default=0, metadata={"help": "snapshots begun"})
    completed: int = field(default=0, metadata={"help": "of them, sent whole"})
    dropped: int = field(
        default=0, metadata={"help": "sessions ended for silence, slowness, no logout or a protocol error"}
    )


COUNTER_HELP = {f.name: f.metadata["help"] for f in fields(GlimpseCounters)}


@dataclass(frozen=True)
class GlimpseSettings:
    """Who may log in, and how many. `username` empty: anybody, with any password."""

    username: str = ""
    password: str = ""
    max_clients: int = 16
    logins_per_s: float = 5.0  # of one address
    cut_after: int = 0  # a fault for tests: bytes of the image after which the connection is cut; 0: never


class Client:
    """One connection: its session and the rest of its image. Knows neither sockets nor clocks."""

    def __init__(
        self,
        images: StoreImages,
        settings: GlimpseSettings,
        counters: GlimpseCounters,
        now_s: float,
        host: str = "",
    ) -> None:
        self.host = host
        self.session = ServerSession(now_s)
        self._images, self._settings, self._counters = images, settings, counters
        self._image = memoryview(b"")
        self._progress_s = self._began_s = self._completed_s = now_s

    def receive(self, data: bytes, now_s: float) -> None:
        """Take what the client sent."""
        waiting = self.session.login is None
        open_before = self.session.phase is not Phase.CLOSED
        self.session.receive(data, now_s)
        if open_before and self.session.reason.startswith("protocol error"):
            self._counters.dropped += 1
        if waiting and self.session.login is not None and self.session.phase is Phase.LOGIN:
            self._on_login(*self.session.login, now_s)

    def _on_login(self, username: str, password: str, session: str, sequence: int, now_s: float) -> None:
        settings = self._settings
        known = not settings.username or (
            username.lower() == settings.username.lower()
            and hmac.compare_digest(password.lower().encode(), settings.password.lower().encode())
        )
        image = self._images.image() if known and sequence <= 1 else None
        if not known:
            self._refuse("A", now_s)
        elif image is None or session not in ("", self._images.session):
            self._refuse("S", now_s)
        else:
            self._counters.snapshots += 1
            self.session.accept(self._images.session, 1, now_s)
            self._image = memoryview(image[1])
            if settings.cut_after:
                self._image = self._image[: settings.cut_after]
            self._progress_s = self._began_s = now_s

    def _refuse(self, reason: str, now_s: float) -> None:
        self._counters.refused += 1
        self.session.reject(reason, now_s)

    def pending(self) -> memoryview:
        """What is to be sent next; empty: nothing."""
        return memoryview(bytes(self.session.output)) if self.session.output else self._image

    def sent(self, count: int, now_s: float) -> None:
        """`count` bytes of what was pending are on their way."""
        self._progress_s = now_s
        if self.session.output:
            del self.session.output[:count]
            return
        self._image = self._image[count:]
        if not len(self._image):
            if self._settings.cut_after:
                self.session.close("cut")
            else:
                self._counters.completed += 1
                self._completed_s = now_s

    def tick(self, now_s: float) -> None:
        """Keep the session alive, or end it."""
        if self.session.phase is Phase.CLOSED:
            return
        if reason := self._overdue(now_s):
            self.session.close(reason)
        elif not len(self._image):  # a heartbeat cannot get past the image, and need not
            self.session.tick(now_s)
        if self.session.reason:
            self.session.output.clear()  # what it has not read by now it never will
            self._counters.dropped += 1

    def _overdue(self, now_s: float) -> str:
        if len(self._image):
            if now_s - self._progress_s >= DEAD_S:
                return "does not read"
            return "too slow" if now_s - self._began_s >= LOAD_S else ""
        waits = self.session.phase is Phase.OPEN and now_s - self._completed_s >= LOGOUT_S
        return "no logout" if waits else ""

    @property
    def logging_in(self) -> bool:
        """Whether it has not said yet who it is."""
        return self.session.phase is Phase.LOGIN

    @property
    def over(self) -> bool:
        """Whether the connection can be closed: nothing is left to say."""
        return self.session.phase is Phase.CLOSED and not self.session.output


class GlimpseServer:
    """The clients on TCP sockets, one loop for all."""

    def __init__(
        self, store: MessageStore, address: tuple[str, int], settings: GlimpseSettings | None = None
    ) -> None:
        self.settings = settings or GlimpseSettings()
        self.counters = GlimpseCounters()
        self._images = StoreImages(store)
        self._logins = ClientTable(Rate(self.settings.logins_per_s, 1.0), 4096)
        self._clients: dict[socket.socket, Client] = {}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind(address)
            self._socket.listen(64)
        except OSError as error:
            self._socket.close()
            raise RunError(f'--snapshot: "{address[0]}:{address[1]}": {error.strerror}') from error
        self.address: tuple[str, int] = self._socket.getsockname()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._socket, selectors.EVENT_READ, self._accept)
        self._selector.register(self._wake_reader, selectors.EVENT_READ, self._drain_wake)
        self._stopping = False

    def run(self) -> None:
        """Serve until `stop`."""
        due = time.monotonic()
        while not self._stopping:
            for key, events in self._selector.select(max(0.0, due - time.monotonic())):
                handler: Callable[[socket.socket, int], None] = key.data
                handler(key.fileobj, events)  # type: ignore[arg-type]  # only sockets are registered
            now_s = time.monotonic()
            if now_s >= due:
                due = now_s + TICK_S
                self._images.follow()
                for connection, client in list(self._clients.items()):
                    client.tick(now_s)
                    self._advance(connection, client, now_s)

    def _accept(self, _socket: socket.socket, _events: int) -> None:
        try:
            connection, (host, _) = self._socket.accept()
        except OSError:
            return
        now_s = time.monotonic()
        self.counters.connections += 1
        bucket = self._logins.bucket(host, now_s)
        allowed = bucket.ready(now_s)
        if allowed:
            bucket.take(0)
        if not allowed:
            self.counters.limited += 1
        elif not self._make_room(host):
            self.counters.too_many += 1
        else:
            connection.setblocking(False)
            self._clients[connection] = Client(self._images, self.settings, self.counters, now_s, host)
            self._selector.register(connection, selectors.EVENT_READ, self._serve)
            return
        connection.close()

    def _make_room(self, host: str) -> bool:
        """Whether there is a place for `host`, if need be that of a connection that has not logged in."""
        most = self.settings.max_clients
        same = [each for each, client in self._clients.items() if client.host == host]
        crowd = same if len(same) >= (most + 1) // 2 else list(self._clients)
        if crowd is not same and len(crowd) < most:
            return True
        oldest = next((each for each in crowd if self._clients[each].logging_in), None)
        if oldest is None:
            return False
        self.counters.too_many += 1
        self._drop(oldest)
        return True

    def _serve(self, connection: socket.socket, events: int) -> None:
        client = self._clients.get(connection)
        if client is None:  # it has made room in this turn
            return None
        now_s = time.monotonic()
        if events & selectors.EVENT_READ:
            try:
                data = connection.recv(4096)
            except BlockingIOError:
                data = None
            except OSError:
                data = b""
            if data == b"":
                return self._drop(connection)
            if data:
                client.receive(data, now_s)
        self._advance(connection, client, now_s)
        return None

    def _advance(self, connection: socket.socket, client: Client, now_s: float) -> None:
        try:
            while len(pending := client.pending()):
                client.sent(connection.send(pending[: 1 << 20]), now_s)
        except BlockingIOError:
            pass
        except OSError:
            return self._drop(connection)
        if client.over:
            return self._drop(connection)
        writing = selectors.EVENT_WRITE if len(client.pending()) else 0
        self._selector.modify(connection, selectors.EVENT_READ | writing, self._serve)
        return None

    def _drop(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        del self._clients[connection]
        connection.close()

    def stop(self) -> None:
        """End `run`; may be called from a signal handler or another thread."""
        self._stopping = True
        with contextlib.suppress(BlockingIOError):
            self._wake_writer.send(b"x")

    def _drain_wake(self, _socket: socket.socket, _events: int) -> None:
        self._wake_reader.recv(64)

    def close(self) -> None:
        """Close all connections; the store stays open."""
        self._selector.close()
        for each in (self._socket, self._wake_reader, self._wake_writer, *self._clients):
            each.close()
        self._clients.clear()

    def __enter__(self) -> "GlimpseServer":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()
