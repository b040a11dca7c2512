"""Which capability each receive mode needs, by taking the others away, and what the daemon keeps of them."""

import contextlib
import os
import resource
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.capabilities import NOBODY, mask, nobody_with, of_threads
from tests.support.daemon import Daemon, write_config
from tests.support.exchange import Exchange, Line, simulated_messages
from tests.support.multicast import Sender
from tests.support.netns import Veth, inside
from tests.support.receive_modes import MODES, XDP, Mode, Settings, as_toml
from tests.support.receiver import Receiver
from tests.support.wait import wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give and take capabilities")

GROUP, PORT = "239.77.5.1", 30001
HELPFUL = ("net_admin", "ipc_lock")
"""Without them most modes work worse."""
USUAL_MEMLOCK = 8 << 20
"""Less than a daemon's memory, more than the smallest buffers."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Make a folder of nobody's, where nobody can get to."""
    made = Path(tempfile.mkdtemp(prefix="feedhandler-test-"))
    os.chown(made, NOBODY, NOBODY)
    yield made
    shutil.rmtree(made)


def receiver(pair: Veth, mode: Mode, capabilities: Sequence[str]) -> Receiver:
    """Receive one line as nobody with these capabilities."""
    device = pair.receiver_device
    return Receiver(
        [("A", GROUP, PORT, device, "")],
        mode.small([device]),
        prefix=[*pair.inside(pair.receiver), *nobody_with(capabilities)],
        env=mode.environment(),
    )


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_documented_capabilities_are_enough(pair: Veth, mode: Mode) -> None:
    """As nobody with just these the lines are open and bring packets."""
    with inside(pair.sender):
        sender = Sender(pair.sender_address)
    with sender, receiver(pair, mode, mode.capabilities) as running:
        sender.send(b"x", GROUP, PORT)
        running.until((0, b"x"))


@pytest.mark.parametrize(
    ("mode", "missing"),
    [pytest.param(mode, one, id=f"{mode.name}-{one}") for mode in MODES for one in mode.capabilities],
)
def test_each_missing_capability_is_named(pair: Veth, mode: Mode, missing: str) -> None:
    """With all but one it does not start; one line says which, in which mode and for which device."""
    line = receiver(pair, mode, [one for one in mode.capabilities if one != missing]).failure()
    assert line.startswith(f'RuntimeError: receive.mode "{mode.setting}" on {pair.receiver_device}: ')
    assert f"CAP_{missing.upper()}" in line


def test_buffers_beyond_the_limit_of_locked_memory_are_refused_by_name(pair: Veth) -> None:
    """AF_XDP's are locked: without CAP_IPC_LOCK they must fit."""
    limited = ["prlimit", f"--memlock={1 << 20}"]
    settings = XDP.settings([pair.receiver_device])
    refused = Receiver(
        [("A", GROUP, PORT, pair.receiver_device, "")],
        settings,
        prefix=[*pair.inside(pair.receiver), *limited, *nobody_with(XDP.capabilities)],
    ).failure()
    assert refused.startswith('RuntimeError: receive.mode "xdp" on vR')
    assert "are beyond RLIMIT_MEMLOCK: CAP_IPC_LOCK, a higher limit or fewer" in refused


class Site:
    """A daemon of nobody's with some capabilities, and the exchange that sends to it."""

    def __init__(self, pair: Veth, folder: Path, mode: Mode) -> None:
        self.pair, self.folder, self.mode = pair, folder, mode
        line = Line("A", GROUP, PORT)
        with inside(pair.sender):
            self.exchange = Exchange(simulated_messages(1000), [line], address=pair.sender_address)
        self.line = line

    @contextlib.contextmanager
    def run(self, settings: Settings, capabilities: Iterable[str], *limits: str) -> Iterator[Daemon]:
        """Start the daemon; ready."""
        device = self.pair.receiver_device
        config = write_config(self.folder, [self.line], interface=device, receive=as_toml(settings([device])))
        prefix = [*self.pair.inside(self.pair.receiver), *limits, *nobody_with(capabilities)]
        before = os.umask(0)  # the service manager's socket is for everybody
        try:
            daemon = Daemon(config, self.folder / "run", prefix=prefix, env=self.mode.environment())
        finally:
            os.umask(before)
        try:
            yield daemon.wait_ready()
        finally:
            daemon.close()

    def sees(self, daemon: Daemon, count: int) -> None:
        """Send so many messages, and wait until they are in the books."""
        self.exchange.send(count)
        wait_for(lambda: daemon.reader.next_sequence == self.exchange.next, f"{count} messages")


@pytest.fixture(params=MODES, ids=lambda mode: mode.name)
def site(request: pytest.FixtureRequest, pair: Veth, folder: Path) -> Iterator[Site]:
    """Each mode once."""
    made = Site(pair, folder, request.param)
    yield made
    made.exchange.close()


def test_daemon_gives_up_what_only_its_start_needed(site: Site) -> None:
    """No thread keeps more than locked memory beyond the limit needs; packets still come."""
    with site.run(site.mode.settings, {*site.mode.capabilities, *HELPFUL}) as daemon:
        joined = next(entry for entry in daemon.log() if entry["event"] == "joined")
        assert joined["buffer_forced"] is not site.mode.past_kernel
        assert [e["memory_locked"] for e in daemon.log() if e["event"] == "started"] == [True]
        threads = of_threads(daemon.process.pid)
        assert {"fh-receive"} < threads.keys()
        kept = mask([*site.mode.kept, "ipc_lock"])
        assert {sets for of_name in threads.values() for sets in of_name} == {(kept, kept)}
        site.sees(daemon, 100)
        site.sees(daemon, 100)
        assert daemon.stop() == 0
        assert [entry for entry in daemon.log() if entry["event"] == "capabilities kept"] == []


def test_daemon_without_the_helpful_ones_works_and_says_what_it_lacks(site: Site) -> None:
    """Memory is not locked, the buffer no larger than net.core.rmem_max allows."""
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
    limit = USUAL_MEMLOCK if limit == resource.RLIM_INFINITY else min(limit, USUAL_MEMLOCK)
    without = site.run(site.mode.small, site.mode.capabilities, "prlimit", f"--memlock={limit}")
    with without as daemon:
        joined = next(entry for entry in daemon.log() if entry["event"] == "joined")
        assert joined["buffer_forced"] is False
        assert [e["memory_locked"] for e in daemon.log() if e["event"] == "started"] == [False]
        threads = of_threads(daemon.process.pid)
        kept = mask(site.mode.kept)
        assert {sets for of_name in threads.values() for sets in of_name} == {(kept, kept)}
        site.sees(daemon, 100)
        assert daemon.stop() == 0
