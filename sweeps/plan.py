"""The plan of a study, printed by ``--dry-run`` without starting anything."""

from __future__ import annotations

from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hkd import metric_names as names
from hkd.config import DetectorConfig, TrialConfig
from hkd.config_files.yaml_format import dump_yaml
from hkd.data.locations import copies_of, planned_fetches
from hkd.models.cost import Cost
from hkd.text.escaping import printable
from hkd.text.output import print_on
from hkd.text.redaction import redacted_uri
from sweeps.checks import (
    check_files,
    check_first_weights_of_trials,
    check_limits,
    check_objectives,
    with_data_versions,
)
from sweeps.console.messages import stopping
from sweeps.folder import StudyFolder
from sweeps.ready_latency import describe_latency, known_latency
from sweeps.settings.redaction import redacted
from sweeps.settings.space import num_proposals, smallest_students, trial_config
from sweeps.settings.study import StudyConfig
from sweeps.trials.cost import cost_in
from sweeps.trials.largest import MOST_COMBINATIONS, largest_sizes
from sweeps.trials.latency.shapes import detectors_to_measure


@dataclass(frozen=True)
class PlannedDetector:
    """A detector that a study would train."""

    title: str
    cost: Cost
    shape: DetectorConfig


def planned_detectors(study: StudyConfig) -> list[PlannedDetector]:
    """The teacher, the baselines, and the smallest and largest student of the space, each with its cost."""
    base = study.base

    def planned(title: str, shape: DetectorConfig) -> PlannedDetector:
        return PlannedDetector(title, cost_in(base, shape), shape)

    detectors = [planned("teacher", base.teacher)] if base.teacher is not None else []
    for name, changes in study.baselines.items():
        detectors.append(planned(f"baseline-{name}", trial_config(base, changes).student))
    if any(key.startswith("student.") for key in study.space):
        small = smallest_students(study.space, base, MOST_COMBINATIONS)
        smallest = [planned("smallest student", each.student) for each in small]
        largest = [planned("largest student", trial_config(base, each).student) for each in largest_sizes(study)]
        detectors += [
            choose(found, key=lambda detector: detector.cost.num_params)
            for choose, found in ((min, smallest), (max, largest))
            if found
        ]
    return detectors


def print_plan(study: StudyConfig, console: Console) -> None:
    """Print the study as resolved, the costs of its detectors, and what a start would do.

    Raises:
        ValueError: (a class of hkd's or sweeps') files that the study names are missing, damaged or of another kind,
            another study has its name, or an objective cannot be measured on its validation images.
    """
    if study.object_storage is not None:
        study.object_storage.check()
    folder = StudyFolder(study)
    requested = with_data_versions(folder.check(study))
    study = known_latency(requested, folder)
    check_limits(study)  # needs no files
    notes: list[str] = []
    checked = check_files(study.base, check_images=True, print_line=notes.append)
    check_first_weights_of_trials(study, print_line=notes.append)
    if checked.validation is not None:
        check_objectives(study, checked.validation)
    if checked.test is not None:
        check_objectives(study, checked.test, "test")
    latency = study.base.evaluation.latency
    if latency is not None and latency.table is not None:
        notes.append(describe_latency(study))
    for line in dump_yaml(redacted(requested)).splitlines():
        print_on(console, line)
    console.print(_cost_table(planned_detectors(study)))
    for line in (*notes, *_steps_of_start(study)):
        print_on(console, line)


def _cost_table(detectors: list[PlannedDetector]) -> Table:
    # For terminals of 80 columns: long names of baselines are folded, not truncated.
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("", overflow="fold")
    for heading in ("backbone", "width", "pyramid", "head"):
        table.add_column(heading, no_wrap=True)
    is_timed = any(names.LATENCY_MS in detector.cost.as_metrics() for detector in detectors)
    for heading in ("M params", "GFLOPs", *(["ms"] if is_timed else [])):
        table.add_column(heading, justify="right", no_wrap=True)
    for detector in detectors:
        shape = detector.shape
        table.add_row(
            Text(printable(detector.title)),
            shape.backbone,
            f"{shape.width_multiplier:g}",
            str(shape.pyramid_channels),
            str(shape.head_channels),
            f"{detector.cost.num_params / 1e6:.2f}",
            f"{detector.cost.flops / 1e9:.2f}",
            *([f"{detector.cost.as_metrics()[names.LATENCY_MS]:.2f}"] if is_timed else []),
        )
    return table


