"""That plots are drawn for every shape of study, and that labels find free places; looks are for eyes."""

from __future__ import annotations

import io

import pytest
from matplotlib.image import imread
from matplotlib.transforms import Bbox

from analysis import plots
from analysis.front import analyse
from analysis.records import TrialRecord
from tests.analysis.studies import TEACHER, record, records

TRIALS = [record(f"t{index}", 0.8 / (index + 1), 1e5 * 2**index, 1e8 * 3**index) for index in range(8)]
BASELINE = record("b0", 0.5, 1e6, 1e9, role="baseline", baseline="undistilled")


@pytest.mark.parametrize(
    ("trials", "teacher"),
    [
        ([*TRIALS, BASELINE, record("off", 0.9, 3e6, 3e9)], TEACHER),
        (TRIALS[:1], None),
        ([record("a", 1.0, 1e6, 1e9), record("b", 1.0, 1e6, 1e9)], TEACHER),
        # What stands between dollar signs is a formula to matplotlib; this one it cannot read.
        ([record("$t^$", 0.4, 1e6, 1e9, role="baseline", baseline="$\\frac{$")], None),
    ],
    ids=["many", "one", "all the same", "names that look like formulas"],
)
def test_every_shape_of_study_is_drawn(trials: list[TrialRecord], teacher: TrialRecord | None) -> None:
    analysis = analyse(records(trials, teacher, study="$x_{$"))
    picture = imread(io.BytesIO(plots.draw_front(analysis, plots.params_axis(analysis))))
    assert picture.shape[:2] == (780, 1035)
    # Something is drawn: not all pixels are white.
    assert picture[..., :3].min() < 0.2


def test_axes_carry_their_own_front_and_units() -> None:
    # LIGHT is on the FLOPs front only, FEW on the parameters front only.
    few, light = record("few", 0.4, 1e6, 3e9), record("light", 0.4, 2e6, 1e9)
    analysis = analyse(records([few, light], TEACHER))
    params, flops = plots.params_axis(analysis), plots.flops_axis(analysis)
    assert [student.trial_id for student in params.front] == ["few"]
    assert [student.trial_id for student in flops.front] == ["light"]
    assert params.value(analysis.student("few")) == 1.0
    assert flops.value(analysis.student("few")) == 3.0
    assert (params.teacher, flops.teacher) == (6.0, 10.0)


def test_a_label_takes_the_nearest_free_place() -> None:
    size, inside = Bbox.from_bounds(0, 0, 10, 10), Bbox.from_bounds(0, 0, 500, 500)
    _, free = plots._best_place((250.0, 250.0), size, [], inside)
    # With nothing around, up and to the right: 10 points at 45 degrees, at 150 dots an inch.
    offset = 10 * 150 / 72 / 2**0.5
    assert free.x0 == pytest.approx(250 + offset - 5, abs=1e-9)
    assert free.y0 == pytest.approx(250 + offset - 5, abs=1e-9)
    _, evading = plots._best_place((250.0, 250.0), size, [free], inside)
    assert plots._overlap(evading, free) == 0.0


def test_a_label_stays_inside_the_axes() -> None:
    size, inside = Bbox.from_bounds(0, 0, 10, 10), Bbox.from_bounds(0, 0, 500, 500)
    _, box = plots._best_place((499.0, 499.0), size, [], inside)
    assert plots._overlap(box, inside) == pytest.approx(100.0, abs=1e-6)
