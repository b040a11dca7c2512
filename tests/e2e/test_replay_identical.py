"""A million messages with and without faults; ten million: python -m benchmarks.verify_replay."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_million_messages_are_the_same_with_and_without_faults() -> None:
    """The same books and, message for message, the same records; the same seed, the same bytes."""
    command = [sys.executable, "-m", "benchmarks.verify_replay", "--messages", "1000000"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    verdicts = [line for line in done.stdout.splitlines() if line.startswith(("ok ", "NOT"))]
    assert len(verdicts) == 11
    assert all(line.startswith("ok ") for line in verdicts)
