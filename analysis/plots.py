"""Draws the fronts of a study from its results, each as a PNG and as an SVG.

In SVG files, text is drawn as paths: ranks are placed by the size of their text, so that another font, where the
document has not this one, would write them over points. Equal results give equal files.
"""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, Locator, LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from analysis.front import PairFront, Student
from analysis.marks import COLOURS, GREY, STUDIES, Shape, baseline_mark
from analysis.objectives import ABSENT
from analysis.results import StudyResults
from analysis.studies import PairComparison, StudiesComparison
from analysis.variants import int8_beside
from hkd.dominance import non_dominated
from hkd.text.escaping import printable

_BLUE, _ORANGE, _BLACK = COLOURS["blue"], COLOURS["orange"], COLOURS["black"]
_MARKERS: Mapping[Shape, str] = {"circle": "o", "square": "s", "diamond": "D", "triangle": "^", "triangleDown": "v"}
_DOTS_PER_INCH = 150
_SIZE_INCHES = (6.9, 5.2)
_LABEL_DIRECTIONS = 12
_LABEL_DISTANCES_PT = (10.0, 15.0, 21.0, 28.0, 36.0)
_MOST_PATHS = 2000
"""Points of an SVG that are drawn one by one; more of them become one picture in it."""


@dataclass(frozen=True)
class Picture:
    """One drawing in two formats."""

    png: bytes
    svg: bytes

    def files(self, name: str) -> dict[str, bytes]:
        """The content of each file, by its name."""
        return {f"{name}.png": self.png, f"{name}.svg": self.svg}


def draw_front(results: StudyResults, pair: PairFront) -> Picture:
    """Miss rate against cost: all students, the front with its ranks, baselines, teacher, knee and choice."""
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)
    figure = Figure(figsize=_SIZE_INCHES, dpi=_DOTS_PER_INCH, layout=layout)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _set_up(axes, results, pair)
    _draw_points(axes, results, pair)
    # The layout must be final before labels are placed by their size on it.
    _add_legend(figure, canvas, most_columns=3)
    figure.set_layout_engine("none")
    _label_front(axes, canvas.get_renderer(), results, pair)  # type: ignore[no-untyped-call]
    return _saved(figure)


