"""Which pictures a report shows of which students, within a limit of bytes."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from analysis.front import Front, Student
from analysis.pictures.differences import FALSE_POSITIVES_PER_IMAGE, Shown, differences, shown_detections
from analysis.pictures.validation_images import ImagesError, ValidationImages, read_validation_images
from analysis.results import StudyResults
from hkd import metric_names as names
from hkd.evaluation.formats.stored_detections import StoredDetections
from hkd.image_files.headers import ImageFileError

PICTURES_EACH: Final = 4
"""Of one student."""
LARGEST_BYTES: Final = 3 << 20
"""Of all pictures of a report, as the page holds them (base64)."""
Box = tuple[float, float, float, float]
"""Left, top, width and height in pixels of the annotated image."""


@dataclass(frozen=True)
class Person:
    """Ground truth."""

    box: Box
    counts: bool
    """Whether it must be found; else detections on it do not count."""


@dataclass(frozen=True)
class Picture:
    """A validation image with its ground truth."""

    name: str
    width: int
    """Pixels of the annotated image."""
    height: int
    jpeg: bytes
    people: tuple[Person, ...]


@dataclass(frozen=True)
class Detected:
    """A detection; its outcome is of :mod:`hkd.evaluation.matching`."""

    box: Box
    score: float
    outcome: int


@dataclass(frozen=True)
class Detections:
    """What one detector has on one picture."""

    boxes: tuple[Detected, ...]
    """Best score first."""
    found: tuple[int, ...]
    """Positions of the people whom it finds."""


@dataclass(frozen=True)
class Sample:
    """A picture on which a student differs much from its teacher."""

    picture: int
    """Its position in :attr:`Samples.pictures`."""
    difference: int
    """By ``DIFFERENCE_RULE``; without a teacher's detections, to the ground truth."""
    student: Detections
    teacher: Detections | None


@dataclass(frozen=True)
class Samples:
    """The pictures of a report."""

    absent_because: str | None
    """Why there are none; None if there are some."""
    source: str = ""
    """The annotation file."""
    pictures: tuple[Picture, ...] = ()
    by_trial: Mapping[str, tuple[Sample, ...]] = field(default_factory=dict)
    """Trial id -> its pictures, the greatest difference first."""
    notes: tuple[str, ...] = ()


NO_SAMPLES: Final = Samples(absent_because="they were left out")


def find_samples(results: StudyResults, detections: Mapping[str, StoredDetections], tracking_uri: str) -> Samples:
    """The pictures of the choice, the members of the front and the baselines, in this order.

    Args:
        results: Of the study.
        detections: Stored ones, by run id.
        tracking_uri: Of the study.
    """
    chosen = [student for student in shown_students(results) if student.run_id in detections]
    if not chosen:
        return Samples(absent_because="no student to be shown has stored validation detections")
    try:
        images = read_validation_images(tracking_uri, chosen[0].run_id)
        return samples_of(results.front, chosen, detections, images)
    except ImagesError as error:
        return Samples(absent_because=str(error))


def shown_students(results: StudyResults) -> tuple[Student, ...]:
    """The choice, members of the front, then baselines."""
    front = results.front
    first = front.student(results.recommendation.trial_id)
    baselines = (student for student in (*front.students, *front.once) if student.role == names.ROLE_BASELINE)
    return tuple({student.trial_id: student for student in (first, *front.members, *baselines)}.values())


def samples_of(
    front: Front, students: Sequence[Student], detections: Mapping[str, StoredDetections], images: ValidationImages
) -> Samples:
    """As :func:`find_samples`, of images that were read.

    Raises:
        ImagesError: the images are not those of the detections, or none can be shown.
    """
    subset = front.miss_rate.subset
    builder = _Builder(images, subset)
    of_teacher = detections.get(front.teacher.run_id) if front.teacher else None
    stored = {student.trial_id: detections[student.run_id] for student in students}
    usable = {trial_id: each for trial_id, each in stored.items() if builder.fits(each)}
    if not usable:
        raise ImagesError(f"the images and people of {images.source} are not those of the stored detections")
    teacher = of_teacher if of_teacher is not None and builder.fits(of_teacher) else None
    by_trial = {trial_id: builder.samples(each, teacher) for trial_id, each in usable.items()}
    if not builder.pictures:
        raise ImagesError(builder.problem or "no student to be shown differs from the teacher on any image")
    notes = [
        *([f"Pictures that cannot be shown were left out, such as {builder.problem}."] if builder.problem else []),
        *(
            [f"Some students have fewer than {PICTURES_EACH} pictures: together they take {LARGEST_BYTES >> 20} MiB."]
            if builder.is_full
            else []
        ),
        *(
            ["The teacher has no stored detections: students are compared with the ground truth."]
            if teacher is None
            else []
        ),
    ]
    return Samples(
        absent_because=None,
        source=images.source,
        pictures=tuple(builder.pictures),
        by_trial={trial_id: found for trial_id, found in by_trial.items() if found},
        notes=tuple(notes),
    )


