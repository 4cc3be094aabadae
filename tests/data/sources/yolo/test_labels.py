from __future__ import annotations

import pytest

from hkd.data.sources.yolo.labels import LabelRow, parse_row


def _box(line: str, keypoints: tuple[int, int] | None = None) -> list[float]:
    row = parse_row(line, keypoints)
    assert isinstance(row, LabelRow), row
    return row.box_xywh(100, 200)


@pytest.mark.parametrize(
    ("line", "box"),
    [
        # (0.5 - 0.1) * 100, (0.4 - 0.3) * 200, 0.2 * 100, 0.6 * 200.
        ("0 0.5 0.4 0.2 0.6", [40, 20, 20, 120]),
        ("0.0 5e-1 .4 0.2 0.6", [40, 20, 20, 120]),
        # A triangle, an oriented box and a polygon that touches the edge: smallest and largest of x and y.
        ("0 0.1 0.2 0.3 0.2 0.2 0.5", [10, 40, 20, 60]),
        ("0 0.2 0.1 0.4 0.2 0.3 0.4 0.1 0.3", [10, 20, 30, 60]),
        ("0 1.005 0.2 0.5 0.2 0.5 0.5", [50, 40, 50, 60]),
    ],
)
def test_box_in_pixels(line: str, box: list[float]) -> None:
    assert _box(line) == pytest.approx(box)


def test_box_before_key_points_is_read() -> None:
    assert _box("0 0.5 0.4 0.2 0.6 0.1 0.2 0.3 0.4", (2, 2)) == pytest.approx([40, 20, 20, 120])
    # Without the shape, the same nine numbers are a polygon of four points.
    assert _box("0 0.5 0.4 0.2 0.6 0.1 0.2 0.3 0.4") == pytest.approx([10, 40, 40, 80])


def test_numbers_within_one_per_cent_of_the_edge_are_clipped() -> None:
    row = parse_row("0 1.01 -0.01 1.00148 0.5", None)
    assert row == LabelRow(0, 1.0, 0.0, 1.0, 0.5, clipped=True)
    assert parse_row("0 1.0000001 0.5 0.5 0.5", None) == LabelRow(0, 1.0000001, 0.5, 0.5, 0.5)  # rounding


@pytest.mark.parametrize(
    ("line", "fact"),
    [
        ("0 0.5 0.4 0.3", "expected five numbers"),
        ("0 0.5 nan 0.3 0.6", "expected five numbers"),
        ("0 0.5 0.4 0.3 0_0", "expected five numbers"),
        ("0 0.5 0.4 0.3 inf", "expected five numbers"),
        ("0 0.5 0.4 0.3 0.6 0.9", "prediction with its confidence"),
        ("0 0.5 0.4 0.3 0.6 0.1 0.2 2", "kpt_shape"),
        ("0.5 0.5 0.4 0.3 0.6", "class 0.5 is no integer"),
        ("0 100 40 60 60", "fractions from 0 to 1 (pixels?)"),
        ("0 0.5 0.4 0.3 -0.005", "fractions from 0 to 1"),
        ("0 1.02 0.4 0.3 0.6", "up to 1% beyond is clipped"),
        ("0 0.1 0.2 0.3 0.2 0.2 1.5", "fractions from 0 to 1"),
        ("", "expected five numbers"),
    ],
)
def test_malformed_line_is_reported(line: str, fact: str) -> None:
    problem = parse_row(line, None)
    assert isinstance(problem, str)
    assert fact in problem


def test_lines_of_megabytes_are_refused() -> None:
    row = parse_row("0 " + "0.5 " * 300_000, None)
    assert isinstance(row, str)
    assert "1,048,576" in row
