"""What every benchmark needs: C++ drivers built, an input, a folder for results, words about the machine."""

import json
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "benchmarks"
RESULTS = ROOT / "benchmarks" / "results"


def build(name: str, *flags: str, folder: Path = ROOT / "benchmarks") -> Path:
    """Compile FOLDER/NAME.cpp against the core, as the module is, when something is newer than it."""
    source = folder / f"{name}.cpp"
    program = BUILD / "-".join([name, *(flag.strip("-").replace("=", "_") for flag in flags)])
    core = ROOT / "feedhandler" / "core"
    newest = max(path.stat().st_mtime for path in [source, *folder.glob("*.hpp"), *core.rglob("*.hpp")])
    if not program.exists() or program.stat().st_mtime < newest:
        BUILD.mkdir(parents=True, exist_ok=True)
        compiler = os.environ.get("CXX", "g++")
        command = [compiler, "-std=gnu++20", "-O3", "-march=native", "-pthread", *flags, f"-I{core}"]
        subprocess.run([*command, str(source), "-o", str(program)], check=True)
    return program


def simulated_day(messages: int = 10_000_000, symbols: int = 8_000, seed: int = 1) -> Path:
    """Return a simulated day as BinaryFILE, made once and kept (31 bytes a message) in build/."""
    path = ROOT / "build" / f"day-{messages}-{symbols}-{seed}.itch"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        options = ["--output", partial, "--messages", messages, "--symbols", symbols, "--seed", seed]
        subprocess.run([feedhandler(), "simulate", *map(str, options)], check=True, stdout=subprocess.DEVNULL)
        partial.rename(path)
    return path


def feedhandler() -> str:
    """Return the console script of the environment that runs the benchmark."""
    import sys

    beside = Path(sys.executable).with_name("feedhandler")
    return str(beside) if beside.exists() else shutil.which("feedhandler") or "feedhandler"


def machine() -> dict[str, Any]:
    """Return what a reader of the figures must know of the machine."""
    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        "",
    )
    return {"cpu": model, "cpus": os.cpu_count(), "kernel": platform.release(), "load": os.getloadavg()[0]}


def write_json(name: str, facts: dict[str, Any]) -> Path:
    """Write results/NAME.json with the machine's facts."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), **facts}, indent=2) + "\n")
    return path
