"""The daemon under Onload, with the stand-in for its library and for its launcher."""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.test_check import check, findings
from tests.support.daemon import COMMAND, Daemon, environment, running, write_config
from tests.support.exchange import Exchange, Line, simulated_messages
from tests.support.multicast import free_ports
from tests.support.onload import launcher, library, preloaded
from tests.support.wait import wait_for

MESSAGES = 2000
LIVE = 1


@pytest.fixture(scope="module")
def day() -> list[bytes]:
    """Return a short simulated day."""
    return simulated_messages(MESSAGES)


@pytest.fixture
def lines() -> list[Line]:
    """Return two lines on ports that nobody else has."""
    ports = free_ports(2)
    return [
        Line(name, f"239.195.{os.getpid() % 250}.{n}", next(ports)) for n, name in enumerate("AB", start=31)
    ]


@pytest.fixture
def exchange(day: list[bytes], lines: list[Line]) -> Iterator[Exchange]:
    """Return one that has sent nothing yet."""
    with contextlib.closing(Exchange(day, lines)) as made:
        yield made


def config(folder: Path, lines: list[Line], onload: str, receive: str = "", **more: str) -> Path:
    """Write the configuration of a daemon in the mode."""
    table = f'mode = "onload"\n{receive}[receive.onload]\n{onload}'
    return write_config(folder, lines, receive=table, channel_table='start = "beginning"\n', **more)


def variables(pid: int, names: str) -> dict[str, str]:
    """Return the variables of a process whose names begin so."""
    pairs = (pair.partition("=") for pair in Path(f"/proc/{pid}/environ").read_text().split("\0"))
    return {name: value for name, _, value in pairs if name.startswith(names)}


def events(daemon: Daemon, event: str) -> list[dict[str, object]]:
    """Return the log's entries of one kind."""
    return [entry for entry in daemon.log() if entry["event"] == event]


