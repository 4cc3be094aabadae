"""Trials of another study, from which a sampler starts."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from hkd.config import LatencyConfig, TrialConfig
from hkd.models.cost import Cost
from sweeps.folder import StudyError, StudyFolder
from sweeps.settings.space import trial_config
from sweeps.settings.study import StudyConfig
from sweeps.trials import warm_start as warm_start_module
from sweeps.trials.cost import student_cost
from sweeps.trials.latency.shapes import detectors_to_measure
from sweeps.trials.records import trial as record_module
from sweeps.trials.records.journal import LedgerError
from sweeps.trials.records.ledger import open_ledger
from sweeps.trials.records.trial import read_trials
from sweeps.trials.warm_start import WarmStart, check_same_teacher, find_warm_start
from tests.sweeps.tiny import tiny_trial
from tests.sweeps.trials.latency.measured import write_table

OBJECTIVES = ("mr2_reasonable", "num_params")
HEADS = {"student.head_channels": {"type": "categorical", "choices": [16, 24, 32]}}


def study(folder: Path, name: str, space: dict[str, Any], *, epochs: int = 2, **search: Any) -> StudyConfig:
    base = {**tiny_trial(folder / "cache", total_epochs=epochs), "teacher": None}
    raw = {"name": name, "base": base, "space": space, "search": {"num_trials": 3, "sampler": "random", **search}}
    return StudyConfig.model_validate({**raw, "objectives": OBJECTIVES, "storage_path": folder, "baselines": {}})


@pytest.fixture
def other(tmp_path: Path) -> StudyConfig:
    """A study of three finished trials."""
    config = study(tmp_path, "other", HEADS)
    folder = StudyFolder(config)
    folder.write_study(config)
    ledger = open_ledger(config, folder.journal)
    while (trial := ledger.start_proposed()) is not None:
        costs = student_cost(trial_config(config.base, trial.params)).as_metrics()
        heads = trial.params["student.head_channels"]
        ledger.finish(ledger.record_metrics(trial, {"mr2_reasonable": heads / 100, **costs}))
    return config


def found(config: StudyConfig) -> WarmStart:
    warm_start = find_warm_start(config)
    assert warm_start is not None
    return warm_start


def test_sampler_learns_from_trials_of_both_spaces(tmp_path: Path, other: StudyConfig) -> None:
    space = {
        # Without 32, and with a setting that the other study has at 0.05.
        "student.head_channels": {"type": "int", "low": 8, "high": 24, "step": 8},
        "training.weight_decay": {"type": "float", "low": 0.0, "high": 0.1},
    }
    config = study(tmp_path, "mine", space, warm_start="other")
    warm_start = found(config)
    assert {tuple(result.params.values()) for result in warm_start.results} == {(16, 0.05), (24, 0.05)}
    assert [result.values[0] for result in warm_start.results] == [
        result.params["student.head_channels"] / 100 for result in warm_start.results
    ]
    assert "2 of 3 finished trials of the study other; left out: 1 (student.head_channels: found 32" in (
        warm_start.describe()
    )
    before = StudyFolder(other).journal.read_bytes()
    ledger = open_ledger(config, tmp_path / "journal")
    assert ledger.add_results(warm_start.results) == 2
    # Once, and not as trials of this study.
    assert ledger.add_results(warm_start.results) == 0
    assert ledger.trials() == []
    started = ledger.start_proposed()
    assert started is not None
    assert started.trial_id == "trial-001"
    assert StudyFolder(other).journal.read_bytes() == before


def test_configurations_of_the_other_study_are_not_run_again(tmp_path: Path, other: StudyConfig) -> None:
    space = {"student.head_channels": {"type": "categorical", "choices": [16, 24, 8]}}
    config = study(tmp_path, "mine", space, warm_start=str(StudyFolder(other).path))
    ledger = open_ledger(config, tmp_path / "journal")
    ledger.add_results(found(config).results)
    started = ledger.start_proposed()
    assert started is not None
    assert started.params == {"student.head_channels": 8}
    assert ledger.start_proposed() is None


def test_other_trainings_are_refused(tmp_path: Path, other: StudyConfig) -> None:
    config = study(tmp_path, "mine", HEADS, epochs=3, warm_start=other.name)
    with pytest.raises(StudyError, match=r"none of its 3 .*training\.total_epochs is 2, and 3 in this study"):
        find_warm_start(config)


def test_unknown_study_is_refused(tmp_path: Path, other: StudyConfig) -> None:
    with pytest.raises(StudyError, match=r"search\.warm_start: there is no study in .*none"):
        find_warm_start(study(tmp_path, "mine", HEADS, warm_start="none"))
    with pytest.raises(StudyError, match="is this study"):
        find_warm_start(study(tmp_path, "other", HEADS, warm_start=other.name))
    assert find_warm_start(study(tmp_path, "mine", HEADS)) is None


def test_costs_of_another_definition_are_left_out(
    tmp_path: Path, other: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def counted_in_another_way(config: TrialConfig) -> Cost:
        cost = student_cost(config)
        return replace(cost, num_params=cost.num_params + 1) if config.student.head_channels == 16 else cost

    monkeypatch.setattr(warm_start_module, "student_cost", counted_in_another_way)
    warm_start = found(study(tmp_path, "mine", HEADS, warm_start=other.name))
    assert len(warm_start.results) == 2
    assert warm_start.left_out == {"num_params was counted in another way": 1}


def _timed(config: StudyConfig, table: Path | None) -> StudyConfig:
    evaluation = config.base.evaluation.model_copy(update={"latency": LatencyConfig(table=table)})
    base = config.base.model_copy(update={"evaluation": evaluation})
    return config.model_copy(update={"base": base, "objectives": ("mr2_reasonable", "latency_ms")})


def test_latencies_of_the_other_study_are_shared_by_naming_its_file(tmp_path: Path) -> None:
    other = _timed(study(tmp_path, "other", HEADS), None)  # as study.yaml has it: measured by the study itself
    folder = StudyFolder(other)
    folder.write_study(other)
    size = other.base.data.image_height, other.base.data.image_width
    shapes = detectors_to_measure(other)
    table = write_table(folder.latency_file, shapes, *size)
    ledger = open_ledger(other, folder.journal)
    while (trial := ledger.start_proposed()) is not None:
        costs = student_cost(trial_config(_timed(other, table).base, trial.params)).as_metrics()
        ledger.finish(ledger.record_metrics(trial, {"mr2_reasonable": 0.5, **costs}))
    new = study(tmp_path, "new", HEADS, warm_start="other")
    assert len(found(_timed(new, table)).results) == 3
    slower = write_table(tmp_path / "slower.json", shapes, *size, factor=2.0)
    with pytest.raises(StudyError, match="latency_ms was measured in another way"):
        find_warm_start(_timed(new, slower))
    # Known before this study measures its own.
    with pytest.raises(StudyError, match=r"latency\.table.*other/latency\.json"):
        find_warm_start(_timed(new, None))


def test_teacher_of_other_images_is_refused(tmp_path: Path) -> None:
    warm_start = WarmStart("other", (), Counter(), tmp_path / "teachers" / "a1" / "teacher.safetensors")
    check_same_teacher(warm_start, tmp_path / "elsewhere" / "a1" / "teacher.safetensors")
    with pytest.raises(StudyError, match="training or validation images differ"):
        check_same_teacher(warm_start, tmp_path / "teachers" / "b2" / "teacher.safetensors")


def test_results_of_which_a_killed_process_wrote_some_are_completed(tmp_path: Path, other: StudyConfig) -> None:
    config = study(tmp_path, "mine", HEADS, warm_start=other.name)
    results = found(config).results
    journal = tmp_path / "journal"
    ledger = open_ledger(config, journal)
    before = len(journal.read_bytes().splitlines())
    ledger.add_results(results)
    # Each result is one record.
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[: before + 2]))
    resumed = open_ledger(config, journal)
    assert not resumed.has_given_results
    resumed.add_results(results)
    assert open_ledger(config, journal).has_given_results
    backend = JournalFileBackend(str(journal))
    trials = optuna.load_study(study_name=config.name, storage=JournalStorage(backend)).trials
    assert sorted(each.params["student.head_channels"] for each in trials) == [16, 24, 32]


def test_queued_settings_of_the_other_study_do_not_exhaust_the_space(tmp_path: Path, other: StudyConfig) -> None:
    space = {"student.head_channels": {"type": "int", "low": 8, "high": 256, "step": 8}}
    config = study(tmp_path, "mine", space, warm_start=other.name, sampler="front")
    ledger = open_ledger(config, tmp_path / "journal")
    ledger.add_results(found(config).results)
    # As many as the proposals after which the space of the sampler front counts as exhausted.
    assert ledger.enqueue([{"student.head_channels": heads} for heads in (16, 24, 32)]) == 3
    started = ledger.start_proposed()
    assert started is not None
    assert started.params["student.head_channels"] not in (16, 24, 32)


def test_journal_that_cannot_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(record_module, "JournalFileBackend", refuse)
    with pytest.raises(LedgerError, match="journal.*Permission denied"):
        read_trials(tmp_path / "journal")
