"""The snapshot loader under ThreadSanitizer, and under AddressSanitizer."""

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
CORE = HERE.parents[1] / "feedhandler" / "core"


@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_the_loader_hands_over_whole_snapshots_and_nothing_else(sanitizer: str, tmp_path: Path) -> None:
    """Servers good, slow, cut, silent, refusing; loads not wanted any more; an end in the middle of one."""
    compiler = shutil.which("clang++-14") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("needs clang++ with its sanitizers' runtimes (Debian package clang-14)")
    program = tmp_path / "loader_stress"
    flags = ["-std=c++20", "-O1", "-g", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all", "-pthread"]
    warnings = ["-Wall", "-Wextra", "-Wconversion"]
    source = HERE / "loader_stress.cpp"
    subprocess.run([compiler, *flags, *warnings, f"-I{CORE}", source, "-o", program], check=True)
    done = subprocess.run(
        [program],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={"TSAN_OPTIONS": "halt_on_error=1"},
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    counts = [int(word) for word in done.stdout.split() if word.isdigit()]
    assert min(counts) > 0, f"a kind of load did not happen: {done.stdout}"
