"""A trial on a worker, called as Tune does but in this process."""

from __future__ import annotations

import gc
import json
import math
import os
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hkd.config import TrialConfig
from hkd.config_files.parsing import load_config, parse_config
from hkd.data import prepare as prepare_module
from hkd.data.prepare import prepare_data
from hkd.data.test_images import PreparedTestImages
from hkd.data.unlabelled import UnlabelledImagesError
from hkd.evaluation.bootstrap import resample_outcomes
from hkd.evaluation.formats.stored_detections import read_stored_detections
from hkd.models.weights import load_detector, read_metadata
from hkd.runtime.usage import UsageMeter
from hkd.training import fit as fit_module
from hkd.training.memory import BatchTooLargeError
from hkd.training.pyramid_cache.capacity import CacheBudget
from hkd.training.teacher.prepare import prepare_teacher
from hkd.training.teacher.pseudo_labels import prepare_labels
from sweeps.folder import ARTIFACTS
from sweeps.settings.space import trial_config
from sweeps.trials import worker as trial_module
from sweeps.trials.worker import METRICS, NOTE, SPEC, TrialSpec, WorkerSettings, reported_metrics
from tests.process_configuration import TrainerBuiltError, record_configuration
from tests.sweeps.in_process_worker import worker
from tests.sweeps.tiny import tiny_trial, with_unlabelled_images
from tests.training.limited import limited_teacher

pytestmark = pytest.mark.usefixtures("restored_process")


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> TrialSpec:
    folder = tmp_path_factory.mktemp("trial")
    config = parse_config(TrialConfig, tiny_trial(folder / "cache"), source="tiny")
    teacher = prepare_teacher(config, prepare_data(config.data, progress=False), folder)
    return TrialSpec("trial-001", config, teacher.path, None, "trial-001", WorkerSettings(1, False, folder))


def changed(spec: TrialSpec, **changes: object) -> TrialSpec:
    return replace(
        spec, config=trial_config(spec.config, {name.replace("__", "."): value for name, value in changes.items()})
    )


def test_trial_is_evaluated_at_rungs(spec: TrialSpec) -> None:
    for rungs, is_evaluated in (((), False), ((1,), True)):
        trial = worker()
        trial.setup({SPEC: replace(changed(spec, training__evaluate_every_epochs=2), rungs=rungs)})
        assert ("mr2_reasonable" in reported_metrics(trial.step())) is is_evaluated


def test_trial_from_start_to_artifacts(spec: TrialSpec, tmp_path: Path) -> None:
    trial = worker()
    trial.setup({SPEC: spec})
    first, second = trial.step(), trial.step()
    assert (first["done"], second["done"]) == (False, True)
    metrics = reported_metrics(first)
    assert (metrics["epoch"], metrics["budget_fraction"]) == (1, 0.5)
    assert {"loss_total", "distill_pyramid", "mr2_reasonable", "ap"} <= metrics.keys()
    assert all(math.isfinite(value) for value in metrics.values())
    # The last result is complete, including the costs.
    final = reported_metrics(second)
    assert final["budget_fraction"] == 1
    assert trial._trainer is not None
    assert final["num_params"] == trial._trainer.cost.num_params
    assert final["gmacs"] == final["flops"] / 2e9
    trial.save_checkpoint(str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"training_state.pt", *ARTIFACTS}
    assert load_config(tmp_path / "config.yaml") == spec.config
    assert json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8")) == final
    student, metadata = load_detector(tmp_path / "student.safetensors")
    assert sum(parameter.numel() for parameter in student.parameters()) == final["num_params"]
    assert metadata.metrics["mr2_reasonable"] == final["mr2_reasonable"]
    curves = json.loads((tmp_path / "miss_rate_curve.json").read_text(encoding="utf-8"))
    assert curves["reasonable"].keys() == {"fppi", "miss_rate"}
    stored = read_stored_detections(tmp_path / "validation_detections.safetensors")
    resampled = resample_outcomes(stored.matches("all"), ("all",), stored.fppi_points, stored.miss_rate_floor)
    assert resampled.values[0] == pytest.approx(final["mr2_all"], rel=1e-12)


