"""The model card of an exported student: what it is for, how good it is, how it was made, in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from analysis.objectives import ABSENT, OBJECTIVES
from analysis.report.cells import markdown_cell
from analysis.variants import FP32
from hkd import metric_names as names
from hkd.coco.notes import counted

if TYPE_CHECKING:
    from analysis.publishing.exported import ExportedTrial
    from analysis.records.study_records import StudyRecords
    from analysis.results import StudyResults

_DATA = {
    "training": "data.train_annotations",
    "validation": "data.validation_annotations",
    "test": "data.test_annotations",
    "unlabelled": "data.unlabelled_images",
}
_TRAINING = ("total_epochs", "batch_size", "learning_rate", "seed", "precision")


def model_card(exported: ExportedTrial, records: StudyRecords, results: StudyResults) -> str:
    """The card of one file. Names and settings come from MLflow, where others may have written them: shown as text."""
    metadata = exported.file.metadata
    sections = {
        "Purpose": _purpose(exported),
        "Data": _data(exported),
        "Accuracy": _accuracy(exported, results),
        "Cost": _cost(exported, results),
        "Latency": _latency(exported, results),
        "Training": _training(exported, records),
        "Limits": _limits(exported, results),
    }
    title = f"{exported.trial.trial_id} of the study {records.study}, {metadata.precision}"
    body = ("\n".join([f"## {heading}", "", *lines]) for heading, lines in sections.items())
    return "\n\n".join([f"# {markdown_cell(title)}", *body]) + "\n"


def _purpose(exported: ExportedTrial) -> Iterator[str]:
    metadata = exported.file.metadata
    yield (
        f"Finds people (class {markdown_cell(', '.join(metadata.classes))}) in images, on a device: one graph for "
        f"images of {metadata.image_width} x {metadata.image_height} pixels (width x height), at most "
        f"{metadata.max_detections} boxes an image."
    )


def _data(exported: ExportedTrial) -> Iterator[str]:
    params = exported.trial.params
    for context, key in _DATA.items():
        if params.get(key) is not None:
            yield f"- {context}: {markdown_cell(str(params[key]))}"
    if params.get("data.train_annotations") is None:
        yield markdown_cell(
            f"- generated street scenes: {params.get('data.synthetic.train_images', 'unknown')} for training, "
            f"{params.get('data.synthetic.validation_images', 'unknown')} for validation; no photographs"
        )
    used = exported.file.metadata.int8_images
    if used is not None:
        how = "compared" if used.compared_with_training else "not compared"
        yield markdown_cell(
            f"- INT8: {used.num_calibrated} of {counted(used.calibration.num_images, 'image')} of "
            f"{used.calibration.annotations} for calibration, {used.validation.num_images} of "
            f"{used.validation.annotations} for the limit on the miss rate; {how} with those of the training"
        )


def _accuracy(exported: ExportedTrial, results: StudyResults) -> Iterator[str]:
    trial, metrics = exported.trial, exported.trial.metrics
    yield "MR^-2 (log-average miss rate, lower is better), %, of the weights, in the precision of their evaluation:"
    yield ""
    yield "| images and subset | this student | 95 % interval over images | teacher |"
    yield "| --- | ---: | ---: | ---: |"
    teacher = results.front.teacher
    for name in names.MISS_RATES:
        if name not in metrics:
            continue
        objective = OBJECTIVES[name]
        interval = results.uncertainty.intervals.get(trial.trial_id, {}).get(name)
        has_ends = interval is not None and interval.low is not None and interval.high is not None
        ends = f"{objective.shown(interval.low)} to {objective.shown(interval.high)}" if interval and has_ends else "-"
        of_teacher = objective.shown(teacher.values.get(name) if teacher else None)
        yield f"| validation, {objective.subset} | {objective.shown(metrics[name])} | {ends} | {of_teacher} |"
    yield from _other_seeds(metrics, results)
    int8 = exported.file.metadata.metrics.get(names.INT8_PREFIX + names.MR2_REASONABLE)
    fp32 = exported.file.metadata.metrics.get(names.FP32_PREFIX + names.MR2_REASONABLE)
    if int8 is not None and fp32 is not None:
        shown = OBJECTIVES[names.MR2_REASONABLE].shown
        yield ""
        yield f"This file, in INT8: {shown(int8)} % on the validation images, {shown(fp32)} % before quantisation."


def _other_seeds(metrics: Mapping[str, float], results: StudyResults) -> Iterator[str]:
    """Means over trainings with other seeds, and results on test images."""
    num_seeds = metrics.get(names.CONFIRMED_SEEDS)
    for prefix, images in (
        (names.CONFIRMED_PREFIX, "validation"),
        (names.CONFIRMED_PREFIX + names.TEST_PREFIX, "test"),
    ):
        for name in names.MISS_RATES:
            mean, spread = metrics.get(prefix + name), metrics.get(prefix + name + names.STD_SUFFIX)
            if mean is not None and num_seeds is not None:
                of = OBJECTIVES[name]
                around = "" if spread is None else f" ± {of.shown(spread)}"
                row = f"{images}, {of.subset}, mean of {num_seeds:.0f} other seeds"
                is_known = images == "test" and name == results.front.miss_rate.name
                of_teacher = of.shown(results.confirmation.teacher_on_test if is_known else None)
                yield f"| {row} | {of.shown(mean)}{around} | - | {of_teacher} |"


def _cost(exported: ExportedTrial, results: StudyResults) -> Iterator[str]:
    metadata, teacher = exported.file.metadata, results.front.teacher
    values: dict[str, float] = {names.NUM_PARAMS: float(metadata.num_params), names.FLOPS: float(metadata.flops)}
    yield "| cost | this student | teacher |"
    yield "| --- | ---: | ---: |"
    for name, value in values.items():
        objective = OBJECTIVES[name]
        of_teacher = objective.shown(teacher.values.get(name) if teacher else None)
        yield f"| {objective.column} | {objective.shown(value)} | {of_teacher} |"
    yield f"| file MB | {len(exported.file.content) / 1e6:.2f} | - |"


def _latency(exported: ExportedTrial, results: StudyResults) -> Iterator[str]:
    """Of all measured files of the trial, or the study's prediction, which is of fp32 files."""
    trial, precision = exported.trial, exported.file.metadata.precision
    measured = [each for each in results.variants if each.trial_id == trial.trial_id]
    if measured:
        yield "Median time of the network for one image, measured by `hkd benchmark`:"
        yield ""
        yield "| precision | runtime | device | latency ms | file MB | MR^-2 reasonable, validation, % |"
        yield "| --- | --- | --- | ---: | ---: | ---: |"
        for each in measured:
            size = ABSENT if each.num_bytes is None else f"{each.num_bytes / 1e6:.2f}"
            miss_rate = OBJECTIVES[names.MR2_REASONABLE].shown(each.miss_rate)
            where = f"{markdown_cell(each.runtime)} | {markdown_cell(each.device)}"
            yield f"| {each.precision} | {where} | {each.latency_ms:.2f} | {size} | {miss_rate} |"
    elif names.LATENCY_MS in trial.metrics and precision == FP32:
        runtime = trial.params.get("evaluation.latency.runtime", "unknown runtime")
        threads = trial.params.get("evaluation.latency.num_threads", "unknown")
        shown = OBJECTIVES[names.LATENCY_MS].shown(trial.metrics[names.LATENCY_MS])
        yield markdown_cell(f"{shown} ms, predicted by the study (runtime {runtime}, threads {threads}).")
    if all(each.precision != precision for each in measured):
        if measured:
            yield ""
        yield f"This file ({precision}) was not measured: `hkd benchmark` does so, and `--variants` adds its rows here."


