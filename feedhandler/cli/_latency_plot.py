"""The latency budget as a picture; needs matplotlib."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feedhandler.cli.latency import duration
from feedhandler.errors import RunError, UsageError

if TYPE_CHECKING:
    from feedhandler import _core

FORMATS = (".png", ".svg", ".pdf")


def check(file: str) -> None:
    """Raise UsageError unless FILE can be drawn here."""
    if Path(file).suffix.lower() not in FORMATS:
        raise UsageError(f'--plot: "{file}": {", ".join(FORMATS)} are allowed')
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError(f'--plot: "{file}": needs matplotlib: pip install "feedhandler[plots]"')


def draw(path: Path, table: dict[str, Any], histograms: dict[str, "_core.Histogram"]) -> None:
    """Draw the distribution of each hop over a logarithmic scale, with its budget, median and 99 %."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    shown = [name for name, row in table["hops"].items() if row["count"]]
    figure, axes = plt.subplots(
        max(1, len(shown)), 1, sharex=True, squeeze=False, figsize=(9, 1.1 * max(2, len(shown)) + 1)
    )
    for axis, name in zip(axes[:, 0], shown, strict=False):
        row = table["hops"][name]
        lowest = [max(ns, 1) for ns, _ in histograms[name].buckets()]
        counts = [count for _, count in histograms[name].buckets()]
        over = [row["budget_ns"] is not None and ns > row["budget_ns"] for ns in lowest]
        axis.bar(
            lowest,
            counts,
            width=[max(1, ns / 32) for ns in lowest],
            align="edge",
            color=["tab:red" if is_over else "tab:blue" for is_over in over],
        )
        axis.set_xscale("log")
        axis.set_ylabel(name, rotation=0, ha="right", va="center")
        axis.set_yticks([])
        axis.axvline(row["median_ns"], color="black", linewidth=1)
        axis.axvline(row["p99_ns"], color="black", linewidth=1, linestyle=":")
        if row["budget_ns"]:
            axis.axvline(row["budget_ns"], color="tab:green", linewidth=1.5)
        words = f"median {duration(row['median_ns'])}, 99 % {duration(row['p99_ns'])}"
        axis.text(0.99, 0.8, words, transform=axis.transAxes, ha="right", va="top", fontsize=8)
    sampling = table["sampling"]
    figure.suptitle(
        f"{table['channel']}: one packet in {sampling['every']}, {sampling['samples']:,} samples; "
        "line: median, dots: 99 %, green: budget",
        fontsize=10,
    )
    axes[-1, 0].set_xlabel("nanoseconds")
    figure.tight_layout()
    try:
        figure.savefig(path, dpi=120)
    except OSError as error:
        raise RunError(f'--plot: "{path}": {error.strerror}') from error
    finally:
        plt.close(figure)
