"""The folder of a study, ``<storage_path>/<name>``, and whose it is.

Laid out as::

    study.yaml      the study as resolved when it was begun (num_trials: as last asked for), without passwords
    trials.journal  Optuna's storage: every trial ever begun, and how it ended
    teacher.json    where the teacher's weights lie, and how good it is
    <trial id>/...  Ray Tune's folder of a trial, with its checkpoint and artifacts
    lock            held by the process that runs the study

Teachers lie beside it, in ``<storage_path>/teachers``, so that other studies find them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from hkd.config_io import flatten, parse_config
from hkd.config_problems import ConfigError
from hkd.config_yaml import dump_yaml, load_yaml
from hkd.files import write_atomically
from hkd.redaction import redacted_text
from sweeps.settings.redaction import redacted
from sweeps.settings.study import StudyConfig

FREE_SETTINGS = ("search.num_trials", "resources.", "storage_path")
"""What may differ when a study is resumed: how many trials, where and with what."""

ARTIFACTS = ("config.yaml", "student.safetensors", "metrics.json", "miss_rate_curve.json")
"""Files of a trial's checkpoint that are results; the rest is there to go on from."""

LOCK = "lock"
MAX_DIFFERENCES_SHOWN = 12


class StudyError(ValueError):
    """A study cannot be begun or resumed as asked for."""


class StudyFolder:
    """Paths of one study's files."""

    def __init__(self, study: StudyConfig) -> None:
        self.path = study.storage_path.absolute() / study.name
        self.config_file = self.path / "study.yaml"
        self.journal = self.path / "trials.journal"
        self.teacher_file = self.path / "teacher.json"

    @property
    def study_exists(self) -> bool:
        """Whether a study of this name was begun here before."""
        return self.config_file.exists()

    def attempt_folder(self, trial_id: str, attempt: int) -> Path:
        """Where Tune keeps one attempt at a trial: it numbers checkpoints from 0 again, and would mix them up."""
        return self.path / (trial_id if attempt == 1 else f"{trial_id}-attempt-{attempt}")

    def remove_earlier_attempts(self, trial_id: str, attempt: int) -> None:
        """Remove what Tune does not: attempts of other sessions, once this one has a checkpoint of its own."""
        for earlier in range(1, attempt):
            shutil.rmtree(self.attempt_folder(trial_id, earlier), ignore_errors=True)

    def check(self, study: StudyConfig) -> StudyConfig:
        """Refuse to mix a study with another one of the same name.

        Returns:
            The study to run: of a study that was begun before, with no fewer trials than it was last asked for.

        Raises:
            StudyError: the folder holds something else, or another study.
        """
        with self._folder_errors():
            study_exists = self.study_exists
            is_others = not study_exists and self.path.exists() and not self._is_empty()
        if is_others:
            raise StudyError(
                f"{self.path}: exists, but is no study's folder (it has no {self.config_file.name}); "
                "choose another name (--name NAME) or storage_path, or move that folder away"
            )
        if not study_exists:
            return study
        begun = self._read_study()
        differences = identity_differences(begun, study)
        if differences:
            shown = differences[:MAX_DIFFERENCES_SHOWN]
            if len(differences) > len(shown):
                shown.append(f"and {len(differences) - len(shown)} more")
            raise StudyError(
                f'the name "{study.name}" is taken: {self.config_file} was begun with another configuration:\n  '
                + "\n  ".join(shown)
                + "\nGive this study another name (--name NAME), or resume the old one with its own configuration "
                f"({self.config_file}). What it found is untouched."
            )
        num_trials = max(study.search.num_trials, begun.search.num_trials)
        return study.model_copy(update={"search": study.search.model_copy(update={"num_trials": num_trials})})

    def write_study(self, study: StudyConfig) -> None:
        """Make the folder and write down what is run in it."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.config_file, dump_yaml(redacted(study)), durable=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the study, so that no two processes run it at once; a killed process holds it no longer.

        Raises:
            StudyError: another process runs the study, or the folder cannot be made.
        """
        lock = FileLock(self.path / LOCK, timeout=0)
        try:
            with self._folder_errors():
                self.path.mkdir(parents=True, exist_ok=True)
                lock.acquire()
        except Timeout:
            raise StudyError(
                f"{self.path}: this study is running right now in another process; wait for it, or stop it there first"
            ) from None
        try:
            yield
        finally:
            if not self.study_exists:
                # Something stood against it: leave no folder that looks like a study's.
                (self.path / LOCK).unlink(missing_ok=True)
                with suppress(OSError):
                    self.path.rmdir()
            lock.release()

    def _is_empty(self) -> bool:
        return all(entry.name == LOCK for entry in self.path.iterdir())

    @contextmanager
    def _folder_errors(self) -> Iterator[None]:
        try:
            yield
        except Timeout:
            raise
        except OSError as error:
            raise StudyError(
                f"{self.path}: the study's folder cannot be made or used ({error.strerror or error}); name a folder "
                "that you may write to: --set storage_path=PATH"
            ) from error

    def _read_study(self) -> StudyConfig:
        try:
            return parse_config(StudyConfig, load_yaml(self.config_file), source=str(self.config_file))
        except ConfigError as error:
            raise StudyError(
                f"{error}\nThe study of this name was begun by another version of hkd, or the file was "
                "changed by hand; give this study another name (--name NAME)"
            ) from error


def display_path(path: Path) -> Path:
    """A path that leads there from the working folder: relative where it lies below it."""
    path = path.absolute()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def identity_differences(begun: StudyConfig, asked: StudyConfig) -> list[str]:
    """Sentences on every setting that makes ``asked`` another study than ``begun``."""
    # A password may change while the study stays the same.
    before, now = _flat(redacted(begun)), _flat(redacted(asked))
    return [
        f"{key}: was {_shown(before, key)}, is {_shown(now, key)}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key, _ABSENT) != now.get(key, _ABSENT) and not key.startswith(FREE_SETTINGS)
    ]


_ABSENT = object()


def _flat(study: StudyConfig) -> dict[str, object]:
    # A baseline without changes leaves no dotted name behind.
    return {**flatten(study), "baselines": sorted(study.baselines)}


def _shown(flat: dict[str, object], key: str) -> str:
    return redacted_text(repr(flat[key])) if key in flat else "absent"
