"""Processes with some capabilities only, and what a process has."""

import re
from collections.abc import Iterable
from pathlib import Path

NUMBERS = {"net_admin": 12, "net_raw": 13, "ipc_lock": 14, "sys_nice": 23, "perfmon": 38, "bpf": 39}
NOBODY = 65534


def nobody_with(names: Iterable[str]) -> list[str]:
    """Return the words before a command that make it nobody's, with these capabilities and no others."""
    sets = "-all" + "".join(f",+{name}" for name in names)
    return [
        *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
        *(f"--inh-caps={sets}", f"--ambient-caps={sets}", f"--bounding-set={sets}"),
    ]


def mask(names: Iterable[str]) -> int:
    """Return the bits of these capabilities."""
    return sum(1 << NUMBERS[name] for name in names)


def of_threads(pid: int) -> dict[str, set[tuple[int, int]]]:
    """Return (permitted, effective) of a process's threads, by their names."""
    found: dict[str, set[tuple[int, int]]] = {}
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        fields = dict(re.findall(r"(?m)^(\w+):\s*(.*)$", status.read_text()))
        sets = int(fields["CapPrm"], 16), int(fields["CapEff"], 16)
        found.setdefault(fields["Name"], set()).add(sets)
    return found
