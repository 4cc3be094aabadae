"""Tests of the simulator: virtual time, compute, and the hypervolume that a study reached."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from scipy.special import logit

from benchmarks.sweep_policies.landscape import Landscape, cross_validated_r2
from benchmarks.sweep_policies.simulation import SIMULATED, Simulation
from benchmarks.sweep_policies.task import load_task
from sweeps.search.encoding import Space
from sweeps.settings.space import distributions
from sweeps.settings.study import StudyConfig
from sweeps.trials.queue import TrialQueue
from sweeps.trials.records.ledger import open_ledger
from tests.benchmarks.sweep_policies.synthetic import (
    EPOCHS,
    costs,
    expected_curve,
    expected_miss_rate,
    synthetic_curves,
)

REFERENCE = (1.0, 1.2e6, 1e9)


@pytest.fixture(scope="module")
def task() -> StudyConfig:
    task = load_task()
    search = task.search.model_copy(update={"sampler": "random", "num_trials": 40})
    return task.model_copy(update={"search": search})


@pytest.fixture(scope="module")
def landscape(task: StudyConfig) -> Landscape:
    return Landscape(synthetic_curves(64), Space(distributions(task.space), {}), costs, REFERENCE)


def simulation(task: StudyConfig, landscape: Landscape, scheduler: TrialScheduler, folder: Path) -> Simulation:
    ledger = open_ledger(task, folder / "journal.log")
    random = np.random.default_rng(0)
    queue = TrialQueue(task, ledger)
    return Simulation(landscape, ledger, queue.next, scheduler, miss_rate="mr2_reasonable", random=random)


def settings_of(task: StudyConfig, folder: Path) -> list[Mapping[str, Any]]:
    """What random search proposes: the same in each study of this seed."""
    ledger = open_ledger(task, folder / "other.log")
    queue = TrialQueue(task, ledger)
    return [trial.params for _ in range(40) if (trial := queue.next()) is not None]


def fifo() -> TrialScheduler:
    return FIFOScheduler()  # type: ignore[no-untyped-call]


class StopAtEpoch(FIFOScheduler):
    """Stops each trial of an odd number at an epoch."""

    def __init__(self, epoch: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._epoch = epoch
        self.seen: dict[str, list[int]] = {}

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:  # noqa: ARG002
        self.seen.setdefault(trial.trial_id, []).append(int(result["training_iteration"]))
        assert trial.config[SIMULATED].miss_rates[self.seen[trial.trial_id][-1] - 1] == result["metrics/mr2_reasonable"]
        is_odd = int(trial.trial_id.removeprefix("trial-")) % 2
        return (
            TrialScheduler.STOP if is_odd and result["training_iteration"] == self._epoch else TrialScheduler.CONTINUE
        )


@pytest.mark.parametrize("workers", [1, 3])
def test_virtual_time_is_that_of_a_queue_with_so_many_workers(
    task: StudyConfig, landscape: Landscape, tmp_path: Path, workers: int
) -> None:
    history = simulation(task, landscape, fifo(), tmp_path).run(workers, max_compute=np.inf, enough=2.0)
    durations = [landscape.seconds_per_epoch(params) * EPOCHS for params in settings_of(task, tmp_path)]
    ends: list[float] = []
    free = [0.0] * workers
    for duration in durations:
        ends.append(heapq.heappop(free) + duration)
        heapq.heappush(free, ends[-1])
    assert history.seconds == pytest.approx(sorted(ends))
    assert history.finished == 40
    # All epochs of all trials.
    assert history.compute[-1] == pytest.approx(sum(durations))


def test_hypervolume_is_that_of_the_finished_trials_without_noise(
    task: StudyConfig, landscape: Landscape, tmp_path: Path
) -> None:
    history = simulation(task, landscape, fifo(), tmp_path).run(1, max_compute=np.inf, enough=2.0)
    points = landscape.points(settings_of(task, tmp_path))
    expected = [landscape.hypervolume(points[: count + 1]) for count in range(40)]
    assert history.hypervolume == pytest.approx(expected)


def test_stopped_trials_cost_their_epochs_and_add_nothing(
    task: StudyConfig, landscape: Landscape, tmp_path: Path
) -> None:
    scheduler = StopAtEpoch(4)
    history = simulation(task, landscape, scheduler, tmp_path).run(1, max_compute=np.inf, enough=2.0)
    assert (history.finished, history.stopped) == (20, 20)
    seconds = [landscape.seconds_per_epoch(params) for params in settings_of(task, tmp_path)]
    # Trials 1, 3, ... train four epochs.
    assert history.compute[-1] == pytest.approx(sum(seconds[0::2]) * 4 + sum(seconds[1::2]) * EPOCHS)
    # Tune does not ask the scheduler after the last epoch.
    assert scheduler.seen["trial-002"] == list(range(1, EPOCHS))


def test_study_ends_at_its_budget(task: StudyConfig, landscape: Landscape, tmp_path: Path) -> None:
    seconds = [landscape.seconds_per_epoch(params) * EPOCHS for params in settings_of(task, tmp_path)]
    history = simulation(task, landscape, fifo(), tmp_path).run(1, max_compute=sum(seconds[:3]) - 1e-6, enough=2.0)
    assert history.finished == 3


def test_landscape_reproduces_the_curves_that_it_was_fitted_to(task: StudyConfig, landscape: Landscape) -> None:
    curves = synthetic_curves(64)
    ends = np.array([landscape.expected_curve(curve.params)[-1] for curve in curves[::3]])
    true = np.array([expected_curve(curve.params)[-1] for curve in curves[::3]])
    # Fitted with the noise of three seeds (0.017 / sqrt(3)).
    assert np.abs(ends - true).mean() < 0.02
    assert landscape.num_epochs == EPOCHS
    first, last = cross_validated_r2(curves, Space(distributions(task.space), {}))
    assert 0.2 < last < 1
    assert first < 1


def test_recorded_configurations_are_no_exceptions(landscape: Landscape) -> None:
    # A forest with one configuration per leaf returns exactly the mean of the recorded logits.
    ends: dict[int, list[float]] = {}
    for curve in synthetic_curves(64):
        ends.setdefault(curve.configuration, []).append(curve.miss_rates[-1])
    params = {curve.configuration: curve.params for curve in synthetic_curves(64)}
    recorded = np.array([logit(values).mean() for values in ends.values()])
    predicted = logit([landscape.expected_curve(params[number])[-1] for number in ends])
    assert (np.abs(predicted - recorded) > 1e-6).mean() > 0.9


def test_noise_of_a_seed_is_as_large_as_recorded(landscape: Landscape) -> None:
    params = synthetic_curves(1)[0].params
    random = np.random.default_rng(0)
    ends = np.array([landscape.curve(params, random)[-1] for _ in range(200)])
    # A process that keeps 0.8 of its value and adds noise of 0.01: 0.01 / sqrt(1 - 0.8^2) = 0.017 after some epochs.
    assert ends.std() == pytest.approx(0.017, rel=0.35)
    assert ends.mean() == pytest.approx(landscape.expected_curve(params)[-1], abs=0.005)


def test_noise_of_a_seed_is_that_of_configurations_with_a_similar_miss_rate(task: StudyConfig) -> None:
    # Only the worse half of the configurations has noise. The 16 nearest of one of the best are of the better half.
    noisy = synthetic_curves(64)
    ends = {curve.configuration: expected_miss_rate(curve.params) for curve in noisy}
    middle = float(np.median(list(ends.values())))
    mixed = [
        replace(curve, miss_rates=tuple(expected_curve(curve.params))) if ends[curve.configuration] < middle else curve
        for curve in noisy
    ]
    landscape = Landscape(mixed, Space(distributions(task.space), {}), costs, REFERENCE)
    random = np.random.default_rng(0)
    by_end = sorted(noisy, key=lambda curve: ends[curve.configuration])
    for params, is_noisy in ((by_end[0].params, False), (by_end[-1].params, True)):
        last = [landscape.curve(params, random)[-1] for _ in range(50)]
        assert (np.std(last) > 0.005) == is_noisy


def test_front_of_the_landscape_is_not_beaten_by_random_configurations(
    task: StudyConfig, landscape: Landscape, tmp_path: Path
) -> None:
    front = landscape.points(landscape.front)
    volume = landscape.hypervolume(front)
    assert landscape.hypervolume(landscape.points(settings_of(task, tmp_path))) < volume
    # The first adds most.
    assert landscape.hypervolume(front[:1]) == max(landscape.hypervolume(front[[index]]) for index in range(len(front)))
