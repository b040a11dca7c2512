"""Ring, channel and book table under ThreadSanitizer."""

import subprocess
from pathlib import Path

from tests.support.sanitized import sanitized


def test_ring_and_table_have_no_data_race(runtime: Path) -> None:
    """One writer, a fast and a slow (lapped) reader: no race, nothing torn, read + lost = written."""
    [program] = sanitized(Path(__file__).with_name("ring_stress.cpp"), ["thread"])
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
    lost = [int(line.split()[3]) for line in done.stdout.splitlines()]
    assert max(lost) > 0, "nobody was lapped: the test has shown too little"
