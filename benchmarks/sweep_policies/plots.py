"""Share of the best hypervolume against compute, as a PNG file."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.sweep_policies.report import Key, shares_at
from benchmarks.sweep_policies.runs import SHARES, Result

# Okabe and Ito's palette, distinguishable with any colour vision, and line styles.
_COLOURS = ("#000000", "#0072b2", "#56b4e9", "#009e73", "#e69f00", "#d55e00", "#cc79a7", "#8a8a8a")
_STYLES = ("-", "--", ":")
_POINTS = 300
_DOTS_PER_INCH = 150


def draw(results: Mapping[Key, Sequence[Result]], trainings: float) -> bytes:
    """A panel for each number of workers: medians of all policies, and quartiles as bands.

    Args:
        trainings: Compute at which studies end.
    """
    numbers = list(dict.fromkeys(workers for _, workers in results))
    policies = list(dict.fromkeys(policy for policy, _ in results))
    figure = Figure(figsize=(5.0 * len(numbers), 5.2), dpi=_DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    compute = np.linspace(0.0, trainings, _POINTS)
    all_axes = figure.subplots(1, len(numbers), squeeze=False, sharey=True)[0]
    for axes, workers in zip(all_axes, numbers, strict=True):
        for index, policy in enumerate(policies):
            if (policy, workers) not in results:
                continue
            shares = 100 * shares_at(results[policy, workers], compute)
            low, middle, high = np.quantile(shares, (0.25, 0.5, 0.75), axis=0)
            colour, style = _COLOURS[index % len(_COLOURS)], _STYLES[index // len(_COLOURS)]
            axes.plot(compute, middle, style, color=colour, label=policy, linewidth=1.5)
            axes.fill_between(compute, low, high, color=colour, alpha=0.1, linewidth=0)
        for share in SHARES:
            axes.axhline(100 * share, color="#cccccc", linewidth=0.5, zorder=0)
        axes.set_title(f"{workers} workers" if workers > 1 else "1 worker")
        axes.set_xlabel("compute, full trainings")
        axes.set_ylim(60, 101)
    all_axes[0].set_ylabel("% of the best hypervolume, median and quartiles")
    handles, labels = all_axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
