"""The state of every trial of a study, from its proposal to its end. A study is resumed from this record alone.

The ledger is Optuna's journal storage in the study's folder, written before and after each change of a trial's state.
Ray Tune writes its own state every ten seconds and not atomically: after a kill it is older than MLflow and the
checkpoints, or unreadable, and Tune then starts from nothing. It is therefore never read.

Baselines are a second Optuna study in the same file: their values may be outside the searched ranges, and samplers that
learn from complete parameter sets (gp, nsga2) fall back to random sampling if one trial lacks a searched parameter.
Confirmations, trials that are trained again with other seeds, are a third one: no sampler sees them.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.storages import JournalStorage
from optuna.trial import TrialState

from hkd.metric_names import (
    EPOCH,
    ROLE_BASELINE,
    ROLE_CONFIRMATION,
    ROLE_TRIAL,
    STATUS_RUNNING,
)
from hkd.text.escaping import printable
from hkd.text.redaction import redacted_text
from sweeps.settings.search import FRONT
from sweeps.settings.space import distributions, num_configurations
from sweeps.settings.study import StudyConfig
from sweeps.trials.records.journal import REMEDY, Journal, LedgerError
from sweeps.trials.records.trial import (
    ATTEMPTS_ATTRIBUTE,
    BASELINE_ATTRIBUTE,
    CHECKPOINT_ATTRIBUTE,
    CHECKPOINT_EPOCH_ATTRIBUTE,
    CONFIRMS_ATTRIBUTE,
    DOMINATORS_ATTRIBUTE,
    EARLIER_CHECKPOINT_ATTRIBUTE,
    ERROR_ATTRIBUTE,
    METRICS_ATTRIBUTE,
    PARAMS_ATTRIBUTE,
    SEED,
    TEST_IMAGES_ATTRIBUTE,
    TRIAL_ID_ATTRIBUTE,
    GivenResult,
    LedgerTrial,
    optuna_name,
    trial_of,
)
from sweeps.trials.samplers import EPOCH_ATTRIBUTE, sampler_of_proposal

MAX_PROPOSALS = 40
"""Proposals in a row that repeat a known trial, after which the space counts as exhausted."""
_MAX_PROPOSALS_OF_FRONT = 3
"""It repeats a trial only where it found no other within the limits; another proposal starts from other students."""

_SOURCE = "warm_start"
"""Name of Optuna's user attribute of a result of another study: part of the file format."""
_FIXED = "fixed_params"
"""Optuna's system attribute of a trial whose settings were queued."""
_MOST_DOMINATORS = 10


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
        max_proposals: In a row that repeat a known trial, after which the space counts as exhausted.
        name: Of the study, after which Optuna's studies are named.
    """

    def __init__(
        self,
        journal: Path,
        objectives: Sequence[str],
        space: Mapping[str, BaseDistribution],
        num_configurations: int | None,
        sampler: Callable[[int], BaseSampler],
        fallback: Callable[[int], BaseSampler] = lambda number: RandomSampler(seed=number),
        max_proposals: int = MAX_PROPOSALS,
        name: str = ROLE_TRIAL,
    ) -> None:
        # Optuna would log every study, and a warning that an optional package makes gp faster.
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._objectives = tuple(objectives)
        self._space = dict(space)
        self._num_configurations = num_configurations
        self._sampler, self._fallback, self._max_proposals = sampler, fallback, max_proposals
        self._journal = Journal(journal)
        with self._journal.damage_located():
            self._storage = JournalStorage(self._journal)
            # Baselines first: by their study's name, a reader knows that of the proposals.
            roles = (ROLE_BASELINE, ROLE_TRIAL, ROLE_CONFIRMATION)
            self._studies = {role: self._open(role, optuna_name(name, role)) for role in roles}
            self._fail_incomplete_proposals()
            # Kept up to date with each write: a study asks for them several times per trial.
            self._trials = {role: self._named_trials(role) for role in self._studies}
            given = self._given_params()
        known = [trial.params for trial in self._trials[ROLE_TRIAL].values()]
        self._known_params = {_key(params) for params in (*known, *given)}
        """Settings that are not proposed again: of trials, and of results of another study."""

    def trials(self) -> list[LedgerTrial]:
        """All baselines, then all trials, each in the order in which they were started."""
        return self._trials_of(ROLE_BASELINE, ROLE_TRIAL)

    def confirmations(self) -> list[LedgerTrial]:
        """All trainings with other seeds, in the order in which they were started."""
        return self._trials_of(ROLE_CONFIRMATION)

    def running(self) -> list[LedgerTrial]:
        """Trainings without an end; directly after opening, those that an earlier process left interrupted."""
        return [trial for trial in (*self.trials(), *self.confirmations()) if trial.status == STATUS_RUNNING]

    @property
    def num_proposed(self) -> int:
        """Number of proposed trials."""
        return len(self._trials[ROLE_TRIAL])

    @property
    def started_baselines(self) -> set[str | None]:
        """Names of the baselines that were started."""
        return {trial.baseline for trial in self._trials[ROLE_BASELINE].values()}

    def start_baseline(self, name: str, params: Mapping[str, Any]) -> LedgerTrial:
        """Record the start of a baseline."""
        with self._journal.batch():
            trial = self._studies[ROLE_BASELINE].ask()
            self._set(
                ROLE_BASELINE,
                trial.number,
                {BASELINE_ATTRIBUTE: name, PARAMS_ATTRIBUTE: dict(params), ATTEMPTS_ATTRIBUTE: 1},
            )
            return self._name(ROLE_BASELINE, trial.number, f"baseline-{name}")

    def start_confirmation(self, trial: LedgerTrial, seed: int, test_images: str | None) -> LedgerTrial:
        """Record the start of another training of a trial, with another seed."""
        params = {**trial.params, SEED: seed}
        attributes = {
            CONFIRMS_ATTRIBUTE: trial.trial_id,
            TEST_IMAGES_ATTRIBUTE: test_images,
            PARAMS_ATTRIBUTE: params,
            ATTEMPTS_ATTRIBUTE: 1,
        }
        with self._journal.batch():
            started = self._studies[ROLE_CONFIRMATION].ask()
            self._set(ROLE_CONFIRMATION, started.number, attributes)
            return self._name(ROLE_CONFIRMATION, started.number, f"{trial.trial_id}-seed-{seed}")

    def enqueue(self, settings: Sequence[Mapping[str, Any]]) -> int:
        """Queue settings that are started before those of the sampler, unless they were queued before.

        Returns:
            How many were queued.
        """
        new = self._new(settings)
        with self._journal.batch():
            for values in new:
                self._studies[ROLE_TRIAL].enqueue_trial(dict(values))
        return len(new)

    def num_new(self, settings: Sequence[Mapping[str, Any]]) -> int:
        """How many of these settings were not queued before."""
        return len(self._new(settings))

    def _new(self, settings: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        trials = self._studies[ROLE_TRIAL].get_trials(deepcopy=False)
        known = {_key(frozen.system_attrs.get(_FIXED, {})) for frozen in trials}
        known |= {_key(trial.params) for trial in self.trials()}
        return [values for key, values in {_key(each): each for each in settings}.items() if key not in known]

    @property
    def num_enqueued(self) -> int:
        """Queued settings that were not started yet."""
        return len(self._studies[ROLE_TRIAL].get_trials(deepcopy=False, states=(TrialState.WAITING,)))

    def add_results(self, results: Sequence[GivenResult]) -> int:
        """Record results of another study, unless that was done before; they are no trials of this one.

        Returns:
            How many were recorded.
        """
        if self.has_given_results:
            return 0
        study = self._studies[ROLE_TRIAL]
        with self._journal.batch():
            for result in results:
                if _key(result.params) not in self._known_params:  # of a process that was killed while it wrote them
                    study.add_trial(
                        optuna.trial.create_trial(
                            params=dict(result.params),
                            distributions=self._space,
                            values=list(result.values),
                            user_attrs={_SOURCE: result.source},
                        )
                    )
            study.set_user_attr(_SOURCE, len(results))  # last: then all of them are there
        self._known_params |= {_key(result.params) for result in results}
        return len(results)

    @property
    def has_given_results(self) -> bool:
        """Whether the results of another study are recorded."""
        return _SOURCE in self._studies[ROLE_TRIAL].user_attrs

    def _given_params(self) -> list[dict[str, Any]]:
        trials = self._studies[ROLE_TRIAL].get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return [frozen.params for frozen in trials if _SOURCE in frozen.user_attrs]

    def start_proposed(self) -> LedgerTrial | None:
        """Start a trial that the sampler proposes and that was not run before; None where it finds no more."""
        study = self._studies[ROLE_TRIAL]
        if not self._space or (self._num_configurations is not None and self.num_proposed >= self._num_configurations):
            return None
        with self._journal.batch():
            repetition = 0
            while repetition < self._max_proposals:
                # A sampler may repeat the same trial indefinitely: after half of the proposals, use the other.
                sampler = self._sampler if repetition < self._max_proposals // 2 else self._fallback
                study.sampler = sampler(len(study.get_trials(deepcopy=False)))
                trial = study.ask(self._space)
                if (key := _key(trial.params)) not in self._known_params:
                    self._known_params.add(key)
                    self._set(ROLE_TRIAL, trial.number, {ATTEMPTS_ATTRIBUTE: 1})
                    return self._name(ROLE_TRIAL, trial.number, f"trial-{self.num_proposed + 1:03d}")
                # Trainings are seeded: the same parameters would give the same result, at the cost of a trial.
                study.tell(trial.number, state=TrialState.FAIL)
                # Queued settings that repeat a result of another study are no sign of an exhausted space.
                repetition += _FIXED not in self._storage.get_trial(trial._trial_id).system_attrs
        return None

    def restart(self, trial: LedgerTrial, test_images: str | None = None) -> LedgerTrial:
        """Record another attempt at an interrupted trial. It repeats the epochs after its checkpoint.

        Args:
            test_images: Hash of the annotations on which a confirmation will be evaluated: others may be configured
                than when it started.
        """
        repeated = [number for number in trial.epochs if number > trial.epoch]
        changes: dict[str, Any] = {f"{EPOCH_ATTRIBUTE}{number}": None for number in repeated}
        changes[ATTEMPTS_ATTRIBUTE] = trial.attempts + 1
        if trial.role == ROLE_CONFIRMATION and trial.test_images != test_images:
            changes[TEST_IMAGES_ATTRIBUTE] = test_images
        return self._updated(trial, changes)

    def record_metrics(self, trial: LedgerTrial, metrics: Mapping[str, float]) -> LedgerTrial:
        """Add metrics to those known so far; those of an epoch, which have ``epoch``, are kept for each epoch."""
        if EPOCH not in metrics:
            return self._updated(trial, {METRICS_ATTRIBUTE: {**trial.metrics, **metrics}})
        record = {"metrics": dict(metrics), "time_ms": int(time.time() * 1000)}
        return self._updated(trial, {f"{EPOCH_ATTRIBUTE}{int(metrics[EPOCH])}": record})

    def record_checkpoint(self, trial: LedgerTrial, checkpoint: Path, epoch: int) -> LedgerTrial:
        """Record the path of a complete checkpoint, relative to the study's folder; the one before stays known."""
        earlier = None if trial.checkpoint is None else trial.checkpoint.as_posix()
        return self._updated(
            trial,
            {
                CHECKPOINT_ATTRIBUTE: checkpoint.as_posix(),
                CHECKPOINT_EPOCH_ATTRIBUTE: epoch,
                EARLIER_CHECKPOINT_ATTRIBUTE: earlier,
            },
        )

    def finish(self, trial: LedgerTrial) -> LedgerTrial:
        """Record a trial that was trained to its end; the sampler learns from its objectives."""
        values = [float(trial.metrics[name]) for name in self._objectives]
        self._studies[trial.role].tell(trial.number, values)
        return self._read(trial.role, trial.number)

    def stop(self, trial: LedgerTrial, dominators: Sequence[str] = ()) -> LedgerTrial:
        """Record a trial that ended before its planned epochs: as PRUNED, without values.

        Optuna's tpe counts it among the trials before which it samples at random, and as a bad one
        (:class:`~sweeps.search.stopped_trials.FinishedTPESampler`); its other samplers ignore it.

        Args:
            dominators: Trials because of which it was stopped; the first ten are recorded.
        """
        if dominators:
            trial = self._updated(trial, {DOMINATORS_ATTRIBUTE: list(dominators[:_MOST_DOMINATORS])})
        self._studies[trial.role].tell(trial.number, state=TrialState.PRUNED)
        return self._read(trial.role, trial.number)

    def fail(self, trial: LedgerTrial, error: str) -> LedgerTrial:
        """Record a failed trial.

        Credentials and control characters in the error are removed here, before the journal, MLflow and display.
        """
        with self._journal.batch():
            self._set(trial.role, trial.number, {ERROR_ATTRIBUTE: printable(redacted_text(error), keep="\n")})
            self._studies[trial.role].tell(trial.number, state=TrialState.FAIL)
        return self._read(trial.role, trial.number)

    def raise_if_unwritable(self) -> None:
        """Raise the error of an earlier write that failed.

        Raises:
            LedgerError: the journal could not be written.
        """
        self._journal.raise_earlier_failure()

    def _trials_of(self, *roles: str) -> list[LedgerTrial]:
        return [trial for role in roles for trial in self._trials[role].values()]

    def _open(self, role: str, name: str) -> optuna.Study:
        present = {study.study_name for study in self._storage.get_all_studies()}
        with self._journal.batch(), warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # Optuna's load_if_exists appends a record each time.
            found = next((known for known in (name, role) if known in present), None)
            if found is not None:
                study = optuna.load_study(study_name=found, storage=self._storage)
            else:
                directions = [optuna.study.StudyDirection.MINIMIZE] * len(self._objectives)
                study = optuna.create_study(study_name=name, storage=self._storage, directions=directions)
            if study.metric_names is None:
                study.set_metric_names(list(self._objectives))
        return study

    def _fail_incomplete_proposals(self) -> None:
        """A process that was killed while proposing leaves a trial without an id and perhaps without all parameters."""
        for study in self._studies.values():
            for frozen in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                if TRIAL_ID_ATTRIBUTE not in frozen.user_attrs:
                    with self._journal.batch():  # else its settings would be lost between the two
                        study.tell(frozen.number, state=TrialState.FAIL)
                        if _FIXED in frozen.system_attrs:
                            study.enqueue_trial(frozen.system_attrs[_FIXED])

    def _named_trials(self, role: str) -> dict[int, LedgerTrial]:
        frozen_trials = self._studies[role].get_trials(deepcopy=False)
        named = [frozen for frozen in frozen_trials if TRIAL_ID_ATTRIBUTE in frozen.user_attrs]
        return {frozen.number: trial_of(role, frozen) for frozen in named}

    def _name(self, role: str, number: int, trial_id: str) -> LedgerTrial:
        # Last: a trial with an id is complete.
        self._set(role, number, {TRIAL_ID_ATTRIBUTE: trial_id})
        return self._read(role, number)

    def _updated(self, trial: LedgerTrial, attributes: Mapping[str, Any]) -> LedgerTrial:
        self._set(trial.role, trial.number, attributes)
        return self._read(trial.role, trial.number)

    def _set(self, role: str, number: int, attributes: Mapping[str, Any]) -> None:
        storage_id = self._storage_id(role, number)
        with self._journal.batch():
            for key, value in attributes.items():
                self._storage.set_trial_user_attr(storage_id, key, value)

    def _read(self, role: str, number: int) -> LedgerTrial:
        trial = trial_of(role, self._storage.get_trial(self._storage_id(role, number)))
        self._trials[role][number] = trial
        return trial

    def _storage_id(self, role: str, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._studies[role]._study_id, number)


def open_ledger(study: StudyConfig, journal: Path) -> Ledger:
    """The ledger of a study, which must be locked: opening it repairs what a killed process left.

    Raises:
        LedgerError: the journal is not a regular file, or has records that neither Optuna nor hkd wrote.
    """
    if journal.exists() and not journal.is_file():  # reading a pipe would block
        raise LedgerError(f"{journal}: is not a regular file; {REMEDY}")
    space, count, sampler = distributions(study.space), num_configurations(study.space), sampler_of_proposal(study)
    # front repeats a trial only if it finds no other within the limits, which random sampling would exceed.
    if study.search.sampler == FRONT:
        most = _MAX_PROPOSALS_OF_FRONT
        return Ledger(journal, study.objectives, space, count, sampler, sampler, most, name=study.name)
    return Ledger(journal, study.objectives, space, count, sampler, name=study.name)


def _key(params: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(params.items()))
