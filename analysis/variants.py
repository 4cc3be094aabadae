"""Exported files of a study's students, measured on a device: fp32 and INT8 variants of their trials."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hkd import metric_names as names
from hkd.config_files.problems import ConfigError
from hkd.dominance import non_dominated
from hkd.inference.deployed.measurements import MeasuredFile, Measurements, MeasurementsError, read_measurements
from hkd.text.escaping import LinesError

if TYPE_CHECKING:
    # They load pandas, which a mistake on the command line need not wait for.
    from analysis.front import Front
    from analysis.records.study_records import StudyRecords, TrialRecord

FP32, INT8 = "fp32", "int8"


class VariantsError(LinesError):
    """Measurements that no report can show; a problem a line."""


@dataclass(frozen=True)
class Variant:
    """An exported file of a trial, by one runtime on one device."""

    trial_id: str
    file: str
    """Name without folder."""
    device: str
    runtime: str
    precision: str
    """``fp32`` or ``int8``."""
    latency_ms: float
    num_bytes: int | None
    """Of the file."""
    miss_rate: float | None
    """MR^-2 reasonable on the validation images, a fraction: of fp32 files the trial's, of INT8 files the one measured
    by their export; None where it is unknown."""
    is_on_front: bool
    """Whether no other file on this device is better in miss rate and latency."""


def read_devices(paths: Sequence[Path], studies: Sequence[str]) -> tuple[Measurements, ...]:
    """Read files of ``hkd benchmark --json``.

    Args:
        studies: Names of the reported studies.

    Raises:
        VariantsError: a file cannot be read, or names no trial of these studies.
    """
    found: list[Measurements] = []
    problems: list[str] = []
    for path in paths:
        try:
            measurements = read_measurements(path)
        except (ConfigError, MeasurementsError) as error:
            problems += str(error).split("\n")
            continue
        found.append(measurements)
        if not any(row.study is not None and row.study.study in studies for row in measurements.rows):
            problems.append(
                f"{path}: has no file of {', '.join(studies)}; export with hkd export --study NAME --trial ID, which "
                "writes both into the file, and measure with hkd benchmark --json"
            )
    if problems:
        raise VariantsError(*problems)
    return tuple(found)


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
                miss_rate=miss_rates[trial_id]
                if row.precision == FP32
                else row.metrics.get(names.INT8_PREFIX + names.MR2_REASONABLE),
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


def _rows(study: str, devices: Sequence[Measurements]) -> Iterator[tuple[Measurements, MeasuredFile, str]]:
    """The rows of a study's trials, with one image a call: of several, the time of an image is no latency."""
    for device in devices:
        for row in device.rows:
            if row.study is not None and row.study.study == study and row.batch == 1:
                yield device, row, row.study.trial
