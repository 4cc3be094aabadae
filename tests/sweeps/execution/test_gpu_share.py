"""How many trials share a GPU; without a GPU and without Ray."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hkd.config import TrialConfig
from hkd.config_files.parsing import parse_config
from hkd.training.memory import BatchTooLargeError, MemoryNeed
from sweeps.execution import gpu_share as packing
from sweeps.execution.cluster.connection import trial_resources
from sweeps.execution.gpu_fraction import HEADROOM, MAX_TRIALS_PER_GPU, GpuShare, gpu_share
from sweeps.execution.gpu_share import heaviest_trial, share_gpus
from sweeps.settings.resources import Cluster, ResourcesConfig, TrialResources
from sweeps.settings.space import trial_config
from sweeps.settings.study import StudyConfig
from sweeps.trials.cost import student_cost
from sweeps.trials.worker import WorkerSettings
from tests.process_configuration import TrainerBuiltError, record_configuration
from tests.sweeps.console.test_display import plain_display
from tests.sweeps.tiny import tiny_trial

GIB = 2**30
WHOLE = TrialResources(num_cpus=1.0, num_gpus=1.0, num_threads=1, max_concurrent=1)


def study_of(*, base: dict[str, Any] | None = None, **sections: Any) -> StudyConfig:
    return parse_config(StudyConfig, {"name": "x", "base": base or {}, **sections}, source="test")


@pytest.mark.parametrize(
    ("peak_gib", "fitting", "share"),
    [
        # 80 / (1.15 * 10) = 6.96: six trials; 1 / 6 = 0.16666.. is rounded down to Ray's resolution.
        (10, 6, 0.1666),
        (30, 2, 0.5),
        # 1.15 * 23.2 = 26.68, and 80 / 26.68 = 2.9985: just not three.
        (23.2, 2, 0.5),
        (23.1, 3, 0.3333),
        # Two would fit without headroom.
        (39, 1, 1.0),
        # It fits, though its headroom does not.
        (78, 1, 1.0),
        # 80 / 0.115 = 695 would fit.
        (0.1, MAX_TRIALS_PER_GPU, 0.0625),
    ],
)
def test_share_is_one_over_number_of_trials_that_fit(peak_gib: float, fitting: int, share: float) -> None:
    found = gpu_share(MemoryNeed(int(peak_gib * GIB), 80 * GIB, "cuda"))
    assert found.share == share
    shared_by = "one trial has a GPU to itself" if fitting == 1 else f"{fitting} trials share a GPU"
    assert found.reason.endswith(f"of a GPU's 80.0 GiB; with 15 % headroom, {shared_by}")
    # The study runs this number of trials on one GPU, and not one more.
    resources = ResourcesConfig(gpus_per_trial="auto", cpus_per_trial=0.01)
    assert trial_resources(resources, Cluster(None, 8, 1), measured_gpu_share=share).max_concurrent == fitting


@pytest.mark.parametrize("fitting", range(1, MAX_TRIALS_PER_GPU + 1))
def test_share_fits_this_many_trials_and_no_more(fitting: int) -> None:
    # Midway between the need at which this number fits and that at which one more does.
    peak = 80 * GIB / (fitting + 0.5) / (1 + HEADROOM)
    share = gpu_share(MemoryNeed(int(peak), 80 * GIB, "cuda")).share
    assert fitting * share <= 1 < (fitting + 1) * share


def test_trial_reserves_one_gpu_where_torch_finds_none() -> None:
    assert gpu_share(MemoryNeed(GIB, 80 * GIB, "cpu")).share == 1.0


def test_heaviest_trial_has_upper_ends_of_all_ranges() -> None:
    study = study_of(
        base={"distillation": {name: {"weight": 0} for name in ("pyramid", "region", "logits")}},
        space={
            "student.width_multiplier": {"type": "float", "low": 0.25, "high": 0.75},
            "student.pyramid_channels": {"type": "int", "low": 32, "high": 96, "step": 32},
            "student.backbone": {"type": "categorical", "choices": ["resnet34", "resnet18"]},
            "training.batch_size": {"type": "categorical", "choices": [4, 16, 8]},
            "training.precision": {"type": "categorical", "choices": ["fp32", "bf16"]},
            "training.ema_decay": {"type": "categorical", "choices": [0.9, None]},
            "student.init_from": {"type": "categorical", "choices": ["teacher", None]},
            "training.learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
            "distillation.pyramid.weight": {"type": "float", "low": 0.0, "high": 2.0},
        },
        baselines={"base": {}},
    )
    heaviest = heaviest_trial(study)
    student, training = heaviest.student, heaviest.training
    assert (student.backbone, student.width_multiplier, student.pyramid_channels) == ("resnet34", 0.75, 96)
    assert (training.batch_size, training.precision, training.ema_decay) == (16, "fp32", 0.9)
    assert student.init_from == "teacher", "its weights are fitted with the teacher in memory"
    assert heaviest.distillation.is_active


def test_heaviest_trial_is_within_the_limits() -> None:
    space = {
        "student.width_multiplier": {"type": "float", "low": 0.25, "high": 1.0, "step": 0.25},
        "training.batch_size": {"type": "categorical", "choices": [4, 16]},
    }
    limit = student_cost(trial_config(study_of().base, {"student.width_multiplier": 0.5})).flops
    limited = study_of(space=space, baselines={}, search={"sampler": "front", "max_flops": limit})
    heaviest = heaviest_trial(limited)
    assert (heaviest.student.width_multiplier, heaviest.training.batch_size) == (0.5, 16)


def test_heaviest_trial_may_be_baseline() -> None:
    space = {"student.width_multiplier": {"type": "float", "low": 0.25, "high": 0.5}}
    wide = {"student.width_multiplier": 1.0}
    assert heaviest_trial(study_of(space=space, baselines={"wide": wide})).student.width_multiplier == 1.0
    # Of two of the same shape, the distilled one, which needs its teacher.
    undistilled = {f"distillation.{stage}.weight": 0 for stage in ("pyramid", "region", "logits")}
    study = study_of(baselines={"undistilled": undistilled, "distilled": {}}, base={})
    assert heaviest_trial(study).distillation.is_active
    # Of two that are distilled, the one whose first weights are fitted.
    fitted = {"student.init_from": "teacher"}
    study = study_of(baselines={"random": {"student.init_from": None}, "fitted": fitted}, base={})
    assert heaviest_trial(study).student.init_from == "teacher"


@pytest.mark.parametrize(
    ("configured", "resources"),
    [("auto", replace(WHOLE, num_gpus=0.0)), (None, WHOLE), (0.25, replace(WHOLE, num_gpus=0.25))],
)
def test_nothing_is_measured_without_gpus_or_without_auto(
    monkeypatch: pytest.MonkeyPatch, configured: Any, resources: TrialResources
) -> None:
    monkeypatch.setattr(packing, "measure_on_cluster", None)
    display, out = plain_display()
    study = study_of(resources={"gpus_per_trial": configured})
    assert share_gpus(study, Cluster(None, 1, float(resources.num_gpus > 0)), resources, None, display) == resources
    assert out.getvalue() == ""


def test_measured_share_is_printed_and_used(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[TrialConfig, Path | None, WorkerSettings, Path | None]] = []

    def measure(
        config: TrialConfig,
        teacher: Path | None,
        worker: WorkerSettings,
        *,
        num_cpus: float,
        labels_file: Path | None,
    ) -> MemoryNeed:
        calls.append((config, teacher, worker, labels_file))
        return MemoryNeed(10 * GIB, 80 * GIB, "cuda")

    monkeypatch.setattr(packing, "measure_on_cluster", measure)
    display, out = plain_display()
    study = study_of(resources={"gpus_per_trial": "auto", "max_concurrent_trials": 5})
    cluster = Cluster(None, num_cpus=16, num_gpus=2)
    one_per_gpu = trial_resources(study.resources, cluster)
    assert one_per_gpu == TrialResources(1.0, 1.0, 1, 2)
    files = Path("teacher.safetensors"), Path("labels.json")
    found = share_gpus(study, cluster, one_per_gpu, files[0], display, labels_file=files[1])
    # Twelve would fit two GPUs; the study allows five.
    assert found == TrialResources(1.0, 0.1666, 1, 5)
    assert "10.0 GiB of a GPU's 80.0 GiB; with 15 % headroom, 6 trials share a GPU" in out.getvalue()
    ((config, teacher, worker, labels),) = calls
    assert (config, worker.has_gpu, (teacher, labels)) == (heaviest_trial(study), True, files)


def test_study_continues_where_largest_student_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(*_: object, **__: object) -> MemoryNeed:
        raise BatchTooLargeError("training.batch_size 64 does not fit GPU 0")

    monkeypatch.setattr(packing, "measure_on_cluster", measure)
    display, out = plain_display()
    study = study_of(resources={"gpus_per_trial": "auto"})
    assert share_gpus(study, Cluster(None, 1, 1), WHOLE, None, display) == WHOLE
    assert "the largest student will fail: training.batch_size 64 does not fit GPU 0" in out.getvalue()


def test_measurement_on_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a worker; on a CPU, for which a trial reserves a whole GPU."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.chdir(tmp_path)
    raw = tiny_trial(tmp_path / "cache")
    config = parse_config(TrialConfig, {**raw, "teacher": None}, source="tiny")
    need = packing._measure(config, None, WorkerSettings(1, True, tmp_path))
    assert need.device_type == "cpu"
    assert isinstance(gpu_share(need), GpuShare)


def test_process_is_configured_for_memory_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.chdir(tmp_path)
    configured = record_configuration(monkeypatch, packing, builder="build_trainer")
    config = parse_config(TrialConfig, {"training": {"device": "cpu", "num_threads": 3}}, source="tiny")
    with pytest.raises(TrainerBuiltError):
        packing._measure(config, None, WorkerSettings(1, True, tmp_path))
    assert configured == [("cpu", 3)]
