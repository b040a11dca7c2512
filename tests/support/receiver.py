"""A receiver in a process of its own, and the program that it runs: any receive mode, in any namespace.

The program polls all the time. It answers each line of its standard input, a list of [line, digest] to wait
for, with what has come since the last answer.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from feedhandler import _core
from tests.support.daemon import environment

ROOT = Path(__file__).resolve().parent.parent.parent
LONGEST_WAIT_S = 20.0

LineText = tuple[str, str, int, str, str]
"""Name, group, port, interface, source."""


def digest(payload: bytes) -> str:
    """Return what stands for a payload in the answers."""
    return f"{len(payload)}:{zlib.crc32(payload):08x}"


class Receiver:
    """The running program; `prefix`: words that put it into its namespace, or take privileges away."""

    def __init__(
        self,
        lines: Sequence[LineText],
        settings: Mapping[str, Any],
        *,
        prefix: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        hold_ms: int = 0,
    ) -> None:
        what = json.dumps({"lines": lines, "settings": settings, "hold_ms": hold_ms})
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "tests.support.receiver", what],
            env=environment(**(env or {})),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_ready(self) -> "Receiver":
        """Return once the lines are joined."""
        answer = self._answer()
        assert answer == {"ready": True}, f"the receiver ended: {self.failure()}"
        return self

    def failure(self) -> str:
        """Wait for the end of a receiver that cannot be; return the last line that it wrote."""
        _, text = self.process.communicate(timeout=LONGEST_WAIT_S)
        return text.strip().rpartition("\n")[2]

    def until(self, *last: tuple[int, bytes]) -> dict[str, Any]:
        """Wait for these (line, payload); return `got`, digests by line, `counters`, `stats` by line."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([[line, digest(payload)] for line, payload in last]) + "\n")
        self.process.stdin.flush()
        answer = self._answer()
        assert "got" in answer, f"the receiver ended: {self.failure()}"
        assert not answer["missing"], answer
        return answer

    def stop(self) -> None:
        """Let it stand still; returns when it does."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)

    def go_on(self) -> None:
        """Let it run again."""
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Leave nothing behind."""
        self.process.kill()
        self.process.communicate()

    def __enter__(self) -> "Receiver":
        return self.wait_ready()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        # What the libraries of a mode print goes to the standard error; answers are whole lines.
        line = self.process.stdout.readline()
        return dict(json.loads(line)) if line else {}


def main() -> None:
    """Receive, until the standard input ends."""
    what = json.loads(sys.argv[1])
    source = _core.Source([_core.LineSettings(*line) for line in what["lines"]], what["settings"])
    print(json.dumps({"ready": True}), flush=True)
    new: list[list[str]] = [[] for _ in what["lines"]]
    kinds: list[str] = ["none"] * len(new)
    wait_on = [sys.stdin, *source.fds()]
    wanted: set[tuple[int, str]] | None = None
    deadline = 0.0
    while True:
        datagrams = source.poll(what["hold_ms"])
        for line, payload, _, kind in datagrams:
            new[line].append(digest(payload))
            kinds[line] = kind
            if wanted:
                wanted.discard((line, new[line][-1]))
        if wanted is None:
            readable = select.select(
                wait_on if not datagrams else [sys.stdin], [], [], 0 if datagrams else 0.002
            )
            if sys.stdin not in readable[0]:
                continue
            command = sys.stdin.readline()
            if not command:
                return
            wanted = {(line, text) for line, text in json.loads(command) if text not in new[line]}
            deadline = time.monotonic() + LONGEST_WAIT_S
        elif not datagrams and wanted:
            select.select(source.fds(), [], [], 0.002)
        if not wanted or time.monotonic() > deadline:
            answer(source, new, kinds, wanted)
            new = [[] for _ in new]
            wanted = None


def answer(
    source: _core.Source, new: list[list[str]], kinds: list[str], missing: Iterable[tuple[int, str]]
) -> None:
    """Print what has come."""
    print(
        json.dumps(
            {
                "got": new,
                "kinds": kinds,
                "missing": sorted(missing),
                "counters": source.counters(),
                "stats": [source.stats(line) for line in range(len(new))],
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    main()
