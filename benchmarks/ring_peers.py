"""One end of a transport, in a process of its own: ours, iceoryx2 or pyzmq, in Python, in batches.

python -m benchmarks.ring_peers KIND read|write FOLDER RECORDS BATCH
Prints "up" when ready; a writer starts at a line on stdin and ends at its end. JSON on stdout.
"""

import ctypes
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from feedhandler.consumer.schema import DTYPES

MBO = DTYPES["mbo"]


def _read(next_batch: Callable[[], Any], records: int) -> dict[str, Any]:
    """Count records until all have come; next_batch returns an array of MBO records, or None."""
    print("up", flush=True)
    read, bad, start, cpu = 0, 0, 0, 0
    while read < records:
        batch = next_batch()
        if batch is None:
            continue
        if not start:
            start, cpu = time.monotonic_ns(), time.process_time_ns()
        read += len(batch)
        bad += int(batch["order_id"][0] != batch["ts_recv"][0]) + int(
            batch["order_id"][-1] != batch["ts_recv"][-1]
        )
    return {
        "read": read,
        "lost": 0,
        "garbage": bad,
        "elapsed_ns": time.monotonic_ns() - start,
        "cpu_ns": time.process_time_ns() - cpu,
    }


def read_ours(folder: str, records: int) -> dict[str, Any]:
    """Consumer.poll; ends when read + lost are all."""
    from feedhandler import Consumer

    with Consumer(folder, schemas=["mbo"]) as consumer:
        print("up", flush=True)
        read, bad, start, cpu = 0, 0, 0, 0
        while read + consumer.lost < records:
            for part in consumer.poll(1.0):
                if not start:
                    start, cpu = time.monotonic_ns(), time.process_time_ns()
                rows = part.records
                read += len(rows)
                bad += int(rows["order_id"][0] != rows["ts_recv"][0]) + int(
                    rows["order_id"][-1] != rows["ts_recv"][-1]
                )
        elapsed, cpu = time.monotonic_ns() - start, time.process_time_ns() - cpu
        return {"read": read, "lost": consumer.lost, "garbage": bad, "elapsed_ns": elapsed, "cpu_ns": cpu}


def _iceoryx2_service(folder: str) -> Any:
    import iceoryx2 as iox2

    iox2.set_log_level(iox2.LogLevel.Error)
    node = iox2.NodeBuilder.new().create(iox2.ServiceType.Ipc)
    builder = node.service_builder(iox2.ServiceName.new("feedhandler-bench" + folder.replace("/", "-")))
    builder = builder.publish_subscribe(iox2.Slice[ctypes.c_uint8]).enable_safe_overflow(False)
    builder = builder.subscriber_max_buffer_size(64).max_subscribers(2).max_publishers(1)
    return node, builder.open_or_create()


def read_iceoryx2(folder: str, records: int) -> dict[str, Any]:
    """Subscriber.receive; zero-copy view of each sample."""
    node, service = _iceoryx2_service(folder)
    subscriber = service.subscriber_builder().create()

    def next_batch() -> Any:
        sample = subscriber.receive()
        if sample is None:
            time.sleep(20e-6)
            return None
        payload = sample.payload()
        rows = np.frombuffer((ctypes.c_uint8 * payload.len()).from_address(payload.as_ptr()), MBO)
        summary = rows[[0, -1]].copy()
        out = np.lib.stride_tricks.as_strided(summary, (2,), (MBO.itemsize,))
        count = len(rows)
        sample.delete()
        return _Counted(out, count)

    del node
    return _read(next_batch, records)


class _Counted:
    """First and last record of a batch, and its length: the memory of the sample is given back."""

    def __init__(self, rows: Any, count: int) -> None:
        self._rows, self._count = rows, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, field: str) -> Any:
        return self._rows[field]


def write_iceoryx2(folder: str, batch: int) -> Callable[[np.ndarray], None]:
    """Publisher with loans; blocks when a subscriber is full."""
    import iceoryx2 as iox2

    node, service = _iceoryx2_service(folder)
    builder = service.publisher_builder().initial_max_slice_len(batch * MBO.itemsize)
    strategies = iox2.BackpressureStrategy
    block = getattr(strategies, "RetryUntilDelivered", None) or strategies.Block
    publisher = builder.backpressure_strategy(block).create()

    def send(rows: np.ndarray) -> None:
        sample = publisher.loan_slice_uninit(rows.nbytes)
        ctypes.memmove(sample.payload_ptr, rows.ctypes.data, rows.nbytes)
        sample.assume_init().send()

    send.keep = (node, service)  # type: ignore[attr-defined]
    return send


def read_pyzmq(folder: str, records: int) -> dict[str, Any]:
    """SUB over ipc, one message a batch."""
    import zmq

    socket = zmq.Context.instance().socket(zmq.SUB)
    socket.set(zmq.RCVHWM, 64)
    socket.setsockopt(zmq.SUBSCRIBE, b"")
    socket.connect(f"ipc://{folder}/zmq")
    return _read(lambda: np.frombuffer(socket.recv(), MBO), records)


def write_pyzmq(folder: str, _batch: int) -> Callable[[np.ndarray], None]:
    """XPUB over ipc that waits for two subscribers and does not drop."""
    import zmq

    socket = zmq.Context.instance().socket(zmq.XPUB)
    socket.set(zmq.SNDHWM, 64)
    socket.setsockopt(zmq.XPUB_NODROP, 1)
    socket.setsockopt(zmq.XPUB_VERBOSE, 1)
    socket.bind(f"ipc://{folder}/zmq")
    joined = []

    def send(rows: np.ndarray) -> None:
        while len(joined) < 2:
            joined.append(socket.recv())
        socket.send(rows.data, copy=True)

    return send


def _write(send: Callable[[np.ndarray], None], records: int, batch: int) -> dict[str, Any]:
    rows = np.zeros(batch, MBO)
    rows["order_id"] = rows["ts_recv"] = np.arange(batch)
    print("up", flush=True)
    sys.stdin.readline()
    start = time.monotonic_ns()
    for _ in range(records // batch):
        send(rows)
    return {"written": records // batch * batch, "elapsed_ns": time.monotonic_ns() - start}


def main() -> None:
    """Be one end."""
    kind, role, folder, records, batch = *sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5])
    if role == "read":
        result = globals()[f"read_{kind}"](folder, records // batch * batch)
        print(json.dumps(result), flush=True)
        return
    send = globals()[f"write_{kind}"](folder, batch)
    print(json.dumps(_write(send, records, batch)), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
