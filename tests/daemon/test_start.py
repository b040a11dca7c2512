"""What keeps a daemon from starting is one line and the right exit status."""

import datetime
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from feedhandler import _core
from feedhandler.exchange_time import midnight_ns
from tests.support.daemon import COMMAND, Daemon, environment, running, write_config
from tests.support.exchange import Exchange, Line, simulated_messages
from tests.support.multicast import free_port
from tests.support.small_memory import small_memory
from tests.support.wait import wait_for

LINE = 'interface = "127.0.0.1"\n'


def run(folder: Path, old: str = "", new: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """Run a daemon that is expected not to start, `old` in its file replaced by `new`."""
    config = write_config(folder, [Line("A", f"239.199.{os.getpid() % 250}.2", free_port())])
    config.write_text(config.read_text().replace(old, new, 1) if old else config.read_text())
    command = [*COMMAND, "run", "--config", str(config), "--runtime-dir", str(folder / "run")]
    return subprocess.run(command, env=environment(**env), capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("line[0].interface", "nope0", '"nope0" is no device or address of this machine (devices: lo'),
        (
            "line[0].interface",
            "192.0.2.1",
            '"192.0.2.1" is no device or address of this machine (devices: lo',
        ),
        ("receive.cpu", "4000", "4000 is not a CPU that this process may use (0"),
        ("recovery.snapshot.password_file", "/nowhere", '"/nowhere": No such file or directory'),
    ],
)
@pytest.mark.parametrize("set_by", ["file", "variable"])
def test_setting_that_this_host_cannot_meet_is_named(
    tmp_path: Path, key: str, value: str, message: str, set_by: str
) -> None:
    """Exit status 2, one line: the file or variable, the key, the value, what is allowed; no channel made."""
    table, _, name = key.rpartition(".")
    variable = f"FEEDHANDLER__{key.replace('[0]', '__0').replace('.', '__').upper()}"
    setting = f"{name} = {value}\n" if name == "cpu" else f'{name} = "{value}"\n'
    if set_by == "variable":
        done, source = run(tmp_path, **{variable: value}), variable
    elif name == "interface":
        done, source = run(tmp_path, LINE, setting), str(tmp_path / "feed.toml")
    else:
        table = f"[{table}]\n"
        old = table if table == "[receive]\n" else "[metrics]\n"
        new = table + setting + ("" if old == table else old)
        done, source = run(tmp_path, old, new), str(tmp_path / "feed.toml")
    assert done.returncode == 2
    assert done.stderr.startswith(f"{source}: {key}: {message}")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_runtime_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    """A file stands where the folder should be: exit status 1 and the path."""
    (tmp_path / "run").write_text("")
    done = run(tmp_path)
    assert done.returncode == 1
    assert str(tmp_path / "run") in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("file", "sizes"),
    [
        ("ring", {"PUBLISH__RING_MIB": "64"}),
        ("books", {"PUBLISH__RING_MIB": "16"}),
        ("packets", {"PUBLISH__RING_MIB": "1", "JOURNAL__RING_MIB": "64", "JOURNAL__DIRECTORY": "/tmp"}),
    ],
)
def test_start_without_room_leaves_nothing_behind(tmp_path: Path, file: str, sizes: dict[str, str]) -> None:
    """What it has made already would keep the room from other channels, and from its own next start."""
    with small_memory(tmp_path / "run", 56) as memory:
        done = run(tmp_path, **{f"FEEDHANDLER__{key}": value for key, value in sizes.items()})
        assert done.returncode == 1
        assert f"{file}.new: no space for" in done.stderr
        assert not list(memory.rglob("*.new"))


@pytest.mark.parametrize(
    ("day", "utc"), [("2026-01-05", "2026-01-05T05:00:00+00:00"), ("2026-07-06", "2026-07-06T04:00:00+00:00")]
)
def test_midnight_is_the_exchanges_in_winter_and_summer(day: str, utc: str) -> None:
    """Messages count nanoseconds from midnight in New York."""
    expected = datetime.datetime.fromisoformat(utc).timestamp()
    assert midnight_ns(datetime.date.fromisoformat(day)) == expected * 1_000_000_000


def test_start_after_a_crash_takes_the_room_of_the_run_before(tmp_path: Path) -> None:
    """Memory for one channel and not for two: readers of the dead one lose it, but the feed comes back."""
    lines = [Line("A", f"239.199.{os.getpid() % 250}.5", free_port())]
    extra = f'[journal]\ndirectory = "{tmp_path}/journal"\nring_mib = 4\n'
    config = write_config(tmp_path, lines, publish="ring_mib = 64\n", extra=extra)
    with small_memory(tmp_path / "run", 130) as memory:
        for number in (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM):
            with running(config, memory) as daemon:
                assert daemon.stop(number) == (0 if number == signal.SIGTERM else -number)


@pytest.mark.parametrize("log", ["full", "closed"])
def test_log_that_cannot_be_written_ends_nothing(tmp_path: Path, log: str) -> None:
    """A full disk behind it, or whoever read it is gone: entries are lost, the feed goes on."""
    lines = [Line("A", f"239.199.{os.getpid() % 250}.4", free_port())]
    config = write_config(tmp_path, lines, extra=f'[journal]\ndirectory = "{tmp_path}/journal"\n')
    words = [*COMMAND, "run", "--config", str(config), "--runtime-dir", str(tmp_path / "run")]
    reader, writer = os.pipe()
    with Path("/dev/full").open("w") as full:
        stderr = full.fileno() if log == "full" else writer
        os.close(reader)
        with subprocess.Popen(words, env=environment(), stderr=stderr) as process:
            os.close(writer)
            page = tmp_path / "run" / "live"
            wait_for(lambda: (page / "channel").exists(), "the channel")
            wait_for(lambda: (_core.journal_status(str(page)) or {}).get("state") == "writing", "the journal")
            exchange = Exchange(simulated_messages(100), lines)
            exchange.send(10)
            exchange.heartbeat()
            reads = _core.ChannelReader(str(page))
            wait_for(lambda: reads.next_sequence == 11, "the messages")
            assert process.poll() is None
            process.terminate()
            assert process.wait(20) == 0
        exchange.close()


STOPPED_EARLY = """
import os, signal
from feedhandler.daemon import _service
make_feed = _service.make_feed
def interrupted(*arguments, **options):
    feed = make_feed(*arguments, **options)
    os.kill(os.getpid(), signal.SIGTERM)
    return feed
_service.make_feed = interrupted
from feedhandler.cli import main
main()
"""


def test_told_to_stop_while_it_starts_it_ends_in_order(tmp_path: Path) -> None:
    """Devices that were opened are closed, the channel is gone: exit status 0."""
    lines = [Line("A", f"239.199.{os.getpid() % 250}.3", free_port())]
    command = [sys.executable, "-c", STOPPED_EARLY]
    daemon = Daemon(write_config(tmp_path, lines), tmp_path / "run", command=command)
    try:
        assert daemon.process.wait(20) == 0
        assert [entry["event"] for entry in daemon.log()][-1] == "stopped"
    finally:
        daemon.close()


def test_daemon_needs_no_numpy(tmp_path: Path) -> None:
    """It would start later after a crash, and hold the memory of what only consumers need."""
    lines = [Line("A", f"239.199.{os.getpid() % 250}.2", free_port())]
    with running(write_config(tmp_path, lines), tmp_path / "run") as daemon:
        maps = Path(f"/proc/{daemon.process.pid}/maps").read_text()
    assert "/_core." in maps
    assert "_multiarray_umath" not in maps
