"""Every trial of a study, from its proposal to its end: what resuming relies on.

The ledger is Optuna's storage, a journal in the study's folder, written before and after everything that happens to a
trial. Ray Tune keeps a state of its own, but writes it every ten seconds and not atomically: after a kill it knows less
than MLflow and the disk, or cannot be read at all, and Tune then begins anew. So that Tune only runs what the ledger
says is left.

Baselines are kept in a second Optuna study of the same file: they lie outside the searched ranges, and samplers that
learn from whole trials (gp, nsga2) fall back to chance if one trial lacks the searched settings.
"""

from __future__ import annotations

import os
import warnings
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
    ROLE_TRIAL,
    STATUS_FAILED,
    STATUS_FINISHED,
    STATUS_RUNNING,
    STATUS_STOPPED,
)

MAX_PROPOSALS = 40
"""Proposals in a row that repeat a known trial, after which the space counts as used up."""

_STATUS = {
    TrialState.RUNNING: STATUS_RUNNING,
    TrialState.COMPLETE: STATUS_FINISHED,
    # Optuna's samplers learn only from COMPLETE trials where there are several objectives.
    TrialState.PRUNED: STATUS_STOPPED,
    TrialState.FAIL: STATUS_FAILED,
}
_TRIAL_ID, _BASELINE, _METRICS, _ERROR = "trial_id", "baseline", "metrics", "error"
_PARAMS, _CHECKPOINT, _EPOCH, _ATTEMPTS = "params", "checkpoint", "epoch", "attempts"


@dataclass(frozen=True)
class LedgerTrial:
    """One trial or baseline as the ledger has it."""

    trial_id: str
    """``trial-001``, or ``baseline-<name>``."""
    role: str
    """``baseline`` or ``trial``."""
    baseline: str | None
    """Name of the baseline."""
    params: Mapping[str, Any]
    """What differs from the study's base, by dotted name."""
    status: str
    """``running`` (or interrupted), ``finished``, ``stopped`` or ``failed``."""
    attempts: int
    """How often it was begun: 1, and once more for each time it was interrupted."""
    checkpoint: Path | None
    """Folder of its last whole checkpoint, relative to the study's folder."""
    epoch: int
    """Epochs trained by that checkpoint."""
    metrics: Mapping[str, float]
    """As last reported; of an unfinished trial, possibly empty."""
    error: str | None
    number: int
    """Optuna's."""


