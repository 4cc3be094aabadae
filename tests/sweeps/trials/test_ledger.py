"""The ledger: what it remembers of trials, also when the process ends at any moment."""

from __future__ import annotations

import time
from pathlib import Path

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from sweeps.trials.ledger import Ledger, LedgerTrial, front, make_sampler

JOURNAL = "trials.journal"
OBJECTIVES = ("mr2_reasonable", "flops")
SPACE: dict[str, BaseDistribution] = {"student.width_multiplier": FloatDistribution(0.125, 1.0)}


def open_ledger(
    tmp_path: Path, space: dict[str, BaseDistribution] = SPACE, num_configurations: int | None = None
) -> Ledger:
    return Ledger(tmp_path / JOURNAL, OBJECTIVES, space, num_configurations, lambda number: RandomSampler(seed=number))


def proposed(ledger: Ledger) -> LedgerTrial:
    trial = ledger.begin_proposed()
    assert trial is not None
    return trial


def searched(tmp_path: Path) -> list[optuna.trial.FrozenTrial]:
    """What the sampler sees."""
    return study_in(tmp_path).trials


def study_in(tmp_path: Path) -> optuna.Study:
    backend = JournalFileBackend(str(tmp_path / JOURNAL))
    return optuna.load_study(study_name="trial", storage=JournalStorage(backend))


