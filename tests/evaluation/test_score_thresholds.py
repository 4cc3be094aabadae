"""Thresholds from which detections serve as labels."""

from __future__ import annotations

import numpy as np
import pytest

from hkd.coco.detections import DetectedBoxes
from hkd.coco.ground_truth import GroundTruth, parse_ground_truth
from hkd.evaluation.score_thresholds import (
    ScoreThresholdError,
    ScoreThresholds,
    choose_thresholds,
    share_of_people,
)

BOX = [10.0, 10.0, 20.0, 50.0]
"""Of the only person of every image; small people and hidden ones count, too."""
NOBODY = [60.0, 10.0, 20.0, 50.0]
CROWD = [100.0, 0.0, 90.0, 90.0]
IN_CROWD = [110.0, 10.0, 20.0, 50.0]


def truth(num_images: int) -> GroundTruth:
    """A person, hidden to 90 %, and an ignored crowd in each image."""
    ids = range(1, num_images + 1)
    people = [{"image_id": i, "category_id": 1, "bbox": BOX, "vis_ratio": 0.1} for i in ids]
    crowds = [{"image_id": i, "category_id": 1, "bbox": CROWD, "ignore": 1} for i in ids]
    document = {
        "images": [{"id": i} for i in ids],
        "annotations": [{"id": n, **record} for n, record in enumerate([*people, *crowds])],
        "categories": [{"id": 1, "name": "person"}],
    }
    return parse_ground_truth(document, "truth")


def detections(found: list[tuple[float, list[float]]]) -> DetectedBoxes:
    """One detection in each image: its score and box."""
    scores, boxes = zip(*found, strict=True)
    return DetectedBoxes(np.arange(len(found)), np.array(boxes), np.array(scores))


def test_thresholds_of_a_known_case() -> None:
    # From 0.9 on all are people; 7 of the 10 of 0.6 are (70 %); 2 of the 5 of 0.4; of the ten of 0.2 one is (10 %);
    # of those of 0.1 none. In crowds, detections do not count. 8 + 7 = 15 of 40 people are found from 0.6 on.
    found = [(0.9, BOX)] * 8 + [(0.6, BOX)] * 7 + [(0.6, NOBODY)] * 3
    found += [(0.4, BOX)] * 2 + [(0.4, NOBODY)] * 3 + [(0.2, BOX)] + [(0.2, NOBODY)] * 9 + [(0.1, NOBODY)] * 4
    found += [(0.7, IN_CROWD)] * 3
    chosen = choose_thresholds(truth(len(found)), detections(found))
    assert chosen == ScoreThresholds(
        object_score=0.6,
        ignored_score=0.2,
        object_precision=15 / 18,
        object_recall=15 / 40,
        ignored_precision=3 / 15,
    )
    assert "0.6" in str(chosen)
    assert "83 %" in str(chosen)


def test_many_certain_detections_do_not_hide_wrong_ones_of_low_scores() -> None:
    # Of all detections from 0.1 on, 95 of 100 are people; of those of 0.1, none is.
    found = [(0.9, BOX)] * 95 + [(0.1, NOBODY)] * 5
    chosen = choose_thresholds(truth(100), detections(found))
    assert chosen.object_score == 0.9
    assert chosen.ignored_score == 0.9  # nothing is doubtful
    assert chosen.ignored_precision is None


def test_given_scores_stay() -> None:
    found = [(0.9, BOX)] * 12 + [(0.3, BOX), (0.3, NOBODY)] * 3 + [(0.05, NOBODY)] * 10
    everyone, boxes = truth(len(found)), detections(found)
    assert choose_thresholds(everyone, boxes, object_score=0.5).ignored_score == 0.3
    chosen = choose_thresholds(everyone, boxes, ignored_score=0.01)
    assert (chosen.object_score, chosen.ignored_score) == (0.9, 0.01)
    with pytest.raises(
        ScoreThresholdError,
        match=r"data\.unlabelled_ignored_score 0\.95 is above.*0\.9,.*data\.unlabelled_object_score",
    ):
        choose_thresholds(everyone, boxes, ignored_score=0.95)


@pytest.mark.parametrize(
    ("found", "facts"),
    [
        ([(0.9, BOX)] * 9 + [(0.2, NOBODY)] * 3, "9 people found at any score.*at most 100 %.*9 people found above"),
        ([(0.9, BOX), (0.9, NOBODY)] * 20, "20 people found at any score.*at most 50 %"),
        ([(0.9, BOX), (0.2, NOBODY)], "1 person found at any score.*1 person found above"),
        ([(0.9, IN_CROWD)] * 20, "0 people found at any score.*no detections"),
    ],
)
def test_unusable_detections(found: list[tuple[float, list[float]]], facts: str) -> None:
    with pytest.raises(ScoreThresholdError, match=f"70 %.*{facts}.*[Tt]rain the teacher longer.*--upper and --lower"):
        choose_thresholds(truth(len(found)), detections(found), settings=("--upper", "--lower"))


def test_share_of_people_is_the_best_nondecreasing_fit() -> None:
    # Reference: the min-max formula of isotonic regression, share[i] = max over a <= i of min over b >= i of the mean
    # of a..b (Robertson, Wright and Dykstra, 1988).
    random = np.random.default_rng(0)
    scores = np.sort(random.random(30))
    people = random.random(30) < scores
    expected = [max(min(people[a : b + 1].mean() for b in range(i, 30)) for a in range(i + 1)) for i in range(30)]
    order = random.permutation(30)
    assert share_of_people(scores[order], people[order]) == pytest.approx(np.array(expected)[order])


def test_share_of_merged_scores_is_exact() -> None:
    # 15 of the 55 of the lower score and none of the 95 of the higher one: merged, 15 of 150, which reaches a threshold
    # of 0.1. SciPy's mean, of rounded means, is 0.1 - 1e-17.
    scores = np.repeat([0.2, 0.3], [55, 95])
    assert share_of_people(scores, np.arange(150) < 15).tolist() == [15 / 150] * 150


def test_equal_scores_have_equal_shares() -> None:
    assert share_of_people(np.array([0.5, 0.5, 0.5]), np.array([True, False, True])).tolist() == [2 / 3] * 3
    assert share_of_people(np.zeros(0), np.zeros(0, dtype=np.bool_)).tolist() == []
