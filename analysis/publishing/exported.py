"""Files of ``hkd export``: which are of a study's trials, and exported from the weights of these."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from analysis.records.store import reading_store
from hkd import metric_names as names
from hkd.files import file_hash
from hkd.inference.deployed.onnx_file import DeployedFile, is_exported, read_onnx_file
from hkd.models.weight_formats.errors import CheckpointError
from hkd.text.escaping import LinesError

if TYPE_CHECKING:
    from analysis.records.study_records import StudyRecords, TrialRecord

_SHOWN: Final = 5


class PublishingError(LinesError):
    """A file or name that cannot be published. Each problem is a line."""


@dataclass(frozen=True)
class ExportedTrial:
    """An exported detector and the trial that it was exported from."""

    file: DeployedFile
    trial: TrialRecord
    note: str | None = None
    """Why its weights were not compared with those of the trial; None if they were."""

    @property
    def sha256(self) -> str:
        """Hash of the file."""
        return hashlib.sha256(self.file.content).hexdigest()

    @property
    def name(self) -> str:
        """Name of its logged model."""
        return f"{self.trial.trial_id}-{self.file.metadata.precision}"


def find_exported(folder: Path, records: StudyRecords, trial_id: str | None) -> DeployedFile:
    """The file of ``hkd export`` in a folder that was exported from a trial of this study.

    Args:
        folder: Its sub-folders are not searched.
        trial_id: None: any trial of the study.

    Raises:
        PublishingError: there is none, or there are several.
        MissingPackageError: onnx is not installed.
    """
    found, unreadable = [], []
    for path in sorted(filter(is_exported, folder.iterdir())):
        try:
            file = read_onnx_file(path)
        except CheckpointError as error:
            unreadable.append(str(error))  # of another program, or damaged
            continue
        identity = file.metadata.study
        if identity is not None and identity.study == records.study and trial_id in (None, identity.trial):
            found.append((file, f"{path} ({identity.trial}, {file.metadata.precision})"))
    if len(found) != 1:
        of = f"{trial_id or 'a trial'} of study {records.study}"
        those = f" ({', '.join(text for _, text in found)})" if found else ""
        raise PublishingError(
            f"--register: {len(found)} files in {folder.absolute()} were exported from {of}{those}; name one with "
            f"--model, or export it: hkd export --study {records.study} --trial {trial_id or 'ID'} --out student.onnx",
            *(f"Not read: {problem}" for problem in unreadable[:_SHOWN]),
            *([f"and {len(unreadable) - _SHOWN} other files"] if len(unreadable) > _SHOWN else []),
        )
    return found[0][0]


def with_trials(files: Sequence[DeployedFile], records: StudyRecords) -> list[ExportedTrial]:
    """Files of ``hkd export`` with the trials of a study that they were exported from.

    Raises:
        PublishingError: listing the files that are of no finished trial of this study.
    """
    finished = {trial.trial_id: trial for trial in records.counted}
    found, problems = [], []
    for file in files:
        identity = file.metadata.study
        if identity is None or identity.study != records.study or identity.trial not in finished:
            of = "no study" if identity is None else f"trial {identity.trial} of study {identity.study}"
            problems.append(f"{file.path}: was exported from {of}")
        else:
            found.append(ExportedTrial(file, finished[identity.trial]))
    if problems:
        raise PublishingError(
            *problems,
            f"Export a finished trial of this study: hkd export --study {records.study} --trial ID --out student.onnx",
        )
    return found


def choose(exported: Sequence[ExportedTrial], trial_id: str | None) -> ExportedTrial:
    """The one to register.

    Raises:
        PublishingError: none or several are of this trial; or, without an id, there are several.
    """
    chosen = [each for each in exported if trial_id in (None, each.trial.trial_id)]
    if len(chosen) != 1:
        present = ", ".join(each.name for each in exported)
        of = "" if trial_id is None else f" of {trial_id}"
        remedy = "name one trial with --trial" if trial_id is None else "give one file of it with --model"
        raise PublishingError(f"--register: {len(chosen)} of the files are{of or ' given'} ({present}); {remedy}")
    return chosen[0]


def compare_weights(tracking_uri: str, exported: Sequence[ExportedTrial]) -> list[ExportedTrial]:
    """Check that files were exported from the weights of their trials' runs; a note where a run has none.

    A file may be older than its study: of an earlier one of the same name, whose trials have the same ids.

    Raises:
        PublishingError: listing files that were exported from other weights.
        RecordsError: the store cannot be read.
    """
    compared, problems = [], []
    with reading_store(tracking_uri) as client, tempfile.TemporaryDirectory() as folder:
        for each in exported:
            trial, identity = each.trial, each.file.metadata.study
            assert identity is not None, "with_trials() refuses other files"
            of = f"run {trial.run_id} of {trial.trial_id}"
            path, run_id = each.file.path, trial.run_id
            int8 = " --int8" if each.file.metadata.precision == "int8" else ""
            if names.ARTIFACT_WEIGHTS not in {entry.path for entry in client.list_artifacts(run_id)}:
                note = f"{path}: its weights were not compared: the {of} has no {names.ARTIFACT_WEIGHTS}"
                compared.append(replace(each, note=note))
                continue
            weights = client.download_artifacts(run_id, names.ARTIFACT_WEIGHTS, folder)
            if file_hash(Path(weights)) != each.file.metadata.weights_sha256:
                problems.append(
                    f"{path}: was exported from other weights than {names.ARTIFACT_WEIGHTS} of the {of}; export this "
                    f"trial again: hkd export --study {identity.study} --trial {trial.trial_id} --out {path}{int8}"
                )
            compared.append(each)
    if problems:
        raise PublishingError(*problems)
    return compared
