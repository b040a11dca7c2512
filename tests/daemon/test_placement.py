"""Where the daemon's threads run, what memory they have before the first packet, how deeply CPUs sleep."""

import os
import struct
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, running, write_config
from tests.support.exchange import Line
from tests.support.multicast import free_port
from tests.support.threads import receive_thread_of, threads_of
from tests.support.wait import wait_for

CPU = max(os.sched_getaffinity(0))


def config(folder: Path, receive: str, extra: str = "") -> Path:
    """Write a file with one line of our own."""
    line = Line("A", f"239.199.{os.getpid() % 250}.7", free_port())
    return write_config(folder, [line], receive=receive, extra=extra)


def test_no_other_thread_may_run_on_the_receive_threads_cpu(tmp_path: Path) -> None:
    """Neither the snapshot's or a library's, which are made first, nor the supervisor, nor a helper."""
    assert len(os.sched_getaffinity(0)) > 1, "this needs two CPUs"
    (tmp_path / "password").write_text("secret")
    snapshot = f'[recovery.snapshot]\npassword_file = "{tmp_path}/password"\n'
    zmq = f'[publish.zmq]\nendpoint = "ipc://{tmp_path}/zmq"\n'
    with running(config(tmp_path, f"cpu = {CPU}\n", snapshot + zmq), tmp_path / "run") as daemon:
        threads = [*threads_of(daemon.process.pid), *threads_of(_helper(daemon))]
        assert {"fh-receive", "fh-snapshot"} <= {thread.name for thread in threads}
        assert [t.name for t in threads if CPU in t.cpus] == ["fh-receive"]
        assert receive_thread_of(daemon.process.pid).cpus == {CPU}


def _helper(daemon: Daemon) -> int:
    wait_for(lambda: any(entry["event"] == "helper started" for entry in daemon.log()), "a helper")
    return int(next(entry["pid"] for entry in daemon.log() if entry["event"] == "helper started"))


@pytest.mark.parametrize(("orders", "least_mib"), [(0, 0), (250_000, 40), (1_000_000, 150)])
def test_memory_of_the_books_is_taken_before_the_first_packet(
    tmp_path: Path, orders: int, least_mib: int
) -> None:
    """So much of it is resident when the daemon says that it is ready; 0: it comes by page faults."""
    with running(config(tmp_path, f"prefault_orders = {orders}\n"), tmp_path / "run") as daemon:
        [started] = [entry for entry in daemon.log() if entry["event"] == "started"]
        status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    anonymous_mib = int(status.split("RssAnon:")[1].split()[0]) >> 10
    assert least_mib <= started["prefaulted_mib"] < least_mib * 2 + 16
    assert anonymous_mib >= started["prefaulted_mib"]


def test_idle_states_are_limited_while_the_daemon_runs(tmp_path: Path) -> None:
    """The kernel's own reading of what all processes ask for, before, during and after."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to open /dev/cpu_dma_latency")

    def latency_us() -> int:
        with Path("/dev/cpu_dma_latency").open("rb", buffering=0) as device:
            return int(struct.unpack("i", device.read(4))[0])

    before_us = latency_us()
    wanted_us = before_us - 7  # shorter than what another process asks for, and far from 0
    wanted_us = min(wanted_us, 1_999_993)
    with running(config(tmp_path, f"idle_latency_us = {wanted_us}\n"), tmp_path / "run") as daemon:
        assert latency_us() == wanted_us
        daemon.stop()
    assert latency_us() == before_us


def test_idle_states_that_may_not_be_limited_keep_the_daemon_from_starting(tmp_path: Path) -> None:
    """Asked for and not granted: one line with the key and the reason."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become somebody else")
    tmp_path.chmod(0o777)
    for folder in tmp_path.parents:  # pytest's own
        if folder.owner() == "root" and folder.name.startswith("pytest-"):
            folder.chmod(0o755)
    daemon = Daemon(
        config(tmp_path, "idle_latency_us = 0\n"),
        tmp_path / "run",
        prefix=["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"],
        env={"HOME": str(tmp_path)},
    )
    try:
        assert daemon.process.wait(30) == 1
        text = daemon.log_path.read_text()
    finally:
        daemon.close()
    assert "receive.idle_latency_us: /dev/cpu_dma_latency: Permission denied" in text
    assert text.count("\n") == 1
