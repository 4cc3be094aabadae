"""Plot of miss rate against false positives per image, in the layout of the field's papers.

The axes are those of Dollar's ``plotRoc``: both logarithmic, miss rates labelled .05 .10 .20 ... .64 .80 1, the legend
from the worst detector to the best, which is the order of the curves from top to bottom.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from hkd.evaluation.miss_rate import MissRateCurve
from hkd.text.escaping import printable

FORMATS: Final = ("png", "pdf", "svg")
"""What :func:`draw_curves` writes."""

# Okabe and Ito's palette without its yellow, which is faint on white; the dashes differ as well.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#56b4e9", "#e69f00")
_DASHES = ("-", "--", "-.", ":")
_FPPI_LIMITS = (3.1e-3, 1e1)
_MISS_RATE_TICKS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.64, 0.8, 1.0)
_MISS_RATE_TICKS_BELOW = (0.001, 0.002, 0.005, 0.01, 0.02)
"""Additional ticks for detectors with lower miss rates."""
_LONGEST_NAME = 44
_SIZE_INCHES = (6.4, 5.4)
_DOTS_PER_INCH = 150


@dataclass(frozen=True, eq=False)
class NamedCurve:
    """One line of the plot."""

    name: str
    """Of the detector."""
    log_average_miss_rate: float
    """MR^-2, a fraction."""
    curve: MissRateCurve


def draw_curves(curves: Sequence[NamedCurve], title: str, file_format: str = "png") -> bytes:
    """Miss rate against false positives per image, one line per detector, with its MR^-2 in the legend.

    Args:
        curves: At least one, in any order.
        title: Title of the plot.
        file_format: One of :data:`FORMATS`.

    Returns:
        The file's content.
    """
    assert curves
    assert file_format in FORMATS
    figure = Figure(figsize=_SIZE_INCHES, dpi=_DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(_as_text(title, 80), fontsize=11)
    _set_up(axes, curves)
    # Colours follow the order of the arguments, so that they do not depend on other detectors' miss rates.
    worst_first = sorted(range(len(curves)), key=lambda i: -curves[i].log_average_miss_rate)
    for i in worst_first:
        axes.plot(
            *_visible(curves[i].curve, axes),
            # The miss rate is constant between two detections.
            drawstyle="steps-post",
            color=_COLOURS[i % len(_COLOURS)],
            linestyle=_DASHES[i % len(_DASHES)],
            linewidth=2.0,
            label=f"{100 * curves[i].log_average_miss_rate:.2f}% {_as_text(curves[i].name, _LONGEST_NAME)}",
        )
    axes.legend(loc="lower left", fontsize=9, framealpha=0.9)
    buffer = io.BytesIO()
    # Without a date or random names: equal results make equal files.
    metadata = {"png": {"Software": None}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}[file_format]
    with rc_context({"svg.hashsalt": "hkd"}):
        figure.savefig(buffer, format=file_format, metadata=metadata)
    return buffer.getvalue()


def _set_up(axes: Axes, curves: Sequence[NamedCurve]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(*_FPPI_LIMITS)
    axes.set_ylim(_lower_limit(curves), 1.0)
    axes.xaxis.set_major_locator(LogLocator(numticks=12))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(FixedLocator([*_MISS_RATE_TICKS_BELOW, *_MISS_RATE_TICKS]))
    axes.yaxis.set_major_formatter(FuncFormatter(_tick_label))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("false positives per image", fontsize=11)
    axes.set_ylabel("miss rate", fontsize=11)
    axes.grid(visible=True, which="major", color="#d0d0d0", linewidth=0.7)
    axes.set_axisbelow(True)


def _lower_limit(curves: Sequence[NamedCurve]) -> float:
    """The usual lower limit or, if less, the tick below the lowest visible miss rate."""
    lowest = min(curve.curve.at([_FPPI_LIMITS[1]]).item() for curve in curves)
    ticks = np.array([*_MISS_RATE_TICKS_BELOW, _MISS_RATE_TICKS[0]])
    return float(ticks[max(0, int(np.searchsorted(ticks, lowest, side="right")) - 1)])


def _visible(curve: MissRateCurve, axes: Axes) -> tuple[np.ndarray, np.ndarray]:
    """FPPI and miss rate for logarithmic axes: values that these cannot show are moved just outside the limits."""
    outside_x, outside_y = axes.get_xlim()[0] / 10, axes.get_ylim()[0] / 10
    # Before the first detection the miss rate is 1.
    fppi = np.concatenate([[outside_x], np.maximum(curve.fppi, outside_x)])
    miss_rate = np.concatenate([[1.0], np.maximum(curve.miss_rate, outside_y)])
    return fppi, miss_rate


def _tick_label(value: float, _position: int) -> str:
    """As in the field's plots: .05, .10, .64, 1."""
    return "1" if value >= 1 else f"{value:.3f}".removesuffix("0").removeprefix("0")


def _as_text(name: str, longest: int) -> str:
    # No font has control characters, and matplotlib rejects surrogates.
    name = printable(name)
    shown = name if len(name) <= longest else name[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"
    # A dollar sign would start a formula.
    return shown.replace("$", r"\$")