def _training(exported: ExportedTrial, records: StudyRecords) -> Iterator[str]:
    trial = exported.trial
    how = "Distilled from the study's teacher" if trial.is_distilled else "Trained without a teacher"
    settings = [f"{key} {trial.params[f'training.{key}']}" for key in _TRAINING if f"training.{key}" in trial.params]
    yield markdown_cell(f"{how}; {', '.join(settings)}.")
    searched = [key for key in records.searched_parameters() if key in trial.params]
    if searched:
        yield ""
        yield "| searched setting | value |"
        yield "| --- | --- |"
        yield from (f"| {markdown_cell(key)} | {markdown_cell(str(trial.params[key]))} |" for key in searched)
    yield ""
    versions = [f"hkd {exported.file.metadata.hkd_version}", f"weights {exported.file.metadata.weights_sha256[:12]}"]
    commit = records.tags.get("mlflow.source.git.commit")
    yield markdown_cell(
        f"Made by {', '.join(versions)}{f', commit {commit[:12]}' if commit else ''}; MLflow run {trial.run_id}."
    )


def _limits(exported: ExportedTrial, results: StudyResults) -> Iterator[str]:
    metrics = exported.trial.metrics
    yield "- Evaluated on images like those above only: other cameras, heights, weather and countries are unknown."
    if not any(name.startswith(names.CONFIRMED_PREFIX + names.TEST_PREFIX) for name in metrics):
        yield "- Not tested: the search chose it by the validation images, so that its miss rate there is too low."
    else:
        yield (
            "- Chosen by validation images. Test images decided nothing: the results on them are not selected."
            if exported.trial.trial_id == results.recommendation.trial_id
            else f"- Not the choice of the report, which is {markdown_cell(results.recommendation.trial_id)}, by "
            "validation images. If it was chosen by its result on test images, that result is too low."
        )
    if names.CONFIRMED_SEEDS not in metrics:
        yield "- Trained with one seed."
    if exported.trial.trial_id not in results.uncertainty.intervals:
        yield "- Without intervals: no validation detections are stored, or it is far from the front."
    yield f"- Scores below {exported.file.metadata.score_threshold:g} are cut; choose the threshold for your use."
