"""The stand-in for Onload: compiled once, preloaded by tests, with a launcher of its own."""

import atexit
import functools
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("onload_stand_in.c")


@functools.cache
def library() -> Path:
    """Return the compiled stand-in; gone when the tests end."""
    folder = Path(tempfile.mkdtemp(prefix="fh-onload-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o755)  # for tests that give up being root
    out = folder / "onload_stand_in.so"
    command = ["gcc", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(out), str(SOURCE)]
    subprocess.run(command, check=True, timeout=60)
    return out


def preloaded(**answers: object) -> dict[str, str]:
    """Return the variables of a process with the stand-in; `answers`: ONLOAD_STAND_IN_..., `_` the first."""
    named = {f"ONLOAD_STAND_IN_{key.upper()}".rstrip("_"): str(value) for key, value in answers.items()}
    return {"LD_PRELOAD": str(library()), **named}


def launcher(folder: Path, *, preload: bool = True) -> Path:
    """Write what stands for the program `onload`; it notes its arguments in `launched` beside it."""
    path = folder / "onload"
    lines = [
        "#!/bin/sh",
        f'echo "$@" >> {shlex.quote(str(folder / "launched"))}',
        'case "$1" in --profile=latency) export EF_POLL_USEC="${EF_POLL_USEC-100000}" ;; esac',
        'while case "$1" in --*) true ;; *) false ;; esac; do shift; done',
        f"export LD_PRELOAD={shlex.quote(str(library()))}" if preload else ":",
        'exec "$@"',
    ]
    path.write_text("\n".join(lines) + "\n")
    path.chmod(0o755)
    return path
