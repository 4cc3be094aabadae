"""Class predictors of other data sets: which of their classes is a person.

Rows of a class predictor are classes, the background first (of box deltas, four rows each).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from hkd.models.weight_formats.errors import CheckpointError

SCORES = ("roi_heads.box_predictor.cls_score.weight", "roi_heads.box_predictor.cls_score.bias")
DELTAS = ("roi_heads.box_predictor.bbox_pred.weight", "roi_heads.box_predictor.bbox_pred.bias")

# Of COCO's classes: torchvision keeps the 11 category ids without annotations (91 rows), others number them anew (81).
# Person is category 1.
_COCO_ROWS = (81, 91)


def num_scored_classes(tensors: Mapping[str, Tensor]) -> int:
    """Rows of the class predictor, with the background; 0 without one."""
    scores = tensors.get(SCORES[0])
    return 0 if scores is None or scores.dim() == 0 else scores.shape[0]


def with_person_second(
    tensors: dict[str, Tensor], person_class: int | None, path: Path, num_classes: int
) -> dict[str, Tensor]:
    """The tensors with the class predictor's rows in the order background, person, the other classes.

    Args:
        tensors: Under torchvision's names.
        person_class: Row of the person; None: known for two classes and for COCO's.
        path: For messages.
        num_classes: Classes of our detector; a predictor of so many or fewer is returned as it is.

    Raises:
        CheckpointError: which class is a person is not known, or ``person_class`` is no row.
    """
    rows = num_scored_classes(tensors)
    if rows <= num_classes:
        return tensors
    if person_class is None and rows in _COCO_ROWS:
        person_class = 1
    if person_class is None:
        raise CheckpointError(
            f"{path}: scores {rows} classes, and does not state which of them is a person; known are 2 (background, "
            f"person) and the {_COCO_ROWS[0]} or {_COCO_ROWS[1]} of COCO. Set teacher.person_class to the row of the "
            "person (1 is the first class after the background)"
        )
    if not 1 <= person_class < rows:
        raise CheckpointError(
            f"{path}: teacher.person_class is {person_class}, and the class predictor has the rows 0 (background) to "
            f"{rows - 1}; allowed: 1 to {rows - 1}"
        )
    order = torch.tensor([0, person_class, *(row for row in range(1, rows) if row != person_class)])
    ordered = dict(tensors)
    for name in SCORES:
        if name in tensors and tensors[name].shape[:1] == (rows,):
            ordered[name] = tensors[name][order]
    for name in DELTAS:
        if name in tensors and tensors[name].shape[:1] == (4 * rows,):
            ordered[name] = tensors[name][(4 * order[:, None] + torch.arange(4)).flatten()]
    return ordered


def with_first_classes(tensors: dict[str, Tensor], names: tuple[str, ...], rows: int) -> dict[str, Tensor]:
    """The tensors with the first ``rows`` rows of ``names``."""
    return {name: tensor[:rows] if name in names and tensor.dim() else tensor for name, tensor in tensors.items()}
