"""A process of the demo: started, listened to, stopped."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import feedhandler
from feedhandler.errors import RunError


def console_script() -> list[str]:
    """Return the command line of `feedhandler` itself, of the same interpreter."""
    return [sys.executable, "-c", "from feedhandler.cli import main; main()"]


def example(name: str) -> list[str]:
    """Return the command line of an example: of the installed package, else of the source tree."""
    package = Path(feedhandler.__file__).parent
    for folder in (package / "examples", package.parent / "examples"):
        if (folder / name).exists():
            return [sys.executable, str(folder / name)]
    raise RunError(f"{name} is neither in {package / 'examples'} nor beside the package")


class Program:
    """One child process whose standard output is JSON lines; its logs go to a file."""

    def __init__(self, name: str, command: list[str], log: Path) -> None:
        self.name, self.log = name, log
        self.lines: list[dict[str, Any]] = []
        self._said = threading.Lock()
        with log.open("ab") as logs:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=logs, text=True)  # noqa: S603
        self._listener = threading.Thread(target=self._listen, name=f"listen-{name}", daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None  # noqa: S101  opened with a pipe above
        for line in self.process.stdout:
            try:
                said = json.loads(line)
            except ValueError:
                continue
            with self._said:
                self.lines.append(said)

    def said(self, event: str, since: int = 0, reason: str = "") -> dict[str, Any] | None:
        """Return the first line of this event (and reason, if one is given) from line number `since` on."""
        with self._said:
            lines = (line for line in self.lines[since:] if line.get("event") == event)
            return next((line for line in lines if not reason or line.get("reason") == reason), None)

    def latest(self, event: str) -> dict[str, Any]:
        """Return the newest line of this event, or an empty one."""
        with self._said:
            return next((line for line in reversed(self.lines) if line.get("event") == event), {})

    @property
    def running(self) -> bool:
        """Whether the process still runs."""
        return self.process.poll() is None

    def kill(self) -> int:
        """Kill it as a crash would; return the time, CLOCK_MONOTONIC ns."""
        at_ns = time.monotonic_ns()
        self.process.kill()
        self.process.wait()
        return at_ns

    def stop(self, timeout_s: float = 5.0) -> None:
        """Ask it to stop, and make it."""
        if self.running:
            self.process.terminate()
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._listener.join(timeout_s)

    def complaint(self) -> str:
        """Return the last line of its log, for an error message."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return f"{self.name} failed: {lines[-1] if lines else 'it said nothing'}"