def test_resumed_trial_is_bit_identical(spec: TrialSpec, tmp_path: Path) -> None:
    uninterrupted = worker()
    uninterrupted.setup({SPEC: spec})
    uninterrupted.step()
    uninterrupted.save_checkpoint(str(tmp_path))
    expected = reported_metrics(uninterrupted.step())
    resumed = worker()
    resumed.setup({SPEC: replace(spec, resume_from=tmp_path)})
    result = resumed.step()
    timings = ("seconds", "images_per_second", "peak_memory_bytes", "utilisation")
    assert result["done"]
    assert {name: value for name, value in reported_metrics(result).items() if name not in timings} == {
        name: value for name, value in expected.items() if name not in timings
    }


def test_unreadable_checkpoint_is_replaced_by_the_one_before_it_or_the_first_epoch(
    spec: TrialSpec, tmp_path: Path
) -> None:
    trial = worker()
    trial.setup({SPEC: spec})
    one, two = tmp_path / "one", tmp_path / "two"
    expected = []
    for folder in (one, two):
        expected.append(reported_metrics(trial.step())["loss_total"])
        folder.mkdir()
        trial.save_checkpoint(str(folder))
    os.truncate(two / "training_state.pt", (two / "training_state.pt").stat().st_size // 2)
    resumed = worker()
    resumed.setup({SPEC: replace(spec, resume_from=two, resume_otherwise_from=one)})
    result = resumed.step()
    metrics = reported_metrics(result)
    assert (metrics["epoch"], metrics["loss_total"]) == (2, expected[1])
    assert "epoch 2" in result[NOTE]
    assert str(two / "training_state.pt") in result[NOTE]
    os.truncate(one / "training_state.pt", 0)
    resumed.reset_config({SPEC: replace(spec, resume_from=two, resume_otherwise_from=one)})
    result = resumed.step()
    metrics = reported_metrics(result)
    assert (metrics["epoch"], metrics["loss_total"], result["done"]) == (1, expected[0], False)
    assert all(str(folder / "training_state.pt") in result[NOTE] for folder in (one, two))
    assert resumed.step()[NOTE] is None


def test_trial_interrupted_after_last_checkpoint_only_reports(spec: TrialSpec, tmp_path: Path) -> None:
    trial = worker()
    trial.setup({SPEC: spec})
    trial.step()
    expected = reported_metrics(trial.step())
    trial.save_checkpoint(str(tmp_path))
    resumed = worker()
    resumed.setup({SPEC: replace(spec, resume_from=tmp_path)})
    result = resumed.step()
    assert result["done"]
    assert reported_metrics(result) == expected


def test_reused_worker_keeps_data_and_teacher_only(spec: TrialSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def count(name: str) -> None:
        original = getattr(trial_module, name)

        def counted(*given: Any, **named: Any) -> Any:
            read.append(name)
            return original(*given, **named)

        monkeypatch.setattr(trial_module, name, counted)

    trial_module._data.cache_clear()
    trial_module._teacher.cache_clear()
    count("prepare_data")
    count("load_teacher")
    trial = worker()
    trial.setup({SPEC: spec})
    fresh = reported_metrics(trial.step())
    other = changed(spec, student__pyramid_channels=24, data__augmentation__flip_probability=0.0)
    assert trial.reset_config({SPEC: other})
    # The settings of the next trial apply, those of augmentation included.
    assert trial._trainer is not None
    assert trial._trainer.config == other.config
    assert trial._metrics == {}
    # A trial on a reused worker gives the same result as on a new one.
    trial.reset_config({SPEC: spec})
    again = reported_metrics(trial.step())
    assert again["loss_total"] == fresh["loss_total"]
    assert read == ["prepare_data", "load_teacher"]


def test_trial_trains_on_labels_of_unlabelled_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = with_unlabelled_images(tiny_trial(tmp_path / "cache"), tmp_path / "footage")
    config = parse_config(TrialConfig, raw, source="tiny")
    data = prepare_data(config.data, progress=False)
    teacher = prepare_teacher(config, data, tmp_path)
    labels = prepare_labels(config, data, teacher)
    assert labels is not None
    assert data.unlabelled is not None
    settings = WorkerSettings(1, False, tmp_path)
    # Only the driver searches the folder and compares its images with the others.
    for name in ("find_images", "check_copies", "without_training_files", "check_pixels"):
        monkeypatch.setattr(prepare_module, name, lambda *_, **__: pytest.fail("the worker repeats it"))
    spec = TrialSpec("trial-001", config, teacher.path, None, "trial-001", settings, labels=labels.path)
    trial = worker()
    trial.setup({SPEC: spec})
    first = reported_metrics(trial.step())
    trial.save_checkpoint(str(tmp_path))
    expected = reported_metrics(trial.step())
    # Resumed on a reused worker, after a baseline without unlabelled images.
    assert trial.reset_config({SPEC: changed(spec, data__unlabelled_images=None)})
    assert reported_metrics(trial.step())["loss_total"] != first["loss_total"]
    trial.reset_config({SPEC: replace(spec, resume_from=tmp_path)})
    assert reported_metrics(trial.step())["loss_total"] == expected["loss_total"]
    trained = trial._trainer
    assert trained is not None
    assert trained._settings["content of the unlabelled images"] == data.unlabelled.store.checksum
    # A machine that lacks an image, and one that has no such folder.
    (tmp_path / "footage" / "0.png").unlink()
    for machine, message in (("other images", r"1 of 5 .*0\.png.*every machine"), ("none", r"5 of 5.*every machine")):
        if machine == "none":
            (tmp_path / "footage").rename(tmp_path / "elsewhere")
        trial_module._data.cache_clear()
        trial_module._labels.cache_clear()
        trial.reset_config({SPEC: spec})
        with pytest.raises(UnlabelledImagesError, match=rf"data\.unlabelled_images: .*{message}"):
            trial.step()


def test_cached_pyramids_do_not_change_results(spec: TrialSpec, tmp_path: Path) -> None:
    trial = worker()
    fractions = []
    for cache in (None, CacheBudget(tmp_path, 10**9), CacheBudget(tmp_path, 10**9)):
        trial.reset_config({SPEC: replace(spec, teacher_cache=cache)})
        metrics = reported_metrics(trial.step())
        fractions.append(metrics.get("teacher_cached_fraction"))
        if cache is None:
            expected = metrics
        shared = expected.keys() - {"seconds", "images_per_second", "utilisation", "peak_memory_bytes"}
        assert {name: metrics[name] for name in shared} == {name: expected[name] for name in shared}
    assert fractions == [None, 0, 1]


def test_reused_worker_keeps_no_trainer_and_fuses_the_teacher_once(spec: TrialSpec, tmp_path: Path) -> None:
    cached = replace(spec, teacher_cache=CacheBudget(tmp_path, 10**9))
    trial = worker()
    trial.setup({SPEC: cached})
    fresh = reported_metrics(trial.step())
    assert trial._trainer is not None
    teacher, cache = trial._trainer._teacher, trial._trainer.teacher_cache
    assert cache is not None
    folder, previous = cache._folder, weakref.ref(trial._trainer)
    trial.reset_config({SPEC: changed(cached, student__pyramid_channels=24)})
    assert previous() is None
    # Later collections leave libraries and teacher out, but no trial.
    assert not any(each is teacher for each in gc.get_objects())
    trial.step()
    previous = weakref.ref(trial._trainer)
    trial.reset_config({SPEC: cached})
    assert previous() is None
    assert trial._trainer is not None
    assert trial._trainer._teacher is teacher
    assert trial._trainer.teacher_cache is not None
    assert trial._trainer.teacher_cache._folder == folder
    again = reported_metrics(trial.step())
    # The random state and the teacher that other trials left change no bit.
    others = {"seconds", "images_per_second", "utilisation", "peak_memory_bytes", "teacher_cached_fraction"}
    assert {name: again[name] for name in fresh.keys() - others} == {
        name: fresh[name] for name in fresh.keys() - others
    }
    trial.reset_config({SPEC: changed(spec, training__precision="bf16")})
    bf16 = trial._trainer
    trial.reset_config({SPEC: changed(spec, training__precision="fp32")})
    assert trial._trainer is not None
    assert bf16 is not trial._trainer
    assert trial._trainer._teacher is not None
    assert {each.dtype for each in trial._trainer._teacher.buffers() if each.is_floating_point()} == {torch.float32}


def test_worker_releases_cache_of_previous_trial(spec: TrialSpec, tmp_path: Path) -> None:
    trial = worker()
    trial.setup({SPEC: replace(spec, teacher_cache=CacheBudget(tmp_path, 10**9))})
    held = trial._trainer  # as an error's traceback may hold it
    assert held is not None
    (user,) = tmp_path.glob("*/users/*")
    trial.reset_config({SPEC: spec})
    assert not user.exists()
    trial.reset_config({SPEC: replace(spec, teacher_cache=CacheBudget(tmp_path, 10**9))})
    (user,) = tmp_path.glob("*/users/*")
    held = trial._trainer
    trial.cleanup()
    assert not user.exists()


def test_undistilled_trial_needs_no_teacher(spec: TrialSpec) -> None:
    trial = worker()
    undistilled = changed(
        spec, distillation__pyramid__weight=0, distillation__region__weight=0, distillation__logits__weight=0
    )
    trial.setup({SPEC: replace(undistilled, teacher=Path("nowhere.safetensors"))})
    assert not [name for name in trial.step()[METRICS] if name.startswith("distill")]


def test_error_at_start_is_raised_at_first_step(spec: TrialSpec) -> None:
    trial = worker()
    assert trial.reset_config({SPEC: replace(spec, teacher=Path("nowhere.safetensors"))})
    with pytest.raises(ValueError, match=r"nowhere\.safetensors: no such file"):
        trial.step()
    # The worker can still be used.
    assert trial.reset_config({SPEC: spec})
    assert trial.step()[METRICS]["epoch"] == 1


def test_peak_memory_is_maximum_over_epochs(spec: TrialSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = iter([3e9, 2e9])

    class Meter(UsageMeter):
        def read(self) -> dict[str, float]:
            measured = super().read()
            assert measured["peak_memory_bytes"] > 0
            assert 0 < measured["utilisation"] <= 1
            return {**measured, "peak_memory_bytes": next(peaks)}

    monkeypatch.setattr(fit_module, "UsageMeter", Meter)
    trial = worker()
    trial.setup({SPEC: spec})
    assert reported_metrics(trial.step())["peak_memory_bytes"] == 3e9
    # The second epoch needs less: the trial's peak is the first epoch's.
    assert reported_metrics(trial.step())["peak_memory_bytes"] == 3e9


def test_batch_that_does_not_fit_fails_only_one_trial(spec: TrialSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = trial_module._teacher
    monkeypatch.setattr(trial_module, "_teacher", lambda *_: limited_teacher(3, shape=spec.config.teacher))
    trial = worker()
    trial.setup({SPEC: spec})
    with pytest.raises(
        BatchTooLargeError, match=r"training.batch_size 4 at 64 x 96 .* the largest that does is 3: set"
    ):
        trial.step()
    monkeypatch.setattr(trial_module, "_teacher", teacher)
    assert trial.reset_config({SPEC: spec})
    assert trial.step()[METRICS]["epoch"] == 1


def test_worker_without_gpu_sees_none(tmp_path: Path) -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = "0"
    WorkerSettings(1, has_gpu=True, working_directory=tmp_path).apply()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    WorkerSettings(1, has_gpu=False, working_directory=tmp_path).apply()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert Path.cwd() == tmp_path


def test_deployed_student_has_no_adapters(spec: TrialSpec, tmp_path: Path) -> None:
    trial = worker()
    trial.setup({SPEC: spec})
    trial.step()
    trial.save_checkpoint(str(tmp_path))
    assert read_metadata(tmp_path / "student.safetensors").config.pyramid_channels == 16
    assert trial._trainer is not None
    assert trial._trainer._objective is not None


def test_process_is_configured_for_each_trial(spec: TrialSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    configured = record_configuration(monkeypatch, trial_module)
    trial = worker()
    trial.setup({SPEC: changed(spec, training__device="cpu")})
    trial.reset_config({SPEC: changed(spec, training__device="cpu", training__num_threads=3)})
    with pytest.raises(TrainerBuiltError):
        trial.step()
    assert configured == [("cpu", 0), ("cpu", 3)]


def test_confirmation_is_evaluated_on_test_images_at_its_end(spec: TrialSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    data = prepare_data(spec.config.data, progress=False)
    # The validation images in their place, so that both results must be equal.
    images = PreparedTestImages(data.validation_annotations, data.validation_store)
    monkeypatch.setattr(trial_module, "open_test_images", lambda *_, **__: images)
    trial_module._test_images.cache_clear()
    trial = worker()
    trial.setup({SPEC: replace(spec, is_tested=True)})
    first, last = reported_metrics(trial.step()), reported_metrics(trial.step())
    trial_module._test_images.cache_clear()
    assert not any(name.startswith("test_") for name in first)
    measured = [name for name in last if name.startswith(("mr2_", "ap"))]
    assert "mr2_reasonable" in measured
    assert {name: last[f"test_{name}"] for name in measured} == {name: last[name] for name in measured}
