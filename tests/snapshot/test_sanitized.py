"""The snapshot loader under ThreadSanitizer, and under AddressSanitizer."""

import subprocess
from pathlib import Path

import pytest

from tests.support.sanitized import sanitized

SANITIZERS = ["thread", "address,undefined"]


@pytest.fixture(scope="module")
def programs() -> dict[str, Path]:
    """The same program with each."""
    source = Path(__file__).with_name("loader_stress.cpp")
    return dict(zip(SANITIZERS, sanitized(source, SANITIZERS), strict=True))


@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_the_loader_hands_over_whole_snapshots_and_nothing_else(
    sanitizer: str, programs: dict[str, Path]
) -> None:
    """Servers good, slow, cut, silent, refusing; loads not wanted any more; an end in the middle of one."""
    done = subprocess.run(
        [programs[sanitizer]],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={"TSAN_OPTIONS": "halt_on_error=1"},
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    counts = [int(word) for word in done.stdout.split() if word.isdigit()]
    assert min(counts) > 0, f"a kind of load did not happen: {done.stdout}"
