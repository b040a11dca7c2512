"""Ring, channel and book table under ThreadSanitizer."""

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def test_ring_and_table_have_no_data_race(runtime: Path, tmp_path: Path) -> None:
    """One writer, a fast and a slow (lapped) reader: no race, nothing torn, read + lost = written."""
    compiler = shutil.which("clang++-14") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("needs clang++ with its ThreadSanitizer runtime")
    program = tmp_path / "ring_stress"
    flags = ["-std=c++20", "-O1", "-g", "-fsanitize=thread", "-Wall", "-Wextra", "-Wconversion", "-pthread"]
    source = HERE / "ring_stress.cpp"
    subprocess.run(
        [compiler, *flags, f"-I{ROOT / 'feedhandler' / 'core'}", source, "-o", program], check=True
    )
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
