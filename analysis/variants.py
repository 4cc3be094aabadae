"""Exported files of a study's students, measured on a device: fp32 and INT8 variants of their trials."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hkd import metric_names as names
from hkd.coco.notes import counted
from hkd.config_files.problems import ConfigError
from hkd.dominance import non_dominated
from hkd.inference.deployed.measurements import MeasuredFile, Measurements, MeasurementsError, read_measurements
from hkd.text.escaping import LinesError

if TYPE_CHECKING:
    # They load pandas, which a mistake on the command line need not wait for.
    from analysis.front import Front, PairFront
    from analysis.records.study_records import StudyRecords, TrialRecord

FP32, INT8 = "fp32", "int8"
_FP32_MISS_RATE, _INT8_MISS_RATE = (prefix + names.MR2_REASONABLE for prefix in (names.FP32_PREFIX, names.INT8_PREFIX))
"""Stated by INT8 files, on the same images."""
_SAME_IMAGES = 0.01
"""Largest difference of the miss rates of one network on the same images: a training may evaluate in bf16."""


class VariantsError(LinesError):
    """Measurements that no report can show; a problem a line."""


@dataclass(frozen=True)
class Variant:
    """An exported file of a trial, by one runtime on one device."""

    trial_id: str
    file: str
    """Name without folder."""
    device: str
    """Processor and number of threads; with the file of measurements, where several name the same."""
    runtime: str
    precision: str
    """``fp32`` or ``int8``."""
    latency_ms: float
    num_bytes: int | None
    """Of the file."""
    miss_rate: float | None
    """MR^-2 reasonable on the validation images, a fraction: of fp32 files the trial's, of INT8 files the one measured
    by their export; None where it is unknown, or was measured on other images than the trial's."""
    is_on_front: bool
    """Whether no other file on this device is better in miss rate and latency."""


def read_devices(paths: Sequence[Path], studies: Sequence[str]) -> tuple[Measurements, ...]:
    """Read files of ``hkd benchmark --json``.

    Args:
        studies: Names of the reported studies.

    Raises:
        VariantsError: a file cannot be read, or names no trial of these studies.
    """
    found: dict[Path, Measurements] = {}
    problems: list[str] = []
    for path in paths:
        try:
            measurements = read_measurements(path)
        except (ConfigError, MeasurementsError) as error:
            problems += str(error).split("\n")
            continue
        found[path] = measurements
        if not any(row.study is not None and row.study.study in studies for row in measurements.rows):
            problems.append(
                f"{path}: has no file of {', '.join(studies)}; export with hkd export --study NAME --trial ID, which "
                "writes both into the file, and measure with hkd benchmark --json"
            )
    if problems:
        raise VariantsError(*problems)
    return _named(found)


def _named(found: Mapping[Path, Measurements]) -> tuple[Measurements, ...]:
    """The measurements, with a name of their own in place of that of the processor, which devices share."""
    devices = [
        each.processor + ("" if each.num_threads is None else f", {counted(each.num_threads, 'thread')}")
        for each in found.values()
    ]
    return tuple(
        each.model_copy(update={"processor": f"{device} ({path.name})" if devices.count(device) > 1 else device})
        for (path, each), device in zip(found.items(), devices, strict=True)
    )


def with_measured_latencies(records: StudyRecords, devices: Sequence[Measurements]) -> StudyRecords:
    """The records with the latency of fp32 files, by the fastest runtime, where the study itself has no latencies.

    Notes say how many rows of other files there are.
    """
    known = {trial.trial_id for trial in records.trials}
    others = sum(row.study is None or row.study.study != records.study for device in devices for row in device.rows)
    unknown = sorted({trial_id for _, _, trial_id in _rows(records.study, devices)} - known)
    notes = [f"{others} rows of the measured files name no trial of this study."] if others else []
    batched = sum(row.batch > 1 for device in devices for row in device.rows)
    notes += [f"{batched} rows of the measured files have several images a call: no latency."] if batched else []
    notes += [f"Measured files of trials that this study does not have: {', '.join(unknown)}."] if unknown else []
    notes += _notes_on_other_images(records, devices)
    records = replace(records, notes=(*records.notes, *notes))
    if any(names.LATENCY_MS in trial.metrics for trial in records.trials):
        return records
    times: dict[str, float] = {}
    for device, row, trial_id in _rows(records.study, devices[:1]):
        if row.precision == FP32:
            times[trial_id] = min(device.milliseconds(row), times.get(trial_id, np.inf))

    def timed(trial: TrialRecord) -> TrialRecord:
        if trial.trial_id not in times:
            return trial
        return replace(trial, metrics={**trial.metrics, names.LATENCY_MS: times[trial.trial_id]})

    return replace(records, trials=tuple(map(timed, records.trials)))