def test_a_trials_life(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    trial = proposed(ledger)
    assert (trial.trial_id, trial.role, trial.status, trial.attempts) == ("trial-001", "trial", "running", 1)
    assert 0.125 <= trial.params["student.width_multiplier"] <= 1.0
    trial = ledger.note_result(trial, {"epoch": 1, "mr2_reasonable": 0.5})
    trial = ledger.note_checkpoint(trial, Path("trial-001/checkpoint_000000"), 1)
    trial = ledger.note_result(trial, {"epoch": 2, "mr2_reasonable": 0.25, "flops": 8})
    finished = ledger.finish(trial)
    assert finished.status == "finished"
    assert finished.metrics == {"epoch": 2, "mr2_reasonable": 0.25, "flops": 8}
    assert (finished.checkpoint, finished.epoch) == (Path("trial-001/checkpoint_000000"), 1)
    # The sampler is told the objectives in their order.
    (told,) = searched(tmp_path)
    assert (told.state, told.values) == (TrialState.COMPLETE, [0.25, 8.0])


def test_what_was_cut_off_is_gone_on_with(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    ledger.finish(ledger.note_result(proposed(ledger), {"mr2_reasonable": 0.5, "flops": 1}))
    cut_off = ledger.note_checkpoint(proposed(ledger), Path("trial-002/checkpoint_000003"), 4)
    baseline = ledger.begin_baseline("undistilled", {"distillation.logits.weight": 0.0})
    # As if the process had been killed here.
    again = open_ledger(tmp_path)
    assert {trial.trial_id for trial in again.interrupted()} == {"trial-002", "baseline-undistilled"}
    assert [trial.trial_id for trial in again.trials()] == ["baseline-undistilled", "trial-001", "trial-002"]
    restarted = again.begin_again(cut_off)
    assert restarted.params == cut_off.params
    assert (restarted.attempts, restarted.epoch) == (2, 4)
    assert restarted.checkpoint == Path("trial-002/checkpoint_000003")
    assert again.begin_again(baseline).params == {"distillation.logits.weight": 0.0}
    # Nothing was entered anew, and the next proposal is a third trial.
    assert len(again.trials()) == 3
    assert proposed(again).trial_id == "trial-003"


def test_the_sampler_never_sees_a_stopped_or_failed_trial_as_finished(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    stopped = ledger.stop(
        ledger.note_result(proposed(ledger), {"mr2_reasonable": 0.1, "flops": 1, "budget_fraction": 0.25})
    )
    failed = ledger.fail(ledger.note_result(proposed(ledger), {"mr2_reasonable": 0.1, "flops": 1}), "ValueError: boom")
    assert (stopped.status, failed.status, failed.error) == ("stopped", "failed", "ValueError: boom")
    assert [(trial.state, trial.values) for trial in searched(tmp_path)] == [
        (TrialState.PRUNED, None),
        (TrialState.FAIL, None),
    ]
    assert ledger.interrupted() == []


def test_baselines_are_apart_from_what_the_sampler_learns_from(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    baseline = ledger.begin_baseline("default-weights", {})
    assert (baseline.trial_id, baseline.role, baseline.baseline) == (
        "baseline-default-weights",
        "baseline",
        "default-weights",
    )
    assert ledger.finish(ledger.note_result(baseline, {"mr2_reasonable": 0.5, "flops": 1})).status == "finished"
    assert searched(tmp_path) == []


def test_a_half_made_proposal_is_given_up(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    proposed(ledger)
    # As if the process had been killed between Optuna's entry and ours.
    study_in(tmp_path).ask()
    again = open_ledger(tmp_path)
    assert [trial.trial_id for trial in again.trials()] == ["trial-001"]
    assert [trial.state for trial in searched(tmp_path)] == [TrialState.RUNNING, TrialState.FAIL]
    assert proposed(again).trial_id == "trial-002"


def test_an_entry_that_was_torn_by_a_kill_is_cut_off(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    trial = ledger.note_result(proposed(ledger), {"mr2_reasonable": 0.5, "flops": 1})
    journal = tmp_path / JOURNAL
    whole = journal.read_bytes()
    ledger.finish(trial)
    entry = journal.read_bytes()[len(whole) :]
    for length in (1, len(entry) // 2, len(entry) - 1):
        journal.write_bytes(whole + entry[:length])
        again = open_ledger(tmp_path)
        # The trial's end was not written, and is not guessed; it can be written now.
        (cut_off,) = again.interrupted()
        assert cut_off.metrics == {"mr2_reasonable": 0.5, "flops": 1}
        assert again.finish(cut_off).status == "finished"
        assert [trial.status for trial in open_ledger(tmp_path).trials()] == ["finished"]


def test_a_killed_processs_lock_does_not_hold_up_the_next(tmp_path: Path) -> None:
    proposed(open_ledger(tmp_path))
    # What is left of the lock of a process that was killed while writing: a file that no one holds.
    held = [path for path in tmp_path.iterdir() if path.name != JOURNAL]
    assert len(held) == 1
    # Optuna's own tools take a file of this name for a lock that is held.
    assert held[0].name != f"{JOURNAL}.lock"
    started = time.monotonic()
    proposed(open_ledger(tmp_path))
    assert time.monotonic() - started < 5


def test_proposals_go_on_where_they_were_cut_off(tmp_path: Path) -> None:
    # With results told or not, chance alone proposes here: the n-th proposal is the same in one session and in two.
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    ledger = open_ledger(one)
    uninterrupted = [proposed(ledger).params for _ in range(3)]
    interrupted = [proposed(open_ledger(two)).params for _ in range(3)]
    assert interrupted == uninterrupted
    assert len({params["student.width_multiplier"] for params in uninterrupted}) == 3


def test_no_configuration_is_run_twice_and_a_used_up_space_ends(tmp_path: Path) -> None:
    space: dict[str, BaseDistribution] = {"a": CategoricalDistribution(("x", "y")), "b": IntDistribution(1, 2)}
    ledger = open_ledger(tmp_path, space, num_configurations=4)
    trials = [proposed(ledger) for _ in range(4)]
    assert {(trial.params["a"], trial.params["b"]) for trial in trials} == {("x", 1), ("x", 2), ("y", 1), ("y", 2)}
    assert [trial.trial_id for trial in trials] == ["trial-001", "trial-002", "trial-003", "trial-004"]
    assert ledger.begin_proposed() is None


def test_an_empty_space_proposes_nothing(tmp_path: Path) -> None:
    assert open_ledger(tmp_path, {}).begin_proposed() is None


@pytest.mark.parametrize("name", ["tpe", "nsga2", "random", pytest.param("gp", marks=pytest.mark.end_to_end)])
def test_samplers_learn_from_several_objectives(name: str) -> None:
    # In memory: what is tested is that Optuna takes each sampler for several objectives, with failed trials between.
    space: dict[str, BaseDistribution] = {"x": FloatDistribution(0.0, 1.0), "k": CategoricalDistribution(("a", "b"))}
    study = optuna.create_study(directions=["minimize", "minimize"])
    for number in range(7):
        study.sampler = make_sampler(name, seed=number, startup_trials=3)
        trial = study.ask(space)
        assert 0.0 <= trial.params["x"] <= 1.0
        if number == 2:
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, [trial.params["x"], 1 - trial.params["x"]])
    # More than chance's first trials: it did go on.
    assert len({trial.params["x"] for trial in study.trials}) > 3


def test_make_sampler_knows_each_name() -> None:
    kinds: list[type[BaseSampler]] = [
        type(make_sampler(name, seed=0, startup_trials=3)) for name in ("tpe", "nsga2", "gp", "random")
    ]
    samplers = optuna.samplers
    assert kinds == [samplers.TPESampler, samplers.NSGAIISampler, samplers.GPSampler, RandomSampler]


def trial_with(trial_id: str, values: tuple[float, float], status: str = "finished") -> LedgerTrial:
    metrics = dict(zip(OBJECTIVES, values, strict=True))
    return LedgerTrial(trial_id, "trial", None, {}, status, 1, None, 0, metrics, None, 0)


def test_front_is_what_no_other_trial_beats() -> None:
    trials = [
        trial_with("beaten", (0.5, 5.0)),  # by "good": as many operations, fewer misses
        trial_with("good", (0.4, 5.0)),
        trial_with("small", (0.9, 1.0)),
        trial_with("twin", (0.4, 5.0)),  # as good as "good": neither beats the other
        trial_with("stopped", (0.0, 0.0), status="stopped"),
    ]
    assert [trial.trial_id for trial in front(trials, OBJECTIVES)] == ["good", "twin", "small"]
    assert front([], OBJECTIVES) == []
