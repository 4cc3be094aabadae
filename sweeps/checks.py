"""Checks of the files, the data and the machine that a study needs, before its first trial."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hkd import metric_names as names
from hkd.coco.annotations import Annotations
from hkd.coco.detections import no_detections
from hkd.config import TrialConfig
from hkd.data.locations import annotation_files, copies_of, images_folder, named_categories, with_versions
from hkd.data.prepare import PreparedData, read_sets
from hkd.data.test_images import check_test_files, check_test_pixels, open_test_images
from hkd.data.unlabelled import check_copies, check_generated, find_images, without_training_files
from hkd.evaluation.evaluator import evaluate_boxes
from hkd.evaluation.formats.protocol_files import load_protocol
from hkd.models.weight_formats.errors import CheckpointError
from hkd.training.first_weights import check_first_weights
from hkd.training.teacher.files import check_teacher_files
from sweeps.folder import StudyError
from sweeps.settings.resources import TrialResources
from sweeps.settings.space import num_combinations, num_proposals, smallest_students, trial_config
from sweeps.settings.study import StudyConfig
from sweeps.trials.cost import student_cost
from sweeps.trials.largest import largest_sizes
from sweeps.trials.queue import TrialQueue

MOST_COMBINATIONS = 4096
"""Of choices, whose students are compared with the limits."""


@dataclass(frozen=True)
class CheckedAnnotations:
    """Annotations that the checks have read."""

    validation: Annotations | None = None
    """None for generated scenes."""
    test: Annotations | None = None
    """None without test images."""


def with_data_versions(study: StudyConfig) -> StudyConfig:
    """The study with the version of each data set in a bucket, of which every node then uses no other.

    Raises:
        BucketDataError: a bucket cannot be read, or lacks images.
        AnnotationError: listing the mistakes in annotations that are in buckets.
    """
    data = with_versions(study.base.data)
    if data is study.base.data:
        return study
    return study.model_copy(update={"base": study.base.model_copy(update={"data": data})})


def check_files(base: TrialConfig, *, check_images: bool, print_line: Callable[[str], None]) -> CheckedAnnotations:
    """Check the files that a trial names.

    Args:
        check_images: Whether to open every image, compare its size with the annotations, and compare unlabelled images
            with the others: by their files, or their pixels where validation scenes are generated. (All pixels are
            compared when the study starts.) Images in buckets are fetched only when the study starts.
        print_line: Called with each sentence on what was read from a foreign file of weights.

    Raises:
        AnnotationError: listing the mistakes in the annotations of all sets.
        TestImagesError: a test image has the file of another image.
        BucketDataError: a bucket cannot be read, lacks images, or has changed.
        UnlabelledImagesError: the folder of unlabelled images cannot be used.
        CheckpointError: weights of the teacher are missing or of another architecture.
    """
    data, checked = base.data, CheckedAnnotations()
    check_images = all(copy.is_complete() for copy in copies_of(data).values()) and check_images
    footage = None
    if check_images and data.unlabelled_images is not None:
        footage = find_images(images_folder(data.unlabelled_images, data), data.max_megapixels)
    if data.train_annotations is not None and data.validation_annotations is not None:  # both or neither
        locations = (data.train_annotations, data.validation_annotations, data.test_annotations)
        train, validation, *test = read_sets(
            [annotation_files(each, data, is_fetched=False) for each in locations if each is not None],
            named=named_categories(data),
            check_images=check_images,
            max_megapixels=data.max_megapixels,
        )
        checked = CheckedAnnotations(validation, test[0] if test else None)
        others = {"training": train, "validation": validation}
        if footage is not None:
            check_copies(footage, validation)
            footage = without_training_files(footage, train)
            others["unlabelled"] = footage
        if checked.test is not None and check_images:
            check_test_files(checked.test, **others)
    elif footage is not None:
        check_generated(footage, data.synthetic, data.max_megapixels)
    left_out = [] if footage is None else [f"{data.unlabelled_images}: {note}" for note in footage.notes]
    for note in (*left_out, *check_teacher_files(base)):
        print_line(note)
    return checked


def check_first_weights_of_trials(study: StudyConfig, *, print_line: Callable[[str], None]) -> None:
    """Check the files of first weights for every baseline and for the largest students that may be proposed.

    Args:
        print_line: Called with each sentence on what first weights are read or selected from.

    Raises:
        CheckpointError: listing the files that are unreadable, or of another or a narrower architecture.
    """
    configs = [trial_config(study.base, changes) for changes in study.baselines.values()]
    configs += [trial_config(study.base, sizes) for sizes in largest_sizes(study)]
    notes: list[str] = []
    problems: list[str] = []
    for config in {each.student: each for each in configs}.values():
        try:
            notes += check_first_weights(config)
        except CheckpointError as error:
            problems.append(str(error))
    if problems:
        raise CheckpointError("; ".join(dict.fromkeys(problems)))
    for note in dict.fromkeys(notes):
        print_line(note)


def check_objectives(study: StudyConfig, annotations: Annotations, images: str = "validation") -> None:
    """Check that every objective can be measured: a subset without pedestrians has no miss rate.

    Args:
        images: Which images these are: ``validation`` or ``test``.

    Raises:
        StudyError: naming the objectives that cannot be measured.
    """
    protocol = load_protocol(study.base.evaluation.protocol)
    subsets = [subset.name for subset in protocol.subsets]
    wanted = [name for name in study.objectives if name in names.MISS_RATES]
    undefined = [name for name in wanted if name.removeprefix(names.MR2_PREFIX) not in subsets]
    if undefined:
        raise StudyError(
            f"objectives: {', '.join(undefined)} cannot be measured: the protocol {study.base.evaluation.protocol} has "
            f"no such subset, only {', '.join(subsets)}; change objectives or base.evaluation.protocol"
        )
    available = evaluate_boxes(annotations.ground_truth(), no_detections(), protocol).as_metrics()
    missing = [name for name in wanted if name not in available]
    if not missing:
        return
    usable = [name for name in names.MISS_RATES if name in available]
    remedy = f"annotate some, or set base.data.{images}_annotations to other images"
    if usable:
        remedy = f"allowed: one or more of {', '.join(usable)}, with any of {', '.join(names.COSTS)}"
    raise StudyError(
        f"objectives: {', '.join(missing)} cannot be measured: the {images} images have no pedestrian of that "
        f"subset; {remedy}"
    )


_LIMITED: dict[str, tuple[str, str]] = {
    names.NUM_PARAMS: ("parameters", "max_params"),
    names.FLOPS: ("FLOPs", "max_flops"),
    names.LATENCY_MS: ("ms", "max_latency_ms"),
}
"""Of each limited cost, its unit and its setting in ``search``."""


def check_limits(study: StudyConfig) -> None:
    """Check that the smallest student is within the limits on costs, which the sampler then respects.

    A limit on the latency is not checked before it is measured.

    Raises:
        StudyError: naming the nearest student.
    """
    limits = _known_limits(study)
    if not limits:
        return
    nearest: dict[str, float] = {}
    least = math.inf
    for config in smallest_students(study.space, study.base, MOST_COMBINATIONS):
        costs = student_cost(config).as_metrics()
        excess = max(costs[name] / limit for name, limit in limits.items())
        if excess <= 1:
            return
        if excess < least:
            nearest, least = dict(costs), excess
    found = " and ".join(_amount(name, nearest[name]) for name in limits)
    allowed = " and ".join(f"at most {_amount(name, limit)}" for name, limit in limits.items())
    settings = " and ".join(_LIMITED[name][1] for name in limits)
    count = num_combinations(study.space)
    subject = "no student of the space has"
    if count > MOST_COMBINATIONS:
        subject = (
            f"of the smallest students with the first {MOST_COMBINATIONS:,} of {count:,} combinations of choices, none "
            "has"
        )
    raise StudyError(
        f"search: {subject} {allowed} ({settings}); the nearest has {found}. Raise the limits, or make base.student or "
        "the students of space.student smaller"
    )


def _known_limits(study: StudyConfig) -> dict[str, float]:
    known = student_cost(study.base).as_metrics()
    return {name: limit for name, limit in study.search.limits.items() if name in known}


def _amount(name: str, value: float) -> str:
    return f"{_number(name, value)} {_LIMITED[name][0]}"


def _number(name: str, value: float) -> str:
    return f"{value:,.2f}" if name == names.LATENCY_MS else f"{value:,.0f}"


def check_enqueued_costs(study: StudyConfig, enqueued: Sequence[Mapping[str, object]]) -> None:
    """Check that settings to try first are within the limits on costs.

    Raises:
        StudyError: listing those that are not, or that do not name the shape of their student.
    """
    limits = _known_limits(study)
    if not limits:
        return
    shape = {key for key in study.space if key.startswith("student.")}
    problems = []
    for number, values in enumerate(enqueued, start=1):
        costs = student_cost(trial_config(study.base, values)).as_metrics()
        if missing := sorted(shape - values.keys()):
            problems.append(f"entry {number}: {', '.join(missing)}: missing, so that its costs are unknown")
        problems += [
            f"entry {number}: has {_amount(name, costs[name])}; allowed: at most {_number(name, limit)} "
            f"(search.{_LIMITED[name][1]})"
            for name, limit in limits.items()
            if not missing and costs[name] > limit
        ]
    if problems:
        raise StudyError("--enqueue:", *(f"  {problem}" for problem in problems))


def check_room(study: StudyConfig, queue: TrialQueue | None, enqueued: Sequence[Mapping[str, object]]) -> None:
    """Check that ``search.num_trials`` leaves room for the settings that are tried first.

    Raises:
        StudyError: it does not.
    """
    if not enqueued:
        return
    before = 0 if queue is None else queue.num_proposed + queue.ledger.num_enqueued
    new = len(enqueued) if queue is None else queue.ledger.num_new(enqueued)
    planned = num_proposals(study.space, study.search.num_trials)
    if before + new > planned:
        started = f" beside the {before} that were proposed or queued before" if before else ""
        raise StudyError(
            f"--enqueue: {new} settings to try first{started}, but the study proposes {planned} trials "
            f"(search.num_trials, and no more than the space has); raise it: --num-trials {before + new}"
        )


def check_test_images(study: StudyConfig, data: PreparedData, test: Annotations | None) -> None:
    """Check that no test image is an image of another set."""
    if test is None:
        return
    others = {"training": data.train_annotations, "validation": data.validation_annotations}
    if data.unlabelled is not None:
        others["unlabelled"] = data.unlabelled.annotations
    check_test_files(test, **others)
    opened = open_test_images(study.base.data)
    assert opened is not None
    check_test_pixels(opened, data)


def check_device(study: StudyConfig, resources: TrialResources) -> None:
    """Check that a trial reserves a GPU where the device is ``cuda``.

    Raises:
        StudyError: naming the setting.
    """
    teacher = study.base.teacher
    devices = {"base.training.device": study.base.training.device}
    if teacher is not None and teacher.trained_weights is None:
        devices["base.teacher.training.device"] = teacher.training.device
    for name, device in devices.items():
        if device == "cuda" and not resources.num_gpus:
            raise StudyError(
                f"{name} is cuda, but trials reserve no GPU (resources.gpus_per_trial is "
                f"{study.resources.gpus_per_trial}, and the cluster may have none); set {name} to auto, or "
                "resources.gpus_per_trial to a GPU or a fraction of one"
            )