def refused(path: Path, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a daemon that ends by itself."""
    command = [*COMMAND, "run", "--config", str(path), "--runtime-dir", str(folder / "run")]
    return subprocess.run(command, env=environment(**env), capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("zero_copy", ["false", "true"])
def test_daemon_starts_itself_again_under_onload_and_stays_the_same_process(
    tmp_path: Path, lines: list[Line], exchange: Exchange, zero_copy: str
) -> None:
    """Same id and service manager, EF_* kept, the profile's added; a day comes in; helpers go without."""
    onload = f'launch = true\nlauncher = "{launcher(tmp_path)}"\nstack = "feed"\nzero_copy = {zero_copy}\n'
    path = config(
        *(tmp_path, lines, onload, "hardware_timestamps = true\n"),
        extra=f'[journal]\ndirectory = "{tmp_path / "journal"}"\n',
    )
    calls = tmp_path / "calls"
    env = {"EF_RXQ_SIZE": "4096", "ONLOAD_STAND_IN_LOG": str(calls)}
    with running(path, tmp_path / "run", env=env) as daemon:
        pid = daemon.process.pid
        assert [entry["pid"] for entry in events(daemon, "started")] == [pid]
        assert len(events(daemon, "starting again under onload")) == 1
        assert [entry["accelerated"] for entry in events(daemon, "joined")] == [True, True]
        assert [entry["zero_copy"] for entry in events(daemon, "joined")] == [zero_copy == "true"] * 2
        exchange.send(MESSAGES)
        wait_for(lambda: daemon.reader.next_sequence == MESSAGES + 1, "all messages")
        assert daemon.reader.state == LIVE
        assert variables(pid, "EF_") == {
            "EF_MCAST_JOIN_BINDTODEVICE": "1",
            "EF_MCAST_JOIN_HANDOVER": "1",
            "EF_POLL_USEC": "100000",
            "EF_RXQ_SIZE": "4096",
            "EF_RX_TIMESTAMPING": "1",
        }
        assert variables(pid, "LD_PRELOAD") == {"LD_PRELOAD": str(library())}
        [journal] = wait_for(lambda: events(daemon, "helper started"), "helper")
        assert variables(int(str(journal["pid"])), "LD_PRELOAD") == {}
        assert daemon.stop() == 0
    [launched] = (tmp_path / "launched").read_text().splitlines()
    assert launched.startswith("--profile=latency /")
    assert launched.endswith(f"run --config {path} --runtime-dir {tmp_path / 'run'}")
    assert "set_stackname who=0 scope=2 name=feed" in calls.read_text()
    # The loop of these daemons sleeps: its own thread must not spin for the profile's 0.1 s.
    assert "thread_set_spin type=0 spin=0 thread=fh-receive" in calls.read_text()


def test_killed_daemon_is_followed_by_another_at_once(
    tmp_path: Path, lines: list[Line], exchange: Exchange
) -> None:
    """Kill -9 under Onload; the next one is launched as the first was, and goes on."""
    path = config(tmp_path, lines, f'launch = true\nlauncher = "{launcher(tmp_path)}"\n')
    with running(path, tmp_path / "run") as daemon:
        exchange.send(500)
        wait_for(lambda: daemon.reader.next_sequence == 501, "messages")
        daemon.stop(signal.SIGKILL)
        with contextlib.closing(Daemon(path, tmp_path / "run")) as second:
            second.wait_ready()
            exchange.send(500)
            wait_for(lambda: second.reader.counters()["lines"][0]["packets"] > 0, "packets after the restart")
            assert events(second, "joined")[-1]["accelerated"]
    assert len((tmp_path / "launched").read_text().splitlines()) == 2


def test_daemon_that_is_under_onload_already_is_not_launched_again(tmp_path: Path, lines: list[Line]) -> None:
    """Started by hand under `onload`, with launch = true in the file."""
    path = config(tmp_path, lines, f'launch = true\nlauncher = "{launcher(tmp_path)}"\n')
    with running(path, tmp_path / "run", env=preloaded()) as daemon:
        assert [entry["accelerated"] for entry in events(daemon, "joined")] == [True, True]
    assert not (tmp_path / "launched").exists()


def test_launcher_that_preloads_nothing_is_run_once_and_refused(tmp_path: Path, lines: list[Line]) -> None:
    """No loop: one line with the reason, exit status 1."""
    path = config(tmp_path, lines, f'launch = true\nlauncher = "{launcher(tmp_path, preload=False)}"\n')
    done = refused(path, tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "line A: not accelerated, and receive.onload.require is true: "
        "Onload is not in this process: it was not started under `onload`"
    )
    assert len((tmp_path / "launched").read_text().splitlines()) == 1


@pytest.mark.parametrize("answers", ["no_module", "handed_over"])
def test_daemon_that_must_not_go_by_the_kernel_ends_with_one_line(
    tmp_path: Path, lines: list[Line], answers: str
) -> None:
    """As when the card is not there: exit status 1, no channel."""
    done = refused(config(tmp_path, lines, ""), tmp_path, **preloaded(_=answers))
    assert done.returncode == 1
    reason = "Onload is there but" if answers == "no_module" else "Onload left its socket to the kernel"
    start = f"line A: not accelerated, and receive.onload.require is true: {reason}"
    assert done.stderr.splitlines()[-1].startswith(start)


def test_daemon_that_may_go_by_the_kernel_warns_and_runs(
    tmp_path: Path, lines: list[Line], exchange: Exchange
) -> None:
    """The log names each line and why; packets come in."""
    path = config(tmp_path, lines, "require = false\n")
    with running(path, tmp_path / "run", env=preloaded(_="no_module")) as daemon:
        exchange.send(MESSAGES)
        wait_for(lambda: daemon.reader.next_sequence == MESSAGES + 1, "all messages")
        warnings = events(daemon, "not accelerated")
        assert [entry["line"] for entry in warnings] == ["A", "B"]
        assert all(str(entry["why"]).startswith("Onload is there but") for entry in warnings)
        assert all(entry["level"] == "warning" for entry in warnings)
        wait_for(lambda: daemon.stat()["receive"]["by_kernel"] > 0, "counter")


@pytest.mark.parametrize("require", ["true", "false"])
def test_launcher_that_is_not_there_is_named(tmp_path: Path, lines: list[Line], require: str) -> None:
    """Refused as a wrong configuration; or warned about, and run without."""
    path = config(tmp_path, lines, f'launch = true\nlauncher = "{tmp_path}/none"\nrequire = {require}\n')
    text = f'{path}: receive.onload.launcher: "{tmp_path}/none" is no program that can be found'
    if require == "true":
        done = refused(path, tmp_path)
        assert (done.returncode, done.stderr) == (2, text + "\n")
        return
    with running(path, tmp_path / "run") as daemon:
        assert [entry["why"] for entry in events(daemon, "not started under onload")] == [text]
        assert len(events(daemon, "not accelerated")) == 2


@pytest.mark.parametrize("require", [True, False])
def test_check_says_what_onload_lacks(tmp_path: Path, lines: list[Line], require: bool) -> None:
    """Launcher, device, library in the process: errors when the mode insists on Onload, else warnings."""
    bad = "error" if require else "warning"
    onload = f"require = {json.dumps(require)}\n"
    text = config(tmp_path, lines, f'{onload}launch = true\nlauncher = "no-onload"\n').read_text()
    found = findings(check(tmp_path, "--json", text=text))
    assert found["receive.onload.launcher"]["status"] == bad
    assert found["/dev/onload"]["status"] == bad
    assert "receive.onload.launch" not in found
    text = config(tmp_path, lines, onload).read_text()
    done = check(tmp_path, "--json", text=text)
    assert done.returncode == (1 if require else 0)
    assert findings(done)["receive.onload.launch"]["status"] == bad


@pytest.mark.parametrize(("answers", "status"), [("accelerated", "ok"), ("handed_over", "error")])
def test_check_under_onload_says_of_each_line_whether_it_is_accelerated(
    tmp_path: Path, lines: list[Line], answers: str, status: str
) -> None:
    """Asked of sockets that are bound and joined."""
    text = config(tmp_path, lines, f'launch = true\nlauncher = "{launcher(tmp_path)}"\n').read_text()
    found = findings(check(tmp_path, "--json", text=text, **preloaded(_=answers)))
    assert found["receive.onload.launcher"]["status"] == "ok"
    assert [found[f"line[{index}]"]["status"] for index in range(2)] == [status] * 2


def test_check_warns_of_a_library_that_is_lost_when_the_directory_changes(
    tmp_path: Path, lines: list[Line]
) -> None:
    """A path that is not absolute holds only where it was given."""
    name = os.path.relpath(library(), tmp_path)
    text = config(tmp_path, lines, "").read_text()
    found = findings(check(tmp_path, "--json", text=text, LD_PRELOAD=name))
    assert found["LD_PRELOAD"]["status"] == "warning"
