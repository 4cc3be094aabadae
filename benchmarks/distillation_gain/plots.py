"""Miss rate against training length, and against the number of labelled scenes, as PNG files."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from benchmarks.distillation_gain.report import cells_of, teachers_in
from benchmarks.distillation_gain.results import Cell, Table, in_order

# Okabe and Ito's palette, distinguishable with any colour vision, then four of Tol's; markers and line styles differ as
# well.
_COLOURS = (
    *("#000000", "#0072b2", "#56b4e9", "#009e73", "#e69f00", "#8a8a8a", "#d55e00", "#cc79a7"),
    *("#882255", "#332288", "#44aa99", "#999933"),
)
_MARKERS = "os^Dv<>PX*hd"
_LINES = ("-", "--", "-.", ":")
_GREY = "#555555"
_DOTS_PER_INCH = 150
_PANEL_INCHES = (5.0, 4.2)
_LEGEND_INCHES = 0.9
_SHIFT = 1.025
"""Factor between neighbouring rows on the logarithmic axis, so that their bars do not cover each other."""


@dataclass(frozen=True)
class Panel:
    """One student under one teacher; either the number of labels or that of steps is the same in all its results."""

    title: str
    cells: tuple[Cell, ...]
    teacher_miss_rate: float | None


def panels_of(table: Table, by: str) -> list[Panel]:
    """A panel for each student, teacher and value of the other dimension with two or more places on the axis.

    Rows with a single number of labels are left out of panels by labels: they are in those by steps.

    Args:
        by: ``steps`` or ``labels``, the horizontal axis.
    """
    other = "labels" if by == "steps" else "steps"
    found = []
    students = dict.fromkeys(cell.student for cell in table.cells.values())
    for value in sorted({getattr(cell, other) for cell in table.cells.values()}):
        for teacher, student in itertools.product(teachers_in(table), students):
            cells = [cell for cell in cells_of(table, student, teacher) if getattr(cell, other) == value]
            if by == "labels":
                rows = [cell.row for cell in cells]
                cells = [cell for cell in cells if rows.count(cell.row) > 1]
            if len({getattr(cell, by) for cell in cells if cell.teacher == teacher}) > 1:
                what = f"{value:,} labelled scenes" if other == "labels" else f"{value:,} steps"
                found.append(_panel(table, student, teacher, cells, what))
    return found


def draw(panels: Sequence[Panel], rows: Sequence[str], by: str) -> bytes:
    """A PNG: mean and standard deviation over seeds, each seed as a dot, the teacher as a horizontal line.

    Args:
        panels: At least one.
        rows: The order of all rows, which determines colours and markers.
        by: ``steps`` or ``labels``, the horizontal axis.
    """
    columns = min(len(panels), 2)
    lines = math.ceil(len(panels) / columns)
    size = (_PANEL_INCHES[0] * columns, _PANEL_INCHES[1] * lines + _LEGEND_INCHES)
    figure = Figure(figsize=size, dpi=_DOTS_PER_INCH, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))
    FigureCanvasAgg(figure)
    shown = in_order((cell.row for panel in panels for cell in panel.cells), rows)
    # By all rows, so that a row looks the same in every plot.
    styles = {row: _style(place) for place, row in enumerate(in_order([*rows, *shown], rows))}
    for place, panel in enumerate(panels, start=1):
        axes = figure.add_subplot(lines, columns, place)
        _set_up(axes, panel, by)
        _draw_rows(axes, panel, by, [row for row in shown if any(cell.row == row for cell in panel.cells)], styles)
    handles = [Line2D([], [], **styles[row], label=row) for row in shown]
    handles.append(Line2D([], [], color=_GREY, linestyle=(0, (6, 2)), linewidth=1.4, label="teacher"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4 if columns > 1 else 3, fontsize=9, frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _panel(table: Table, student: str, teacher: str | None, cells: Sequence[Cell], what: str) -> Panel:
    params = next(iter(cells[0].results.values())).num_params
    of_teacher = table.teachers.get(teacher) if teacher is not None else None
    under = f", {teacher} teacher" if teacher is not None else ""
    title = f"student {student} ({params / 1e6:.2f} M parameters){under}\n{what}"
    return Panel(title, tuple(cells), None if of_teacher is None else of_teacher.miss_rate)


def _style(place: int) -> dict[str, Any]:
    return {
        "color": _COLOURS[place % len(_COLOURS)],
        "marker": _MARKERS[place % len(_MARKERS)],
        "linestyle": _LINES[place % len(_LINES)],
        "linewidth": 1.5,
        "markersize": 5.5,
    }


def _set_up(axes: Axes, panel: Panel, by: str) -> None:
    axes.set_xscale("log")
    positions = sorted({getattr(cell, by) for cell in panel.cells})
    axes.xaxis.set_major_locator(FixedLocator(positions))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(positions[0] / 1.3, positions[-1] * 1.3)
    axes.yaxis.set_major_locator(MaxNLocator(8))
    axes.set_xlabel("training steps" if by == "steps" else "labelled scenes", fontsize=10)
    axes.set_ylabel("MR^-2 reasonable, %  (lower is better)", fontsize=10)
    axes.set_title(panel.title, fontsize=10.5, loc="left")
    axes.grid(visible=True, which="major", color="#e3e3e3", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if panel.teacher_miss_rate is not None:
        axes.axhline(100 * panel.teacher_miss_rate, color=_GREY, linestyle=(0, (6, 2)), linewidth=1.4, zorder=2)


def _draw_rows(axes: Axes, panel: Panel, by: str, shown: Sequence[str], styles: dict[str, dict[str, Any]]) -> None:
    for place, row in enumerate(shown):
        cells = sorted((cell for cell in panel.cells if cell.row == row), key=lambda cell: getattr(cell, by))
        shift = _SHIFT ** (place - (len(shown) - 1) / 2)
        places = [getattr(cell, by) * shift for cell in cells]
        means = [100 * cell.miss_rate.mean for cell in cells]
        deviations = [100 * (cell.miss_rate.deviation or 0.0) for cell in cells]
        style = styles[row]
        axes.errorbar(places, means, yerr=deviations, capsize=2.5, elinewidth=0.9, zorder=4, **style)
        for x, cell in zip(places, cells, strict=True):
            values = [100 * value for value in cell.miss_rate.by_seed.values()]
            axes.scatter([x] * len(values), values, s=9, color=style["color"], alpha=0.45, linewidths=0, zorder=3)
