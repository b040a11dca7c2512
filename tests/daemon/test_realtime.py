"""Real-time priority for the receive thread: granted, guarded, taken back."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from feedhandler.config import Config, Receive
from feedhandler.daemon._realtime import refusal, share_of_others_us
from tests.support.daemon import Daemon, environment, running, write_config
from tests.support.exchange import Line
from tests.support.multicast import free_port
from tests.support.threads import SCHED_FIFO, SCHED_OTHER, receive_thread_of, threads_of
from tests.support.wait import wait_for

CPU = max(os.sched_getaffinity(0))
NEEDS_ROOT = "needs root, for real-time priority"


def config(folder: Path, receive: str, extra: str = "") -> Path:
    """Write a file with one line of our own."""
    line = Line("A", f"239.199.{os.getpid() % 250}.8", free_port())
    return write_config(folder, [line], receive=receive, extra=extra)


def kernel(folder: Path, release: str, runtime_us: int, fair_ns: int | None = None) -> Path:
    """Write what a kernel would say about itself."""
    sysctl = folder / "proc/sys/kernel"
    sysctl.mkdir(parents=True)
    (sysctl / "osrelease").write_text(f"{release}\n")
    (sysctl / "sched_rt_runtime_us").write_text(f"{runtime_us}\n")
    (sysctl / "sched_rt_period_us").write_text("1000000\n")
    if fair_ns is not None:
        server = folder / "sys/kernel/debug/sched/fair_server/cpu1"
        server.mkdir(parents=True)
        (server / "runtime").write_text(f"{fair_ns}\n")
    return folder


def settings(**receive: int | bool) -> Config:
    """Return a configuration with these settings of [receive]."""
    line = {"name": "A", "group": "239.1.1.1", "port": 1}
    return Config.model_validate({"channel": {"name": "x"}, "line": [line], "receive": receive})


@pytest.mark.parametrize(
    ("release", "runtime_us", "fair_ns", "share_us"),
    [
        ("5.10.0-28-amd64", 950_000, None, 50_000),
        ("5.10.0-28-amd64", 1_000_000, None, 0),
        ("5.10.0-28-amd64", -1, None, 0),
        ("6.12.3", 950_000, None, 50_000),
        ("6.18.44", 950_000, 20_000_000, 20_000),
        ("6.18.44", 950_000, 0, 0),
        ("6.18.44", -1, 50_000_000, 0),
    ],
)
def test_share_of_others_is_what_the_kernel_keeps(
    tmp_path: Path, release: str, runtime_us: int, fair_ns: int | None, share_us: int
) -> None:
    """By throttling before Linux 6.12, by a server a CPU since."""
    assert share_of_others_us(kernel(tmp_path, release, runtime_us, fair_ns), 1) == share_us


@pytest.mark.parametrize(
    ("receive", "usable", "runtime_us", "reason"),
    [
        ({"priority": 10, "cpu": 1}, {0, 1}, 950_000, None),
        ({"priority": 10}, {0, 1}, 950_000, "10 with receive.spin needs receive.cpu"),
        ({"priority": 10, "spin": False}, {0}, 950_000, None),
        ({"priority": 10, "cpu": 1}, {1}, 950_000, "10 with receive.spin on CPU 1, the only one"),
        ({"priority": 10, "cpu": 1}, {0, 1}, -1, "10: this kernel keeps no time for others"),
        ({"priority": 10, "cpu": 1, "spin": False}, {0, 1}, -1, "10: this kernel keeps no time for others"),
        ({"priority": 10, "cpu": 1, "priority_guard": False}, {0, 1}, -1, None),
        ({"cpu": 1}, {1}, -1, None),
    ],
)
def test_priority_that_could_starve_the_machine_is_refused(
    tmp_path: Path, receive: dict[str, int | bool], usable: set[int], runtime_us: int, reason: str | None
) -> None:
    """Each with its reason and a remedy; not without a priority, and not when the guard was taken off."""
    refused = refusal(settings(**receive), usable, kernel(tmp_path, "6.1.0", runtime_us))
    assert (refused is None) == (reason is None)
    if refused and reason:
        assert refused[0].startswith(reason)
        assert refused[1]


def test_defaults_are_no_priority_and_a_guard() -> None:
    """Nobody gets real-time priority without asking."""
    assert (Receive().priority, Receive().priority_guard) == (0, True)


def test_unpinned_spinner_with_priority_does_not_start(tmp_path: Path) -> None:
    """Exit status 2, one line: file, key, value, reason, remedy."""
    path = config(tmp_path, "priority = 10\n")
    daemon = Daemon(path, tmp_path / "run", env={"FEEDHANDLER__RECEIVE__SPIN": "true"})
    try:
        assert daemon.process.wait(30) == 2
        text = daemon.log_path.read_text()
    finally:
        daemon.close()
    assert text.startswith(f"{path}: receive.priority: 10 with receive.spin needs receive.cpu")
    assert text.count("\n") == 1


def test_priority_that_is_not_granted_is_one_line(tmp_path: Path) -> None:
    """Without CAP_SYS_NICE: exit status 1, the key, and what is needed."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to drop a capability")
    prefix = ["prlimit", "--rtprio=0:0", "setpriv", "--bounding-set", "-sys_nice"]
    daemon = Daemon(config(tmp_path, f"priority = 10\ncpu = {CPU}\n"), tmp_path / "run", prefix=prefix)
    try:
        assert daemon.process.wait(30) == 1
        text = daemon.log_path.read_text()
    finally:
        daemon.close()
    message = "receive.priority: 10 is not granted (CAP_SYS_NICE or RLIMIT_RTPRIO is needed)"
    assert text.splitlines()[-1] == f"{message}: Operation not permitted"
    assert "Traceback" not in text
    assert not (tmp_path / "run" / "live" / "channel").exists()


