"""MR^-2 of ten images in each benchmark's own file formats (``fixtures/``, drawn up for this test), derived by hand.

A curve is written as (FPPI, miss rate) after each detection that counts, best score first. With ten images, one false
positive is 0.1 per image: MR^-2 reads four points before the first false positive (0.01, 0.0178, 0.0316, 0.0562), then
0.1 and 0.1778 after one, 0.3162 after three, 0.5623 after five and 1 after ten.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from hkd.data.sources.caltech.convert import convert
from hkd.evaluation.evaluator import EvaluationResult, evaluate_files
from tests.data.sources.caltech_writers import video_object, write_vbb

FIXTURES = Path(__file__).parent / "fixtures"


def _geometric_mean(*readings: float) -> float:
    assert len(readings) == 9
    product = 1.0
    for reading in readings:
        product *= reading
    return float(product ** (1 / 9))


def _assert_equals(result: EvaluationResult, expected: dict[str, tuple[int, float]]) -> None:
    assert [subset.name for subset in result.subsets] == list(expected)
    for subset in result.subsets:
        num_boxes, miss_rate = expected[subset.name]
        assert subset.num_ground_truth == num_boxes, subset.name
        assert subset.log_average_miss_rate == pytest.approx(miss_rate, rel=1e-12), subset.name


def test_citypersons_json_gives_derived_miss_rates() -> None:
    # Ground truth, by image: 1: A, 100 pixels high. 2: B, 60, visibility 0.8. 3: C, 100, 0.4. 4: D, 30. 5: an ignore
    # region. 6: F, 120, visibility 0.65 on the bound: counts in reasonable and in heavy. 7: a sitting person, ignored,
    # and I, 100, 0.3. 8: H, 75 on the bound: counts in small.
    # Detections, best score first: A; a false one (100 high, image 9); B; two in the ignore region, left out; C; C once
    # more; a false one (45 high, image 10); F at an overlap of exactly 0.5; D; and one beside H, at an overlap of 0.22.
    result = evaluate_files(
        FIXTURES / "citypersons/val_gt.json", FIXTURES / "citypersons/detections.json", "citypersons"
    )
    assert (result.num_images, result.num_detections) == (10, 11)
    _assert_equals(
        result,
        {
            # A, B, F, H; both detections of C are left out, as C is ignored here, and D's is lower than 50 / 1.25.
            # (0, 3/4) A, (0.1, 3/4), (0.1, 1/2) B, (0.2, 1/2), (0.2, 1/4) F, (0.3, 1/4).
            "reasonable": (4, _geometric_mean(*[3 / 4] * 4, 1 / 2, 1 / 2, 1 / 4, 1 / 4, 1 / 4)),
            # B, H; detections of 75 * 1.25 pixels and more are left out. (0, 1/2) B, (0.1, 1/2), (0.2, 1/2).
            "small": (2, 1 / 2),
            # C, F, I. (0.1, 1), (0.1, 2/3) C, (0.2, 2/3) C again, (0.3, 2/3), (0.3, 1/3) F, (0.4, 1/3).
            # Before the first false positive nothing is found: the miss rate is 1 there, not the last one.
            "heavy": (3, _geometric_mean(*[1] * 4, 2 / 3, 2 / 3, 1 / 3, 1 / 3, 1 / 3)),
            # A, B, C, D, F, H, I. (0, 6/7) A, (0.1, 6/7), (0.1, 5/7) B, (0.1, 4/7) C, (0.2, 4/7) C again, (0.3, 4/7),
            # (0.3, 3/7) F, (0.3, 2/7) D, (0.4, 2/7).
            "all": (7, _geometric_mean(*[6 / 7] * 4, 4 / 7, 4 / 7, 2 / 7, 2 / 7, 2 / 7)),
        },
    )


def _caltech_truth(annotations: Literal["original", "new"], folder: Path) -> Path:
    """Ground truth of the fixture's ten frames, read from .vbb files or from one text file per frame."""
    source = FIXTURES / "caltech/annotations"
    if annotations == "original":
        labels = ["person", "people", "person-fa"]
        for video in ("set06/V000", "set07/V001"):
            frames: list[list[object]] = [[] for _ in range(150)]
            for path in source.glob(f"{video.replace('/', '_')}_I*.jpg.txt"):
                for line in path.read_text().splitlines()[1:]:
                    label, *columns = line.split()
                    box, occluded, visible = map(float, columns[:4]), int(columns[4]), map(float, columns[5:9])
                    found = video_object(labels.index(label) + 1, list(box), occluded, list(visible))
                    frames[int(path.name[len("set06_V000_I") :].partition(".")[0])].append(found)
            write_vbb(folder / "vbb" / f"{video}.vbb", labels, frames)
        source = folder / "vbb"
    convert(source, folder / "out", annotations=annotations, annotations_only=True, progress=False)
    return folder / "out" / "test.json"


