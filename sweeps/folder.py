"""The folder of a study, ``<storage_path>/<name>``.

Files::

    study.yaml      resolved configuration of the study, without passwords; num_trials as last requested
    trials.journal  Optuna's storage: every trial and its state
    teacher.json    path and metrics of the teacher
    latency.json    with evaluation.latency: measured latencies, by which those of all students are predicted
    <trial id>/...  Ray Tune's folder of a trial, with its checkpoint and artifacts
    lock            locked by the process that runs the study

Teachers are stored in ``<storage_path>/teachers`` and shared between studies. Where ``storage_path`` is a bucket, the
folder is a copy on the driver's machine: ``study.yaml``, the journal, ``teacher.json`` and ``latency.json`` are
mirrored to the bucket, and workers write checkpoints there (:mod:`sweeps.storage`).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from hkd import metric_names as names
from hkd.buckets import StorageAwayError, patiently
from hkd.config_files.parsing import flatten, parse_config
from hkd.config_files.problems import ConfigError
from hkd.config_files.yaml_format import dump_yaml, load_yaml
from hkd.data.locations import with_versions_of
from hkd.files import is_leftover, remove_leftovers, write_atomically
from hkd.own_folders import create_own_folder
from hkd.text.escaping import LinesError
from hkd.text.redaction import redacted_text
from sweeps.settings.redaction import redacted
from sweeps.settings.study import StudyConfig
from sweeps.storage.mirror import OWNER, StudyMirror

FREE_SETTINGS = (
    "search.num_trials",
    "search.patience",
    "search.confirm_seeds",
    "base.data.test_annotations",
    "resources.",
    "storage_path",
)
"""Settings that may change when a study is resumed."""

ARTIFACTS = (
    names.ARTIFACT_CONFIG,
    names.ARTIFACT_WEIGHTS,
    names.ARTIFACT_WEIGHTS_ORIGIN,
    names.ARTIFACT_METRICS,
    names.ARTIFACT_CURVE,
    names.ARTIFACT_DETECTIONS,
)
"""Files of a trial's checkpoint that are logged to MLflow; the others are only needed to resume."""

ARTIFACTS_SECONDS = 60.0
"""How long MLflow's writes wait for a trial's files in object storage, each time."""
LOCK = "lock"
MAX_DIFFERENCES_SHOWN = 12


class StudyError(LinesError):
    """A study cannot be started or resumed as requested."""


