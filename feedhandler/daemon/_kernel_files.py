"""Reads the kernel's files below /proc and /sys; `root` is another directory in tests."""

from pathlib import Path

ROOT = Path("/")


def read(root: Path, path: str) -> str | None:
    """Return the text of a file without the blanks around it; None: it is not there, or not for this user."""
    try:
        return (root / path).read_text().strip()
    except OSError:
        return None


def read_int(root: Path, path: str) -> int | None:
    """Return the number in a file; None: there is none."""
    try:
        return int(read(root, path) or "")
    except ValueError:
        return None


def parse_cpus(text: str) -> set[int]:
    """Return the CPUs of a kernel list such as "2-3,8"; none of "(null)", as an empty nohz_full reads."""
    cpus: set[int] = set()
    for part in filter(lambda part: part[:1].isdigit(), text.split(",")):
        first, _, last = part.partition("-")
        cpus.update(range(int(first), int(last or first) + 1))
    return cpus


def read_cpus(root: Path, path: str) -> set[int]:
    """Return the CPUs of a file that lists them; empty: there is none."""
    return parse_cpus(read(root, path) or "")


def process_names(root: Path) -> set[str]:
    """Return the names of the processes that this user may see, cut to 15 characters by the kernel."""
    names = (read(folder, "comm") for folder in (root / "proc").glob("[0-9]*"))
    return {name for name in names if name}


def node_of_cpu(root: Path, cpu: int) -> int | None:
    """Return the NUMA node of a CPU; None: the kernel does not say."""
    for node in sorted((root / "sys/devices/system/node").glob("node[0-9]*")):
        if cpu in read_cpus(node, "cpulist"):
            return int(node.name.removeprefix("node"))
    return None
