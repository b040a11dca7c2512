"""The latency page under ThreadSanitizer."""

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def test_readers_never_see_half_a_sample(runtime: Path, tmp_path: Path) -> None:
    """One thread samples, one copies the histograms, one consumes: no race, nothing torn or counted twice."""
    compiler = shutil.which("clang++-14") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("needs clang++ with its ThreadSanitizer runtime")
    program = tmp_path / "latency_stress"
    flags = ["-std=c++20", "-O1", "-g", "-fsanitize=thread", "-Wall", "-Wextra", "-Wconversion", "-pthread"]
    source = HERE / "latency_stress.cpp"
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