@pytest.mark.parametrize("annotations", ["original", "new"])
def test_caltech_annotations_and_text_folders_give_derived_miss_rates(
    annotations: Literal["original", "new"], tmp_path: Path
) -> None:
    # Ground truth, by frame from 0: 0: a, 100 pixels high. 1: b, 60, visibility 0.8. 2: c, 100, 0.5. 3: people,
    # ignored. 4: f, 100, reaches over the border, ignored. 5: g, 44. 6: a person-fa, a class that is not counted at
    # all. 7: i, 100, occluded with a visible box of zeros, which means not occluded.
    # Detections, whose heights go in at 100/128, best score first: a; a false one (100 high, frame 8); b; c; on the
    # person-fa (100), false; g; in the people and on f, left out; a false one (60 high, frame 9).
    truth = _caltech_truth(annotations, tmp_path)
    result = evaluate_files(truth, FIXTURES / "caltech/detections/HOG", "caltech", height_scale=100 / 128)
    assert (result.num_images, result.num_detections) == (10, 9)
    floor = 1e-10
    _assert_equals(
        result,
        {
            # a, b, i. (0, 2/3) a, (0.1, 2/3), (0.1, 1/3) b, (0.2, 1/3), (0.3, 1/3).
            "reasonable": (3, _geometric_mean(*[2 / 3] * 4, *[1 / 3] * 5)),
            # a, b, c, g, i. (0, 4/5) a, (0.1, 4/5), (0.1, 3/5) b, (0.1, 2/5) c, (0.2, 2/5), (0.2, 1/5) g, (0.3, 1/5).
            "all": (5, _geometric_mean(*[4 / 5] * 4, 2 / 5, 2 / 5, 1 / 5, 1 / 5, 1 / 5)),
            # a, i: only a is found, before anything false.
            "scale_large": (2, 1 / 2),
            "scale_near": (2, 1 / 2),
            # g: found before anything false. A miss rate of 0 is raised to the floor.
            "scale_medium": (1, floor),
            "occ_none": (2, 1 / 2),
            # b, and c: each found after the first false positive and before the second. (0.1, 1), (0.1, 0), ...
            "occ_partial": (1, _geometric_mean(*[1] * 4, *[floor] * 5)),
            "occ_heavy": (1, _geometric_mean(*[1] * 4, *[floor] * 5)),
        },
    )
    assert "1 person-fa" in " ".join(result.notes)


def test_caltech_detections_in_one_text_file_give_derived_miss_rate_by_acf_rules(tmp_path: Path) -> None:
    # The same frames; g and c are ignored. Detections, best score first: a false one (20 high, frame 9), which no
    # filter of heights removes; a; a false one; b; c, left out; on the person-fa, false; g, people and f, left out; and
    # a false one. (0.1, 1), (0.1, 2/3) a, (0.2, 2/3), (0.2, 1/3) b, (0.3, 1/3), (0.4, 1/3).
    truth = _caltech_truth("new", tmp_path)
    result = evaluate_files(truth, FIXTURES / "caltech/detections/AcfCaltechPlus.txt", "acf")
    assert (result.num_images, result.num_detections) == (10, 10)
    _assert_equals(result, {"reasonable": (3, _geometric_mean(*[1] * 4, 2 / 3, 2 / 3, 1 / 3, 1 / 3, 1 / 3))})
