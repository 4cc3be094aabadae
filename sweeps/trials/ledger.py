"""The state of every trial of a study, from its proposal to its end. A study is resumed from this record alone.

The ledger is Optuna's journal storage in the study's folder, written before and after each change of a trial's state.
Ray Tune writes its own state every ten seconds and not atomically: after a kill it is older than MLflow and the
checkpoints, or unreadable, and Tune then starts from nothing. It is therefore never read.

Baselines are a second Optuna study in the same file: their values may be outside the searched ranges, and samplers that
learn from complete parameter sets (gp, nsga2) fall back to random sampling if one trial lacks a searched parameter.
Confirmations, trials that are trained again with other seeds, are a third one: no sampler sees them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
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
from hkd.text.escaping import printable
from hkd.text.redaction import redacted_text
from sweeps.settings.search import FRONT
from sweeps.settings.space import distributions, num_configurations
from sweeps.settings.study import StudyConfig
from sweeps.trials.samplers import sampler_of_proposal

MAX_PROPOSALS = 40
"""Proposals in a row that repeat a known trial, after which the space counts as exhausted."""

_STATUS = {
    TrialState.RUNNING: STATUS_RUNNING,
    TrialState.COMPLETE: STATUS_FINISHED,
    # Without values: nsga2 and gp ignore PRUNED trials, tpe ranks them behind all COMPLETE ones.
    TrialState.PRUNED: STATUS_STOPPED,
    TrialState.FAIL: STATUS_FAILED,
}
# Names of Optuna's user attributes: part of the file format.
_TRIAL_ID, _BASELINE, _METRICS, _ERROR = "trial_id", "baseline", "metrics", "error"
_PARAMS, _CHECKPOINT, _EPOCH, _ATTEMPTS = "params", "checkpoint", "epoch", "attempts"
_CONFIRMS, _TEST_IMAGES = "confirms", "test_images"
_SOURCE = "warm_start"
_FIXED = "fixed_params"
"""Optuna's system attribute of a trial whose settings were queued."""

_SEED = "training.seed"


class LedgerError(ValueError):
    """The journal of a study cannot be read."""


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

    @property
    def seed(self) -> int | None:
        """The seed of the training where it differs from the base's."""
        seed = self.params.get(_SEED)
        return seed if isinstance(seed, int) else None


@dataclass(frozen=True)
class GivenResult:
    """A result of another study, from which the sampler learns."""

    source: str
    """Study and trial id."""
    params: Mapping[str, Any]
    """Values of all searched settings."""
    values: Sequence[float]
    """Of the objectives."""


