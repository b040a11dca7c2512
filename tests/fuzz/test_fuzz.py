"""The fuzz targets build and survive their seeds and a short run; for long ones: tests/fuzz/run SECONDS."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
NAMES = sorted(path.stem.removeprefix("fuzz_") for path in HERE.glob("fuzz_*.cpp"))
SECONDS = 3
PATH = f"{os.environ['PATH']}{os.pathsep}{Path(sys.executable).parent}"


@pytest.fixture(scope="module")
def compiler() -> str:
    """Return the clang that has libFuzzer."""
    found = shutil.which("clang++") or shutil.which("clang++-14")
    if found is None:
        pytest.skip("fuzzing needs clang++ (Debian package clang-14)")
    if shutil.which("cmake", path=PATH) is None:
        pytest.skip("fuzzing needs cmake (Debian package cmake)")
    return found


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", NAMES)
def test_survives_seeds_and_a_short_run(
    name: str, compiler: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A crash, a leak, a read out of bounds, undefined behaviour or a broken promise fails it."""
    build = tmp_path_factory.getbasetemp() / "fuzz"
    done = subprocess.run(
        ["nice", str(HERE / "run"), str(SECONDS), name],
        env={**os.environ, "PATH": PATH, "FUZZ_BUILD": str(build)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "clean" in done.stdout
