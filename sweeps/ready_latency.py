"""The measured latencies of a study (``evaluation.latency``): given, of an earlier start, or measured now."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from hkd.config import LatencyConfig
from hkd.files import write_atomically
from hkd.inference.deployed.packages import required_package
from sweeps.folder import StudyError, StudyFolder
from sweeps.settings.study import StudyConfig
from sweeps.trials.latency.measurement import check_packages, export_detectors, measure_detectors
from sweeps.trials.latency.model import LEAST_MEASURED
from sweeps.trials.latency.shapes import detectors_to_measure
from sweeps.trials.latency.table import latency_model

_LARGE_ERROR = 0.1


def export_students(study: StudyConfig, folder: Path, print_line: Callable[[str], None]) -> None:
    """Write the detectors whose latency a study needs, untrained, for a measurement on another machine.

    Raises:
        StudyError: the folder is not empty.
        ValueError: (a class of hkd's) a package is missing, or a detector cannot be exported.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise StudyError(f"--export-students {folder}: exists and is not an empty folder; name a new one")
    required_package("onnx")
    latency = study.base.evaluation.latency or LatencyConfig()
    files = export_detectors(_with_latency(study, latency), folder)
    print_line(f"{len(files)} untrained detectors are in {folder}. On the device, with hkd installed:")
    files_there = f"{shlex.quote(str(folder))}/*.onnx"
    print_line(f"  hkd benchmark {files_there} --network-only --runtime {latency.runtime} --json device.json")
    print_line("Then run the study with:")
    print_line("  --set base.evaluation.latency.table=device.json")


def known_latency(study: StudyConfig, folder: StudyFolder) -> StudyConfig:
    """The study with the latencies it has already, as ``base.evaluation.latency.table``; nothing is measured.

    Raises:
        ValueError: (a class of hkd's or sweeps') the table cannot be used, or is missing in the folder of a study that
            was started, or a package is missing that a measurement needs.
    """
    latency = study.base.evaluation.latency
    if latency is None:
        return study
    if folder.study_exists:
        if not folder.latency_file.is_file():
            raise StudyError(
                f"{folder.latency_file}: is missing, with the latencies of this study's students; restore it from a "
                "backup, or give the study another name (--name NAME)"
            )
        study = _with_table(study, latency, folder)
    elif latency.table is None:
        check_packages(study.base)
        return study
    _check_table(study)
    return study


def ready_latency(study: StudyConfig, folder: StudyFolder, print_line: Callable[[str], None]) -> StudyConfig:
    """Measure what is not known yet, and keep all in the study's folder.

    Args:
        study: From :func:`known_latency`.

    Raises:
        ValueError: (a class of hkd's or sweeps') a detector cannot be measured.
    """
    latency = study.base.evaluation.latency
    if latency is None:
        return study
    if not folder.study_exists:
        if latency.table is None:
            detectors = detectors_to_measure(study)
            threads = "1 thread" if latency.num_threads == 1 else f"{latency.num_threads} threads"
            print_line(
                f"Latency: measuring {len(detectors)} untrained detectors on this machine ({latency.runtime}, "
                f"{threads}, {latency.runs} calls each); other programs would disturb it"
            )
            measure_detectors(study, folder.latency_file)
        else:
            write_atomically(folder.latency_file, latency.table.read_bytes(), durable=True)
        study = _with_table(study, latency, folder)
    print_line(describe_latency(study))
    return study


def describe_latency(study: StudyConfig) -> str:
    """One line on the measured latencies, and on how well those of other students are predicted."""
    latency, data = study.base.evaluation.latency, study.base.data
    assert latency is not None
    model = latency_model(latency, data.image_height, data.image_width)
    low, high = model.range
    measured = f"Latency: {low:.2f} to {high:.2f} ms by {latency.runtime}, of {model.num_shapes} measured detectors"
    error = model.error()
    if error is None:
        return measured
    warning = "" if error.largest <= _LARGE_ERROR else "; measure more (num_students), with nothing else running"
    return (
        f"{measured}; each predicted from the others, the error is {100 * error.median:.1f} % in the median and "
        f"{100 * error.largest:.1f} % at most{warning}"
    )


def _with_table(study: StudyConfig, latency: LatencyConfig, folder: StudyFolder) -> StudyConfig:
    return _with_latency(study, latency.model_copy(update={"table": folder.latency_file}))


def _with_latency(study: StudyConfig, latency: LatencyConfig) -> StudyConfig:
    evaluation = study.base.evaluation.model_copy(update={"latency": latency})
    return study.model_copy(update={"base": study.base.model_copy(update={"evaluation": evaluation})})


def _check_table(study: StudyConfig) -> None:
    latency, data = study.base.evaluation.latency, study.base.data
    assert latency is not None
    model = latency_model(latency, data.image_height, data.image_width)
    missing = [each for each in detectors_to_measure(study) if not model.is_measured(each)]
    if missing and model.num_shapes < LEAST_MEASURED:
        raise StudyError(
            f"base.evaluation.latency.table: {latency.table} has {model.num_shapes} detectors for this study, and not "
            f"all that it may train; needed: at least {LEAST_MEASURED}, from which others are predicted. Measure the "
            "files that --export-students writes"
        )