class Ledger:
    """Opens the ledger of a study, or creates it.

    Args:
        journal: The file; created if missing.
        objectives: Metrics that are minimised together.
        space: Searched parameters by dotted name.
        num_configurations: How many different trials the space holds; None for a continuous one.
        sampler: Returns the sampler of the n-th proposal. What it proposes must depend on the trials so far and on n
            alone, not on earlier calls, so that interruptions change nothing.
        fallback: Returns the sampler of the n-th proposal where the former repeats known trials.
    """

    def __init__(
        self,
        journal: Path,
        objectives: Sequence[str],
        space: Mapping[str, BaseDistribution],
        num_configurations: int | None,
        sampler: Callable[[int], BaseSampler],
        fallback: Callable[[int], BaseSampler] = lambda number: RandomSampler(seed=number),
    ) -> None:
        # Optuna would log every study, and a warning that an optional package makes gp faster.
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._objectives = tuple(objectives)
        self._space = dict(space)
        self._num_configurations = num_configurations
        self._sampler, self._fallback = sampler, fallback
        lock = _KernelLock(journal)
        _truncate_partial_record(journal, lock)
        self._storage = JournalStorage(JournalFileBackend(str(journal), lock_obj=lock))
        self._studies = {role: self._open(role) for role in (ROLE_BASELINE, ROLE_TRIAL, ROLE_CONFIRMATION)}
        self._fail_incomplete_proposals()

    def trials(self) -> list[LedgerTrial]:
        """All baselines, then all trials, each in the order in which they were started."""
        return self._trials_of(ROLE_BASELINE, ROLE_TRIAL)

    def confirmations(self) -> list[LedgerTrial]:
        """All trainings with other seeds, in the order in which they were started."""
        return self._trials_of(ROLE_CONFIRMATION)

    def running(self) -> list[LedgerTrial]:
        """Trainings without an end; directly after opening, those that an earlier process left interrupted."""
        return [trial for trial in (*self.trials(), *self.confirmations()) if trial.status == STATUS_RUNNING]

    def start_baseline(self, name: str, params: Mapping[str, Any]) -> LedgerTrial:
        """Record the start of a baseline."""
        trial = self._studies[ROLE_BASELINE].ask()
        self._set(ROLE_BASELINE, trial.number, {_BASELINE: name, _PARAMS: dict(params), _ATTEMPTS: 1})
        return self._name(ROLE_BASELINE, trial.number, f"baseline-{name}")

    def start_confirmation(self, trial: LedgerTrial, seed: int, test_images: str | None) -> LedgerTrial:
        """Record the start of another training of a trial, with another seed."""
        started = self._studies[ROLE_CONFIRMATION].ask()
        params = {**trial.params, _SEED: seed}
        attributes = {_CONFIRMS: trial.trial_id, _TEST_IMAGES: test_images, _PARAMS: params, _ATTEMPTS: 1}
        self._set(ROLE_CONFIRMATION, started.number, attributes)
        return self._name(ROLE_CONFIRMATION, started.number, f"{trial.trial_id}-seed-{seed}")

    def enqueue(self, settings: Sequence[Mapping[str, Any]]) -> int:
        """Queue settings that are started before those of the sampler, unless they were queued before.

        Returns:
            How many were queued.
        """
        new = self._new(settings)
        for values in new:
            self._studies[ROLE_TRIAL].enqueue_trial(dict(values))
        return len(new)

    def num_new(self, settings: Sequence[Mapping[str, Any]]) -> int:
        """How many of these settings were not queued before."""
        return len(self._new(settings))

    def _new(self, settings: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        trials = self._studies[ROLE_TRIAL].get_trials(deepcopy=False)
        known = [frozen.system_attrs.get(_FIXED) for frozen in trials] + [trial.params for trial in self.trials()]
        return [values for number, values in enumerate(settings) if values not in (*known, *settings[:number])]

    @property
    def num_enqueued(self) -> int:
        """Queued settings that were not started yet."""
        return len(self._studies[ROLE_TRIAL].get_trials(deepcopy=False, states=(TrialState.WAITING,)))

    def add_results(self, results: Sequence[GivenResult]) -> int:
        """Record results of another study, unless that was done before; they are no trials of this one.

        Returns:
            How many were recorded.
        """
        study = self._studies[ROLE_TRIAL]
        if self._given_params():
            return 0
        study.add_trials(
            optuna.trial.create_trial(
                params=dict(result.params),
                distributions=self._space,
                values=list(result.values),
                user_attrs={_SOURCE: result.source},
            )
            for result in results
        )
        return len(results)

    def _given_params(self) -> list[dict[str, Any]]:
        trials = self._studies[ROLE_TRIAL].get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return [frozen.params for frozen in trials if _SOURCE in frozen.user_attrs]

    def start_proposed(self) -> LedgerTrial | None:
        """Start a trial that the sampler proposes and that was not run before; None where it finds no more."""
        study = self._studies[ROLE_TRIAL]
        known = [trial.params for trial in self.trials() if trial.role == ROLE_TRIAL]
        given = self._given_params()
        if not self._space or (self._num_configurations is not None and len(known) >= self._num_configurations):
            return None
        for repetition in range(MAX_PROPOSALS):
            number = len(study.get_trials(deepcopy=False))
            # A sampler may repeat the same trial indefinitely: after half of the proposals, use the other.
            study.sampler = (self._sampler if repetition < MAX_PROPOSALS // 2 else self._fallback)(number)
            trial = study.ask(self._space)
            if trial.params not in known and trial.params not in given:
                self._set(ROLE_TRIAL, trial.number, {_ATTEMPTS: 1})
                return self._name(ROLE_TRIAL, trial.number, f"trial-{len(known) + 1:03d}")
            # Trainings are seeded: the same parameters would give the same result, at the cost of a trial.
            study.tell(trial.number, state=TrialState.FAIL)
        return None

    def restart(self, trial: LedgerTrial) -> LedgerTrial:
        """Record another attempt at an interrupted trial."""
        return self._updated(trial, {_ATTEMPTS: trial.attempts + 1})

    def record_metrics(self, trial: LedgerTrial, metrics: Mapping[str, float]) -> LedgerTrial:
        """Add reported metrics to those known so far."""
        return self._updated(trial, {_METRICS: {**trial.metrics, **metrics}})

    def record_checkpoint(self, trial: LedgerTrial, checkpoint: Path, epoch: int) -> LedgerTrial:
        """Record the path of a complete checkpoint, relative to the study's folder."""
        return self._updated(trial, {_CHECKPOINT: checkpoint.as_posix(), _EPOCH: epoch})

    def finish(self, trial: LedgerTrial) -> LedgerTrial:
        """Record a trial that was trained to its end; the sampler learns from its objectives."""
        values = [float(trial.metrics[name]) for name in self._objectives]
        self._studies[trial.role].tell(trial.number, values)
        return self._read(trial)

    def stop(self, trial: LedgerTrial) -> LedgerTrial:
        """Record a trial that ended before its planned epochs: as PRUNED, without values.

        Optuna's tpe counts it among the trials before which it samples at random, and its parameters as worse than
        those of all finished trials; the other samplers ignore it.
        """
        self._studies[trial.role].tell(trial.number, state=TrialState.PRUNED)
        return self._read(trial)

    def fail(self, trial: LedgerTrial, error: str) -> LedgerTrial:
        """Record a failed trial.

        Credentials and control characters in the error are removed here, before the journal, MLflow and display.
        """
        self._set(trial.role, trial.number, {_ERROR: printable(redacted_text(error), keep="\n")})
        self._studies[trial.role].tell(trial.number, state=TrialState.FAIL)
        return self._read(trial)

    def _trials_of(self, *roles: str) -> list[LedgerTrial]:
        return [
            _ledger_trial(role, frozen)
            for role in roles
            for frozen in self._studies[role].get_trials(deepcopy=False)
            if _TRIAL_ID in frozen.user_attrs
        ]

    def _open(self, role: str) -> optuna.Study:
        return optuna.create_study(
            study_name=role,
            storage=self._storage,
            directions=[optuna.study.StudyDirection.MINIMIZE] * len(self._objectives),
            load_if_exists=True,
        )

    def _fail_incomplete_proposals(self) -> None:
        """A process that was killed while proposing leaves a trial without an id and perhaps without all parameters."""
        for study in self._studies.values():
            for frozen in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                if _TRIAL_ID not in frozen.user_attrs:
                    study.tell(frozen.number, state=TrialState.FAIL)
                    if _FIXED in frozen.system_attrs:
                        study.enqueue_trial(frozen.system_attrs[_FIXED])

    def _name(self, role: str, number: int, trial_id: str) -> LedgerTrial:
        # Last, in one transaction: a trial with an id is complete.
        self._set(role, number, {_TRIAL_ID: trial_id})
        return _ledger_trial(role, self._frozen(role, number))

    def _updated(self, trial: LedgerTrial, attributes: Mapping[str, Any]) -> LedgerTrial:
        self._set(trial.role, trial.number, attributes)
        return self._read(trial)

    def _set(self, role: str, number: int, attributes: Mapping[str, Any]) -> None:
        storage_id = self._frozen(role, number)._trial_id
        for key, value in attributes.items():
            self._storage.set_trial_user_attr(storage_id, key, value)

    def _read(self, trial: LedgerTrial) -> LedgerTrial:
        return _ledger_trial(trial.role, self._frozen(trial.role, trial.number))

    def _frozen(self, role: str, number: int) -> FrozenTrial:
        return self._studies[role].get_trials(deepcopy=False)[number]


def open_ledger(study: StudyConfig, journal: Path) -> Ledger:
    """The ledger of a study, which must be locked: opening it repairs what a killed process left.

    Raises:
        LedgerError: the journal is not a regular file, or has records that Optuna did not write.
    """
    remedy = "restore it from a backup, or give the study another name (--name NAME)"
    if journal.exists() and not journal.is_file():  # reading a pipe would block
        raise LedgerError(f"{journal}: is not a regular file; {remedy}")
    space, count, sampler = distributions(study.space), num_configurations(study.space), sampler_of_proposal(study)
    # front repeats a trial only if it finds no other within the limits, which random sampling would exceed.
    fallback = {"fallback": sampler} if study.search.sampler == FRONT else {}
    try:
        return Ledger(journal, study.objectives, space, count, sampler, **fallback)
    # Optuna does not check the records: a damaged one raises whatever its use raises.
    except (ValueError, LookupError, TypeError, AttributeError, AssertionError, RecursionError) as error:
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        raise LedgerError(f"{journal}: the journal of the study is damaged ({reason}); {remedy}") from error


def read_trials(journal: Path) -> list[LedgerTrial]:
    """The proposed trials of a study's journal, which is only read.

    Raises:
        LedgerError: it has records that Optuna did not write.
    """
    try:
        storage = JournalStorage(JournalFileBackend(str(journal), lock_obj=_KernelLock(journal)))
        study = optuna.load_study(study_name=ROLE_TRIAL, storage=storage)
        trials = study.get_trials(deepcopy=False)
        return [_ledger_trial(ROLE_TRIAL, frozen) for frozen in trials if _TRIAL_ID in frozen.user_attrs]
    except (ValueError, LookupError, TypeError, AttributeError, AssertionError, RecursionError) as error:
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        raise LedgerError(f"{journal}: the journal of the study is damaged ({reason})") from error


class _KernelLock(JournalFileOpenLock):
    """The kernel releases the lock of a killed process; Optuna's own lock would delay the next process."""

    def __init__(self, journal: Path) -> None:
        super().__init__(str(journal))
        self._lock = FileLock(f"{journal}.held")

    def acquire(self) -> bool:
        self._lock.acquire()
        return True

    def release(self) -> None:
        self._lock.release()


def _truncate_partial_record(journal: Path, lock: _KernelLock) -> None:
    """Remove the partial last record of a killed process: Optuna would append to the same line."""
    if not journal.exists():
        return
    lock.acquire()
    try:
        content = journal.read_bytes()
        complete = content.rfind(b"\n") + 1
        if complete < len(content):
            os.truncate(journal, complete)
    finally:
        lock.release()


def _ledger_trial(role: str, frozen: FrozenTrial) -> LedgerTrial:
    attributes = frozen.user_attrs
    return LedgerTrial(
        trial_id=attributes[_TRIAL_ID],
        role=role,
        baseline=attributes.get(_BASELINE),
        params=attributes.get(_PARAMS, frozen.params),
        status=_STATUS[frozen.state],
        attempts=attributes[_ATTEMPTS],
        checkpoint=Path(attributes[_CHECKPOINT]) if _CHECKPOINT in attributes else None,
        epoch=attributes.get(_EPOCH, 0),
        metrics=attributes.get(_METRICS, {}),
        error=attributes.get(_ERROR),
        number=frozen.number,
        confirms=attributes.get(_CONFIRMS),
        test_images=attributes.get(_TEST_IMAGES),
    )
