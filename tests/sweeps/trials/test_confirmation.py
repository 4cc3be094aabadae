"""Which trials are confirmed, with which seeds, and what the confirmation says of them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hkd.metric_names import ROLE_BASELINE, ROLE_CONFIRMATION, ROLE_TRIAL
from sweeps.settings.study import StudyConfig
from sweeps.trials.confirmation import confirmation_of, trainings_left, trials_to_confirm
from sweeps.trials.queue import TrialQueue
from sweeps.trials.records.ledger import open_ledger
from sweeps.trials.records.trial import LedgerTrial

OBJECTIVES = ("mr2_reasonable", "num_params")


def trial(trial_id: str, miss_rate: float, num_params: float, role: str = ROLE_TRIAL, **params: object) -> LedgerTrial:
    metrics = {"mr2_reasonable": miss_rate, "num_params": num_params}
    return LedgerTrial(trial_id, role, None, params, "finished", 1, None, 2, metrics, None, 0)


def again(of: LedgerTrial, seed: int, miss_rate: float, on_test: float | None = None, **changes: Any) -> LedgerTrial:
    metrics = {"mr2_reasonable": miss_rate, "num_params": of.metrics["num_params"]}
    test_images = None
    if on_test is not None:
        metrics["test_mr2_reasonable"], test_images = on_test, "hash"
    params = {**of.params, "training.seed": seed}
    repeated = replace(of, trial_id=f"{of.trial_id}-seed-{seed}", role=ROLE_CONFIRMATION, params=params)
    repeated = replace(repeated, metrics=metrics, confirms=of.trial_id, test_images=test_images)
    return replace(repeated, **changes)


SMALL, LARGE, WORSE = trial("trial-001", 0.4, 10), trial("trial-002", 0.3, 20), trial("trial-003", 0.5, 30)
BASELINE = trial("baseline-b", 0.6, 40, ROLE_BASELINE, **{"training.seed": 7})
TRIALS = [BASELINE, SMALL, LARGE, WORSE]


def left(confirmations: list[LedgerTrial], num_seeds: int = 2, test_images: str | None = None) -> list[tuple[str, int]]:
    found = trainings_left(
        TRIALS,
        confirmations,
        objectives=OBJECTIVES,
        num_seeds=num_seeds,
        base_seed=3,
        test_images=test_images,
    )
    return [(trial.trial_id, seed) for trial, seed in found]


def test_front_and_baselines_are_confirmed() -> None:
    # trial-003 is dominated by both others.
    assert trials_to_confirm(TRIALS, OBJECTIVES) == [BASELINE, SMALL, LARGE]
    failed = replace(BASELINE, status="failed")
    assert trials_to_confirm([failed, SMALL], OBJECTIVES) == [SMALL]


def test_seeds_follow_that_of_the_trial() -> None:
    assert left([]) == [
        ("baseline-b", 8),
        ("trial-001", 4),
        ("trial-002", 4),
        ("baseline-b", 9),
        ("trial-001", 5),
        ("trial-002", 5),
    ]
    assert left([], num_seeds=0) == []


def test_started_confirmations_are_not_repeated() -> None:
    started = [again(BASELINE, 8, 0.6), again(SMALL, 4, 0.4, status="failed"), again(LARGE, 4, 0.3)]
    assert left(started) == [("baseline-b", 9), ("trial-001", 5), ("trial-002", 5)]


def test_other_test_images_need_trainings_with_unused_seeds() -> None:
    started = [again(SMALL, 4, 0.4), again(SMALL, 5, 0.4)]
    assert [entry for entry in left(started, test_images="hash") if entry[0] == "trial-001"] == [
        ("trial-001", 6),
        ("trial-001", 7),
    ]


def test_confirmed_front_is_that_of_the_means_on_validation_images() -> None:
    confirmations = [
        # Lucky in the search: 0.3, but 0.44 on average. Its lower test results decide nothing.
        again(LARGE, 4, 0.39, 0.35),
        again(LARGE, 5, 0.49, 0.45),
        again(SMALL, 4, 0.42, 0.43),
        # Neither another one's nor a failed training counts.
        again(SMALL, 5, 0.9, status="failed"),
        again(SMALL, 6, 0.1),
    ]
    found = confirmation_of(TRIALS, confirmations, OBJECTIVES, "hash")
    assert found is not None
    small, large = found.trials
    assert (small.trial, large.trial) == (SMALL, LARGE)
    assert found.front == {"trial-001"}
    assert small.num_seeds == 1
    assert small.spreads == {}
    assert small.values == {"mr2_reasonable": 0.42, "num_params": 10}
    assert large.means == {"mr2_reasonable": pytest.approx(0.44), "test_mr2_reasonable": pytest.approx(0.4)}
    # Of two values, the sample standard deviation is their distance over the root of 2.
    assert large.spreads["test_mr2_reasonable"] == pytest.approx(0.1 / math.sqrt(2))
    assert large.as_metrics() == {
        "confirmed_mr2_reasonable": pytest.approx(0.44),
        "confirmed_mr2_reasonable_std": pytest.approx(0.1 / math.sqrt(2)),
        "confirmed_test_mr2_reasonable": pytest.approx(0.4),
        "confirmed_test_mr2_reasonable_std": pytest.approx(0.1 / math.sqrt(2)),
        "confirmed_seeds": 2,
    }


def test_without_test_images_the_validation_images_decide() -> None:
    found = confirmation_of(TRIALS, [again(SMALL, 4, 0.5), again(LARGE, 4, 0.35)], OBJECTIVES, None)
    assert found is not None
    assert not found.is_on_test
    assert found.front == {"trial-001", "trial-002"}
    assert found.as_dict()["trials"][0]["search"] == {"mr2_reasonable": 0.3}
    assert confirmation_of(TRIALS, [], OBJECTIVES, None) is None


def study(num_trials: int = 2, confirm_seeds: int = 1) -> StudyConfig:
    space = {"training.batch_size": {"type": "categorical", "choices": [1, 2, 3]}}
    search = {"num_trials": num_trials, "confirm_seeds": confirm_seeds}
    raw = {"name": "x", "base": {"teacher": None}, "space": space, "search": search, "baselines": {"a": {}}}
    return StudyConfig.model_validate({**raw, "objectives": OBJECTIVES})


def finish(queue: TrialQueue, trial: LedgerTrial, miss_rate: float) -> LedgerTrial:
    measured = queue.ledger.record_metrics(trial, {"mr2_reasonable": miss_rate, "num_params": 10 * miss_rate})
    return queue.ledger.finish(measured)


def start(queue: TrialQueue) -> LedgerTrial:
    started = queue.next()
    assert started is not None
    return started


def test_confirmation_waits_for_the_end_of_the_search(tmp_path: Path) -> None:
    queue = TrialQueue(study(), open_ledger(study(), tmp_path / "journal"))
    announced: list[int] = []
    queue.on_confirmation = announced.append
    baseline, first, second = (start(queue) for _ in range(3))
    finish(queue, baseline, 0.5)
    finish(queue, first, 0.4)
    # The last trial may change the front.
    was_empty = queue.is_empty
    assert (queue.next(), was_empty) == (None, False)
    finish(queue, second, 0.3)
    confirmations = [start(queue), start(queue)]
    assert announced == [2]
    # Costs fall with the miss rate here: the second trial dominates all others.
    assert [(each.trial_id, each.confirms) for each in confirmations] == [
        ("baseline-a-seed-1", "baseline-a"),
        ("trial-002-seed-1", "trial-002"),
    ]
    assert confirmations[1].params == {**second.params, "training.seed": 1}
    assert queue.is_empty
    # No sampler sees them.
    assert [each.role for each in queue.ledger.trials()] == [ROLE_BASELINE, ROLE_TRIAL, ROLE_TRIAL]


def test_interrupted_confirmation_is_resumed(tmp_path: Path) -> None:
    queue = TrialQueue(study(), open_ledger(study(), tmp_path / "journal"))
    for miss_rate in (0.5, 0.4, 0.3):
        finish(queue, start(queue), miss_rate)
    interrupted = start(queue)
    resumed = TrialQueue(study(), open_ledger(study(), tmp_path / "journal"))
    again = [start(resumed), start(resumed)]
    assert again[0] == replace(interrupted, attempts=2)
    assert again[1].trial_id == "trial-002-seed-1"
    assert resumed.is_empty


def test_resumed_confirmation_is_evaluated_on_the_test_images_of_now(tmp_path: Path) -> None:
    queue = TrialQueue(study(), open_ledger(study(), tmp_path / "journal"), test_images="old")
    for miss_rate in (0.5, 0.4, 0.3):
        finish(queue, start(queue), miss_rate)
    interrupted = start(queue)
    assert interrupted.test_images == "old"
    resumed = TrialQueue(study(), open_ledger(study(), tmp_path / "journal"), test_images="new")
    again = start(resumed)
    # Its test metrics will be those of the new images, which are measured after the last epoch.
    assert (again.trial_id, again.test_images) == (interrupted.trial_id, "new")
    # It counts as the one seed of its trial; the other trial still lacks its own.
    assert start(resumed).confirms == "trial-002"
    assert resumed.is_empty


def test_switch_turns_confirmation_off(tmp_path: Path) -> None:
    off = study(confirm_seeds=0)
    queue = TrialQueue(off, open_ledger(off, tmp_path / "journal"))
    for miss_rate in (0.5, 0.4, 0.3):
        finish(queue, start(queue), miss_rate)
    assert queue.is_empty
    # Later, on the finished study.
    on = off.with_confirmation()
    assert on.confirm_seeds == 2
    later = TrialQueue(on, open_ledger(on, tmp_path / "journal"))
    assert not later.is_empty
    assert len([start(later) for _ in range(4)]) == 4
    assert later.is_empty


def test_default_is_two_seeds_with_test_images_and_none_without(tmp_path: Path) -> None:
    assert StudyConfig(name="x").confirm_seeds == 0
    files = {f"{name}_annotations": tmp_path / f"{name}.json" for name in ("train", "validation", "test")}
    with_test_images = {"name": "x", "base": {"data": files}}
    assert StudyConfig.model_validate(with_test_images).confirm_seeds == 2
    assert StudyConfig.model_validate({**with_test_images, "search": {"confirm_seeds": 0}}).confirm_seeds == 0
