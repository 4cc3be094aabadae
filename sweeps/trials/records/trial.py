"""What the ledger records of a trial, and how it is read from Optuna's trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from hkd.metric_names import (
    ROLE_BASELINE,
    ROLE_CONFIRMATION,
    ROLE_TRIAL,
    STATUS_FAILED,
    STATUS_FINISHED,
    STATUS_RUNNING,
    STATUS_STOPPED,
)
from sweeps.trials.records.journal import DAMAGE, LedgerError
from sweeps.trials.samplers import EPOCH_ATTRIBUTE

_STATUS = {
    TrialState.RUNNING: STATUS_RUNNING,
    TrialState.COMPLETE: STATUS_FINISHED,
    # Without values: nsga2 and gp ignore PRUNED trials; tpe, as used here, counts them as bad ones.
    TrialState.PRUNED: STATUS_STOPPED,
    TrialState.FAIL: STATUS_FAILED,
}
_SUFFIXES = {ROLE_TRIAL: "", ROLE_BASELINE: " (baselines)", ROLE_CONFIRMATION: " (confirmations)"}
# Names of Optuna's user attributes: part of the file format.
TRIAL_ID_ATTRIBUTE, BASELINE_ATTRIBUTE, METRICS_ATTRIBUTE, ERROR_ATTRIBUTE = "trial_id", "baseline", "metrics", "error"
PARAMS_ATTRIBUTE, CHECKPOINT_ATTRIBUTE, CHECKPOINT_EPOCH_ATTRIBUTE, ATTEMPTS_ATTRIBUTE = (
    "params",
    "checkpoint",
    "epoch",
    "attempts",
)
CONFIRMS_ATTRIBUTE, TEST_IMAGES_ATTRIBUTE = "confirms", "test_images"
DOMINATORS_ATTRIBUTE = "dominators"
EARLIER_CHECKPOINT_ATTRIBUTE = "earlier_checkpoint"
SEED = "training.seed"


@dataclass(frozen=True)
class EpochRecord:
    """What a trial reported after an epoch."""

    metrics: Mapping[str, float]
    time_ms: int
    """When it was recorded, in milliseconds since 1970."""


@dataclass(frozen=True)
class LedgerTrial:
    """The recorded state of one trial or baseline."""

    trial_id: str
    """``trial-001``, ``baseline-<name>``, or one of these with ``-seed-<seed>``."""
    role: str
    """``baseline``, ``trial`` or ``confirmation``."""
    baseline: str | None
    """Name of the baseline."""
    params: Mapping[str, Any]
    """What differs from the study's base, by dotted name."""
    status: str
    """``running`` (or interrupted), ``finished``, ``stopped`` or ``failed``."""
    attempts: int
    """Executions: 1, plus one for each interruption or lost worker."""
    checkpoint: Path | None
    """Folder of its last complete checkpoint, relative to the study's folder."""
    epoch: int
    """Epochs trained by that checkpoint."""
    metrics: Mapping[str, float]
    """Last reported values; may be empty before the end."""
    error: str | None
    number: int
    """Optuna's number of the trial."""
    confirms: str | None = None
    """Of a confirmation: the trial that it trains again."""
    test_images: str | None = None
    """Of a confirmation: hash of the annotations of the test images; None without these."""
    dominators: tuple[str, ...] = ()
    """Trials because of which it was stopped, ten at most."""
    epochs: Mapping[int, EpochRecord] = field(default_factory=dict)
    """What each epoch reported, by its number, in order."""
    earlier_checkpoint: Path | None = None
    """The complete checkpoint before the last one, in case that one cannot be read."""

    @property
    def seed(self) -> int | None:
        """The seed of the training where it differs from the base's."""
        seed = self.params.get(SEED)
        return seed if isinstance(seed, int) else None

    @property
    def checkpoints(self) -> tuple[Path, ...]:
        """The checkpoints to resume from, the newest first."""
        return tuple(path for path in (self.checkpoint, self.earlier_checkpoint) if path is not None)


@dataclass(frozen=True)
class GivenResult:
    """A result of another study, from which the sampler learns."""

    source: str
    """Study and trial id."""
    params: Mapping[str, Any]
    """Values of all searched settings."""
    values: Sequence[float]
    """Of the objectives."""


def optuna_name(study: str, role: str) -> str:
    """Name of the study of Optuna that has a study's trials of one role. Names of studies have no parentheses.

    Journals of earlier versions have the roles as names.
    """
    return f"{study}{_SUFFIXES[role]}"


def _name_of_proposals(present: Sequence[str]) -> str:
    """The name of the study of Optuna that has the proposed trials, of all in a journal."""
    suffix = _SUFFIXES[ROLE_BASELINE]
    return next((name.removesuffix(suffix) for name in present if name.endswith(suffix)), ROLE_TRIAL)


def read_trials(journal: Path) -> list[LedgerTrial]:
    """The proposed trials of a study's journal, which is only read.

    Raises:
        LedgerError: it cannot be read, or has records that Optuna did not write.
    """
    try:
        storage = JournalStorage(JournalFileBackend(str(journal)))
        present = [study.study_name for study in storage.get_all_studies()]
        study = optuna.load_study(study_name=_name_of_proposals(present), storage=storage)
        trials = study.get_trials(deepcopy=False)
        return [trial_of(ROLE_TRIAL, frozen) for frozen in trials if TRIAL_ID_ATTRIBUTE in frozen.user_attrs]
    except OSError as error:
        raise LedgerError(f"{journal}: the journal of the study cannot be read ({error.strerror})") from error
    except DAMAGE as error:
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        raise LedgerError(f"{journal}: the journal of the study is damaged ({reason})") from error


def trial_of(role: str, frozen: FrozenTrial) -> LedgerTrial:
    """The recorded state in one of Optuna's trials, which has an id."""
    attributes = frozen.user_attrs
    epochs = _epochs(attributes)
    metrics = dict(attributes.get(METRICS_ATTRIBUTE, {}))
    for record in epochs.values():
        metrics |= record.metrics
    return LedgerTrial(
        trial_id=attributes[TRIAL_ID_ATTRIBUTE],
        role=role,
        baseline=attributes.get(BASELINE_ATTRIBUTE),
        params=attributes.get(PARAMS_ATTRIBUTE, frozen.params),
        status=_STATUS[frozen.state],
        attempts=attributes[ATTEMPTS_ATTRIBUTE],
        checkpoint=Path(attributes[CHECKPOINT_ATTRIBUTE]) if CHECKPOINT_ATTRIBUTE in attributes else None,
        epoch=attributes.get(CHECKPOINT_EPOCH_ATTRIBUTE, 0),
        metrics=metrics,
        error=attributes.get(ERROR_ATTRIBUTE),
        number=frozen.number,
        confirms=attributes.get(CONFIRMS_ATTRIBUTE),
        test_images=attributes.get(TEST_IMAGES_ATTRIBUTE),
        epochs=epochs,
        earlier_checkpoint=None
        if attributes.get(EARLIER_CHECKPOINT_ATTRIBUTE) is None
        else Path(attributes[EARLIER_CHECKPOINT_ATTRIBUTE]),
        dominators=tuple(attributes.get(DOMINATORS_ATTRIBUTE, ())),
    )


def _epochs(attributes: Mapping[str, Any]) -> dict[int, EpochRecord]:
    records = {
        int(key.removeprefix(EPOCH_ATTRIBUTE)): EpochRecord(record["metrics"], record["time_ms"])
        for key, record in attributes.items()
        if key.startswith(EPOCH_ATTRIBUTE) and record is not None
    }
    return dict(sorted(records.items()))