def _steps_of_start(study: StudyConfig) -> list[str]:
    base, search = study.base, study.search
    data = "generated scenes" if base.data.train_annotations is None else str(base.data.train_annotations)
    proposed = num_proposals(study.space, search.num_trials)
    epochs = "a searched number of" if names.PARAM_TOTAL_EPOCHS in study.space else str(base.training.total_epochs)
    early = stopping(study)
    state = "exists; see --resume" if _exists(study) else "is new"
    return [
        "Dry run: nothing was started. The study would",
        *(f"  {line}" for line in planned_fetches(base.data)),
        f"  read {data}, at {base.data.image_height} x {base.data.image_width} pixels",
        f"  {_teacher_origin(base)}",
        *_labelling(base),
        *_latency(study),
        *_measurement(study),
        f"  train {len(study.baselines)} baselines ({', '.join(study.baselines) or 'none'})",
        f"  train {proposed} students proposed by {search.sampler}{_limits(study)}, {epochs} epochs each{early}",
        f"  minimise {', '.join(study.objectives)}",
        *_confirmation(study),
        f"  write to {StudyFolder(study).place} (which {state}) and {redacted_uri(study.tracking.uri)}",
        f"Checked: the study, {_checked_parts(base)}. Not checked: MLflow and the cluster.",
    ]


def _exists(study: StudyConfig) -> bool:
    folder = StudyFolder(study)
    return folder.study_exists or (folder.storage is not None and folder.storage.read(folder.config_file) is not None)


def _limits(study: StudyConfig) -> str:
    return "".join(f", at most {limit:,.15g} {name}" for name, limit in study.search.limits.items())


def _confirmation(study: StudyConfig) -> list[str]:
    if not study.confirm_seeds:
        return []
    test = study.base.data.test_annotations
    images = "the validation images" if test is None else str(test)
    seeds = "1 other seed" if study.confirm_seeds == 1 else f"{study.confirm_seeds} other seeds"
    return [f"  then train the front and the baselines again with {seeds}, evaluated on {images}"]


def _labelling(base: TrialConfig) -> list[str]:
    if base.data.unlabelled_images is None:
        return []
    return [f"  let the teacher label the images in {base.data.unlabelled_images}, unless its labels are cached"]


def _latency(study: StudyConfig) -> list[str]:
    latency = study.base.evaluation.latency
    if latency is None:
        return []
    if latency.table is not None:
        return [f"  predict latencies from {latency.table}"]
    return [
        (
            f"  measure the latency of {len(detectors_to_measure(study))} untrained detectors on this machine, "
            f"{latency.runs} calls each"
        )
    ]


def _measurement(study: StudyConfig) -> list[str]:
    if study.resources.gpus_per_trial != "auto":
        return []
    return ["  measure, on a cluster with GPUs, how many of its largest trials share one"]


def _checked_parts(base: TrialConfig) -> str:
    is_fetched = all(copy.is_complete() for copy in copies_of(base.data).values())
    images = "images" if is_fetched else "that the bucket has their images"
    files = [] if base.data.train_annotations is None else ["annotations", images]
    if base.data.unlabelled_images is not None and is_fetched:
        files.append("unlabelled images")
    if base.teacher is not None and (base.teacher.trained_weights or base.teacher.init_from):
        files.append("the teacher's weights")
    return ", ".join([*files, "its folder"])


def _teacher_origin(base: TrialConfig) -> str:
    teacher = base.teacher
    if teacher is None:
        return "train without a teacher"
    if teacher.trained_weights is not None:
        return f"load the teacher from {teacher.trained_weights}"
    start = ""
    if teacher.init_from is not None:
        start = f", starting from {teacher.init_from}"
    if teacher.init_from_synthetic is not None:
        start = f", starting from {teacher.init_from_synthetic.total_epochs} epochs on generated scenes"
    return f"train the teacher for {teacher.training.total_epochs} epochs{start}, unless it is cached"
