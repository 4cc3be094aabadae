"""The loop over epochs: what it yields, writes and resumes, and when it evaluates."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hkd.data.prepare import PreparedData
from hkd.models.weight_formats.errors import CheckpointError
from hkd.training.fit import LOG_FILE, STATE_FILE, EpochResult, fit, read_log, resume
from hkd.training.progress import TrainingProgress
from hkd.training.state import load_state
from hkd.training.trainer import Trainer
from tests.training.tiny import trial_config

MakeTrainer = Callable[..., Trainer]
USAGE = {"peak_memory_bytes", "utilisation"}
TIMES = {"seconds", "images_per_second", *USAGE}


@pytest.fixture
def make(scenes_dir: Path, data: PreparedData) -> MakeTrainer:
    """Builds a trainer without a teacher, of three epochs of two steps."""

    def make_trainer(**changes: Any) -> Trainer:
        return Trainer(trial_config(scenes_dir, teacher=None, **changes), data)

    return make_trainer


def without_times(epochs: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in epoch.items() if name not in TIMES} for epoch in epochs]


def test_epochs_are_those_of_trainer_and_evaluated_by_schedule(make: MakeTrainer) -> None:
    plain = make()
    trained = [plain.train_epoch() for _ in range(3)]
    results = list(fit(make(training__evaluate_every_epochs=2)))
    assert [result.epoch for result in results] == [1, 2, 3]
    assert without_times([dict(result.training) for result in results]) == without_times(trained)
    assert [result.evaluation is not None for result in results] == [False, True, True]
    assert all(result.usage.keys() == USAGE for result in results)
    expected = plain.evaluate(plain.detect())
    last = results[-1]
    assert last.evaluation is not None
    assert last.metrics == last.evaluation.result.as_metrics() == expected.as_metrics()
    assert len(last.evaluation.detections.scores) == expected.num_detections
    assert last.measured == {**last.training, **last.metrics, **last.usage}
    assert results[0].metrics == {}


def test_further_epochs_are_evaluated_without_changing_the_training(make: MakeTrainer) -> None:
    plain = list(fit(make(training__evaluate_every_epochs=3)))
    results = list(fit(make(training__evaluate_every_epochs=3), evaluate_after=(1,)))
    assert [result.evaluation is not None for result in plain] == [False, False, True]
    assert [result.evaluation is not None for result in results] == [True, False, True]
    assert without_times([dict(each.training) for each in results]) == without_times(
        [dict(each.training) for each in plain]
    )
    assert results[-1].metrics == plain[-1].metrics


def test_trainer_is_not_ahead_of_yielded_epoch(make: MakeTrainer) -> None:
    # A trial is saved by its caller between two results.
    trainer = make()
    epochs = fit(trainer)
    assert trainer.epoch == 0
    assert next(epochs).epoch == trainer.epoch == 1


def test_log_and_state_are_written_after_each_epoch(make: MakeTrainer, tmp_path: Path) -> None:
    results: list[EpochResult] = []
    for result in fit(make(), tmp_path):
        results.append(result)
        assert read_log(tmp_path) == [earlier.measured for earlier in results]
        assert load_state(tmp_path / STATE_FILE)["epoch"] == result.epoch
    assert {path.name for path in tmp_path.iterdir()} == {LOG_FILE, STATE_FILE}


def test_nothing_is_written_without_folder(make: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    next(fit(make()))
    assert list(tmp_path.iterdir()) == []


def test_interrupted_training_resumes_from_last_epoch_bit_for_bit(make: MakeTrainer, tmp_path: Path) -> None:
    uninterrupted = make()
    expected = list(fit(uninterrupted, tmp_path / "uninterrupted"))

    def interrupt_in_third_epoch(moment: TrainingProgress) -> None:
        if moment.step == 5:
            raise KeyboardInterrupt

    folder = tmp_path / "interrupted"
    with pytest.raises(KeyboardInterrupt):
        list(fit(make(), folder, progress=interrupt_in_third_epoch))
    resumed = make()
    assert not resume(resumed, tmp_path)
    assert resume(resumed, folder)
    results = list(fit(resumed, folder))
    assert [result.epoch for result in results] == [3]
    assert without_times(read_log(folder)) == without_times([result.measured for result in expected])
    for name, tensor in resumed.student.state_dict().items():
        assert torch.equal(tensor, uninterrupted.student.state_dict()[name]), name


def test_log_ahead_of_state_is_truncated(make: MakeTrainer, tmp_path: Path) -> None:
    # As after an interruption between the two writes of the second epoch.
    epochs = fit(make(), tmp_path)
    next(epochs)
    state = (tmp_path / STATE_FILE).read_bytes()
    next(epochs)
    (tmp_path / STATE_FILE).write_bytes(state)
    resumed = make()
    resume(resumed, tmp_path)
    list(fit(resumed, tmp_path))
    assert len(read_log(tmp_path)) == 3


def test_log_of_earlier_training_is_replaced(make: MakeTrainer, tmp_path: Path) -> None:
    (tmp_path / LOG_FILE).write_text(json.dumps([{"loss_total": 1.0}] * 5))
    next(fit(make(), tmp_path))
    assert len(read_log(tmp_path)) == 1


def test_completed_training_is_only_evaluated(make: MakeTrainer, tmp_path: Path) -> None:
    *_, last = fit(make(), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    resumed = make()
    resume(resumed, tmp_path)
    (again,) = fit(resumed, tmp_path)
    assert (again.epoch, again.training, again.usage) == (3, {}, {})
    assert again.metrics == last.metrics
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_resume_with_other_settings_is_refused(make: MakeTrainer, tmp_path: Path) -> None:
    next(fit(make(), tmp_path))
    with pytest.raises(CheckpointError, match=r"training.learning_rate was 0.001 and is 0.01"):
        resume(make(training__learning_rate=0.01), tmp_path)


def test_progress_shows_latest_losses_and_metrics(make: MakeTrainer) -> None:
    moments: list[TrainingProgress] = []
    list(fit(make(training__evaluate_every_epochs=2), title="student 1", progress=moments.append))
    assert [(moment.step, moment.epoch) for moment in moments] == [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (6, 3)]
    assert {(moment.title, moment.total_steps, moment.total_epochs) for moment in moments} == {("student 1", 6, 3)}
    assert all("loss_total" in moment.numbers for moment in moments)
    # The second epoch is evaluated, and its metrics are shown until the next evaluation.
    assert ["mr2_all" in moment.numbers for moment in moments] == [False] * 4 + [True] * 2


def test_progress_keeps_metrics_of_latest_evaluation(make: MakeTrainer) -> None:
    moments: list[TrainingProgress] = []
    list(fit(make(training__total_epochs=4, training__evaluate_every_epochs=2), progress=moments.append))
    # The third epoch is not evaluated: in the fourth the metrics of the second are shown.
    assert ["mr2_all" in moment.numbers for moment in moments] == [False] * 4 + [True] * 4


def test_log_is_written_before_state(make: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A state without its log could not be resumed.
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        next(fit(make(), tmp_path))
    assert len(read_log(tmp_path)) == 1