class StudyFolder:
    """Paths of a study's files, and access to its folder."""

    def __init__(self, study: StudyConfig) -> None:
        self.path = study.storage_folder / study.name
        self.config_file = self.path / "study.yaml"
        self.journal = self.path / "trials.journal"
        self.teacher_file = self.path / "teacher.json"
        self.latency_file = self.path / "latency.json"
        self.storage = study.object_storage
        self._mirror: StudyMirror | None = None

    @property
    def place(self) -> str:
        """Where the study is stored, for messages."""
        return str(self.path) if self.storage is None else f"{self.storage}/{self.path.name}"

    @property
    def study_exists(self) -> bool:
        """Whether this folder has a study."""
        return self.config_file.exists()

    def attempt_folder(self, trial_id: str, attempt: int) -> Path:
        """Tune's folder of one attempt. Attempts do not share one, because each numbers its checkpoints from 0."""
        return self.path / (trial_id if attempt == 1 else f"{trial_id}-attempt-{attempt}")

    def remove_checkpoints(self, trial_id: str, attempt: int, *, keep: Sequence[Path]) -> None:
        """Remove a trial's checkpoints, which Tune keeps, and the folders of earlier attempts.

        Args:
            keep: Checkpoints that remain, relative to the study's folder.
        """
        if self._mirror is not None:
            folders = [self.attempt_folder(trial_id, number) for number in range(1, attempt + 1)]
            self._mirror.remove_checkpoints(folders, keep)
        for number in range(1, attempt + 1):
            folder = self.attempt_folder(trial_id, number)
            if number < attempt and not any(path.parent.name == folder.name for path in keep):
                shutil.rmtree(folder, ignore_errors=True)
            for checkpoint in folder.glob("checkpoint_*"):
                if checkpoint.relative_to(self.path) not in keep:
                    shutil.rmtree(checkpoint, ignore_errors=True)

    def fetch_artifacts(self, checkpoint: Path) -> None:
        """Copy the artifacts of a checkpoint to this machine, if they are in object storage.

        Args:
            checkpoint: Absolute path of its folder here.

        Raises:
            ConnectionError: the storage is away; a later call may succeed.
        """
        storage = self.storage
        if storage is not None:
            try:
                patiently(lambda: storage.fetch_folder(checkpoint, ARTIFACTS), ARTIFACTS_SECONDS)
            except StorageAwayError as error:
                raise ConnectionError(str(error)) from error

    def end_mirror(self) -> None:
        """Upload the last records, and give up the study in object storage, before this process ends at once."""
        if self._mirror is not None:
            self._mirror.__exit__()

    def raise_if_lost(self) -> None:
        """Raise an error if another machine has resumed the study meanwhile.

        Raises:
            StorageError: naming it.
        """
        if self._mirror is not None:
            self._mirror.raise_if_lost()

    def check(self, study: StudyConfig) -> StudyConfig:
        """Check that the folder is free or has this study.

        Returns:
            The study to run. If it exists, ``num_trials`` is at least the number last requested, and settings of its
            confirmation that are not given are those last requested. Of data sets in buckets, it has the versions with
            which it was started.

        Raises:
            StudyError: the folder has other files or a study with another configuration, or cannot be read.
        """
        with self._folder_errors():
            study_exists = self.study_exists
            has_other_files = not study_exists and self.path.exists() and not self._is_empty()
        if has_other_files:
            raise StudyError(
                f"{self.path}: the folder is not empty and has no study (no {self.config_file.name}); "
                "choose another name (--name NAME) or folder (--set storage_path=PATH), or move this folder away"
            )
        if not study_exists:
            return study
        existing = self._read_study()
        data = with_versions_of(existing.base.data, study.base.data)
        study = study.model_copy(update={"base": study.base.model_copy(update={"data": data})})
        differences = identity_differences(existing, study)
        if differences:
            shown = differences[:MAX_DIFFERENCES_SHOWN]
            if len(differences) > len(shown):
                shown.append(f"and {len(differences) - len(shown)} more")
            raise StudyError(
                f'a study named "{study.name}" exists with another configuration, in {self.path}:',
                *(f"  {difference}" for difference in shown),
                "Give this study another name (--name NAME), or resume the existing one with its configuration "
                f"(--config {self.config_file} --resume). Its results are unchanged.",
            )
        search = study.search
        seeds = existing.search.confirm_seeds if search.confirm_seeds is None else search.confirm_seeds
        num_trials = max(search.num_trials, existing.search.num_trials)
        test_annotations = data.test_annotations or existing.base.data.test_annotations
        data = data.model_copy(update={"test_annotations": test_annotations})
        return study.model_copy(
            update={
                "search": search.model_copy(update={"num_trials": num_trials, "confirm_seeds": seeds}),
                "base": study.base.model_copy(update={"data": data}),
            }
        )

    def write_study(self, study: StudyConfig) -> None:
        """Create the folder and write ``study.yaml``; on resume, overwrite it."""
        write_atomically(self.config_file, dump_yaml(redacted(study)), durable=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the study against other processes. The operating system releases the lock of a killed process.

        A study in object storage is also locked there, fetched from there, and mirrored until the end.

        Raises:
            StudyError: another process runs the study, or the folder cannot be created.
            StorageError: the object storage cannot be used, or another machine runs the study.
            SharedFolderError: every user of the machine can write to the folder.
        """
        lock = FileLock(self.path / LOCK, timeout=0)
        try:
            with self._folder_errors():
                created = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
                for folder in (self.path.parent, self.path):
                    create_own_folder(folder, "storage_path")
                lock.acquire()
                remove_leftovers(self.config_file)
        except Timeout:
            raise StudyError(
                f"{self.path}: another process is running this study; wait for it to end, or stop it (Ctrl-C)"
            ) from None
        try:
            with self._mirrored():
                yield
        finally:
            if not self.study_exists:
                # The study did not start: leave no empty folder behind.
                (self.path / LOCK).unlink(missing_ok=True)
                with suppress(OSError):
                    for folder in dict.fromkeys((self.path, *created)):
                        folder.rmdir()
            lock.release()

    @contextmanager
    def _mirrored(self) -> Iterator[None]:
        if self.storage is None:
            yield
            return
        config, journal = self.config_file.name, self.journal.name
        others = (self.teacher_file.name, self.latency_file.name)
        with StudyMirror(self.storage, self.path, config=config, journal=journal, others=others) as self._mirror:
            yield

    def _is_empty(self) -> bool:
        # A process killed while it wrote the study's first file leaves a temporary one. Latencies are measured before
        # that file is written.
        own = (LOCK, OWNER, self.latency_file.name)
        return all(entry.name in own or is_leftover(entry, self.config_file) for entry in self.path.iterdir())

    @contextmanager
    def _folder_errors(self) -> Iterator[None]:
        try:
            yield
        except Timeout:
            raise
        except OSError as error:
            raise StudyError(
                f"{self.path}: cannot create or use the study's folder ({error.strerror or error}); choose a writable "
                "folder: --set storage_path=PATH"
            ) from error

    def _read_study(self) -> StudyConfig:
        try:
            return parse_config(StudyConfig, load_yaml(self.config_file), source=str(self.config_file))
        except ConfigError as error:
            raise StudyError(
                *str(error).split("\n"),
                "Another version of hkd wrote this file, or it was edited; give this study another name (--name NAME)",
            ) from error


def display_path(path: Path) -> Path:
    """The path relative to the working directory if it is inside, else absolute."""
    path = path.absolute()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def identity_differences(existing: StudyConfig, requested: StudyConfig) -> list[str]:
    """One ``key: was OLD, is NEW`` for each changed setting that a resumed study must not change."""
    # Passwords may change.
    before, now = _flat(redacted(existing)), _flat(redacted(requested))
    return [
        f"{key}: was {_shown(before, key)}, is {_shown(now, key)}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key, _ABSENT) != now.get(key, _ABSENT) and not key.startswith(FREE_SETTINGS)
    ]


_ABSENT = object()


def _flat(study: StudyConfig) -> dict[str, object]:
    # A baseline without overrides has no dotted key.
    return {**flatten(study), "baselines": sorted(study.baselines)}


def _shown(flat: dict[str, object], key: str) -> str:
    return redacted_text(repr(flat[key])) if key in flat else "absent"
