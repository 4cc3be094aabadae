"""Weights of a study's trials, in the study's folder."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from hkd.export.onnx_export import ExportError
from hkd.files import read_record
from hkd.metric_names import ARTIFACT_METRICS, ARTIFACT_WEIGHTS, BUDGET_FRACTION

STUDY_FILE: Final = "study.yaml"
_SHOWN: Final = 20


def trial_weights(storage: Path, study: str, trial: str) -> Path:
    """The file of weights of a trial that was trained to its end.

    Args:
        storage: ``storage_path`` of the study.
        study: its name.
        trial: id of the trial, such as ``trial-012``, or of a baseline.

    Raises:
        ExportError: there is no such study or trial, or the trial did not end.
    """
    folder = storage / study
    if Path(study).name != study or not (folder / STUDY_FILE).is_file():
        studies = [path.parent.name for path in storage.glob(f"*/{STUDY_FILE}")]
        raise ExportError(
            f'{storage}: has no study "{study}" (found: {_some(studies)}); give --study another name, or --storage the '
            "storage_path of the study"
        )
    files = {path.parent.parent: path for path in sorted(folder.glob(f"*/checkpoint_*/{ARTIFACT_WEIGHTS}"))}
    # A trial that lost its worker has a folder for each attempt; the last has the highest number.
    attempts = [path for path in files if _trial_of(path) == trial]
    if not attempts:
        raise ExportError(
            f'{folder}: has no weights of "{trial}" (found: {_some(map(_trial_of, files))}); give --trial one of these'
        )
    weights = files[max(attempts, key=_attempt_of)]
    metrics = weights.with_name(ARTIFACT_METRICS)
    try:
        trained = float(read_record(metrics)[BUDGET_FRACTION])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(f"{metrics}: cannot be read ({error}); export {weights} with --weights") from error
    if trained < 1.0:
        raise ExportError(
            f"{folder}: {trial} was trained for {100 * trained:.0f} % of its epochs: it was stopped early, or is not "
            f"finished. Choose another trial, resume the study, or export these weights with --weights {weights}"
        )
    return weights


def _trial_of(folder: Path) -> str:
    return re.sub(r"-attempt-\d+$", "", folder.name)


def _attempt_of(folder: Path) -> int:
    found = re.search(r"-attempt-(\d+)$", folder.name)
    return int(found[1]) if found else 1


def _some(names: Iterable[str]) -> str:
    found = sorted(set(names))
    return ", ".join(found[:_SHOWN]) + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "") or "none"
