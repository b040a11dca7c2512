"""The latency budget as a picture; needs matplotlib."""

import importlib.util
import math
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feedhandler.cli._duration import duration
from feedhandler.errors import RunError, UsageError

if TYPE_CHECKING:
    from feedhandler import _core

FORMATS = (".png", ".svg", ".pdf")
BINS_A_DECADE = 12


def check(file: str) -> None:
    """Raise UsageError unless FILE can be drawn here."""
    if Path(file).suffix.lower() not in FORMATS:
        raise UsageError(f'--plot: "{file}": {", ".join(FORMATS)} are allowed')
    if not Path(file).absolute().parent.is_dir():
        raise UsageError(f'--plot: "{file}": No such file or directory')
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError(f'--plot: "{file}": needs matplotlib: pip install "feedhandler[plots]"')


def bins(histogram: "_core.Histogram") -> tuple[list[float], list[int]]:
    """Return edges, BINS_A_DECADE apart and the counts between them.

    Fewer than the histogram has: a counter that advances in steps of many nanoseconds would show as a comb.
    """
    buckets = histogram.buckets()
    step = BINS_A_DECADE
    places = [math.floor(step * math.log10(max(ns, 1)) + 1e-9) for ns, _ in buckets]
    first, last = min(places), max(places)
    counts = [0] * (last - first + 1)
    for place, (_, count) in zip(places, buckets, strict=True):
        counts[place - first] += count
    return [10 ** (place / step) for place in range(first, last + 2)], counts


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
        edges, counts = bins(histograms[name])
        over = [row["budget_ns"] is not None and edge >= row["budget_ns"] for edge in edges[:-1]]
        axis.bar(
            edges[:-1],
            counts,
            width=[right - left for left, right in pairwise(edges)],
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
        white = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        axis.text(0.99, 0.85, words, transform=axis.transAxes, ha="right", va="top", fontsize=8, bbox=white)
    sampling = table["sampling"]
    figure.suptitle(
        f"{table['channel']}: one packet in {sampling['every']}, {sampling['samples']:,} samples; "
        "line: median, dots: 99 %, green: budget",
        fontsize=10,
    )
    axes[-1, 0].xaxis.set_major_formatter(lambda ns, _: duration(ns))
    figure.tight_layout()
    try:
        figure.savefig(path, dpi=120)
    except OSError as error:
        raise RunError(f'--plot: "{path}": {error.strerror}') from error
    finally:
        plt.close(figure)
