from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from analysis.explain import importances
from analysis.explain.importances import FEWEST_TRIALS, all_importances, importances_of
from analysis.records.study_records import TrialRecord
from tests.analysis.studies import record, records


def trials_where_only_width_matters(count: int) -> list[TrialRecord]:
    generator = np.random.default_rng(0)
    return [
        record(
            f"t{index}",
            mr2=0.2 + 0.6 * width,
            num_params=1e6,
            flops=1e9,
            params={
                "student.width_multiplier": width,
                "training.seed": int(seed),
                "student.backbone": backbone,
                "training.ema_decay": None if index % 2 else 0.9,
            },
        )
        for index, (width, seed, backbone) in enumerate(
            zip(
                generator.uniform(size=count).tolist(),
                generator.integers(100, size=count),
                generator.choice(["resnet18", "resnet50"], size=count).tolist(),
                strict=True,
            )
        )
    ]


def test_setting_that_matters_comes_first_and_shares_sum_to_one() -> None:
    found = importances_of(records(trials_where_only_width_matters(24)))
    assert found.absent_because is None
    assert found.num_trials == 24
    assert next(iter(found.values)) == "student.width_multiplier"
    # The miss rate is a function of the width alone; the forest's share of the others is noise.
    assert found.values["student.width_multiplier"] > 0.8
    assert set(found.values) == {
        "student.width_multiplier",
        "training.seed",
        "student.backbone",
        "training.ema_decay",
    }
    assert sum(found.values.values()) == pytest.approx(1.0, abs=1e-9)


def test_equal_records_give_equal_shares() -> None:
    study = records(trials_where_only_width_matters(10))
    assert importances_of(study) == importances_of(study)


def test_baselines_and_uncounted_trials_are_ignored() -> None:
    trials = trials_where_only_width_matters(FEWEST_TRIALS - 1)
    trials.append(record("b", 0.5, 1e6, 1e9, role="baseline", baseline="undistilled"))
    trials.append(record("f", 0.5, 1e6, 1e9, status="failed", not_counted_because="failed"))
    found = importances_of(records(trials))
    assert found.values == {}
    assert found.num_trials == FEWEST_TRIALS - 1
    assert found.absent_because == "7 trials were trained for all their epochs; at least 8 are needed"


def test_absent_where_no_setting_differs() -> None:
    trials = [record(f"t{index}", 0.1 * index, 1e6, 1e9, params={"a.b": 1}) for index in range(FEWEST_TRIALS)]
    assert importances_of(records(trials)).absent_because == "the trials do not differ in their settings"


def test_absent_where_miss_rate_does_not_differ() -> None:
    trials = [record(f"t{index}", 1.0, 1e6, 1e9, params={"a.b": index}) for index in range(FEWEST_TRIALS)]
    assert importances_of(records(trials)).absent_because == "all trials have the same miss rate"


def test_shares_are_of_first_miss_rate_of_objectives() -> None:
    trials = trials_where_only_width_matters(24)
    # mr2_all depends on the seed alone.
    with_all = [
        dataclasses.replace(
            trial, metrics={**trial.metrics, "mr2_all": float(str(trial.params["training.seed"])) / 100}
        )
        for trial in trials
    ]
    found = importances_of(records(with_all, objectives=("mr2_all", "flops")))
    assert next(iter(found.values)) == "training.seed"


def test_hypervolume_and_every_objective_have_importances_by_both_methods() -> None:
    found = all_importances(records(trials_where_only_width_matters(24)), (1.0, 2e6, 2e9))
    # All trials have the same costs, whose variation nothing explains; the hypervolume follows the miss rate.
    assert {(each.target, each.method) for each in found} == {
        (target, method) for target in ("mr2_reasonable", "hypervolume") for method in ("fANOVA", "PED-ANOVA")
    }
    for each in found:
        assert next(iter(each.found.values)) == "student.width_multiplier"
        assert sum(each.found.values.values()) == pytest.approx(1.0)


def test_many_trials_are_thinned_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importances, "MOST_TRIALS", 12)
    assert importances_of(records(trials_where_only_width_matters(50))).num_trials == 12


def test_few_trials_have_no_importances() -> None:
    assert all_importances(records(trials_where_only_width_matters(5)), (1.0, 2e6, 2e9)) == ()
