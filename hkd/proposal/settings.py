"""The settings of a first training and study, from annotations and their images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hkd.coco.annotations import Annotations
from hkd.coco.boxes import FloatArray
from hkd.coco.parsing.errors import AnnotationError
from hkd.config import DataConfig, DetectorConfig, EvaluationConfig
from hkd.metric_names import MISS_RATES, MR2_PREFIX, MR2_REASONABLE, MissRateName
from hkd.proposal.anchors import Anchors, propose_anchors
from hkd.proposal.input_size import (
    TINY_HEIGHT,
    InputSize,
    measure_input_size,
    propose_input_size,
)
from hkd.proposal.survey import Survey, image_sizes_wh, people_of, survey

HEADROOM = 1.25
"""Slots for boxes over boxes of the fullest image, for labels and images that are added later."""
MOST_SLOTS = 1000
"""The largest value of ``data.max_objects_per_image``."""
BATCH_PIXELS = 8 * 480 * 640
"""Pixels of one batch; a step of a ResNet-50 teacher and a student needs about 1.3 KiB of memory for each."""
LARGEST_BATCH = 8
FEW_IMAGES = 1000
"""Training images below which the teacher is a small one, pretrained on generated scenes."""
_STUDENT_STEPS, _TEACHER_STEPS = 1500, 2000
_EPOCHS = (10, 60)
"""Fewest and most epochs: each image should be seen several times, and a few images not hundreds of times."""
_PEOPLE_SHARE = 0.1
"""Fraction of the people that the reasonable subset must count to be the objective ..."""
_ENOUGH_PEOPLE = 20
"""... and their number in the validation images, or half of those of the subset with most people."""
_MOST_PROPOSALS = 512


@dataclass(frozen=True)
class Schedule:
    """Length and learning rate of a training."""

    total_epochs: int
    steps: int
    learning_rate: float
    evaluate_every_epochs: int


@dataclass(frozen=True)
class Proposal:
    """Proposed settings with the numbers that they follow from."""

    survey: Survey
    num_train_images: int
    num_validation_images: int
    objective: MissRateName
    objective_people: int
    """People of the validation images that the objective counts."""
    objective_lowest_height: float
    """The lowest of all people that the objective counts, pixels of the original image."""
    input_size: InputSize
    resized_heights: tuple[float, float, float]
    """10th, 50th and 90th percentile of the people's heights, pixels of the network's input."""
    num_tiny: int
    """People lower than :data:`hkd.proposal.input_size.TINY_HEIGHT` after resizing."""
    anchors: Anchors
    max_objects_per_image: int
    proposals_per_image: int
    max_detections_per_image: int
    batch_size: int
    evaluation_batch_size: int
    few_images: bool
    teacher: Schedule
    student: Schedule


def propose(train: Annotations, validation: Annotations, size: tuple[int, int] | None = None) -> Proposal:
    """Propose settings for these two sets; both hold people.

    Args:
        train: training images and boxes.
        validation: validation images and boxes.
        size: height and width of the network's input, multiples of 32; None: proposed.

    Raises:
        AnnotationError: an image holds more boxes than any setting allows, or no objective can be measured.
    """
    sets = (train, validation)
    numbers = survey(sets)
    if numbers.fullest_image_boxes > MOST_SLOTS:
        problem = (
            f"image '{numbers.fullest_image}' holds {numbers.fullest_image_boxes} boxes; allowed: {MOST_SLOTS};"
            " are crowds annotated head by head? Correct the annotations, or leave the image out"
        )
        raise AnnotationError([problem], str(train.path))
    people = people_of(sets)
    objective, objective_people = _objective(numbers, validation)
    counted = people.select(objective.removeprefix(MR2_PREFIX))
    images_wh = image_sizes_wh(sets)
    sizing = (images_wh, counted.heights, counted.images_wh)
    input_size = propose_input_size(*sizing) if size is None else measure_input_size(*size, *sizing)
    scales = people.scales(input_size.height, input_size.width)
    heights = people.heights * scales
    boxes_wh = people.boxes_wh * scales[:, None]
    is_visible = boxes_wh[:, 1] >= TINY_HEIGHT
    pixels = input_size.height * input_size.width
    batch_size = max(1, min(LARGEST_BATCH, BATCH_PIXELS // pixels))
    low, middle, high = _percentiles(heights)
    return Proposal(
        survey=numbers,
        num_train_images=len(train.images),
        num_validation_images=len(validation.images),
        objective=objective,
        objective_people=objective_people,
        objective_lowest_height=float(counted.heights.min()),
        input_size=input_size,
        resized_heights=(low, middle, high),
        num_tiny=int((heights < TINY_HEIGHT).sum()),
        anchors=propose_anchors(boxes_wh[is_visible] if is_visible.any() else boxes_wh),
        max_objects_per_image=min(
            MOST_SLOTS,
            max(DataConfig().max_objects_per_image, _up_to_multiple(HEADROOM * numbers.fullest_image_boxes, 8)),
        ),
        proposals_per_image=min(
            _MOST_PROPOSALS,
            max(DetectorConfig().proposals_per_image, _up_to_multiple(2 * numbers.most_people, 64)),
        ),
        max_detections_per_image=max(
            EvaluationConfig().max_detections_per_image, _up_to_multiple(HEADROOM * numbers.most_people, 100)
        ),
        batch_size=batch_size,
        evaluation_batch_size=max(1, min(EvaluationConfig().batch_size, 2 * BATCH_PIXELS // pixels)),
        few_images=len(train.images) < FEW_IMAGES,
        teacher=_schedule(_TEACHER_STEPS, len(train.images), batch_size, 1e-3),
        student=_schedule(_STUDENT_STEPS, len(train.images), batch_size, 2e-3),
    )


def _objective(numbers: Survey, validation: Annotations) -> tuple[MissRateName, int]:
    """The miss rate to minimise: of the reasonable subset, unless it counts hardly anybody."""
    in_validation = {
        name: len(people_of([validation]).select(name.removeprefix(MR2_PREFIX)).heights) for name in MISS_RATES
    }
    measurable: list[MissRateName] = [name for name in MISS_RATES if in_validation[name]]
    if not measurable:
        heights = people_of([validation]).heights
        problem = (
            f"no miss rate can be measured on the validation images: none of their {len(heights)} people is at least 20"
            f" pixels high and 20 % visible (the highest has {heights.max():g} pixels); use images of a higher"
            " resolution, or other validation images (--validation, --seed)"
        )
        raise AnnotationError([problem], str(validation.path))
    share = {name: numbers.num_by_subset[name.removeprefix(MR2_PREFIX)] / numbers.num_people for name in measurable}
    widest = max(measurable, key=share.__getitem__)
    enough = min(_ENOUGH_PEOPLE, in_validation[widest] / 2)
    is_sound = share.get(MR2_REASONABLE, 0.0) >= _PEOPLE_SHARE and in_validation[MR2_REASONABLE] >= enough
    objective = MR2_REASONABLE if is_sound else widest
    return objective, in_validation[objective]


def _schedule(steps: int, num_images: int, batch_size: int, learning_rate: float) -> Schedule:
    steps_per_epoch = max(1, num_images // batch_size)
    epochs = min(max(math.ceil(steps / steps_per_epoch), _EPOCHS[0]), _EPOCHS[1])
    # The square root, as is usual with Adam: the noise of a gradient falls with the root of the batch.
    rate = float(f"{learning_rate * math.sqrt(batch_size / LARGEST_BATCH):.1e}")
    return Schedule(epochs, epochs * steps_per_epoch, rate, evaluate_every_epochs=max(1, epochs // 5))


def _percentiles(values: FloatArray) -> tuple[float, float, float]:
    low, middle, high = np.percentile(values, (10, 50, 90)).tolist()
    return low, middle, high


def _up_to_multiple(number: float, multiple: int) -> int:
    return math.ceil(number / multiple) * multiple
