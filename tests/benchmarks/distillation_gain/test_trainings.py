"""Trainings of a miniature benchmark: results, resumption, locks and the command."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from filelock import FileLock

from benchmarks.distillation_gain import trainings
from benchmarks.distillation_gain.__main__ import main
from benchmarks.distillation_gain.conditions import Condition
from benchmarks.distillation_gain.jobs import Jobs
from benchmarks.distillation_gain.results import Result
from benchmarks.distillation_gain.scenes import Scenes, ScenesError, content_hash
from benchmarks.distillation_gain.trainings import Training, run
from tests.benchmarks.distillation_gain.miniature import (
    ALONE,
    DISTILLED,
    miniature_benchmark,
    miniature_jobs,
    write_miniature,
)
from tests.process_configuration import TrainerBuiltError, record_configuration


def training_of(jobs: Jobs, condition: Condition, out: Path) -> Training:
    """A training, with its results in another folder."""
    training = jobs.training(condition)
    assert training is not None
    return dataclasses.replace(training, out=out)


def measured(path: Path) -> dict[str, object]:
    """What a training measured, without times."""
    record = json.loads(path.read_text(encoding="utf-8"))
    times = ("seconds", "images_per_second", "utilisation", "peak_memory_bytes")
    cache = ("teacher_cached_fraction", "teacher_cache_damaged")
    last = {name: value for name, value in record["last_epoch"].items() if name not in times + cache}
    kept = ("metrics", "resampled_mr2_reasonable", "trained_steps")
    return {**{name: record[name] for name in kept}, "last_epoch": last}


class _StopAfter:
    """An event that is set after as many steps."""

    def __init__(self, steps: int) -> None:
        self._limit = steps
        self.steps = 0

    def is_set(self) -> bool:
        self.steps += 1
        return self.steps > self._limit


def test_interrupted_training_resumes_to_the_same_result(
    jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = training_of(jobs, DISTILLED, tmp_path / "whole")
    assert run(whole) == "finished"
    parts = training_of(jobs, DISTILLED, tmp_path / "parts")
    state = parts.out / "running" / parts.name / "training_state.pt"
    # 8 scenes in batches of 4: two steps an epoch. The third step is lost.
    monkeypatch.setattr(trainings, "_stop", [_StopAfter(2)])
    assert run(parts) == "stopped"
    assert state.is_file()
    assert not parts.is_finished
    never = _StopAfter(1000)
    monkeypatch.setattr(trainings, "_stop", [never])
    assert run(parts) == "finished"
    # The second epoch alone.
    assert never.steps == 2
    assert measured(parts.result_path) == measured(whole.result_path)
    assert not state.parent.exists()


def test_state_of_other_settings_is_replaced(jobs: Jobs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    training = training_of(jobs, ALONE, tmp_path)
    state = tmp_path / "running" / training.name / "training_state.pt"
    state.parent.mkdir(parents=True)
    state.write_bytes(b"of another version")
    assert run(training) == "finished"
    assert "starts again" in capsys.readouterr().err


def test_result_has_metrics_cost_and_steps(jobs: Jobs, tmp_path: Path) -> None:
    training = training_of(jobs, DISTILLED, tmp_path)
    assert run(training) == "finished"
    result = Result.read(training.result_path)
    assert result is not None
    assert {"mr2_reasonable", "mr2_all", "ap"} <= result.metrics.keys()
    assert len(result.resampled_mr2_reasonable) == 1000
    assert result.trained_steps == 4
    assert result.condition == dataclasses.asdict(DISTILLED)
    assert result.settings["distillation.pyramid.weight"] == 1
    # Finished: a second run does nothing.
    before = training.result_path.stat().st_mtime_ns
    assert run(training) == "finished"
    assert training.result_path.stat().st_mtime_ns == before


def test_trainings_of_a_group_share_the_teachers_pyramids(jobs: Jobs, tmp_path: Path) -> None:
    fractions = []
    for steps in (4, 2):
        training = training_of(jobs, dataclasses.replace(DISTILLED, steps=steps), tmp_path)
        assert run(training) == "finished"
        result = Result.read(training.result_path)
        assert result is not None
        fractions.append(result.last_epoch["teacher_cached_fraction"])
    assert fractions == [0.0, 1.0]


def test_unlabelled_scenes_are_labelled_by_the_teacher(jobs: Jobs, tmp_path: Path) -> None:
    # 8 labelled and 3 unlabelled scenes, one of which is that seed's validation scene: 2 steps of 4 an epoch.
    training = training_of(jobs, dataclasses.replace(DISTILLED, row="unlabelled", steps=6), tmp_path)
    assert training.settings["training.total_epochs"] == 3
    assert run(training) == "finished"
    result = Result.read(training.result_path)
    assert result is not None
    assert result.trained_steps == 6
    weights = jobs.teacher_weights("strong")
    (labels,) = weights.parent.glob("labels-*.json")
    assert len(json.loads(labels.read_text(encoding="utf-8"))["images"]) == 3
    # The key covers the content of these scenes; the path is no part of the settings.
    assert training.settings["data.unlabelled_images"] == "unlabelled"


def test_training_that_another_process_runs_is_left_to_it(jobs: Jobs, tmp_path: Path) -> None:
    training = training_of(jobs, DISTILLED, tmp_path)
    lock = tmp_path / "locks" / f"{training.name}.lock"
    lock.parent.mkdir(parents=True)
    with FileLock(lock):
        assert run(training) == "locked"
    assert not training.is_finished


def test_teacher_is_evaluated_from_its_file(jobs: Jobs, tmp_path: Path) -> None:
    training = jobs.teacher_evaluation("strong")
    assert training is not None
    assert run(training) == "finished"
    result = Result.read(training.result_path)
    trained = Result.read(jobs.teacher_training("strong").result_path)
    assert result is not None
    assert trained is not None
    # The evaluation at the end of its training, on the same scenes.
    assert result.metrics == pytest.approx(trained.metrics)
    assert result.resampled_mr2_reasonable == trained.resampled_mr2_reasonable


def test_condition_waits_for_its_teacher(tmp_path: Path) -> None:
    jobs = miniature_jobs(miniature_benchmark(tmp_path), tmp_path / "out")
    assert jobs.training(DISTILLED) is None
    assert jobs.teacher_evaluation("strong") is None
    assert jobs.training(ALONE) is not None


def test_process_of_a_training_is_configured(jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configured = record_configuration(monkeypatch, trainings)
    with pytest.raises(TrainerBuiltError):
        run(training_of(jobs, DISTILLED, tmp_path))
    assert configured == [("cpu", 1)]


def test_subset_of_each_seed_follows_the_previous_one(tmp_path: Path) -> None:
    config = miniature_benchmark(tmp_path).catalogue.scenes
    scenes = Scenes(tmp_path / "out", config, progress=False)
    whole = json.loads(scenes.train(8, seed=0).read_text(encoding="utf-8"))
    assert scenes.train(8, seed=5) == scenes.train(8, seed=0)
    # Of 8 scenes, 3 from 3 times the seed on: seed 2 has two that remain and the first again; 3 * 8 is a multiple of 8.
    for seed, offset, places in [(0, 0, [0, 1, 2]), (1, 3, [3, 4, 5]), (2, 6, [6, 7, 0]), (8, 0, [0, 1, 2])]:
        path = scenes.train(3, seed)
        assert path.name == f"train_000003_from_{offset:06d}.json"
        part = json.loads(path.read_text(encoding="utf-8"))
        assert part["images"] == [whole["images"][place] for place in places]
        ids = {image["id"] for image in part["images"]}
        assert part["annotations"] == [box for box in whole["annotations"] if box["image_id"] in ids]
    assert len({content_hash(scenes.train(*key)) for key in [(8, 0), (3, 0), (3, 1), (3, 2)]}) == 4
    with pytest.raises(ScenesError, match="9"):
        scenes.train(9, seed=0)


def test_training_reads_the_scenes_of_its_seed(tmp_path: Path) -> None:
    jobs = miniature_jobs(miniature_benchmark(tmp_path), tmp_path / "out")
    files = []
    for seed in (0, 1):
        training = jobs.training(dataclasses.replace(ALONE, labels=4, seed=seed))
        assert training is not None
        files.append(training.places["data.train_annotations"].name)
    assert files == ["train_000004_from_000000.json", "train_000004_from_000004.json"]


def test_weights_of_a_teacher_with_other_settings_are_not_used(tmp_path: Path) -> None:
    benchmark = miniature_benchmark(tmp_path)
    jobs = miniature_jobs(benchmark, tmp_path / "out")
    weights = jobs.teacher_weights("strong")
    training = jobs.teacher_training("strong")
    assert training.exported_weights == weights
    assert weights.name == f"strong-{training.name.rpartition('-')[2]}.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    assert jobs.teacher_training("strong").is_finished
    benchmark.catalogue.teachers["strong"].settings["training.learning_rate"] = 0.5
    assert not jobs.teacher_training("strong").is_finished
    assert jobs.training(DISTILLED) is None
    # A file named by the user has no key.
    given = miniature_jobs(benchmark, tmp_path / "out", given_teachers={"strong": weights})
    assert given.teacher_weights("strong") == weights
    assert given.teacher_descriptions() == {"strong": "weights from a file"}
    assert jobs.teacher_descriptions() == {"strong": "8 labelled scenes, 4 steps"}


def test_scenes_of_another_number_are_refused(tmp_path: Path) -> None:
    config = miniature_benchmark(tmp_path).catalogue.scenes
    Scenes(tmp_path, config, progress=False)
    with pytest.raises(ScenesError, match="images 8 instead of 9"):
        Scenes(tmp_path, config.model_copy(update={"train_images": 9}), progress=False)
    other = "street" if config.style == "hard" else "hard"
    with pytest.raises(ScenesError, match="style"):
        Scenes(tmp_path, config.model_copy(update={"style": other}), progress=False)


@pytest.mark.thorough
def test_command_trains_all_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--config", str(write_miniature(tmp_path / "mini.yaml")), "--out", str(tmp_path / "out")]

    def command(*more: str) -> int:
        return main([*arguments, *more])

    assert command("--max-hours", "0", "--workers", "1") == 1
    assert "No training is finished." in capsys.readouterr().out
    assert command("--workers", "1") == 0
    text = capsys.readouterr().out
    assert "| alone | 4 | 1 |" in text
    assert "| default | 4 | 1 |" in text
    assert command("--list") == 0
    assert "2 finished, 0 missing" in capsys.readouterr().out
    assert not (tmp_path / "out" / "pyramids").exists()
    assert list((tmp_path / "out" / "running").iterdir()) == []
    # The teacher's training and evaluation, and two rows.
    assert len(list((tmp_path / "out" / "trainings").glob("*.json"))) == 4
    assert command("--report") == 0
    assert capsys.readouterr().out == text


def test_wrong_options_are_refused_before_anything_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(write_miniature(tmp_path / "mini.yaml"))
    with pytest.raises(SystemExit) as raised:
        main(["--config", config, "--out", str(tmp_path / "out"), "--plan", "typo"])
    assert raised.value.code == 2
    assert "typo" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
