"""Runs the soak, one process a processor, adds up what they say, and names what repeats a failure."""

import json
import os
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness import build

MESSAGES = 250_000  # of a schedule, about


@dataclass
class Soak:
    """What was played so far."""

    first_seed: int
    jobs: int
    messages: int = MESSAGES
    schedules: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    wrong: list[dict[str, Any]] = field(default_factory=list)

    def add(self, line: dict[str, Any]) -> None:
        """Take what one schedule told."""
        seed, wrong = line.pop("seed"), line.pop("wrong")
        line.pop("seconds")
        self.schedules += 1
        for name, count in line.items():
            self.counts[name] = self.counts.get(name, 0) + count
        if wrong:
            self.add_wrong(seed, wrong)

    def add_wrong(self, seed: int, what: str) -> None:
        """Note a schedule in which something was wrong."""
        repeat = f"python -m tests.soak --seed {seed} --schedules 1"
        if self.messages != MESSAGES:
            repeat += f" --messages {self.messages}"
        self.wrong.append({"seed": seed, "what": what, "repeat": repeat})

    def result(self, seconds: float) -> dict[str, Any]:
        """Return all of it for JSON."""
        return {
            "first_seed": self.first_seed,
            "schedules": self.schedules,
            "seconds": round(seconds, 1),
            **self.counts,
            "wrong": self.wrong,
        }


def program() -> Path:
    """Return the compiled soak."""
    return build("soak", folder=Path(__file__).resolve().parent)


def play(
    soak: Soak, seconds: float, schedules: int | None, tell: Callable[[Soak, float], None], *words: str
) -> dict[str, Any]:
    """Play for so long, or so many schedules; `tell` gets what was played, and for how many seconds."""
    began = time.monotonic()
    lines: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    threads = []
    for job in range(soak.jobs):
        command = [program(), "--seed", soak.first_seed + job, "--step", soak.jobs]
        command += ["--seconds", seconds, "--messages", soak.messages, *words]
        if schedules is not None:
            command += ["--schedules", (schedules + soak.jobs - 1 - job) // soak.jobs]
        threads.append(threading.Thread(target=_follow, args=(soak, job, [*map(str, command)], lines)))
        threads[-1].start()
    for _ in _until_all_ended(lines, soak):
        tell(soak, time.monotonic() - began)
    for thread in threads:
        thread.join()
    return soak.result(time.monotonic() - began)


def _follow(
    soak: Soak, job: int, command: list[str], lines: "queue.SimpleQueue[dict[str, Any] | None]"
) -> None:
    seed = soak.first_seed + job
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for text in process.stdout:
            lines.put(json.loads(text))
            seed += soak.jobs
    if process.returncode not in (0, 1):  # it did not live to say what was wrong
        soak.add_wrong(seed, f"the program ended with status {process.returncode}")
    lines.put(None)


def _until_all_ended(lines: "queue.SimpleQueue[dict[str, Any] | None]", soak: Soak) -> Iterator[None]:
    running = soak.jobs
    while running:
        try:
            line = lines.get(timeout=0.5)
        except queue.Empty:
            yield
            continue
        if line is None:
            running -= 1
        else:
            soak.add(line)
        yield


def processors() -> int:
    """Return how many this process may use."""
    return len(os.sched_getaffinity(0))
