"""Share of the best hypervolume against compute, as a PNG file."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from benchmarks.sweep_policies.report import OURS, RANDOM, Key, shares_at
from benchmarks.sweep_policies.runs import SHARES, Result

# Okabe and Ito's palette, distinguishable with any colour vision: a colour for each scheduler, a line style for each
# sampler.
_COLOURS = ("#000000", "#0072b2", "#d55e00", "#56b4e9", "#e69f00", "#cc79a7", "#009e73", "#8a8a8a")
_STYLES = ("--", (0, (1, 1)), "-.", "-", (0, (5, 1, 1, 1, 1, 1)))
_BANDS = (RANDOM, OURS)
"""Policies whose quartiles are drawn: bands of all would hide each other."""
_LEAST_SHARE = 65.0
_POINTS = 400
_DOTS_PER_INCH = 150


def draw(results: Mapping[Key, Sequence[Result]], trainings: float) -> bytes:
    """A panel for each number of workers: medians of all policies, and quartiles of two as bands.

    Args:
        trainings: Compute at which studies end.
    """
    numbers = list(dict.fromkeys(workers for _, workers in results))
    figure = Figure(figsize=(4.2 * len(numbers) + 2.8, 5.2), dpi=_DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    compute = np.geomspace(trainings / 25, trainings, _POINTS)
    all_axes = figure.subplots(1, len(numbers), squeeze=False, sharey=True)[0]
    lines: dict[str, Line2D] = {}
    for axes, workers in zip(all_axes, numbers, strict=True):
        for policy, style in _line_styles([policy for policy, _ in results]).items():
            if (policy, workers) not in results:
                continue
            shares = 100 * shares_at(results[policy, workers], compute)
            low, middle, high = np.quantile(shares, (0.25, 0.5, 0.75), axis=0)
            (lines[policy],) = axes.plot(compute, middle, label=policy, linewidth=1.5, **style)
            if policy in _BANDS:
                axes.fill_between(compute, low, high, color=style["color"], alpha=0.15, linewidth=0)
        for share in SHARES:
            axes.axhline(100 * share, color="#cccccc", linewidth=0.5, zorder=0)
        axes.set_title(f"{workers} workers" if workers > 1 else "1 worker")
        axes.set_xlabel("compute, full trainings")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_major_locator(FixedLocator([trainings * part for part in (0.05, 0.1, 0.2, 0.5, 1.0)]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_ylim(_LEAST_SHARE, 100)
    all_axes[0].set_ylabel("% of the best hypervolume: medians, quartiles of two")
    figure.legend(list(lines.values()), list(lines), loc="outside right upper", frameon=False, fontsize=8)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _line_styles(policies: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour and line style of each policy, named "sampler + scheduler" or by one word."""
    parts = {policy: policy.partition(" + ")[::2] for policy in policies}
    samplers = list(dict.fromkeys(sampler for sampler, _ in parts.values()))
    schedulers = list(dict.fromkeys(scheduler for _, scheduler in parts.values()))
    return {
        policy: {
            "color": _COLOURS[schedulers.index(scheduler) % len(_COLOURS)],
            "linestyle": _STYLES[samplers.index(sampler) % len(_STYLES)],
        }
        for policy, (sampler, scheduler) in parts.items()
    }
