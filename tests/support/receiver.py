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
from collections.abc import Mapping, Sequence
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
        """Wait for these (line, payload); return what came since the last time, and the counters.

        `got`: digests by line; `kinds` and `times` of reception; `woken`: how often a descriptor said that
        something is there; `stats`: by line.
        """
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
        """End it in order, so that it leaves nothing behind; one that stands still is killed."""
        try:
            self.process.communicate(timeout=LONGEST_WAIT_S)  # the end of its input ends it
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise

    def __enter__(self) -> "Receiver":
        return self.wait_ready()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        # What the libraries of a mode print goes to the standard error; answers are whole lines.
        line = self.process.stdout.readline()
        return dict(json.loads(line)) if line else {}


class Program:
    """What the process does."""

    def __init__(self, what: dict[str, Any]) -> None:
        lines = [_core.LineSettings(*line) for line in what["lines"]]
        self.source = _core.Source(lines, what["settings"])
        self.hold_ms = what["hold_ms"]
        self.fds = self.source.fds()
        self.got: list[list[str]] = [[] for _ in lines]
        self.kinds: set[str] = set()
        self.times: list[int] = []
        self.woken = 0

    def run(self) -> None:
        """Receive and answer, until the standard input ends."""
        while True:
            busy = self.poll()
            if self.wait(sys.stdin, busy=busy):
                command = sys.stdin.readline()
                if not command:
                    return
                self.answer({(line, text) for line, text in json.loads(command)})

    def poll(self) -> bool:
        """Take what has come; was there any?"""
        datagrams = self.source.poll(self.hold_ms)
        for line, payload, time_ns, kind in datagrams:
            self.got[line].append(digest(payload))
            self.kinds.add(kind)
            self.times.append(time_ns)
        return bool(datagrams)

    def wait(self, *others: Any, busy: bool) -> bool:
        """Sleep a little if there was nothing; is one of `others` readable?"""
        # A source that has descriptors wakes us, else it is looked at again soon.
        readable = select.select([*others, *self.fds], [], [], 0 if busy else 0.5 if self.fds else 0.001)[0]
        self.woken += any(fd in self.fds for fd in readable)
        return any(other in readable for other in others)

    def answer(self, wanted: set[tuple[int, str]]) -> None:
        """Print what has come since the last time, when all that is wanted has."""
        deadline = time.monotonic() + LONGEST_WAIT_S
        busy = self.poll()
        while missing := [list(one) for one in wanted if one[1] not in self.got[one[0]]]:
            if time.monotonic() > deadline:
                break
            self.wait(busy=busy)
            busy = self.poll()
        out = {"got": self.got, "kinds": sorted(self.kinds), "times": self.times, "missing": missing}
        out |= {"woken": self.woken, "fds": len(self.fds), "counters": self.source.counters()}
        out["stats"] = [self.source.stats(line) for line in range(len(self.got))]
        print(json.dumps(out), flush=True)
        self.got = [[] for _ in self.got]
        self.times, self.kinds = [], set()


if __name__ == "__main__":
    program = Program(json.loads(sys.argv[1]))
    print(json.dumps({"ready": True}), flush=True)
    program.run()
