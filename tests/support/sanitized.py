"""C++ programs of the tests, compiled with a sanitizer; kept in build/ until something is newer."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
CORE = ROOT / "feedhandler" / "core"
BUILD = ROOT / "build" / "sanitized"
FLAGS = ["-std=c++20", "-O1", "-g", "-fno-sanitize-recover=all", "-pthread"]
WARNINGS = ["-Wall", "-Wextra", "-Wconversion"]


def sanitized(source: Path, sanitizers: Sequence[str]) -> list[Path]:
    """Return the program of each set of sanitizers; they are compiled at the same time."""
    compiler = shutil.which("clang++-14") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("needs clang++ with its sanitizers' runtimes (Debian package clang-14)")
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda one: _build(compiler, source, one), sanitizers))


def _build(compiler: str, source: Path, sanitizer: str) -> Path:
    program = BUILD / f"{source.stem}-{sanitizer.replace(',', '-')}"
    newest = max(path.stat().st_mtime for path in (source, Path(__file__), *CORE.rglob("*.hpp")))
    if not program.exists() or program.stat().st_mtime < newest:
        BUILD.mkdir(parents=True, exist_ok=True)
        unfinished = program.with_suffix(f".{os.getpid()}")
        command = [compiler, *FLAGS, *WARNINGS, f"-fsanitize={sanitizer}", f"-I{CORE}", str(source)]
        subprocess.run([*command, "-o", str(unfinished)], check=True)
        unfinished.rename(program)
    return program
