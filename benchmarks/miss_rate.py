"""Time miss rates: matching and MR^-2 of all subsets, without parsing, against two matchers that iterate over images.

Prints median milliseconds for CityPersons (four subsets) and Caltech with HOG's detections (eight experiments) if
--data has them, for a generated data set of CityPersons' size, and for generated ones of up to a million detections.
"scripted" follows CityPersons' evaluation script (CityPersons protocol only, benchmarks/scripted_matcher.py), "plain"
is the reference matcher of the tests. All must agree: a difference ends the run with an error.

    python benchmarks/miss_rate.py                     # one minute
    python -m benchmarks.miss_rate --plain-repeats 0   # hkd only
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

if not __package__:
    # Run as a file of a checkout that is not installed: the packages are one folder up.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.scripted_matcher import script_records, scripted_log_average_miss_rate
from hkd.coco.detections import DetectedBoxes
from hkd.coco.ground_truth import GroundTruth, read_ground_truth
from hkd.data.sources.caltech.convert import convert
from hkd.evaluation.evaluator import evaluate_subsets
from hkd.evaluation.formats.detection_files import read_detections
from hkd.evaluation.matching import match
from hkd.evaluation.protocols import CALTECH, CITYPERSONS, Protocol
from tests.evaluation.plain_evaluator import plain_log_average_miss_rate

GROWTH = (10_000, 100_000, 1_000_000)
DETECTIONS_PER_IMAGE, PEOPLE_PER_IMAGE = 16, 8


def main() -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get("HKD_SHARED_DATA", "../shared/data")),
        help="folder with citypersons/ and caltech/, as described in CONTRIBUTING.md; missing data sets are skipped "
        "(default: $HKD_SHARED_DATA or ../shared/data)",
    )
    parser.add_argument("--repeats", type=int, default=9, help="repetitions of hkd's (default: %(default)s)")
    parser.add_argument(
        "--plain-repeats", type=int, default=1, help="repetitions of the other two, 0 skips them (default: %(default)s)"
    )
    options = parser.parse_args()

    print(f"{'':34}  images  detections  ground truth  subsets   ours (ms)  plain (ms)  times  scripted (ms)  times")
    if (options.data / "citypersons").is_dir():
        _measure("CityPersons, CSP", *_citypersons(options.data / "citypersons"), CITYPERSONS, options)
    else:
        print(f"no CityPersons in {options.data}")
    if (options.data / "caltech").is_dir():
        _measure("Caltech, HOG", *_caltech(options.data / "caltech"), CALTECH, options)
    else:
        print(f"no Caltech in {options.data}")
    for num_detections in (8_000, *GROWTH):
        truth, boxes = generated(num_detections)
        if num_detections > GROWTH[0]:
            options.plain_repeats = 0
        _measure("generated", truth, boxes, CITYPERSONS, options)
    return 0


def generated(num_detections: int, seed: int = 0) -> tuple[GroundTruth, DetectedBoxes]:
    """A data set of 2048 x 1024 images with eight people and 16 detections each, half of which are near a person."""
    random = np.random.default_rng(seed)
    num_images = num_detections // DETECTIONS_PER_IMAGE
    num_people = num_images * PEOPLE_PER_IMAGE
    people = _boxes(random, num_people)
    image_of_people = np.repeat(np.arange(num_images), PEOPLE_PER_IMAGE)
    image_of_detections = np.repeat(np.arange(num_images), DETECTIONS_PER_IMAGE)
    found = _boxes(random, num_detections)
    near = random.uniform(size=num_detections) < 0.5
    of_whom = image_of_detections * PEOPLE_PER_IMAGE + random.integers(0, PEOPLE_PER_IMAGE, num_detections)
    found[near] = people[of_whom[near]] * random.normal(1, 0.03, (int(near.sum()), 4))
    truth = GroundTruth(
        image_ids=np.arange(num_images),
        file_names=("",) * num_images,
        image_index=image_of_people,
        boxes_xywh=people,
        heights=people[:, 3],
        visibilities=random.uniform(size=num_people),
        visible_boxes_xywh=np.full((num_people, 4), np.nan),
        occluded=np.zeros(num_people, dtype=np.bool_),
        label_names=(),
        label_index=np.full(num_people, -1),
        ignore=random.uniform(size=num_people) < 0.2,
    )
    return truth, DetectedBoxes(image_of_detections, found, random.uniform(size=num_detections))


def _boxes(random: np.random.Generator, count: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    heights = np.exp(random.uniform(np.log(20), np.log(400), count))
    return np.stack([random.uniform(0, 1900, count), random.uniform(0, 700, count), 0.41 * heights, heights], axis=1)


def _citypersons(folder: Path) -> tuple[GroundTruth, DetectedBoxes]:
    truth = read_ground_truth(folder / "val_gt.json")
    return truth, read_detections(folder / "detections_csp_dla34_siblinghead.json", truth)


def _caltech(folder: Path) -> tuple[GroundTruth, DetectedBoxes]:
    with tempfile.TemporaryDirectory() as out:
        convert(folder, Path(out), annotations_only=True)
        truth = read_ground_truth(Path(out) / "test.json")
    return truth, read_detections(folder / "detections" / "HOG", truth, height_scale=100 / 128)


def _measure(
    name: str, truth: GroundTruth, boxes: DetectedBoxes, protocol: Protocol, options: argparse.Namespace
) -> None:
    def ours() -> list[float | None]:
        return [subset.log_average_miss_rate for subset in evaluate_subsets(match(truth, boxes, protocol), protocol)]

    def plain() -> list[float | None]:
        return [plain_log_average_miss_rate(truth, boxes, protocol, subset) for subset in protocol.subsets]

    found, milliseconds = _median(ours, options.repeats)
    sizes = (len(truth.image_ids), len(boxes.scores), len(truth.ignore), len(protocol.subsets))
    line = f"{name:34}  {sizes[0]:6}  {sizes[1]:10}  {sizes[2]:12}  {sizes[3]:7}  {milliseconds:10.1f}"
    others = [] if options.plain_repeats == 0 else [(plain, 10)]
    # The script implements CityPersons' rules only.
    if others and protocol is CITYPERSONS:
        people, detections = script_records(truth, boxes)

        def scripted() -> list[float | None]:
            return [
                scripted_log_average_miss_rate(people, detections, sizes[0], protocol, subset)
                for subset in protocol.subsets
            ]

        others.append((scripted, 13))
    for other, width in others:
        expected, other_milliseconds = _median(other, options.plain_repeats)
        np.testing.assert_allclose(np.array(found, float), np.array(expected, float), rtol=1e-12, err_msg=name)
        line += f"  {other_milliseconds:{width}.1f}  {other_milliseconds / milliseconds:5.0f}"
    print(line, flush=True)


def _median(measured: Callable[[], list[float | None]], repeats: int) -> tuple[list[float | None], float]:
    """The result of ``measured``, and the median of its milliseconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = measured()
        times.append(1000 * (time.perf_counter() - start))
    return result, statistics.median(times)


if __name__ == "__main__":
    sys.exit(main())
