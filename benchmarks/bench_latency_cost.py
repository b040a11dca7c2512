"""What measuring latencies costs: the same day with it and without, interleaved; instructions by callgrind.

    python -m benchmarks latency_cost
    python -m benchmarks.bench_latency_cost [--rounds 41] [--every 512] [--callgrind]

A day from memory through receive, frame, sequence, books, records and ring on one pinned core: without a
meter compiled in, with one that is off, with one that follows a packet in so many. Asked: at most 2 % more.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import tempfile
from pathlib import Path

from benchmarks.harness import build, simulated_day, write_json

ASKED = 1.02
MESSAGES = 1_000_000
PACKETS = {"packets of 1": 1, "packets of 4": 4}


def ratios(driver: Path, day: Path, per_packet: int, rounds: int, every: int) -> dict[str, float]:
    """Median nanoseconds a packet; of the ratios to the run without, round by round, median and quartiles.

    And the ratio of the best rounds: on a shared machine others only ever add to the time.
    """
    command = [str(driver), str(day), "--packet", str(per_packet), "--rounds", str(rounds)]
    cpu = max(os.sched_getaffinity(0))
    done = subprocess.run(
        [*command, "--every", str(every), "--cpu", str(cpu)], check=True, capture_output=True, text=True
    )
    times = json.loads(done.stdout)
    out = {f"{name}_ns": statistics.median(times[name]) for name in ("without", "off", "on")}
    for name in ("off", "on"):
        pairs = [one / base for one, base in zip(times[name], times["without"], strict=True)]
        low, middle, high = statistics.quantiles(pairs, n=4)
        out |= {f"{name}_ratio": middle, f"{name}_low": low, f"{name}_high": high}
        out[f"{name}_best"] = min(times[name]) / min(times["without"])  # what nobody disturbed
    return out


def instructions(driver: Path, day: Path, per_packet: int, variant: str, every: int) -> float:
    """Instructions per packet; of one round and two, so that start-up cancels out."""
    counts, packets = [], 1
    for rounds in (1, 2):
        with tempfile.NamedTemporaryFile() as out:
            command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out.name}", str(driver)]
            options = ["--packet", per_packet, "--limit", 400_000, "--rounds", rounds, "--every", every]
            done = subprocess.run(
                [*command, str(day), *map(str, options), "--only", variant],
                check=True,
                capture_output=True,
                text=True,
            )
        (count,) = re.findall(r"Collected : (\d+)", done.stderr)
        counts.append(int(count))
        packets = json.loads(done.stdout)["packets"]
    return (counts[1] - counts[0]) / packets


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--every", type=int, default=512)
    parser.add_argument("--callgrind", action="store_true", help="instructions only")
    options = parser.parse_args()
    day = simulated_day(messages=MESSAGES)
    facts: dict[str, dict[str, float]] = {}
    for name, per_packet in PACKETS.items():
        one = facts[name] = {}
        if not options.callgrind:
            one |= ratios(build("latency_bench"), day, per_packet, options.rounds, options.every)
            shown = [
                f"{v} x{one[f'{v}_ratio']:.3f} ({one[f'{v}_low']:.3f}-{one[f'{v}_high']:.3f}, best "
                f"{one[f'{v}_best']:.3f})"
                for v in ("off", "on")
            ]
            print(
                f"{name}: without {one['without_ns']:.0f} ns a packet; {'; '.join(shown)}; asked {ASKED}",
                flush=True,
            )
        driver = build("latency_bench", "-march=x86-64-v3")  # valgrind knows no AVX-512
        found = {v: instructions(driver, day, per_packet, v, options.every) for v in ("without", "off", "on")}
        one |= {f"{variant}_instructions": count for variant, count in found.items()}
        print(
            f"{name}: instructions a packet: without {found['without']:.1f}, off {found['off']:.1f} "
            f"(x{found['off'] / found['without']:.4f}), on {found['on']:.1f} "
            f"(x{found['on'] / found['without']:.4f})",
            flush=True,
        )
    if not options.callgrind:
        write_json("latency_cost", {"asked": ASKED, "every": options.every, "variants": facts})


if __name__ == "__main__":
    main()
