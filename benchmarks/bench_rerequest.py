"""From the packet that shows a hole to the re-request on the wire: the real daemon, real sockets.

    python -m benchmarks.bench_rerequest

The arbitration wait is 0. Both ends are the kernel's receive timestamps: of the packet on a multicast socket
of our own beside the daemon's, and of the request on the re-request server's socket. So the figure holds the
daemon's receive call, its work and its send call.
"""

import socket
import struct
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.harness import feedhandler, write_json

GROUP, SESSION = "239.192.77.1", b"REREQUEST1"
HOLES = 2000
SO_TIMESTAMPNS = 35  # linux/asm-generic/socket.h; Python's socket module does not name it

CONFIG = """
[channel]
name = "rerequest"
[[line]]
name = "A"
group = "{group}"
port = {port}
[receive]
spin = true
cpu = 0
[recovery]
arbitration_ms = 0
requests_per_s = 1000000
[[recovery.server]]
address = "127.0.0.1:{server}"
[metrics]
listen = ""
"""


def timestamped(kind: str, port: int = 0) -> socket.socket:
    """Open a loopback UDP socket with kernel receive timestamps: `kind` "multicast" joins the group."""
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    s.bind((GROUP if kind == "multicast" else "127.0.0.1", port))
    if kind == "multicast":
        s.setsockopt(
            socket.IPPROTO_IP,
            socket.IP_ADD_MEMBERSHIP,
            socket.inet_aton(GROUP) + socket.inet_aton("127.0.0.1"),
        )
    s.settimeout(2.0)
    return s


def receive(s: socket.socket) -> tuple[bytes, int, tuple[str, int]]:
    """Return (payload, kernel receive time in ns, sender)."""
    data, ancillary, _, sender = s.recvmsg(2048, 128)
    seconds, nanoseconds = struct.unpack("qq", ancillary[0][2][:16])
    return data, seconds * 1_000_000_000 + nanoseconds, sender


def packet(sequence: int, count: int = 1) -> bytes:
    """Return a MoldUDP64 packet of system-event messages, which change nothing but the sequence."""
    message = b"S" + bytes(10) + b"O"
    return SESSION + struct.pack(">QH", sequence, count) + count * (struct.pack(">H", len(message)) + message)


def measure(port: int, sender: socket.socket, server: socket.socket, witness: socket.socket) -> list[int]:
    """Open and fill HOLES holes one after the other; return the nanoseconds from packet to request."""
    took: list[int] = []
    sequence = 2
    for _ in range(HOLES):
        sender.sendto(packet(sequence + 1), (GROUP, port))  # `sequence` is missing
        _, shown_ns, _ = receive(witness)
        request, asked_ns, daemon = receive(server)
        if request != SESSION + struct.pack(">QH", sequence, 1):
            raise RuntimeError(f"unexpected request {request!r}")
        took.append(asked_ns - shown_ns)
        server.sendto(packet(sequence), daemon)
        sequence += 2
    return took


def main() -> None:
    """Run the daemon, make holes, print the distribution."""
    witness = timestamped("multicast")
    port = witness.getsockname()[1]
    server = timestamped("unicast")
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "feed.toml"
        config.write_text(CONFIG.format(group=GROUP, port=port, server=server.getsockname()[1]))
        daemon = subprocess.Popen(
            [feedhandler(), "run", "--config", str(config), "--runtime-dir", folder],
            stderr=subprocess.DEVNULL,
        )
        try:
            book = Path(folder) / "rerequest" / "channel"
            deadline = time.monotonic() + 10
            while not book.exists():
                if time.monotonic() > deadline or daemon.poll() is not None:
                    raise RuntimeError("the daemon did not start")
                time.sleep(0.01)
            sender.sendto(packet(1), (GROUP, port))
            receive(witness)
            took = np.array(measure(port, sender, server, witness)) / 1e3
        finally:
            daemon.terminate()
            daemon.wait()
    percentiles = {str(p): round(float(np.percentile(took, p)), 2) for p in (1, 50, 90, 99)}
    write_json("rerequest", {"holes": HOLES, "percentiles_us": percentiles})
    print("packet that shows a hole -> re-request on the wire, µs")
    for name, value in percentiles.items():
        print(f"  p{name:<5} {value:8.1f}")


if __name__ == "__main__":
    main()
