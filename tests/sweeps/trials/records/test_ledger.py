"""The ledger: what it records of trials, also if the process is killed."""

from __future__ import annotations

import time
from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from sweeps.trials.records.ledger import Ledger
from sweeps.trials.records.trial import LedgerTrial

JOURNAL = "trials.journal"
OBJECTIVES = ("mr2_reasonable", "flops")
SPACE: dict[str, BaseDistribution] = {"student.width_multiplier": FloatDistribution(0.125, 1.0)}


def open_ledger(
    tmp_path: Path, space: dict[str, BaseDistribution] = SPACE, num_configurations: int | None = None
) -> Ledger:
    return Ledger(tmp_path / JOURNAL, OBJECTIVES, space, num_configurations, lambda number: RandomSampler(seed=number))


def proposed(ledger: Ledger) -> LedgerTrial:
    trial = ledger.start_proposed()
    assert trial is not None
    return trial


def searched(tmp_path: Path) -> list[optuna.trial.FrozenTrial]:
    """What the sampler sees."""
    return study_in(tmp_path).trials


def study_in(tmp_path: Path) -> optuna.Study:
    backend = JournalFileBackend(str(tmp_path / JOURNAL))
    return optuna.load_study(study_name="trial", storage=JournalStorage(backend))


def test_trial_from_proposal_to_end(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    trial = proposed(ledger)
    assert (trial.trial_id, trial.role, trial.status, trial.attempts) == ("trial-001", "trial", "running", 1)
    assert 0.125 <= trial.params["student.width_multiplier"] <= 1.0
    trial = ledger.record_metrics(trial, {"epoch": 1, "mr2_reasonable": 0.5})
    trial = ledger.record_checkpoint(trial, Path("trial-001/checkpoint_000000"), 1)
    trial = ledger.record_metrics(trial, {"epoch": 2, "mr2_reasonable": 0.25, "flops": 8})
    finished = ledger.finish(trial)
    assert finished.status == "finished"
    assert finished.metrics == {"epoch": 2, "mr2_reasonable": 0.25, "flops": 8}
    assert (finished.checkpoint, finished.epoch) == (Path("trial-001/checkpoint_000000"), 1)
    # The sampler sees the objectives in their order.
    (seen,) = searched(tmp_path)
    assert (seen.state, seen.values) == (TrialState.COMPLETE, [0.25, 8.0])


def test_interrupted_trials_resume_after_reopening(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    ledger.finish(ledger.record_metrics(proposed(ledger), {"mr2_reasonable": 0.5, "flops": 1}))
    interrupted = ledger.record_checkpoint(proposed(ledger), Path("trial-002/checkpoint_000003"), 4)
    baseline = ledger.start_baseline("undistilled", {"distillation.logits.weight": 0.0})
    # As if the process had been killed here.
    again = open_ledger(tmp_path)
    assert {trial.trial_id for trial in again.running()} == {"trial-002", "baseline-undistilled"}
    assert [trial.trial_id for trial in again.trials()] == ["baseline-undistilled", "trial-001", "trial-002"]
    restarted = again.restart(interrupted)
    assert restarted.params == interrupted.params
    assert (restarted.attempts, restarted.epoch) == (2, 4)
    assert restarted.checkpoint == Path("trial-002/checkpoint_000003")
    assert again.restart(baseline).params == {"distillation.logits.weight": 0.0}
    # No trial was added, and the next proposal is a third trial.
    assert len(again.trials()) == 3
    assert proposed(again).trial_id == "trial-003"


def test_sampler_sees_no_values_of_stopped_and_failed_trials(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    stopped = ledger.stop(
        ledger.record_metrics(proposed(ledger), {"mr2_reasonable": 0.1, "flops": 1, "budget_fraction": 0.25})
    )
    failed = ledger.fail(
        ledger.record_metrics(proposed(ledger), {"mr2_reasonable": 0.1, "flops": 1}), "ValueError: boom"
    )
    assert (stopped.status, failed.status, failed.error) == ("stopped", "failed", "ValueError: boom")
    assert [(trial.state, trial.values) for trial in searched(tmp_path)] == [
        (TrialState.PRUNED, None),
        (TrialState.FAIL, None),
    ]
    assert ledger.running() == []


def test_sampler_does_not_see_baselines(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    baseline = ledger.start_baseline("default-weights", {})
    assert (baseline.trial_id, baseline.role, baseline.baseline) == (
        "baseline-default-weights",
        "baseline",
        "default-weights",
    )
    assert ledger.finish(ledger.record_metrics(baseline, {"mr2_reasonable": 0.5, "flops": 1})).status == "finished"
    assert searched(tmp_path) == []


def test_incomplete_proposal_is_failed_on_opening(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    proposed(ledger)
    # As if the process had been killed between Optuna's record and ours.
    study_in(tmp_path).ask()
    again = open_ledger(tmp_path)
    assert [trial.trial_id for trial in again.trials()] == ["trial-001"]
    assert [trial.state for trial in searched(tmp_path)] == [TrialState.RUNNING, TrialState.FAIL]
    assert proposed(again).trial_id == "trial-002"


def test_partial_last_record_is_removed_on_opening(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    trial = ledger.record_metrics(proposed(ledger), {"mr2_reasonable": 0.5, "flops": 1})
    journal = tmp_path / JOURNAL
    complete = journal.read_bytes()
    ledger.finish(trial)
    record = journal.read_bytes()[len(complete) :]
    for length in (1, len(record) // 2, len(record) - 1):
        journal.write_bytes(complete + record[:length])
        again = open_ledger(tmp_path)
        # The trial's end was not recorded; it can be recorded now.
        (running,) = again.running()
        assert running.metrics == {"mr2_reasonable": 0.5, "flops": 1}
        assert again.finish(running).status == "finished"
        assert [trial.status for trial in open_ledger(tmp_path).trials()] == ["finished"]


def test_each_epoch_is_kept_and_repeated_epochs_are_replaced(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    trial = proposed(ledger)
    for epoch in (1, 2, 3):
        trial = ledger.record_metrics(trial, {"epoch": epoch, "loss_total": 1.0 / epoch})
        if epoch < 3:  # the worker is lost before the third checkpoint
            trial = ledger.record_checkpoint(trial, Path(f"trial-001/checkpoint_00000{epoch}"), epoch)
    assert trial.checkpoints == (Path("trial-001/checkpoint_000002"), Path("trial-001/checkpoint_000001"))
    again = open_ledger(tmp_path)
    (read,) = again.running()
    assert read == trial
    assert {epoch: record.metrics["loss_total"] for epoch, record in read.epochs.items()} == {1: 1, 2: 0.5, 3: 1 / 3}
    assert abs(time.time() - read.epochs[3].time_ms / 1000) < 60
    restarted = again.restart(read)
    assert (list(restarted.epochs), restarted.metrics["epoch"]) == ([1, 2], 2)
    repeated = again.record_metrics(restarted, {"epoch": 3, "loss_total": 0.25})
    assert (list(repeated.epochs), repeated.metrics) == ([1, 2, 3], {"epoch": 3, "loss_total": 0.25})


def test_lists_of_trials_equal_those_of_a_reopened_ledger(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    ledger.start_baseline("b", {"training.seed": 1})
    ledger.finish(ledger.record_metrics(proposed(ledger), {"epoch": 1, "mr2_reasonable": 0.5, "flops": 1}))
    ledger.fail(proposed(ledger), "boom")
    ledger.restart(proposed(ledger))
    again = open_ledger(tmp_path)
    assert again.trials() == ledger.trials()
    assert (again.num_proposed, again.started_baselines) == (3, {"b"})
    assert proposed(again).params not in [trial.params for trial in ledger.trials()]


def test_proposals_do_not_depend_on_interruptions(tmp_path: Path) -> None:
    # The sampler is random: the n-th proposal is the same in one session and in several.
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    ledger = open_ledger(one)
    uninterrupted = [proposed(ledger).params for _ in range(3)]
    interrupted = [proposed(open_ledger(two)).params for _ in range(3)]
    assert interrupted == uninterrupted
    assert len({params["student.width_multiplier"] for params in uninterrupted}) == 3


def test_finite_space_is_proposed_once_each_and_then_exhausted(tmp_path: Path) -> None:
    space: dict[str, BaseDistribution] = {"a": CategoricalDistribution(("x", "y")), "b": IntDistribution(1, 2)}
    ledger = open_ledger(tmp_path, space, num_configurations=4)
    trials = [proposed(ledger) for _ in range(4)]
    assert {(trial.params["a"], trial.params["b"]) for trial in trials} == {("x", 1), ("x", 2), ("y", 1), ("y", 2)}
    assert [trial.trial_id for trial in trials] == ["trial-001", "trial-002", "trial-003", "trial-004"]
    assert ledger.start_proposed() is None


def test_sampler_that_repeats_one_trial_is_replaced_by_random_sampling(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / JOURNAL, OBJECTIVES, SPACE, None, lambda _: RandomSampler(seed=0))
    first, second = proposed(ledger), proposed(ledger)
    assert (first.trial_id, second.trial_id) == ("trial-001", "trial-002")
    assert first.params != second.params


def test_empty_space_proposes_nothing(tmp_path: Path) -> None:
    assert open_ledger(tmp_path, {}).start_proposed() is None


def test_error_of_failed_trial_is_recorded_without_credentials(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    failed = ledger.fail(proposed(ledger), "OSError: cannot reach postgresql://me:s3cret@db/x")
    assert failed.error == "OSError: cannot reach postgresql://***@db/x"
    assert not any(b"s3cret" in path.read_bytes() for path in tmp_path.iterdir())


def test_optunas_studies_have_the_name_of_the_study_and_of_its_metrics(tmp_path: Path) -> None:
    journal = tmp_path / JOURNAL
    for _ in range(2):
        Ledger(journal, OBJECTIVES, SPACE, None, lambda number: RandomSampler(seed=number), name="mine")
    storage = JournalStorage(JournalFileBackend(str(journal)))
    names = [study.study_name for study in storage.get_all_studies()]
    assert names == ["mine (baselines)", "mine", "mine (confirmations)"]
    for name in names:
        assert optuna.load_study(study_name=name, storage=storage).metric_names == list(OBJECTIVES)


def test_journal_of_an_earlier_version_is_continued(tmp_path: Path) -> None:
    journal = tmp_path / JOURNAL
    storage = JournalStorage(JournalFileBackend(str(journal)))
    for role in ("baseline", "trial", "confirmation"):
        optuna.create_study(study_name=role, storage=storage, directions=["minimize"] * len(OBJECTIVES))
    # The name of a role, too, is one that a study may have.
    for _ in range(2):
        Ledger(journal, OBJECTIVES, SPACE, None, lambda number: RandomSampler(seed=number), name="baseline")
    storage = JournalStorage(JournalFileBackend(str(journal)))
    assert [study.study_name for study in storage.get_all_studies()] == ["baseline", "trial", "confirmation"]
