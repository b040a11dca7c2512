"""The receive thread asks nobody for memory once it runs: counted from outside, by a preloaded library."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.daemon import environment
from tests.support.onload import preloaded

ROOT = Path(__file__).resolve().parent.parent
BUSY_RUN = """
import ctypes, os, sys, threading
from pathlib import Path
from feedhandler.config import load
from feedhandler.daemon._feed import make_feed

from tests.support.daemon import write_config
from tests.support.exchange import Exchange, Line, RewindServer, simulated_messages
from tests.support.multicast import free_ports
from tests.support.wait import wait_for

folder, (mode, spin, journal, onload) = Path(sys.argv[1]), sys.argv[2:]
counter = ctypes.CDLL(None).receive_thread_allocations
messages = simulated_messages(12000)
ports = free_ports(2)
lines = [Line(n, f"239.196.{os.getpid() % 250}.{i}", next(ports), 0.1, 3) for i, n in enumerate("AB")]
server = RewindServer(b"LIVETEST01", messages, ("127.0.0.1", 0))
server.drop = 0.2
recovery = "timeout_ms = 5\\nretries = 100\\nrequests_per_s = 100000\\n"
path = write_config(folder, lines, [server.address], recovery=recovery)
overrides = {"RECEIVE__MODE": mode, "RECEIVE__SPIN": spin, "JOURNAL__DIRECTORY": journal}
if onload:
    overrides["RECEIVE__ONLOAD__ZERO_COPY"] = onload
config = load(path, {f"FEEDHANDLER__{key}": value for key, value in overrides.items()})
feed = make_feed(config, folder / "live")
feed.start()
from feedhandler import _core
reader = _core.ChannelReader(str(folder / "live"))
wait_for(lambda: feed.progress > 10, "turns of the loop")
before = counter()
exchange = Exchange(messages, lines)
while exchange.next <= len(messages):
    exchange.send(400)
    exchange.heartbeat()
    wait_for(lambda: reader.next_sequence == exchange.next, "all messages")
exchange.end()
wait_for(lambda: reader.state == 4, "ENDED")
wait_for(lambda: reader.counters()["feed"]["messages"] == len(messages), "counters")
busy = counter() - before
counters = reader.counters()
assert feed.stop(timeout_ms=5000)

def allocate():
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.prctl(15, b"fh-receive", 0, 0, 0)
    for _ in range(100): libc.free(ctypes.c_void_p(libc.malloc(64)))

before = counter()
thread = threading.Thread(target=allocate)
thread.start(); thread.join()
print(busy, counter() - before, counters["gaps"]["recovered_rewind"], counters["gaps"]["total"])
exchange.close(); server.close()
"""


@pytest.fixture(scope="module")
def counting_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the library to preload."""
    library = tmp_path_factory.mktemp("preload") / "count_allocations.so"
    source = ROOT / "support" / "count_allocations.c"
    subprocess.run(
        ["gcc", "-O1", "-shared", "-fPIC", "-o", str(library), str(source)], check=True, timeout=60
    )
    return library


WORDS = [sys.executable, "-c", BUSY_RUN]
ALONE = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$0" "$@"']
"""In a network namespace of its own, where nobody else is on the loopback device."""


@pytest.mark.parametrize(
    ("mode", "spin", "journal", "onload"),
    [
        ("socket", "true", "", ""),
        ("socket", "false", "", ""),
        ("socket", "true", "journal", ""),
        ("onload", "false", "", "false"),
        ("onload", "true", "", "true"),
        ("packet", "true", "", ""),
        ("xdp", "true", "", ""),
        ("xdp", "false", "", ""),
    ],
)
def test_receive_thread_never_allocates_while_gaps_are_repaired(
    tmp_path: Path, counting_library: Path, mode: str, spin: str, journal: str, onload: str
) -> None:
    """A whole day with loss on both lines, lossy recovery, packets for a journal or not: not one call.

    And the counter does count.
    """
    alone = mode in ("packet", "xdp")
    if alone and os.geteuid() != 0:
        pytest.skip("needs root, to receive past the kernel")
    env = preloaded(kernel_every=50) if onload else {"LD_PRELOAD": ""}
    env["LD_PRELOAD"] = f"{counting_library} {env['LD_PRELOAD']}"
    done = subprocess.run(
        [*(ALONE if alone else []), *WORDS, str(tmp_path), mode, spin, journal, onload],
        env=environment(**env),
        cwd=ROOT.parent,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "live" / "packets").exists() == bool(journal)
    busy, control, recovered, holes = map(int, done.stdout.split())
    assert busy == 0
    assert control >= 200
    assert recovered > 0
    assert holes >= 3  # in a quick run only what both lines lost
