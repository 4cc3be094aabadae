from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.transforms import Bbox

from analysis import plots
from analysis.marks import COLOURS, GREY
from analysis.records.study_records import TrialRecord
from analysis.report.page.html import style
from analysis.report.page.study_data import page_data
from analysis.results import compute_results
from tests.analysis.studies import DISTILLED, TEACHER, found_in, record, records

TRIALS = [record(f"t{index}", 0.8 / (index + 1), 1e5 * 2**index, 1e8 * 3**index) for index in range(8)]
BASELINE = record("b0", 0.5, 1e6, 1e9, role="baseline", baseline="undistilled")


@pytest.mark.parametrize(
    ("trials", "teacher"),
    [
        ([*TRIALS, BASELINE, record("off", 0.9, 3e6, 3e9)], TEACHER),
        (TRIALS[:1], None),
        ([record("a", 1.0, 1e6, 1e9), record("b", 1.0, 1e6, 1e9)], TEACHER),
        # Matplotlib parses text between dollar signs as a formula; this one is invalid.
        ([record("$t^$", 0.4, 1e6, 1e9, role="baseline", baseline="$\\frac{$")], None),
    ],
    ids=["many", "one", "all the same", "names that look like formulas"],
)
def test_every_shape_of_study_is_drawn(trials: list[TrialRecord], teacher: TrialRecord | None) -> None:
    results = compute_results(records(trials, teacher, study="$x_{$"))
    picture = imread(io.BytesIO(plots.draw_front(results, results.front.pairs[0]).png))
    assert picture.shape[:2] == (780, 1035)
    # Not all pixels are white.
    assert picture[..., :3].min() < 0.2


def test_vector_drawing_is_reproducible_and_needs_no_font() -> None:
    results = compute_results(records([*TRIALS, BASELINE], TEACHER))
    (pair, _) = results.front.pairs
    drawn = plots.draw_front(results, pair).svg
    assert plots.draw_front(results, pair).svg == drawn
    root = ET.fromstring(drawn)
    # 6.9 x 5.2 inches of 72 points.
    assert (root.get("width"), root.get("height")) == ("496.8pt", "374.4pt")
    tags = [each.tag.rpartition("}")[2] for each in root.iter()]
    assert {"text", "image", "script", "date"}.isdisjoint(tags)
    assert not re.search(rb"(href|src)=.?[a-z]+:", drawn)


def test_many_points_become_one_picture_in_the_vector_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    off = [record(f"off{index}", 0.9 + index / 1000, 3e6, 3e9) for index in range(4)]
    results = compute_results(records([*TRIALS, *off], TEACHER))
    monkeypatch.setattr(plots, "_MOST_PATHS", 3)
    drawn = plots.draw_front(results, results.front.pairs[0]).svg
    assert drawn.count(b"<image") == 1


def test_any_pair_of_objectives_is_drawn() -> None:
    trials = [record(t.trial_id, 1.0, 1e6, 1e9, metrics={"mr2_all": t.metrics["mr2_reasonable"], "gmacs": 1.0 + i})
              for i, t in enumerate(TRIALS)]  # fmt: skip
    # The teacher has no record of this miss rate.
    results = compute_results(records(trials, TEACHER, objectives=("mr2_all", "gmacs")))
    (pair,) = results.front.pairs
    assert plots._teacher_point(results, pair) is None
    assert imread(io.BytesIO(plots.draw_front(results, pair).png)).shape[:2] == (780, 1035)


def test_points_are_in_units_of_axes() -> None:
    # LIGHT is on the FLOPs front only, FEW on the parameters front only.
    few, light = record("few", 0.4, 1e6, 3e9), record("light", 0.4, 2e6, 1e9)
    results = compute_results(records([few, light], TEACHER))
    params, flops = results.front.pairs
    assert [student.trial_id for student in params.students] == ["few"]
    assert [student.trial_id for student in flops.students] == ["light"]
    values = results.front.student("few").values
    assert plots._point(values, params) == (1.0, 40.0)
    assert plots._point(values, flops) == (3.0, 40.0)
    assert (plots._teacher_point(results, params), plots._teacher_point(results, flops)) == ((6.0, 20.0), (10.0, 20.0))


