"""A directory that looks like the /proc and /sys of another machine."""

from pathlib import Path

CPUS = "sys/devices/system/cpu"
IPC_LOCK_ONLY = "CapEff:\t0000000000004000"


def write_tree(root: Path, files: dict[str, str]) -> Path:
    """Write the files, with a line's end as the kernel does; "-> TARGET" makes a link. Return `root`."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text.startswith("-> "):
            (path.parent / text[3:]).resolve().mkdir(parents=True, exist_ok=True)
            path.symlink_to(text[3:])
        else:
            path.write_text(f"{text}\n")
    return root
