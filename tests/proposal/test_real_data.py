"""Proposals for published data sets: what an expert would choose, and the figures of docs/data_sets.md."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hkd.coco.annotations import Annotations, read_annotations
from hkd.coco.boxes import FloatArray
from hkd.config import PYRAMID_STRIDES
from hkd.proposal.anchors import Anchors
from hkd.proposal.input_size import TINY_HEIGHT
from hkd.proposal.settings import Proposal, propose
from hkd.proposal.sources import select_images
from hkd.proposal.survey import people_of

FILES = {
    "inria": "inria/train.json",
    "caltech": "caltech/new_annotations_test.json",
    "citypersons": "citypersons/val_gt.json",
}


def _proposal(shared_data: Path, name: str) -> tuple[Proposal, FloatArray]:
    """The proposal for a data set of which every fifth image is for validation, and its boxes (N, 2) as resized."""
    annotations: Annotations = read_annotations(shared_data / FILES[name], check_images=False)
    is_validation = np.arange(len(annotations.images)) % 5 == 0
    train, validation = (select_images(annotations, rows) for rows in (~is_validation, is_validation))
    proposal = propose(train, validation)
    people = people_of([train, validation])
    boxes = people.boxes_wh * people.scales(proposal.input_size.height, proposal.input_size.width)[:, None]
    return proposal, boxes[boxes[:, 1] >= TINY_HEIGHT]


def _matched(boxes_wh: FloatArray, anchors: Anchors) -> float:
    """Fraction of the boxes that some anchor overlaps with an IoU of 0.5, at a random position on each level's grid.

    Boxes are resized by a factor uniform in [0.8, 1.3], as training augments them.
    """
    rng = np.random.default_rng(0)
    boxes = boxes_wh * rng.uniform(0.8, 1.3, (len(boxes_wh), 1))
    best = np.zeros(len(boxes))
    for stride, size in zip(PYRAMID_STRIDES, anchors.sizes, strict=True):
        offset = rng.uniform(-stride / 2, stride / 2, boxes.shape)
        for ratio in anchors.aspect_ratios:
            anchor = np.array([size / np.sqrt(ratio), size * np.sqrt(ratio)])
            overlap = np.minimum(boxes / 2, offset + anchor / 2) - np.maximum(-boxes / 2, offset - anchor / 2)
            intersection = overlap.clip(min=0).prod(axis=1)
            best = np.maximum(best, intersection / (boxes.prod(axis=1) + anchor.prod() - intersection))
    return float((best >= 0.5).mean())


def test_large_people_of_inria_need_a_small_input(shared_data: Path) -> None:
    proposal, _ = _proposal(shared_data, "inria")
    # Photographs of 640 x 480 and more with people of 252 pixels in the median.
    assert (proposal.input_size.height, proposal.input_size.width) == (256, 288)
    assert proposal.objective == "mr2_reasonable"


def test_small_people_of_caltech_need_the_whole_frame(shared_data: Path) -> None:
    proposal, _ = _proposal(shared_data, "caltech")
    assert (proposal.input_size.height, proposal.input_size.width) == (480, 640)
    assert proposal.objective == "mr2_reasonable"


def test_citypersons_is_reduced_to_a_megapixel(shared_data: Path) -> None:
    proposal, _ = _proposal(shared_data, "citypersons")
    # Of 2048 x 1024: twice as wide as high.
    assert (proposal.input_size.height, proposal.input_size.width) == (704, 1408)


@pytest.mark.parametrize(
    ("name", "matched", "by_quantiles"), [("inria", 0.98, 0.90), ("caltech", 0.96, 0.71), ("citypersons", 0.95, 0.79)]
)
def test_more_people_match_an_anchor_than_with_quantiles(
    shared_data: Path, name: str, matched: float, by_quantiles: float
) -> None:
    proposal, boxes = _proposal(shared_data, name)
    roots = np.sqrt(boxes.prod(axis=1))
    quantiles = Anchors(
        tuple(round(float(size)) for size in np.percentile(roots, (10, 30, 50, 70, 90))),
        proposal.anchors.aspect_ratios,
    )
    assert _matched(boxes, proposal.anchors) == pytest.approx(matched, abs=0.01)
    assert _matched(boxes, quantiles) == pytest.approx(by_quantiles, abs=0.01)
