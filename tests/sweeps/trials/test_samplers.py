"""The sampler of a study's proposals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from hkd.metric_names import FLOPS, NUM_PARAMS
from sweeps.settings.space import trial_config
from sweeps.settings.study import StudyConfig
from sweeps.trials.cost import student_cost
from sweeps.trials.records.ledger import Ledger, open_ledger
from sweeps.trials.records.trial import LedgerTrial
from sweeps.trials.samplers import EPOCH_ATTRIBUTE, _measured, front_sampler, sampler_of_proposal

SMALL = {"width_multiplier": 0.125, "pyramid_channels": 16, "head_channels": 16}
SPACE = {
    "student.pyramid_channels": {"type": "int", "low": 16, "high": 40, "step": 8},
    "student.head_channels": {"type": "int", "low": 16, "high": 40, "step": 8},
    "training.learning_rate": {
        "type": "float", "low": 1e-4, "high": 1e-2, "log": True, "prior": {"center": 1e-3, "width": 0.2}
    },
}  # fmt: skip


def study_of(**search: Any) -> StudyConfig:
    data = {"image_height": 64, "image_width": 64}
    raw = {"name": "x", "base": {"teacher": None, "student": SMALL, "data": data}, "space": SPACE, "baselines": {}}
    given = {"sampler": "front", "startup_trials": 2, "max_params": 500_000, **search}
    return StudyConfig.model_validate({**raw, "search": given})


def start(ledger: Ledger) -> LedgerTrial:
    trial = ledger.start_proposed()
    assert trial is not None
    return trial


def finish(study: StudyConfig, ledger: Ledger, trial: LedgerTrial) -> None:
    costs = student_cost(trial_config(study.base, trial.params)).as_metrics()
    miss_rate = abs(trial.params["training.learning_rate"] - 2e-3) * 100 + 1e4 / costs[NUM_PARAMS]
    ledger.finish(ledger.record_metrics(trial, {"mr2_reasonable": miss_rate, **costs}))


def test_proposal_depends_on_seed_and_number_alone() -> None:
    def drawn(seed: int, number: int) -> float:
        sampler = sampler_of_proposal(study_of(sampler="random", max_params=None, seed=seed))(number)
        study = optuna.create_study(sampler=sampler)
        return float(study.ask({"x": FloatDistribution(0.0, 1.0)}).params["x"])

    assert drawn(0, 0) == drawn(0, 0)
    assert len({drawn(0, 0), drawn(0, 1), drawn(1, 0), drawn(1, 1)}) == 4


def test_front_of_a_resumed_study_proposes_as_that_of_an_uninterrupted_one(tmp_path: Path) -> None:
    study, journals = study_of(), [tmp_path / "one.journal", tmp_path / "two.journal"]
    ledger = open_ledger(study, journals[0])
    for _ in range(4):
        finish(study, ledger, start(ledger))
    running = start(ledger)
    journals[1].write_bytes(journals[0].read_bytes())
    proposed = []
    for opened in (ledger, open_ledger(study, journals[1])):
        first = start(opened)
        finish(study, opened, running)
        proposed.append([first.params, start(opened).params])
    assert proposed[0] == proposed[1]
    # Concurrent proposals differ.
    assert proposed[0][0] != running.params


def test_students_are_within_the_limits_also_where_the_space_is_nearly_exhausted(tmp_path: Path) -> None:
    sizes = {key: parameter for key, parameter in SPACE.items() if key.startswith("student.")}
    study = study_of().model_copy(update={"space": StudyConfig.model_validate({"name": "x", "space": sizes}).space})
    costs = [
        student_cost(trial_config(study.base, {"student.pyramid_channels": pyramid, "student.head_channels": head}))
        for pyramid in (16, 24, 32, 40)
        for head in (16, 24, 32, 40)
    ]
    limit = sorted(cost.num_params for cost in costs)[4]
    study = study.model_copy(update={"search": study.search.model_copy(update={"max_params": limit})})
    ledger = open_ledger(study, tmp_path / "trials.journal")
    started = [start(ledger) for _ in range(5)]
    assert all(student_cost(trial_config(study.base, each.params)).num_params <= limit for each in started)
    # Of 16 students, 5 are within the limit, and all are running.
    assert ledger.start_proposed() is None
    # That is found out in three proposals, which Optuna's study keeps as failed ones.
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "trials.journal")))
    trials = optuna.load_study(study_name=study.name, storage=storage).get_trials(deepcopy=False)
    states = [each.state for each in trials]
    assert states.count(optuna.trial.TrialState.FAIL) == 3


def test_front_learns_from_what_the_ledger_records_of_each_epoch(tmp_path: Path) -> None:
    study = study_of()
    ledger = open_ledger(study, tmp_path / "trials.journal")
    trial = start(ledger)
    for epoch, miss_rate in ((1, 0.9), (2, 0.8)):
        metrics = {"epoch": float(epoch), "budget_fraction": epoch / 8, "mr2_reasonable": miss_rate}
        trial = ledger.record_metrics(trial, metrics)
    ledger.stop(trial)
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "trials.journal")))
    (stopped,) = optuna.load_study(study_name=study.name, storage=storage).trials
    assert _measured("mr2_reasonable", stopped) == {0.125: 0.9, 0.25: 0.8}


def test_costs_of_a_proposal_are_those_of_its_trial() -> None:
    study = study_of()
    sampler = front_sampler(study)
    params = {"student.pyramid_channels": 24, "student.head_channels": 40, "training.learning_rate": 1e-3}
    costs = sampler._costs.of(params)  # type: ignore[attr-defined]
    assert costs == student_cost(trial_config(study.base, params)).as_metrics()


def test_values_of_epochs_are_read_by_share_of_the_budget() -> None:
    record = {"metrics": {"budget_fraction": 0.25, "mr2_reasonable": 0.7, "mr2_all": 0.9}, "time_ms": 1}
    without = {"metrics": {"budget_fraction": 0.5}, "time_ms": 2}
    trial = optuna.create_trial(
        state=optuna.trial.TrialState.PRUNED,
        # An epoch without an evaluation, and one that another attempt repeats.
        user_attrs={f"{EPOCH_ATTRIBUTE}1": record, f"{EPOCH_ATTRIBUTE}2": without, f"{EPOCH_ATTRIBUTE}3": None, "x": 1},
    )
    assert _measured("mr2_reasonable", trial) == {0.25: 0.7}


def test_front_gets_the_reference_point_of_the_report() -> None:
    study = study_of()
    with_teacher = study.model_copy(
        update={"base": trial_config(study.base, {"teacher": {"width_multiplier": 0.25, "pyramid_channels": 32}})}
    )
    without, sampler = front_sampler(study), front_sampler(with_teacher)
    assert without._reference == {"mr2_reasonable": 1.0}  # type: ignore[attr-defined]
    reference = sampler._reference  # type: ignore[attr-defined]
    assert reference["mr2_reasonable"] == 1.0
    smallest = student_cost(study.base)
    assert reference[NUM_PARAMS] > 2 * smallest.num_params
    assert reference[FLOPS] > 2 * smallest.flops


@pytest.mark.parametrize("name", ["tpe", "NSGAIIISampler"])
def test_class_and_arguments_reach_the_sampler(name: str) -> None:
    arguments = {"tpe": {"n_startup_trials": 3}, "NSGAIIISampler": {"population_size": 5}}[name]
    sampler = sampler_of_proposal(study_of(sampler=name, max_params=None, sampler_arguments=arguments))(0)
    kind = {"tpe": optuna.samplers.TPESampler, "NSGAIIISampler": optuna.samplers.NSGAIIISampler}[name]
    assert isinstance(sampler, kind)