def draw_fronts(comparison: StudiesComparison, pair: PairComparison) -> Picture:
    """The fronts of several studies: miss rate against cost, with the other students."""
    figure = Figure(figsize=_SIZE_INCHES, dpi=_DOTS_PER_INCH, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1))
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xscale("log")
    cost, miss_rate = pair.cost, pair.miss_rate
    for each, mark in zip(comparison.studies, itertools.cycle(STUDIES), strict=False):
        marker, colour = _MARKERS[mark.shape], COLOURS[mark.hue]
        points = np.array(
            [[s.values[cost.name] / cost.unit, 100 * s.values[miss_rate.name]] for s in each.front.students]
        )
        style: dict[str, Any] = {"markersize": 4, "alpha": 0.35, "linestyle": "none", "zorder": 3}
        axes.plot(*points.T, marker, color=colour, rasterized=len(points) > _MOST_PATHS, **style)
        front = points[non_dominated(points)]
        front = front[np.argsort(front[:, 0], kind="stable")]
        label = f"{_as_text(each.study, 28)} ({len(front)} on its front)"
        axes.plot(
            *front.T, drawstyle="steps-post", color=colour, linewidth=1.6, marker=marker, zorder=4, label=label
        )  # fmt: skip
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(_ticks(high / low))
    axes.xaxis.set_major_formatter(FuncFormatter(_plain_number))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(cost.axis_label, fontsize=10.5)
    axes.set_ylabel(miss_rate.axis_label, fontsize=10.5)
    axes.set_title("Fronts of the studies", fontsize=12, loc="left")
    axes.grid(visible=True, which="major", color="#e3e3e3", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    _add_legend(figure, canvas, most_columns=2)
    return _saved(figure)


def _add_legend(figure: Figure, canvas: FigureCanvasAgg, *, most_columns: int) -> None:
    """Below the axes, in as many columns as fit, and draw: names of baselines and studies may be long."""
    for columns in range(most_columns, 0, -1):
        legend = figure.legend(
            loc="outside lower center", ncols=columns, fontsize=9, frameon=False, markerscale=0.75, labelspacing=0.7
        )
        canvas.draw()  # type: ignore[no-untyped-call]
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def _saved(figure: Figure) -> Picture:
    png, svg = io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png", metadata={"Software": None})
    # Ids are hashes with a salt, which is random by default.
    with mpl.rc_context({"svg.hashsalt": "hkd", "svg.fonttype": "path"}):
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return Picture(png.getvalue(), svg.getvalue())


def _set_up(axes: Axes, results: StudyResults, pair: PairFront) -> None:
    points = [_point(student.values, pair) for student in (*pair.candidates, *_once(results, pair))]
    teacher = _teacher_point(results, pair)
    points += [teacher] if teacher else []
    points += _int8_points(results, pair)
    costs, rates = map(list, zip(*points, strict=True))
    rates += [100 * end for student in pair.candidates for end in _bar(results, pair, student) or ()]
    axes.set_xscale("log")
    span = max(max(costs) / min(costs), 1.5)
    axes.set_xlim(min(costs) / span**0.08, max(costs) * span**0.08)
    margin = 0.08 * max(max(rates) - min(rates), 5.0)
    axes.set_ylim(max(min(rates) - margin, -2.0), min(max(rates) + margin, 102.0))
    axes.xaxis.set_major_locator(_ticks(span))
    axes.xaxis.set_major_formatter(FuncFormatter(_plain_number))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(pair.cost.axis_label, fontsize=10.5)
    axes.set_ylabel(pair.miss_rate.axis_label, fontsize=10.5)
    axes.set_title(f"Study {_as_text(results.study, 40)}: what a lighter student costs", fontsize=12, loc="left")
    axes.tick_params(labelsize=10)
    axes.grid(visible=True, which="major", color="#e3e3e3", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_points(axes: Axes, results: StudyResults, pair: PairFront) -> None:
    def scatter(students: Sequence[Student], **style: Any) -> None:
        costs, rates = zip(*(_point(s.values, pair) for s in students), strict=True)
        axes.scatter(costs, rates, rasterized=len(students) > _MOST_PATHS, **style)

    trials = [student for student in pair.candidates if student.baseline is None]
    members = {student.trial_id for student in pair.students}
    off_front = [student for student in trials if student.trial_id not in members]
    if off_front:
        scatter(off_front, s=26, facecolors="white", edgecolors=GREY, linewidths=1.1, zorder=3, label="off the front")
    if once := _once(results, pair):
        scatter(once, s=22, marker="x", color=GREY, linewidths=1.2, zorder=3, label="trained once (in the search)")
    _draw_bars(axes, results, pair)
    costs, rates = zip(*(_point(s.values, pair) for s in pair.students), strict=True)
    is_of_means = results.front.basis != "search"
    # The front is constant to the right of its costliest point: no costlier student is better.
    axes.plot(
        [*costs, axes.get_xlim()[1]],
        [*rates, rates[-1]],
        drawstyle="steps-post",
        color=_BLUE,
        linewidth=1.6,
        marker="o",
        markersize=6.5,
        markevery=range(len(pair.students)),
        zorder=4,
        label="front of means (numbers: ranks)" if is_of_means else "front (numbers: ranks)",
    )
    baselines = [student for student in pair.candidates if student.baseline is not None]
    for baseline in baselines:
        mark = baseline_mark(is_distilled=baseline.is_distilled)
        marker, colour = _MARKERS[mark.shape], COLOURS[mark.hue]
        name = _as_text(f"{baseline.baseline} baseline", 28)
        scatter([baseline], s=62, marker=marker, color=colour, edgecolors="white", linewidths=0.8, zorder=5, label=name)
    if int8 := _int8_points(results, pair):
        costs, rates = zip(*int8, strict=True)
        style: dict[str, Any] = {"facecolors": "none", "edgecolors": _BLUE, "linewidths": 1.4, "zorder": 4.5}
        axes.scatter(costs, rates, s=40, marker="D", label="INT8 file", **style)
    teacher = _teacher_point(results, pair)
    if teacher:
        axes.plot(
            *teacher, "*", color=_BLACK, markersize=16, zorder=5, linestyle="none",
            label=f"teacher ({teacher[1]:.1f} %)",
        )  # fmt: skip
    ring: dict[str, Any] = {"facecolors": "none", "zorder": 6}
    if pair.knee is not None:
        knee = results.front.student(pair.knee.trial_id)
        style = ring | {"s": 330, "edgecolors": _BLUE, "linewidths": 1.4, "linestyles": "dotted"}
        scatter([knee], label=f"knee (number {knee.rank})", **style)
    chosen = results.front.student(results.recommendation.trial_id)
    if chosen in pair.candidates:
        scatter([chosen], label="choice", **ring | {"s": 190, "edgecolors": _ORANGE, "linewidths": 2.2})


def _int8_points(results: StudyResults, pair: PairFront) -> list[tuple[float, float]]:
    return [
        (each.latency_ms, 100 * each.miss_rate)
        for each in int8_beside(results.variants, results.front, pair)
        if each.miss_rate is not None
    ]


def _once(results: StudyResults, pair: PairFront) -> list[Student]:
    """Students of the search that have no mean over other seeds, where the front is that of means."""
    return [student for student in results.front.once if pair.cost.name in student.values]


def _draw_bars(axes: Axes, results: StudyResults, pair: PairFront) -> None:
    """Standard deviations of means over seeds; in the search, the intervals of the front and of baselines."""
    bars = [(student, ends) for student in pair.candidates if (ends := _bar(results, pair, student))]
    if not bars:
        return
    costs = [pair.cost.in_unit(student.values[pair.cost.name]) for student, _ in bars]
    # Around the middle of each: an interval of resamples need not contain the measured miss rate.
    low, high = 100 * np.array([ends for _, ends in bars]).T
    confidence = f"{100 * results.uncertainty.confidence:.0f} % interval"
    label = confidence if results.front.basis == "search" else "standard deviation"
    axes.errorbar(
        costs, (low + high) / 2, (high - low) / 2, color=GREY, capsize=3, elinewidth=1.2, zorder=3.5, linestyle="none",
        label=label,
    )  # fmt: skip


def _bar(results: StudyResults, pair: PairFront, student: Student) -> tuple[float, float] | None:
    if results.front.basis != "search":
        spread, mean = results.front.spread(student, pair.miss_rate), student.values[pair.miss_rate.name]
        return None if spread is None else (mean - spread, mean + spread)
    if student.baseline is None and student not in pair.students:
        return None
    interval = results.uncertainty.intervals.get(student.trial_id, {}).get(pair.miss_rate.name)
    if interval is None or interval.low is None or interval.high is None:
        return None
    return interval.low, interval.high


def _point(values: Mapping[str, float], pair: PairFront) -> tuple[float, float]:
    """Cost and miss rate in the axes' units."""
    cost, miss_rate = pair.cost, pair.miss_rate
    return cost.in_unit(values[cost.name]), miss_rate.in_unit(values[miss_rate.name])


def _teacher_point(results: StudyResults, pair: PairFront) -> tuple[float, float] | None:
    values = results.front.teacher.values if results.front.teacher else {}
    # A logarithmic axis cannot show a cost of 0.
    is_shown = values.get(pair.cost.name) and pair.miss_rate.name in values
    return _point(values, pair) if is_shown else None


def _label_front(axes: Axes, renderer: RendererAgg, results: StudyResults, pair: PairFront) -> None:
    """Write the rank next to each point of the front, where it overlaps the fewest points and labels."""
    points_px = _pixels(axes, [_point(s.values, pair) for s in (*pair.candidates, *_once(results, pair))])
    teacher = _teacher_point(results, pair)
    points_px += _pixels(axes, [teacher]) if teacher else []
    front_px = _pixels(axes, [_point(s.values, pair) for s in pair.students])
    obstacles = [_square(point, 6.0 * _DOTS_PER_INCH / 72) for point in points_px]
    obstacles += _step_boxes([*front_px, (float(axes.bbox.x1), front_px[-1][1])])
    ringed = {results.recommendation.trial_id, *([pair.knee.trial_id] if pair.knee else [])}
    rings = [anchor for s, anchor in zip(pair.students, front_px, strict=True) if s.trial_id in ringed]
    obstacles += [_square(anchor, 10.0 * _DOTS_PER_INCH / 72) for anchor in rings]
    for student, anchor in zip(pair.students, front_px, strict=True):
        text = axes.annotate(
            ABSENT if student.rank is None else str(student.rank),
            xy=_point(student.values, pair),
            xytext=(0.0, 0.0),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=10,
            fontweight="bold",
            color=_BLUE,
            zorder=7,
        )
        size = text.get_window_extent(renderer)
        offset, box = _best_place(anchor, size, obstacles, axes.bbox)
        text.set_position(offset)
        obstacles.append(box)


def _best_place(
    anchor: tuple[float, float], size: Bbox, obstacles: Sequence[Bbox], inside: Bbox
) -> tuple[tuple[float, float], Bbox]:
    """Offset in points, and the box in pixels, of a label: the place of least overlap, the nearest of equals."""
    near = _near(anchor, size, obstacles)
    best: tuple[float, tuple[float, float], Bbox] | None = None
    scale = _DOTS_PER_INCH / 72
    for distance in _LABEL_DISTANCES_PT:
        for direction in range(_LABEL_DIRECTIONS):
            # Starts at the upper right, which a falling front leaves free.
            angle = math.pi / 4 + 2 * math.pi * direction / _LABEL_DIRECTIONS
            offset = (distance * math.cos(angle), distance * math.sin(angle))
            x, y = anchor[0] + scale * offset[0], anchor[1] + scale * offset[1]
            box = Bbox.from_bounds(x - size.width / 2, y - size.height / 2, size.width, size.height)
            cost = _overlap_of_all(box, near)
            cost += size.width * size.height - _overlap(box, inside)
            if best is None or cost < best[0] - 1.0:
                best = (cost, offset, box)
    assert best is not None
    return best[1], best[2]


def _near(anchor: tuple[float, float], size: Bbox, obstacles: Sequence[Bbox]) -> NDArray[np.float64]:
    """(4, N) left, bottom, right and top of the obstacles that a place of a label can overlap: few of thousands."""
    reach = _DOTS_PER_INCH / 72 * max(_LABEL_DISTANCES_PT) + max(size.width, size.height)
    corners = np.array([obstacle.extents for obstacle in obstacles], dtype=np.float64).reshape(-1, 4).T
    # A box may have its corners in any order.
    low, high = np.minimum(corners[:2], corners[2:]), np.maximum(corners[:2], corners[2:])
    at = np.array(anchor)[:, None]
    is_near = ((high >= at - reach) & (low <= at + reach)).all(axis=0)
    return np.concatenate([low, high])[:, is_near]


def _overlap_of_all(box: Bbox, obstacles: NDArray[np.float64]) -> float:
    """Sum of the areas that a box shares with each of the obstacles (4, N)."""
    left, bottom, right, top = obstacles
    width = np.minimum(right, box.x1) - np.maximum(left, box.x0)
    height = np.minimum(top, box.y1) - np.maximum(bottom, box.y0)
    return float((np.maximum(width, 0) * np.maximum(height, 0)).sum())


def _overlap(first: Bbox, second: Bbox) -> float:
    common = Bbox.intersection(first, second)
    return 0.0 if common is None else common.width * common.height


def _square(centre: tuple[float, float], half_side: float) -> Bbox:
    return Bbox.from_bounds(centre[0] - half_side, centre[1] - half_side, 2 * half_side, 2 * half_side)


def _step_boxes(front_px: Sequence[tuple[float, float]]) -> list[Bbox]:
    """Thin boxes around the step line, so that labels stay off it."""
    boxes = []
    for (x, y), (next_x, next_y) in itertools.pairwise(front_px):
        boxes.append(Bbox([[x, y - 2], [next_x, y + 2]]))
        boxes.append(Bbox([[next_x - 2, next_y], [next_x + 2, y]]))
    return boxes


def _pixels(axes: Axes, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in axes.transData.transform(points)]


def _ticks(span: float) -> Locator:
    """Ticks for a logarithmic axis whose ends are this factor apart."""
    if span < 6:
        # Less than a decade has too few round powers: evenly spaced numbers read better.
        return MaxNLocator(7)
    return LogLocator(subs=(1.0, 2.0, 5.0) if span < 300 else (1.0,), numticks=20)


def _plain_number(value: float, _position: int) -> str:
    return f"{value:g}"


def _as_text(name: str, longest: int) -> str:
    # No font has control characters; a legend leaves out labels that begin with an underscore.
    name = printable(f" {name}" if name.startswith("_") else name)
    shown = name if len(name) <= longest else name[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"
    # A dollar sign would start a formula.
    return shown.replace("$", r"\$")
