"""What keeps a daemon from starting is one line and the right exit status."""

import datetime
import os
import subprocess
from pathlib import Path

import pytest

from feedhandler.daemon._feed import midnight_ns
from tests.support.daemon import COMMAND, environment, write_config
from tests.support.exchange import Line
from tests.support.multicast import free_port


def run(folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a daemon that is expected not to start."""
    config = write_config(folder, [Line("A", f"239.199.{os.getpid() % 250}.2", free_port())])
    command = [*COMMAND, "run", "--config", str(config), "--runtime-dir", str(folder / "run")]
    return subprocess.run(command, env=environment(**env), capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("LINE__0__INTERFACE", "nope0", 'line[0].interface: "nope0" is no device or address of this machine'),
        ("LINE__0__INTERFACE", "192.0.2.1", 'line[0].interface: "192.0.2.1" is no device or address of this'),
        ("RECEIVE__CPU", "4000", "receive.cpu: 4000 is not a CPU that this process may use ("),
    ],
)
def test_setting_that_this_host_cannot_meet_is_named(
    tmp_path: Path, variable: str, value: str, message: str
) -> None:
    """Exit status 2, one line with the key, and no channel made."""
    done = run(tmp_path, **{f"FEEDHANDLER__{variable}": value})
    assert done.returncode == 2
    assert done.stderr.startswith(f"{message}")
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
    ("day", "utc"), [("2026-01-05", "2026-01-05T05:00:00+00:00"), ("2026-07-06", "2026-07-06T04:00:00+00:00")]
)
def test_midnight_is_the_exchanges_in_winter_and_summer(day: str, utc: str) -> None:
    """Messages count nanoseconds from midnight in New York."""
    expected = datetime.datetime.fromisoformat(utc).timestamp()
    assert midnight_ns(datetime.date.fromisoformat(day)) == expected * 1_000_000_000
