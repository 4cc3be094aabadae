from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from hkd.evaluation.miss_rate import MissRateCurve
from hkd.evaluation.reporting.curve_plot import NamedCurve, draw_curves

# Two detectors on 100 images; the first finds a half before its first false positive.
GOOD = NamedCurve("good", 0.1135, MissRateCurve(np.array([0.0, 0.01, 0.01, 2.0]), np.array([0.5, 0.5, 0.08, 0.08])))
BAD = NamedCurve("_bad $1", 0.68456, MissRateCurve(np.array([0.01, 0.01, 0.5]), np.array([1.0, 0.7, 0.7])))


@pytest.fixture
def axes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Axes]]:
    """The axes of what is drawn in the test."""
    drawn: list[Axes] = []
    save = Figure.savefig

    def keep(figure: Figure, *args: object, **kwargs: object) -> None:
        drawn.extend(figure.axes)
        save(figure, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Figure, "savefig", keep)
    yield drawn
    assert drawn


def legend(axes: Axes) -> list[str]:
    shown = axes.get_legend()
    assert shown is not None
    return [text.get_text() for text in shown.get_texts()]


def ticks(axes: Axes) -> list[str]:
    low, high = axes.get_ylim()
    inside = zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
    return [label.get_text() for place, label in inside if low <= place <= high]


def test_legend_is_ordered_from_worst_to_best(axes: list[Axes]) -> None:
    draw_curves([GOOD, BAD], "reasonable")
    assert legend(axes[0]) == [r"68.46% _bad \$1", "11.35% good"]
    assert axes[0].get_title() == "reasonable"


def test_colour_depends_on_order_of_arguments_only(axes: list[Axes]) -> None:
    draw_curves([GOOD], "a")
    draw_curves([GOOD, BAD], "b")
    colours = [{str(line.get_label()).split("% ")[1]: line.get_color() for line in each.get_lines()} for each in axes]
    assert colours[0]["good"] == colours[1]["good"] != colours[1][r"_bad \$1"]


def test_axes_are_logarithmic_with_usual_ticks(axes: list[Axes]) -> None:
    draw_curves([GOOD, BAD], "reasonable")
    assert (axes[0].get_xscale(), axes[0].get_yscale()) == ("log", "log")
    assert axes[0].get_xlim() == (3.1e-3, 10.0)
    assert axes[0].get_ylim() == (0.05, 1.0)
    assert ticks(axes[0]) == [".05", ".10", ".20", ".30", ".40", ".50", ".64", ".80", "1"]


def test_axes_extend_to_lower_miss_rates(axes: list[Axes]) -> None:
    # 1.5 % is missed: the tick below is 0.01.
    best = NamedCurve("best", 0.03, MissRateCurve(np.array([0.0, 0.002, 0.002]), np.array([0.2, 0.2, 0.015])))
    draw_curves([best, BAD], "reasonable")
    assert axes[0].get_ylim()[0] == 0.01
    assert ticks(axes[0])[:3] == [".01", ".02", ".05"]


def test_lines_equal_curves(axes: list[Axes]) -> None:
    draw_curves([GOOD, BAD], "reasonable")
    lines = {str(line.get_label()).split("% ")[1]: line for line in axes[0].get_lines()}
    for name, curve in (("good", GOOD.curve), (r"_bad \$1", BAD.curve)):
        line = lines[name]
        assert line.get_drawstyle() == "steps-post"
        x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
        for fppi in (0.005, 0.01, 0.1, 1.0):
            # With steps after each point, a line's height is that of the last point at or before.
            assert y[np.searchsorted(x, fppi, side="right") - 1] == curve.at([fppi]).item()


def test_miss_rates_of_zero_and_one_can_be_drawn(axes: list[Axes]) -> None:
    # Warnings, such as of the logarithm of 0, are errors here.
    perfect = NamedCurve("perfect", 0.0, MissRateCurve(np.array([0.0]), np.array([0.0])))
    blind = NamedCurve("blind", 1.0, MissRateCurve(np.empty(0), np.empty(0)))
    draw_curves([perfect, blind], "reasonable")
    assert legend(axes[0]) == ["100.00% blind", "0.00% perfect"]
    assert axes[0].get_ylim() == (0.001, 1.0)


@pytest.mark.parametrize(("file_format", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_equal_curves_give_equal_files_in_requested_format(file_format: str, start: bytes) -> None:
    first = draw_curves([GOOD, BAD], "reasonable", file_format)
    assert first.startswith(start)
    assert first == draw_curves([GOOD, BAD], "reasonable", file_format)


def test_picture_is_wide_enough_for_print() -> None:
    with Image.open(io.BytesIO(draw_curves([GOOD, BAD], "reasonable"))) as picture:
        assert picture.size == (960, 810)
