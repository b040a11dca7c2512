"""Packet in memory to record in the hands of a reader in another process: table, JSON and plot.

python -m benchmarks.bench_path
"""

import json
import subprocess

import numpy as np

from benchmarks.harness import RESULTS, build, simulated_day, write_json

PERCENTILES = (1, 50, 90, 99, 99.9)


def main() -> None:
    """Run, print, plot."""
    day = simulated_day(messages=1_000_000)
    output = subprocess.run(
        [build("path_bench"), day, "--packets", "500000"], check=True, capture_output=True, text=True
    ).stdout
    samples = np.array(json.loads(output))
    percentiles = {str(p): float(np.percentile(samples, p)) for p in PERCENTILES}
    write_json("path", {"samples": len(samples), "percentiles_ns": percentiles})
    print("packet in memory -> record visible in another process, ns")
    for name, value in percentiles.items():
        print(f"  p{name:<5} {value:10,.0f}")
    plot(samples)


def plot(samples: np.ndarray) -> None:
    """Draw the share of records that took longer, over nanoseconds, both logarithmic: the tail matters."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    ordered = np.sort(samples)
    longer = 1.0 - np.arange(len(ordered)) / len(ordered)
    figure, axes = plt.subplots(figsize=(8, 4.5))
    axes.loglog(ordered, longer)
    axes.axvline(1000, color="grey", linestyle=":", label="1 µs")
    axes.axvline(
        float(np.median(samples)),
        color="tab:green",
        linestyle="--",
        label=f"median {np.median(samples):.0f} ns",
    )
    axes.set(
        xlabel="packet in memory to record in another process, ns", ylabel="share of records that took longer"
    )
    axes.set_title("The whole way but the network, one message a packet")
    axes.grid(visible=True, which="both", alpha=0.2)
    axes.legend()
    figure.tight_layout()
    figure.savefig(RESULTS / "path.png", dpi=120)


if __name__ == "__main__":
    main()