class _Builder:
    """Adds pictures until they take ``LARGEST_BYTES``; several students share one."""

    def __init__(self, images: ValidationImages, subset: str) -> None:
        self._images = images
        self._subset = subset
        self._row = [each.name for each in images.protocol.subsets].index(subset)
        self._counting = images.truth.counting[self._row]
        self._ids = np.sort(images.annotations.image_ids())
        self._positions: dict[int, int | None] = {}
        """Image -> its place in ``pictures``; None if it cannot be shown."""
        self._bytes = 0
        self.pictures: list[Picture] = []
        self.problem: str | None = None
        """Why the first picture that cannot be shown cannot."""
        self.is_full = False

    def fits(self, stored: StoredDetections) -> bool:
        """Whether detections are on these images, with as many people that count on each."""
        counted = np.bincount(self._images.truth.image_index[self._counting], minlength=len(self._ids))
        return (
            stored.protocol == self._images.protocol.name
            and self._subset in stored.subsets
            and np.array_equal(stored.image_ids, self._ids)
            and np.array_equal(stored.counted_per_image[stored.subsets.index(self._subset)], counted)
        )

    def samples(self, of_student: StoredDetections, of_teacher: StoredDetections | None) -> tuple[Sample, ...]:
        """The pictures on which the two differ most; of equal differences the first images."""
        student = shown_detections(of_student, self._subset, self._images.truth, self._images.protocol)
        teacher = (
            None
            if of_teacher is None
            else shown_detections(of_teacher, self._subset, self._images.truth, self._images.protocol)
        )
        found = differences(student, teacher, self._images.truth, self._counting, len(self._ids))
        samples: list[Sample] = []
        for image in np.argsort(-found, kind="stable").tolist():
            if found[image] == 0 or len(samples) == PICTURES_EACH:
                break
            picture = self._picture(image)
            if picture is not None:
                samples.append(
                    Sample(
                        picture=picture,
                        difference=int(found[image]),
                        student=self._detections(of_student, student, image),
                        teacher=None
                        if of_teacher is None or teacher is None
                        else self._detections(of_teacher, teacher, image),
                    )
                )
        return tuple(samples)

    def _picture(self, image: int) -> int | None:
        if image not in self._positions:
            self._positions[image] = self._add(image)
        return self._positions[image]

    def _add(self, image: int) -> int | None:
        if self.is_full:
            return None
        record = self._images.record(int(self._ids[image]))
        try:
            jpeg = self._images.jpeg(record)
        except (OSError, ImageFileError) as error:
            cause = error.strerror or "cannot be read" if isinstance(error, OSError) else str(error)
            self.problem = self.problem or f"{record.file_name}: {cause}"
            return None
        size = len(base64.b64encode(jpeg))
        if self._bytes + size > LARGEST_BYTES:
            self.is_full = True
            return None
        self._bytes += size
        truth = self._images.truth
        boxes, counting = truth.boxes_xywh[truth.image_index == image], self._counting[truth.image_index == image]
        people = tuple(Person(_box(box), bool(counts)) for box, counts in zip(boxes, counting, strict=True))
        self.pictures.append(Picture(record.file_name, record.width, record.height, jpeg, people))
        return len(self.pictures) - 1

    def _detections(self, stored: StoredDetections, shown: Shown, image: int) -> Detections:
        rows = np.flatnonzero(shown.image_index == image)
        finds = shown.finds[self._images.truth.image_index == image]
        return Detections(
            boxes=tuple(
                Detected(_box(stored.boxes_xywh[row]), float(stored.scores[row]), int(shown.outcomes[row]))
                for row in rows.tolist()
            ),
            found=tuple(np.flatnonzero(finds).tolist()),
        )


def _box(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Box:
    left, top, width, height = (round(float(value), 1) for value in values)
    return left, top, width, height


def summary_sentence(samples: Samples) -> str:
    """What pictures a report has, and where they are from; or why it has none."""
    if samples.absent_because is not None:
        return f"No pictures: {samples.absent_because}."
    return (
        f"{len(samples.pictures)} validation images of {samples.source} are in the page: up to {PICTURES_EACH} for the "
        f"choice, each student of the front and each baseline, on which it differs most from the teacher "
        f"(at {FALSE_POSITIVES_PER_IMAGE} false positives per image)."
    )
