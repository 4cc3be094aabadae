"""Which row of a class predictor is a person."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from hkd.models.weight_formats.class_predictor import num_scored_classes, with_person_second
from hkd.models.weight_formats.errors import CheckpointError

FILE = Path("a.pth")


def predictor(rows: int) -> dict[str, Tensor]:
    """Scores whose value is the row, and deltas whose value is ten times their row."""
    return {
        "roi_heads.box_predictor.cls_score.weight": torch.arange(float(rows)).view(rows, 1).repeat(1, 2),
        "roi_heads.box_predictor.cls_score.bias": torch.arange(float(rows)),
        "roi_heads.box_predictor.bbox_pred.weight": 10 * torch.arange(4.0 * rows).view(4 * rows, 1),
        "roi_heads.box_predictor.bbox_pred.bias": 10 * torch.arange(4.0 * rows),
    }


def test_rows_are_reordered_with_four_deltas_each() -> None:
    ordered = with_person_second(predictor(4), 3, FILE, 2)
    # Background 0, person 3, the others in their order.
    assert ordered["roi_heads.box_predictor.cls_score.bias"].tolist() == [0, 3, 1, 2]
    assert ordered["roi_heads.box_predictor.cls_score.weight"][:, 1].tolist() == [0, 3, 1, 2]
    # Class 3's deltas are rows 12 to 15.
    assert ordered["roi_heads.box_predictor.bbox_pred.bias"][4:8].tolist() == [120, 130, 140, 150]
    assert ordered["roi_heads.box_predictor.bbox_pred.weight"][4:8, 0].tolist() == [120, 130, 140, 150]


@pytest.mark.parametrize("rows", [2, 81, 91])
def test_person_is_first_class_of_two_and_of_coco(rows: int) -> None:
    ordered = with_person_second(predictor(rows), None, FILE, 2)
    assert ordered["roi_heads.box_predictor.cls_score.bias"].tolist() == list(range(rows))
    assert num_scored_classes(ordered) == rows


@pytest.mark.parametrize("rows", [3, 11, 21, 80, 90])
def test_unknown_classes_are_refused_with_the_question(rows: int) -> None:
    with pytest.raises(CheckpointError, match=rf"a.pth: scores {rows} classes.*person.*Set teacher.person_class"):
        with_person_second(predictor(rows), None, FILE, 2)


def test_configured_row_replaces_that_of_coco() -> None:
    ordered = with_person_second(predictor(91), 2, FILE, 2)
    assert ordered["roi_heads.box_predictor.cls_score.bias"][:3].tolist() == [0, 2, 1]


def test_row_outside_predictor_is_refused() -> None:
    with pytest.raises(CheckpointError, match="person_class is 21.*allowed: 1 to 20"):
        with_person_second(predictor(21), 21, FILE, 2)
