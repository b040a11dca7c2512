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


@pytest.fixture(scope="module")
def done(
    compiler: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> subprocess.CompletedProcess[str]:
    """Build and run those that were asked for, as many at a time as there are processors.

    What was built is kept in build/; what is found is not, so that each run begins with the seeds.
    """
    chosen = {
        item.callspec.params["name"] for item in request.session.items if item.path == request.node.path
    }
    return subprocess.run(
        ["nice", str(HERE / "run"), str(SECONDS), *sorted(chosen)],
        env={**os.environ, "PATH": PATH, "FUZZ_FOUND": str(tmp_path_factory.mktemp("found"))},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", NAMES)
def test_survives_seeds_and_a_short_run(name: str, done: subprocess.CompletedProcess[str]) -> None:
    """A crash, a leak, a read out of bounds, undefined behaviour or a broken promise fails it."""
    [told] = [line for line in done.stdout.splitlines() if line.startswith(f"{name}: ")] or [done.stderr]
    assert told.endswith(" clean"), done.stderr
    assert int(told.split()[1]) > 0