def test_baselines_look_the_same_in_page_and_files_whatever_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    other = record("b1", 0.6, 1e6, 1e9, role="baseline", baseline="default-weights", params=DISTILLED)
    study = records([*TRIALS, other, BASELINE], TEACHER)
    results = compute_results(study)
    drawn: dict[str, tuple[str, str]] = {}
    scatter = Axes.scatter

    def recorded(self: Axes, *arguments: Any, **style: Any) -> Any:
        drawn[str(style["label"])] = str(style.get("marker")), str(style.get("color"))
        return scatter(self, *arguments, **style)

    monkeypatch.setattr(Axes, "scatter", recorded)
    plots.draw_front(results, results.front.pairs[0])
    assert drawn["undistilled baseline"] == ("D", "#93457a")
    assert drawn["default-weights baseline"] == ("s", "#00734f")
    marks = {trial["id"]: trial["mark"] for trial in page_data(study, results, {})["trials"]}
    assert marks["b0"] == {"shape": "diamond", "hue": "purple"}
    assert marks["b1"] == {"shape": "square", "hue": "green"}
    assert marks["t0"] is None


def test_colours_are_those_of_the_page_in_light_mode() -> None:
    light = style().partition("@media")[0]
    names = {"blue": "front", "green": "green", "purple": "purple", "orange": "chosen", "black": "teacher"}
    colours: dict[str, str] = dict(re.findall(r"--([\w-]+): (#\w+)", light))
    assert {hue: colours[name] for hue, name in names.items()} == COLOURS
    assert f"--points: {GREY}" in light


def test_intervals_of_front_and_baselines_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = [record("small", 0.3, 1e6, 1e9), record("large", 0.2, 4e6, 4e9), record("off", 0.4, 4e6, 4e9)]
    stored = {f"run-of-{name}": found_in([index >= missed for index in range(100)])
              for name, missed in (("small", 30), ("large", 20), ("off", 40))}  # fmt: skip
    results = compute_results(records(trials), read_detections=lambda _: stored)
    drawn: list[tuple[list[float], list[float]]] = []

    def recorded(self: Axes, x: Any, y: Any, lengths: Any, **style: Any) -> None:
        drawn.append(((y - lengths).tolist(), (y + lengths).tolist()))

    monkeypatch.setattr(Axes, "errorbar", recorded)
    plots.draw_front(results, results.front.pairs[0])
    ((lows, highs),) = drawn
    assert len(lows) == 2
    large = results.uncertainty.intervals["large"]["mr2_reasonable"]
    assert large.low is not None
    assert large.high is not None
    assert [lows[0], highs[0]] == pytest.approx([100 * large.low, 100 * large.high])
    # An interval above the measured miss rate is drawn where it is.
    above = replace(large, low=0.25, high=0.35)
    uncertainty = replace(results.uncertainty, intervals={"large": {"mr2_reasonable": above}})
    drawn.clear()
    plots.draw_front(replace(results, uncertainty=uncertainty), results.front.pairs[0])
    assert drawn[0][0] == pytest.approx([25])
    assert drawn[0][1] == pytest.approx([35])


def test_legend_of_long_names_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    long = [record(f"b{index}", 0.5, 1e6, 1e9, role="baseline", baseline=f"{index}" * 40) for index in range(3)]
    results = compute_results(records([*TRIALS, *long], TEACHER))
    widths: list[float] = []

    def saved(figure: Figure) -> None:
        (legend,) = figure.legends
        widths.append(legend.get_window_extent().width / figure.bbox.width)

    monkeypatch.setattr(plots, "_saved", saved)
    plots.draw_front(results, results.front.pairs[0])
    assert widths[0] <= 1


def test_label_is_put_at_nearest_free_place() -> None:
    size, inside = Bbox.from_bounds(0, 0, 10, 10), Bbox.from_bounds(0, 0, 500, 500)
    _, free = plots._best_place((250.0, 250.0), size, [], inside)
    # With nothing around, up and to the right: 10 points at 45 degrees, at 150 dots an inch.
    offset = 10 * 150 / 72 / 2**0.5
    assert free.x0 == pytest.approx(250 + offset - 5, abs=1e-9)
    assert free.y0 == pytest.approx(250 + offset - 5, abs=1e-9)
    _, evading = plots._best_place((250.0, 250.0), size, [free], inside)
    assert plots._overlap(evading, free) == 0.0


def test_label_stays_inside_axes() -> None:
    size, inside = Bbox.from_bounds(0, 0, 10, 10), Bbox.from_bounds(0, 0, 500, 500)
    _, box = plots._best_place((499.0, 499.0), size, [], inside)
    assert plots._overlap(box, inside) == pytest.approx(100.0, abs=1e-6)