class Ledger:
    """Opens or makes the ledger of a study.

    Args:
        journal: File; made where there is none.
        objectives: Metrics that are minimised together.
        space: Searched settings by dotted name.
        num_configurations: How many different trials the space holds; None for a continuous one.
        sampler: Makes the sampler of the n-th proposal. A new one for each, so that what is proposed follows from the
            results so far and n alone, whether or not the process was interrupted in between.
    """

    def __init__(
        self,
        journal: Path,
        objectives: Sequence[str],
        space: Mapping[str, BaseDistribution],
        num_configurations: int | None,
        sampler: Callable[[int], BaseSampler],
    ) -> None:
        # Below that it announces every study, and that an optional package would make gp faster.
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._objectives = tuple(objectives)
        self._space = dict(space)
        self._num_configurations = num_configurations
        self._sampler = sampler
        lock = _KernelLock(journal)
        _cut_torn_line(journal, lock)
        self._storage = JournalStorage(JournalFileBackend(str(journal), lock_obj=lock))
        self._studies = {role: self._open(role) for role in (ROLE_BASELINE, ROLE_TRIAL)}
        self._give_up_half_made_proposals()

    def trials(self) -> list[LedgerTrial]:
        """All baselines and trials, in the order in which they were begun."""
        return [
            _ledger_trial(role, frozen)
            for role, study in self._studies.items()
            for frozen in study.get_trials(deepcopy=False)
            if _TRIAL_ID in frozen.user_attrs
        ]

    def interrupted(self) -> list[LedgerTrial]:
        """Trials without an end; right after opening, what a former process left behind."""
        return [trial for trial in self.trials() if trial.status == STATUS_RUNNING]

    def begin_baseline(self, name: str, params: Mapping[str, Any]) -> LedgerTrial:
        """Enter a baseline."""
        trial = self._studies[ROLE_BASELINE].ask()
        self._note(ROLE_BASELINE, trial.number, {_BASELINE: name, _PARAMS: dict(params), _ATTEMPTS: 1})
        return self._enter(ROLE_BASELINE, trial.number, f"baseline-{name}")

    def begin_proposed(self) -> LedgerTrial | None:
        """Let the sampler propose a trial that was not run before; None where it finds no more."""
        study = self._studies[ROLE_TRIAL]
        known = [trial.params for trial in self.trials() if trial.role == ROLE_TRIAL]
        if not self._space or (self._num_configurations is not None and len(known) >= self._num_configurations):
            return None
        for repetition in range(MAX_PROPOSALS):
            number = len(study.get_trials(deepcopy=False))
            # A sampler that has fallen in love with a trial it knows is helped on by chance.
            study.sampler = self._sampler(number) if repetition < MAX_PROPOSALS // 2 else RandomSampler(seed=number)
            trial = study.ask(self._space)
            if trial.params not in known:
                self._note(ROLE_TRIAL, trial.number, {_ATTEMPTS: 1})
                return self._enter(ROLE_TRIAL, trial.number, f"trial-{len(known) + 1:03d}")
            # Trainings are seeded: the same settings would give the same result, at the price of a trial.
            study.tell(trial.number, state=TrialState.FAIL)
        return None

    def begin_again(self, trial: LedgerTrial) -> LedgerTrial:
        """Note one more attempt at an interrupted trial."""
        self._note(trial.role, trial.number, {_ATTEMPTS: trial.attempts + 1})
        return self._read(trial)

    def note_result(self, trial: LedgerTrial, metrics: Mapping[str, float]) -> LedgerTrial:
        """Add reported metrics to those known so far."""
        self._note(trial.role, trial.number, {_METRICS: {**trial.metrics, **metrics}})
        return self._read(trial)

    def note_checkpoint(self, trial: LedgerTrial, checkpoint: Path, epoch: int) -> LedgerTrial:
        """Keep the place of a checkpoint that is whole."""
        self._note(trial.role, trial.number, {_CHECKPOINT: checkpoint.as_posix(), _EPOCH: epoch})
        return self._read(trial)

    def finish(self, trial: LedgerTrial) -> LedgerTrial:
        """Tell the sampler the result of a trial that was trained to its end."""
        values = [float(trial.metrics[name]) for name in self._objectives]
        self._studies[trial.role].tell(trial.number, values)
        return self._read(trial)

    def stop(self, trial: LedgerTrial) -> LedgerTrial:
        """End a trial before its planned epochs: the sampler never sees its values."""
        self._studies[trial.role].tell(trial.number, state=TrialState.PRUNED)
        return self._read(trial)

    def fail(self, trial: LedgerTrial, error: str) -> LedgerTrial:
        """End a trial that broke."""
        self._note(trial.role, trial.number, {_ERROR: error})
        self._studies[trial.role].tell(trial.number, state=TrialState.FAIL)
        return self._read(trial)

    def _open(self, role: str) -> optuna.Study:
        return optuna.create_study(
            study_name=role,
            storage=self._storage,
            directions=[optuna.study.StudyDirection.MINIMIZE] * len(self._objectives),
            load_if_exists=True,
        )

    def _give_up_half_made_proposals(self) -> None:
        """A process that was killed while proposing leaves a trial without a name and perhaps without all settings."""
        for study in self._studies.values():
            for frozen in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                if _TRIAL_ID not in frozen.user_attrs:
                    study.tell(frozen.number, state=TrialState.FAIL)

    def _enter(self, role: str, number: int, trial_id: str) -> LedgerTrial:
        # Last, in one transaction: a trial with a name is whole.
        self._note(role, number, {_TRIAL_ID: trial_id})
        return _ledger_trial(role, self._frozen(role, number))

    def _note(self, role: str, number: int, values: Mapping[str, Any]) -> None:
        identity = self._frozen(role, number)._trial_id
        for key, value in values.items():
            self._storage.set_trial_user_attr(identity, key, value)

    def _read(self, trial: LedgerTrial) -> LedgerTrial:
        return _ledger_trial(trial.role, self._frozen(trial.role, trial.number))

    def _frozen(self, role: str, number: int) -> FrozenTrial:
        return self._studies[role].get_trials(deepcopy=False)[number]