def test_spinner_with_priority_leaves_a_share_to_a_normal_process_on_its_cpu(tmp_path: Path) -> None:
    """The daemon takes the CPU as real-time, nothing else of it is; a process confined to it still ends."""
    if os.geteuid() != 0:
        pytest.skip(NEEDS_ROOT)
    assert len(os.sched_getaffinity(0)) > 1, "this needs two CPUs"
    zmq = f'[publish.zmq]\nendpoint = "ipc://{tmp_path}/zmq"\n'
    path = config(tmp_path, f"priority = 10\ncpu = {CPU}\n", zmq)
    with running(path, tmp_path / "run", env={"FEEDHANDLER__RECEIVE__SPIN": "true"}) as daemon:
        pid = daemon.process.pid
        wait_for(lambda: any(e["event"] == "helper started" for e in daemon.log()), "a helper")
        [helper] = [e["pid"] for e in daemon.log() if e["event"] == "helper started"]
        before = receive_thread_of(pid)
        assert (before.policy, before.priority, before.cpus) == (SCHED_FIFO, 10, {CPU})
        others = [t for t in (*threads_of(pid), *threads_of(helper)) if t.tid != before.tid]
        assert {t.policy for t in others} == {SCHED_OTHER}

        work = "import time; began = time.process_time()\nwhile time.process_time() - began < 0.1: pass"
        command = ["taskset", "-c", str(CPU), sys.executable, "-S", "-c", work]
        subprocess.run(command, check=True, timeout=60, env=environment())
        after = receive_thread_of(pid)
        used_s = (after.cpu_ticks - before.cpu_ticks) / os.sysconf("SC_CLK_TCK")
        assert used_s > 0.5  # it did spin beside that process: 0.1 s at a twentieth take two seconds
        assert daemon.reader.alive


def test_receive_thread_that_hangs_loses_its_priority(tmp_path: Path) -> None:
    """Nobody behind it waits for a thread that makes no progress; the log says so once."""
    if os.geteuid() != 0:
        pytest.skip(NEEDS_ROOT)
    path = config(tmp_path, f"priority = 10\ncpu = {CPU}\n")
    with running(path, tmp_path / "run") as daemon:
        pid = daemon.process.pid
        assert receive_thread_of(pid).policy == SCHED_FIFO
        freezer = Path(__file__).parents[1] / "support" / "freeze.py"
        with subprocess.Popen([sys.executable, freezer, str(pid)], stdout=subprocess.PIPE) as frozen:
            assert frozen.stdout is not None
            frozen.stdout.readline()
            try:
                wait_for(lambda: receive_thread_of(pid).policy == SCHED_OTHER, "its demotion")
                demoted = "receive thread demoted"
                wait_for(lambda: [e["event"] for e in daemon.log()].count(demoted) == 1, "the log")
            finally:
                frozen.kill()
        assert daemon.stop() == 0  # it goes on, and can be stopped