def variants_of(front: Front, study: str, devices: Sequence[Measurements]) -> tuple[Variant, ...]:
    """The files of each device, the fastest first.

    Args:
        front: Of the search, whose miss rates are of the exported weights.
    """
    found: list[Variant] = []
    miss_rates = {student.trial_id: student.measured.get(names.MR2_REASONABLE) for student in front.students}
    for device in devices:
        variants = [
            Variant(
                trial_id=trial_id,
                file=Path(row.file).name,
                device=device.processor,
                runtime=row.runtime,
                precision=row.precision,
                latency_ms=device.milliseconds(row),
                num_bytes=row.num_bytes,
                miss_rate=_miss_rate(row, miss_rates[trial_id]),
                is_on_front=False,
            )
            for device, row, trial_id in _rows(study, [device])
            if trial_id in miss_rates
        ]
        # An unknown miss rate becomes NaN, which is never on the front.
        points = np.array([[each.miss_rate, each.latency_ms] for each in variants], dtype=float).reshape(-1, 2)
        best = non_dominated(points).tolist()
        marked = [replace(each, is_on_front=is_best) for each, is_best in zip(variants, best, strict=True)]
        found += sorted(marked, key=lambda each: (each.latency_ms, each.file))
    return tuple(found)


def _notes_on_other_images(records: StudyRecords, devices: Sequence[Measurements]) -> list[str]:
    miss_rates = {trial.trial_id: trial.metrics.get(names.MR2_REASONABLE) for trial in records.trials}
    found = set()
    for _, row, trial_id in _rows(records.study, devices):
        of_trial = miss_rates.get(trial_id)
        if of_trial is not None and _is_on_other_images(row, of_trial):
            found.add(
                f"{Path(row.file).name}: the fp32 network misses {100 * row.metrics[_FP32_MISS_RATE]:.1f} % on the "
                f"validation images of this export, and {100 * of_trial:.1f} % on those of the study. These are other "
                "images, so the miss rate of the INT8 file is left out."
            )
    return sorted(found)


def _miss_rate(row: MeasuredFile, of_trial: float | None) -> float | None:
    if row.precision == FP32:
        return of_trial
    return None if _is_on_other_images(row, of_trial) else row.metrics.get(_INT8_MISS_RATE)


def _is_on_other_images(row: MeasuredFile, of_trial: float | None) -> bool:
    """Whether the miss rate of an INT8 file was measured on other images than the trial's."""
    in_fp32 = row.metrics.get(_FP32_MISS_RATE)
    if row.precision == FP32 or in_fp32 is None or of_trial is None:
        return False
    return abs(in_fp32 - of_trial) > _SAME_IMAGES


def int8_beside(variants: Sequence[Variant], front: Front, pair: PairFront) -> tuple[Variant, ...]:
    """INT8 files in a plot of latencies that were measured on the same device, and not predicted by the study."""
    if pair.cost.name != names.LATENCY_MS or pair.miss_rate.name != names.MR2_REASONABLE:
        return ()
    if front.basis != "search":
        return ()  # those of single trainings, on the validation images, are not comparable with means
    times = {(student.trial_id, student.values[pair.cost.name]) for student in pair.candidates}
    devices = {each.device for each in variants if (each.trial_id, each.latency_ms) in times}
    return tuple(
        each for each in variants if each.precision == INT8 and each.device in devices and each.miss_rate is not None
    )


def _rows(study: str, devices: Sequence[Measurements]) -> Iterator[tuple[Measurements, MeasuredFile, str]]:
    """The rows of a study's trials, with one image a call: of several, the time of an image is no latency."""
    for device in devices:
        for row in device.rows:
            if row.study is not None and row.study.study == study and row.batch == 1:
                yield device, row, row.study.trial
