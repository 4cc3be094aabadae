"""Tests of the policies: each runs a small study with the real samplers, ledger and schedulers."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from benchmarks.sweep_policies.__main__ import main
from benchmarks.sweep_policies.curves import write_curves
from benchmarks.sweep_policies.landscape import Landscape
from benchmarks.sweep_policies.policies import ORACLE, POLICIES, Policy, _rung_scheduler, simulate
from benchmarks.sweep_policies.report import ASHA, GP, OURS, RANDOM
from benchmarks.sweep_policies.runs import part_of, reference_of
from benchmarks.sweep_policies.task import configurations, exact_costs, load_task
from sweeps.scheduling.rankings import EarlyRungRule
from sweeps.search.encoding import Space
from sweeps.settings.space import distributions
from tests.benchmarks.sweep_policies.synthetic import synthetic_curves


@pytest.fixture(scope="module")
def landscape() -> Landscape:
    task = load_task()
    costs = exact_costs(task)
    curves = synthetic_curves(32, costs=costs)
    return Landscape(curves, Space(distributions(task.space), {}), costs, reference_of(task))


def seconds_per_training(landscape: Landscape) -> float:
    params = [each.params for each in configurations(load_task(), 32)]
    return sum(map(landscape.seconds_per_epoch, params)) * landscape.num_epochs / len(params)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_policy_runs_within_its_budget(landscape: Landscape, policy: Policy) -> None:
    unit = seconds_per_training(landscape)
    history = simulate(policy, landscape, workers=4, seed=0, max_compute=8 * unit, enough=2.0)
    assert history.finished + history.stopped >= 1
    # Epochs that had started are ended.
    assert all(compute <= 9 * unit for compute in history.compute)
    assert history.hypervolume == sorted(history.hypervolume)


def test_names_of_the_report_are_policies() -> None:
    assert {RANDOM, ASHA, GP, OURS} <= {policy.name for policy in POLICIES}


def test_oracle_trains_the_front_best_first(landscape: Landscape) -> None:
    oracle = next(policy for policy in POLICIES if policy.sampler == ORACLE)
    front = landscape.points(landscape.front)
    history = simulate(
        oracle, landscape, workers=1, seed=0, max_compute=3 * seconds_per_training(landscape), enough=2.0
    )
    expected = [landscape.hypervolume(front[: count + 1]) for count in range(len(history.hypervolume))]
    assert history.hypervolume == pytest.approx(expected)


def test_early_rung_lets_trials_wait_and_trains_the_best_to_their_end(landscape: Landscape) -> None:
    rule = partial(EarlyRungRule, 6, 2)
    policy = Policy("small", "random", partial(_rung_scheduler, rule=rule, epochs=(1,)))
    # Six first epochs and two trainings, of which one epoch each is done: 6 + 2 * 15 of 16 epochs.
    budget = 36 / 16 * seconds_per_training(landscape)
    history = simulate(policy, landscape, workers=2, seed=0, max_compute=2 * budget, enough=2.0)
    # Four of the first six are stopped; later ones are compared with all.
    assert history.stopped >= 4
    assert history.finished >= 2


def test_same_seed_gives_the_same_study(landscape: Landscape) -> None:
    policy = next(policy for policy in POLICIES if policy.name == OURS)
    run = partial(simulate, policy, landscape, workers=4, max_compute=6 * seconds_per_training(landscape), enough=2.0)
    assert run(seed=1) == run(seed=1)


def test_parts_of_the_recorded_configurations_are_disjoint() -> None:
    task, curves = load_task(), synthetic_curves(32)
    tuning, held_back = (part_of(curves, task, part) for part in ("tuning", "held-back"))
    numbers = [{curve.configuration for curve in part} for part in (tuning, held_back)]
    assert numbers[0] | numbers[1] == set(range(32))
    assert not numbers[0] & numbers[1]
    assert part_of(curves, task, "all") == curves


def test_simulate_writes_a_table_and_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "curves.csv"
    write_curves([replace(each, cpu_seconds=20.0) for each in synthetic_curves(16)], table)
    command = [
        "simulate",
        "--table",
        str(table),
        "--out",
        str(tmp_path / "out"),
        "--policies",
        RANDOM,
        "--workers",
        "8",
    ]
    command += ["--seeds", "1", "--trainings", "4", "--processes", "1"]
    assert main([*command, "--list"]) == 0
    assert "0 of 1 studies" in capsys.readouterr().out
    assert main(command) == 0
    assert f"| {RANDOM} | 8 | 1 |" in capsys.readouterr().out
    (result,) = (tmp_path / "out").glob("*.json")
    written = result.stat().st_mtime_ns
    assert main([*command, "--report"]) == 0
    assert result.stat().st_mtime_ns == written
    assert (tmp_path / "out" / "all.png").is_file()


def test_unknown_policy_is_refused_with_those_available(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["simulate", "--policies", "tpee", "--out", str(tmp_path)])
    assert exit_.value.code == 2
    message = capsys.readouterr().err
    assert "tpee" in message
    assert RANDOM in message
