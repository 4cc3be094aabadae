"""One study in virtual time: the project's ledger and queue, its samplers, and a Ray Tune scheduler."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from benchmarks.sweep_policies.landscape import Landscape
from hkd.dominance import non_dominated
from hkd.metric_names import BUDGET_FRACTION, EPOCH
from sweeps.trials.records.ledger import Ledger
from sweeps.trials.records.trial import LedgerTrial
from sweeps.trials.worker import METRICS

Floats = NDArray[np.float64]

SIMULATED = "simulated"
"""Key of the :class:`SimulatedTrial` in the configuration of Tune's trial."""
TRAINING_ITERATION = "training_iteration"


@dataclass
class SimulatedTrial:
    """One trial and its curve."""

    record: LedgerTrial
    miss_rates: Floats
    costs: Mapping[str, float]
    seconds_per_epoch: float
    epoch: int = 0


@dataclass
class History:
    """What a study had reached, after each finished trial."""

    compute: list[float] = field(default_factory=list)
    """Seconds of training of all trials, also of those that run or were stopped."""
    seconds: list[float] = field(default_factory=list)
    """Virtual time."""
    hypervolume: list[float] = field(default_factory=list)
    """Of the finished trials with their expected miss rates, so that lucky seeds add nothing."""
    finished: int = 0
    stopped: int = 0


class Controller:
    """What schedulers use of Tune's controller."""

    def __init__(self, stop: Callable[[Trial], None]) -> None:
        self.trials: list[Trial] = []
        self._stop = stop

    def get_trials(self) -> list[Trial]:
        """All trials, in the order in which they were added."""
        return self.trials

    def get_live_trials(self) -> list[Trial]:
        """Those that have not ended."""
        return [each for each in self.trials if each.status not in (Trial.TERMINATED, Trial.ERROR)]

    def stop_trial(self, trial: Trial) -> None:
        """End a trial that is paused."""
        self._stop(trial)


class Simulation:
    """Runs a study until a compute budget is spent, a hypervolume is reached or no trial is left.

    A worker that is free runs the trial that the scheduler chooses, after the queue has added one if none is pending,
    as Tune does. Results of an epoch arrive after the epoch's duration; of results at the same time, those of the
    worker that started first. A proposal takes no virtual time.

    Args:
        landscape: What trainings measure.
        ledger: Of a new study.
        next_trial: Starts the next trial of the study and records it in the ledger; None if none is left.
        scheduler: Called as Tune calls it.
        miss_rate: Name of the objective.
        random: Of the seeds of trainings.
    """

    def __init__(
        self,
        landscape: Landscape,
        ledger: Ledger,
        next_trial: Callable[[], LedgerTrial | None],
        scheduler: TrialScheduler,
        *,
        miss_rate: str,
        random: np.random.Generator,
    ) -> None:
        self._landscape, self._ledger, self._next_trial = landscape, ledger, next_trial
        # Schedulers use of the controller what :class:`Controller` has.
        self._scheduler: Any = scheduler
        self._miss_rate, self._random = miss_rate, random
        self._controller = Controller(self._end_paused)
        self._front = np.empty((0, 3))
        self._numbers = itertools.count()
        self.history = History()
        self._compute = 0.0
        self._is_exhausted = False

    def run(self, workers: int, *, max_compute: float, enough: float) -> History:
        """Simulate.

        Args:
            workers: Trials at once.
            max_compute: Seconds of training after which no epoch is started.
            enough: Hypervolume at which the study ends.
        """
        events: list[tuple[float, int, Trial]] = []
        free, now = workers, 0.0
        while True:
            while free and self._compute < max_compute and (trial := self._choose()) is not None:
                _set_status(trial, Trial.RUNNING)
                free -= 1
                self._start_epoch(events, now, trial)
            if not events:
                return self.history
            now, _, trial = heapq.heappop(events)
            self._simulated(trial).epoch += 1
            self._report(trial, now)
            if trial.status != Trial.RUNNING:
                free += 1
            elif self._compute < max_compute:
                self._start_epoch(events, now, trial)
            if self.history.hypervolume and self.history.hypervolume[-1] >= enough:
                return self.history

    def _choose(self) -> Trial | None:
        if not self._is_exhausted and not any(each.status == Trial.PENDING for each in self._controller.trials):
            self._add()
        chosen: Trial | None = self._scheduler.choose_trial_to_run(self._controller)
        return chosen

    def _add(self) -> None:
        record = self._next_trial()
        if record is None:
            self._is_exhausted = True
            return
        params = record.params
        simulated = SimulatedTrial(
            record,
            self._landscape.curve(params, self._random),
            self._landscape.costs(params),
            self._landscape.seconds_per_epoch(params),
        )
        trial = Trial("simulated", config={SIMULATED: simulated}, trial_id=record.trial_id, stub=True)
        self._controller.trials.append(trial)
        self._scheduler.on_trial_add(self._controller, trial)

    def _start_epoch(self, events: list[tuple[float, int, Trial]], now: float, trial: Trial) -> None:
        seconds = self._simulated(trial).seconds_per_epoch
        self._compute += seconds
        heapq.heappush(events, (now + seconds, next(self._numbers), trial))

    def _report(self, trial: Trial, now: float) -> None:
        """Hand an epoch's result to ledger and scheduler, in Tune's order."""
        simulated = self._simulated(trial)
        metrics = {
            self._miss_rate: float(simulated.miss_rates[simulated.epoch - 1]),
            EPOCH: float(simulated.epoch),
            BUDGET_FRACTION: simulated.epoch / len(simulated.miss_rates),
            **simulated.costs,
        }
        result = {
            TRAINING_ITERATION: simulated.epoch,
            "trial_id": trial.trial_id,
            **{f"{METRICS}/{name}": value for name, value in metrics.items()},
        }
        is_done = simulated.epoch == len(simulated.miss_rates)
        # Tune asks the scheduler only after results of trials that are not done.
        decision = TrialScheduler.STOP if is_done else self._scheduler.on_trial_result(self._controller, trial, result)
        simulated.record = self._ledger.record_metrics(simulated.record, metrics)
        if decision == TrialScheduler.PAUSE:
            _set_status(trial, Trial.PAUSED)
        elif decision == TrialScheduler.STOP:
            self._scheduler.on_trial_complete(self._controller, trial, result)
            self._end(trial)
            if is_done:
                self._record_front(simulated, now)

    def _end(self, trial: Trial) -> None:
        _set_status(trial, Trial.TERMINATED)
        simulated = self._simulated(trial)
        if simulated.epoch == len(simulated.miss_rates):
            self._ledger.finish(simulated.record)
            self.history.finished += 1
        else:
            self._ledger.stop(simulated.record)
            self.history.stopped += 1

    def _end_paused(self, trial: Trial) -> None:
        self._scheduler.on_trial_remove(self._controller, trial)
        self._end(trial)

    def _record_front(self, simulated: SimulatedTrial, now: float) -> None:
        points = np.vstack([self._front, self._landscape.point(simulated.record.params)])
        self._front = points[non_dominated(points)]
        self.history.compute.append(self._compute)
        self.history.seconds.append(now)
        self.history.hypervolume.append(self._landscape.hypervolume(self._front))

    @staticmethod
    def _simulated(trial: Trial) -> SimulatedTrial:
        simulated = trial.config[SIMULATED]
        assert isinstance(simulated, SimulatedTrial)
        return simulated


def _set_status(trial: Trial, status: str) -> None:
    trial.set_status(status)  # type: ignore[no-untyped-call]
