"""The latency page under ThreadSanitizer."""

import subprocess
from pathlib import Path

from tests.support.sanitized import sanitized


def test_readers_never_see_half_a_sample(runtime: Path) -> None:
    """One thread samples, one copies the histograms, one consumes: no race, nothing torn or counted twice."""
    [program] = sanitized(Path(__file__).with_name("latency_stress.cpp"), ["thread"])
    done = subprocess.run(
        [program, runtime / "stress"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={"TSAN_OPTIONS": "halt_on_error=1"},
    )
    assert "ThreadSanitizer" not in done.stderr, done.stderr
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