class _KernelLock(JournalFileOpenLock):
    """Optuna's own locks stay behind when their holder is killed, and are waited for; the kernel's do not."""

    def __init__(self, journal: Path) -> None:
        super().__init__(str(journal))
        self._lock = FileLock(f"{journal}.held")

    def acquire(self) -> bool:
        self._lock.acquire()
        return True

    def release(self) -> None:
        self._lock.release()


def _cut_torn_line(journal: Path, lock: _KernelLock) -> None:
    """Take off what a killed process left of its last entry: Optuna would write on in the same line."""
    if not journal.exists():
        return
    lock.acquire()
    try:
        content = journal.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(journal, whole)
    finally:
        lock.release()


def make_sampler(name: str, *, seed: int, startup_trials: int) -> BaseSampler:
    """One of Optuna's samplers for several objectives.

    Args:
        name: ``tpe`` (Bergstra et al., 2011; multi-objective: Ozaki et al., 2022), ``nsga2`` (Deb et al., 2002),
            ``gp`` (Gaussian processes, expected hypervolume improvement) or ``random``.
        startup_trials: Drawn by chance first; of ``nsga2`` the size of a generation, whose first is drawn by chance.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if name == "nsga2":
            return optuna.samplers.NSGAIISampler(population_size=startup_trials, seed=seed)
        if name == "gp":
            return optuna.samplers.GPSampler(n_startup_trials=startup_trials, seed=seed)
        if name == "random":
            return RandomSampler(seed=seed)
        assert name == "tpe", name
        # Its constant liar counts trials that still run as bad ones, so that two at a time are not alike.
        return optuna.samplers.TPESampler(n_startup_trials=startup_trials, seed=seed)


def front(trials: Sequence[LedgerTrial], objectives: Sequence[str]) -> list[LedgerTrial]:
    """The finished trials that no other beats: is as good in all objectives, and better in one. By first objective."""
    finished = [trial for trial in trials if trial.status == STATUS_FINISHED]
    points = {trial.trial_id: [trial.metrics[name] for name in objectives] for trial in finished}

    def is_beaten(trial: LedgerTrial) -> bool:
        ours = points[trial.trial_id]
        return any(
            theirs != ours and all(their <= our for their, our in zip(theirs, ours, strict=True))
            for theirs in points.values()
        )

    return sorted((trial for trial in finished if not is_beaten(trial)), key=lambda trial: points[trial.trial_id])


def _ledger_trial(role: str, frozen: FrozenTrial) -> LedgerTrial:
    notes = frozen.user_attrs
    return LedgerTrial(
        trial_id=notes[_TRIAL_ID],
        role=role,
        baseline=notes.get(_BASELINE),
        params=notes.get(_PARAMS, frozen.params),
        status=_STATUS[frozen.state],
        attempts=notes[_ATTEMPTS],
        checkpoint=Path(notes[_CHECKPOINT]) if _CHECKPOINT in notes else None,
        epoch=notes.get(_EPOCH, 0),
        metrics=notes.get(_METRICS, {}),
        error=notes.get(_ERROR),
        number=frozen.number,
    )
