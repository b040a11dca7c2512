"""The message store and the re-request server over it: requests a second and messages a second on one core.

    python -m benchmarks.bench_gapfill

Messages of 36 bytes, replies of 38 messages (1,464 bytes). `socket` counts what the server answered for each
second of its own processor time, requests and replies going through loopback.
"""

import os
import resource
import socket
import struct
import threading
import time
from collections.abc import Callable

from benchmarks.harness import write_json
from recovery.limits import Rate
from recovery.server import HEADER, RequestHandler, RewindServer, ServerSettings
from recovery.store import MessageStore

SESSION = b"BENCHMARK "
BLOCK = struct.pack(">H", 36) + b"A" * 36
UNLIMITED = ServerSettings(client_rate=Rate(1e12, 1e15), total_rate=Rate(1e12, 1e15))


def rate(count: int, work: Callable[[], None]) -> int:
    """Return `count` per second of doing `work`, the best of three."""
    best = float("inf")
    for _ in range(3):
        begin = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - begin)
    return round(count / best)


def append(per_packet: int, *, again: bool) -> int:
    """Messages a second, fed by packets; `again`: the second line's copies."""
    packets, blocks = 200_000 // per_packet, BLOCK * per_packet
    store = MessageStore.create(session=SESSION)

    def feed() -> None:
        first = 1 if again else store.next_sequence
        for i in range(packets):
            store.append_blocks(first + i * per_packet, per_packet, blocks)

    with store:
        feed()
        return rate(packets * per_packet, feed)


def filled() -> MessageStore:
    """A store of 100,000 messages that came in packets of ten."""
    store = MessageStore.create(session=SESSION)
    for first in range(1, 100_001, 10):
        store.append_blocks(first, 10, BLOCK * 10)
    return store


def answer() -> int:
    """Requests a second in the handler alone."""
    requests = [HEADER.pack(SESSION, 1 + i * 37 % 90_000, 60) for i in range(50_000)]
    with filled() as store:
        handler = RequestHandler(store, UNLIMITED, 0.0)
        return rate(len(requests), lambda: [handler.handle(r, "127.0.0.1", 0.0) for r in requests] and None)


def serve(seconds: float = 3.0) -> int:
    """Requests answered for each second of the server's processor time.

    A client on the other core asking all the time.
    """
    with filled() as store, RewindServer(store, ("127.0.0.1", 0), UNLIMITED) as server:
        client = os.fork()
        if client == 0:
            _ask(server.address, seconds)
            os._exit(0)
        thread = threading.Thread(target=server.run)
        before = resource.getrusage(resource.RUSAGE_SELF)
        thread.start()
        os.waitpid(client, 0)
        after = resource.getrusage(resource.RUSAGE_SELF)
        server.stop()
        thread.join()
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return round(server.counters.replies / used)


def _ask(address: tuple[str, int], seconds: float) -> None:
    requests = [HEADER.pack(SESSION, 1 + i * 37 % 90_000, 60) for i in range(100)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(address)
        sock.setblocking(False)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                for request in requests:
                    sock.send(request)
                while True:
                    sock.recv(2048)
            except BlockingIOError:
                continue


def main() -> None:
    """Print and write the figures."""
    figures = {
        "append_messages_per_s": {n: append(n, again=False) for n in (1, 10, 38)},
        "second_copy_messages_per_s": {n: append(n, again=True) for n in (1, 10, 38)},
        "handler_requests_per_s": answer(),
        "socket_requests_per_cpu_s": serve(),
    }
    for name, value in figures.items():
        print(f"{name}: {value}")
    write_json("gapfill", figures)


if __name__ == "__main__":
    main()
