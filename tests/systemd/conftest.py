"""The real systemd, as PID 1 of its own namespaces, with the package where the units expect it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from feedhandler import _core

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT = ROOT / "tests" / "support" / "isolated-systemd.sh"


class Machine:
    """A booted systemd; `run` runs a command in it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, *command: str, check: bool = True, text: str | None = None) -> str:
        """Run a command inside, return its standard output."""
        done = subprocess.run(
            [str(SCRIPT), "exec", self.name, *command], input=text, capture_output=True, text=True, timeout=60
        )
        assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def write(self, path: str, text: str) -> None:
        """Write a file inside; it vanishes with the machine."""
        self.run("sh", "-c", f"mkdir -p $(dirname {path}) && cat > {path}", text=text)

    def show(self, unit: str, key: str) -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", unit, f"-p{key}", "--value").strip()

    def python(self, *arguments: str, text: str | None = None) -> str:
        """Run the installed package's Python inside, as root."""
        return self.run("/opt/feedhandler/bin/python", *arguments, text=text)


@pytest.fixture(scope="package")
def machine() -> Iterator[Machine]:
    """Boot, install the package into /opt/feedhandler and the units, users and folders where they belong.

    Once for all tests here: each takes its units away again.
    """
    if os.geteuid() != 0 or not shutil.which("systemctl"):
        pytest.skip("needs root and systemd, to boot a systemd of its own")
    name = f"feedhandler-{os.getpid()}"
    shared = [flag for folder in _folders() for flag in ("-b", folder)]
    subprocess.run([str(SCRIPT), "start", name, *shared], check=True, timeout=90)
    booted = Machine(name)
    try:
        _install(booted)
        yield booted
    finally:
        subprocess.run([str(SCRIPT), "stop", name], check=True, timeout=60)


def _folders() -> list[str]:
    """Return the folders that the package, its dependencies and the interpreter lie in, each once."""
    wanted = {str(ROOT), sys.base_prefix} | {path for path in sys.path if Path(path).is_dir()}
    wanted.discard("/usr")
    wanted = {path for path in wanted if not path.startswith("/usr/")}
    return sorted(path for path in wanted if not any(path.startswith(f"{other}/") for other in wanted))


def _install(booted: Machine) -> None:
    """Make a virtual environment of bind mounts: a checkout below /root is closed to the units' user."""
    paths = []
    script = ["set -e", "mkdir -p /opt/feedhandler-python"]
    for index, path in enumerate([str(ROOT), *(p for p in sys.path if p.endswith("site-packages"))]):
        target = path
        if not path.startswith("/usr/"):
            target = f"/opt/feedhandler-{index}"
            script.append(f"mkdir -p {target} && mount --bind {path} {target}")
        paths.append(target)
    python = "/usr/bin/python3"
    if sys.base_prefix != "/usr":
        script.append(f"mount --bind {sys.base_prefix} /opt/feedhandler-python")
        # Its library may lie below /root too: the system's would be taken, perhaps of another release.
        script += ["echo /opt/feedhandler-python/lib > /etc/ld.so.conf.d/00-feedhandler.conf", "ldconfig"]
        python = f"/opt/feedhandler-python/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    site = f"/opt/feedhandler/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    script += [
        f"{python} -m venv --without-pip /opt/feedhandler",
        # the compiled module lies beside the sources, or where an editable install has put it
        f"cp -r {ROOT}/feedhandler {ROOT}/recovery {site}/",
        f"cp {_core.__file__} {site}/feedhandler/",
        f"cp {Path(_core.__file__).parent}/_dpdk*.so {site}/feedhandler/ || true",
        # as an installer does: the units' user cannot, and would compile them at each start
        f"/opt/feedhandler/bin/python -m compileall -q {site}",
        f"printf '%s\\n' {' '.join(paths)} > {site}/shared.pth",
        "printf '#!/opt/feedhandler/bin/python\\nfrom feedhandler.cli import main\\nmain()\\n'"
        " > /opt/feedhandler/bin/feedhandler",
        "chmod +x /opt/feedhandler/bin/feedhandler",
        f"cp {ROOT}/systemd/*.service /etc/systemd/system/",
        "mkdir -p /etc/sysusers.d /etc/tmpfiles.d",
        f"cp {ROOT}/systemd/feedhandler.sysusers.conf /etc/sysusers.d/feedhandler.conf",
        f"cp {ROOT}/systemd/feedhandler.tmpfiles.conf /etc/tmpfiles.d/feedhandler.conf",
        "systemd-sysusers",
        "systemd-tmpfiles --create /etc/tmpfiles.d/feedhandler.conf",
        "ip link set lo up",
        "systemctl daemon-reload",
    ]
    booted.run("sh", "-c", "\n".join(script))
