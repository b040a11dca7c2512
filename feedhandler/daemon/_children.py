"""The helper processes of the daemon: started, watched, restarted with growing pauses, stopped together."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from structlog.typing import FilteringBoundLogger

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 30.0
HEALTHY_AFTER_S = 60.0
"""A process that lived so long starts again with the first pause."""

_KEPT = ("PATH", "PYTHONPATH", "PYTHONHOME", "HOME", "LANG", "LC_ALL", "TZ", "TERM")
"""Of the environment a helper gets these and nothing that speaks to the service manager."""


@dataclass
class Child:
    """One helper process: `python -m MODULE ARGUMENTS...`."""

    name: str
    module: str
    arguments: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    due_s: float = 0.0
    pause_s: float = FIRST_PAUSE_S
    restarts: int = 0


@dataclass
class Children:
    """All of them. `tick` does what is due; it never blocks."""

    log: FilteringBoundLogger
    children: list[Child] = field(default_factory=list)
    may_start: Callable[[], bool] = lambda: True

    def add(self, name: str, module: str, arguments: Sequence[str]) -> None:
        """Add a helper; the next tick starts it."""
        self.children.append(Child(name, module, arguments))

    def tick(self) -> None:
        """Start what is due, notice what died."""
        now_s = time.monotonic()
        for child in self.children:
            if child.process is None:
                if now_s >= child.due_s and self.may_start():
                    self._start(child, now_s)
            elif (status := child.process.poll()) is not None:
                self._died(child, status, now_s)

    def stop(self, timeout_s: float = 0.5) -> None:
        """Ask all to end, kill those that have not in time."""
        alive = [child.process for child in self.children if child.process is not None]
        for process in alive:
            process.send_signal(signal.SIGTERM)
        deadline_s = time.monotonic() + timeout_s
        for process in alive:
            try:
                process.wait(max(0.0, deadline_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self, child: Child, now_s: float) -> None:
        command = [
            sys.executable,
            "-m",
            "feedhandler.daemon._child",
            str(os.getpid()),
            child.module,
            *child.arguments,
        ]
        environment = {key: os.environ[key] for key in _KEPT if key in os.environ}
        try:
            # No preexec_fn: with it Python forks instead of vfork (see _child).
            child.process = subprocess.Popen(  # noqa: S603  our own module, our own arguments
                command, env=environment, stdin=subprocess.DEVNULL, stdout=sys.stderr
            )
        except OSError as error:
            self._again_later(child, now_s)
            self.log.warning("helper cannot be started", helper=child.name, error=str(error))
            return
        child.started_s = now_s
        self.log.info("helper started", helper=child.name, pid=child.process.pid)

    def _died(self, child: Child, status: int, now_s: float) -> None:
        child.process = None
        if now_s - child.started_s >= HEALTHY_AFTER_S:
            child.pause_s = FIRST_PAUSE_S
        self.log.warning("helper died", helper=child.name, status=status, restart_in_s=child.pause_s)
        self._again_later(child, now_s)

    def _again_later(self, child: Child, now_s: float) -> None:
        child.restarts += 1
        child.due_s = now_s + child.pause_s
        child.pause_s = min(2 * child.pause_s, LONGEST_PAUSE_S)
