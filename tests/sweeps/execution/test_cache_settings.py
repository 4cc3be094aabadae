"""When a study's trials share a cache of their teacher's pyramids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hkd.config_files.parsing import parse_config
from hkd.training.pyramid_cache.capacity import CacheBudget
from sweeps.execution.cache_settings import configured_cache, describe_cache, is_shared
from sweeps.settings.resources import TrialResources
from sweeps.settings.study import DEMO, StudyConfig, load_study
from tests.sweeps.tiny import tiny_trial

ON_CPUS = TrialResources(num_cpus=1, num_gpus=0, num_threads=1, max_concurrent=2)
ON_GPUS = TrialResources(num_cpus=1, num_gpus=0.5, num_threads=1, max_concurrent=2)
WIDTHS = {"student.pyramid_channels": {"type": "int", "low": 8, "high": 32, "step": 8}}
SEEDS = {"training.seed": {"type": "categorical", "choices": [0, 1, 2]}}
FLIPS = {"data.augmentation.flip_probability": {"type": "float", "low": 0.0, "high": 1.0}}

UNDISTILLED = {f"distillation.{level}.weight": 0.0 for level in ("pyramid", "region", "embedding", "logits")}


def study(space: dict[str, Any], *, num_trials: int = 8, **changes: Any) -> StudyConfig:
    raw = {
        "name": "tiny",
        "base": tiny_trial(Path("cache")),
        "space": space,
        "search": {"num_trials": num_trials, "startup_trials": 2},
        "baselines": {"undistilled": UNDISTILLED, "default-weights": {}},
        **changes,
    }
    return parse_config(StudyConfig, raw, source="tiny")


@pytest.mark.parametrize(
    ("space", "num_trials", "expected"),
    [
        (WIDTHS, 8, True),
        # One trial and the baseline at default weights; the undistilled baseline needs no teacher.
        (WIDTHS, 1, True),
        # Three seeds make three kinds of batches: two readers each are six trials, one of which is the baseline.
        (WIDTHS | SEEDS, 5, True),
        (WIDTHS | SEEDS, 4, False),
        # No value of a continuous range repeats.
        (WIDTHS | FLIPS, 100, False),
        # The space holds three trials, whatever num_trials is: with the baseline, four share three seeds.
        (SEEDS, 100, False),
    ],
)
def test_cache_is_used_where_two_trials_read_each_entry(space: dict[str, Any], num_trials: int, expected: bool) -> None:
    assert is_shared(study(space, num_trials=num_trials)) is expected
    assert (configured_cache(study(space, num_trials=num_trials), ON_CPUS) is not None) is expected


def test_no_cache_without_teacher_or_distilled_trials() -> None:
    assert not is_shared(study(WIDTHS, base={**tiny_trial(Path("cache")), "teacher": None}, baselines={}))
    assert is_shared(study(WIDTHS, num_trials=2, baselines={}))
    assert not is_shared(study(WIDTHS, num_trials=1, baselines={}))


def test_capacity_is_configured_or_by_default_on_cpus_only() -> None:
    folder = Path("cache/teacher_outputs")
    assert configured_cache(study(WIDTHS), ON_CPUS) == CacheBudget(folder, 10**10)
    assert configured_cache(study(WIDTHS), ON_GPUS) is None
    stated = study(WIDTHS, resources={"teacher_cache_gigabytes": 0.5})
    assert configured_cache(stated, ON_CPUS) == configured_cache(stated, ON_GPUS) == CacheBudget(folder, 5 * 10**8)
    assert configured_cache(study(WIDTHS, resources={"teacher_cache_gigabytes": 0}), ON_CPUS) is None


@pytest.mark.parametrize(("path", "num_images"), [(DEMO, 1200), (DEMO.with_name("pennfudan.yaml"), 120)])
def test_shipped_studies_fit_their_cache(path: Path, num_images: int, tmp_path: Path) -> None:
    shipped = load_study(path)
    assert is_shared(shipped)
    line = describe_cache(CacheBudget(tmp_path, 10**10), shipped.base, ON_GPUS, num_images)
    assert "all are cached" in line


def test_line_names_size_and_folder(tmp_path: Path) -> None:
    base = study(WIDTHS, base={**tiny_trial(tmp_path), "training": {"batch_size": 4, "precision": "fp32"}}).base
    # 64 x 96 pixels have 512 cells (tests/training/pyramid_cache/test_cache.py) of 32 channels: 4 images in fp32 take
    # 262,144 bytes, with each level and the header rounded up to pages. Nine images are two batches; eight epochs.
    assert describe_cache(CacheBudget(tmp_path, 10**9), base, ON_CPUS, num_images=9) == (
        "Teacher's pyramids, for all trials of a node: all are cached: 8 epochs of 2 steps, 0.3 MB each, take 0.00 GB; "
        f"in {tmp_path}"
    )
