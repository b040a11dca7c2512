"""All benchmarks, one after the other: `python -m benchmarks [NAME]...`; results in benchmarks/results."""

import importlib
import sys

NAMES = (
    "book",
    "ring",
    "path",
    "rerequest",
    "snapshot",
    "gapfill",
    "replay",
    "repair",
    "takeover",
    "receive",
    "modes",
    "latency_cost",
    "host",
)


def main() -> None:
    """Run those named, else all."""
    names = sys.argv[1:] or NAMES
    if {"-h", "--help"} & set(names):
        print(f"{__doc__}\nNAME: {', '.join(NAMES)}\nOptions of each: python -m benchmarks.bench_NAME --help")
        return
    if unknown := [name for name in names if name not in NAMES]:
        sys.exit(f"no benchmark {unknown[0]!r}: {', '.join(NAMES)} are there")
    for name in names:
        print(f"== {name}", flush=True)
        sys.argv = [name]  # its own options are for a run by itself
        importlib.import_module(f"benchmarks.bench_{name}").main()


if __name__ == "__main__":
    main()
