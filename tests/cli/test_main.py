"""The console script as a whole: its commands, and its errors in one line."""

import subprocess
import sys
from pathlib import Path

import pytest

from feedhandler.cli import COMMANDS


def feedhandler(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from feedhandler.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["replay"],
        ["replay", "/nowhere/at/all"],
        ["replay", "--drop", "2", "x"],
        ["replay", "--drop", "many", "x"],
        ["simulate", "--messages", "5"],
        ["run", "--config", "/nowhere.toml"],
        ["stat", "no-such-channel"],
        ["latency", "no-such-channel"],
        ["export", "x", "-o", "/nowhere"],
    ],
)
def test_bad_usage_is_one_line_and_exit_status_2(arguments: list[str]) -> None:
    """Nothing on stdout, one line on stderr, no traceback, exit status 2."""
    done = feedhandler(*arguments)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    """`--help` shows how to call it."""
    done = feedhandler(command, "--help")
    assert done.returncode == 0, done.stderr
    assert "Example" in done.stdout


@pytest.mark.parametrize("arguments", [["--version"], ["replay", "--help"], ["simulate", "--help"]])
def test_full_disk_behind_stdout(arguments: list[str]) -> None:
    """What cannot be written is one line and exit status 1, never a traceback."""
    code = "from feedhandler.cli import main; main()"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "output: No space left on device\n")


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("feedhandler.cli.stat", ("numpy", "pydantic", "rich")),
        ("feedhandler.cli.gaps", ("numpy", "pydantic")),
        ("feedhandler.consumer", ("pydantic",)),
        ("feedhandler.daemon._child", ("numpy", "pydantic", "structlog")),
        ("feedhandler.journal.__main__", ("numpy", "pydantic")),
        ("feedhandler.metrics.__main__", ("numpy", "pydantic")),
    ],
)
def test_what_starts_often_imports_only_what_it_needs(module: str, heavy: tuple[str, ...]) -> None:
    """A command that is typed, a helper that is started again: a tenth of a second for each of these."""
    code = f"import sys, {module}; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    assert module in imported
    assert imported.isdisjoint(heavy)
