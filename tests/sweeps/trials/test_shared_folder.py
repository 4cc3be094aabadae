"""A worker whose node does not see the folder of the study."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from hkd import buckets
from hkd.buckets import StorageAwayError
from hkd.config import TrialConfig
from hkd.config_files.parsing import parse_config
from sweeps.trials.error_notes import DISK_FULL_NOTE, STORAGE_AWAY_NOTE
from sweeps.trials.worker import SPEC, DistillationTrial, TrialSpec, WorkerSettings
from tests.sweeps.in_process_worker import worker
from tests.sweeps.tiny import tiny_trial

pytestmark = pytest.mark.usefixtures("restored_process")


@pytest.fixture
def spec(tmp_path: Path) -> TrialSpec:
    config = parse_config(TrialConfig, {**tiny_trial(tmp_path / "cache"), "teacher": None}, source="tiny")
    return TrialSpec(
        "trial-001", config, None, None, "trial-001", WorkerSettings(1, False, tmp_path),
        shared_file=tmp_path / "runs" / "study.yaml",
    )  # fmt: skip


def mount(spec: TrialSpec) -> Path:
    assert spec.shared_file is not None
    spec.shared_file.parent.mkdir()
    spec.shared_file.touch()
    return spec.shared_file


def at_first_pause(monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> None:
    """Execute the action where a worker pauses before it tries again."""
    monkeypatch.setattr(buckets, "time", SimpleNamespace(monotonic=time.monotonic, sleep=lambda _seconds: action()))


def test_trial_waits_at_its_start_until_the_folder_is_mounted(spec: TrialSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    build, seen = DistillationTrial._build_trainer, []

    def noted_build(trial: DistillationTrial, spec: TrialSpec) -> None:
        seen.append(spec.shared_file is not None and spec.shared_file.exists())
        build(trial, spec)

    monkeypatch.setattr(DistillationTrial, "_build_trainer", noted_build)
    at_first_pause(monkeypatch, lambda: mount(spec))
    trial = worker()
    trial.setup({SPEC: spec})
    assert seen == [True]
    assert trial.step()["done"] is False


def test_trial_whose_checkpoint_is_out_of_sight_does_not_start_again(
    spec: TrialSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "PATIENCE_SECONDS", 0.0)
    trial = worker()
    trial.setup({SPEC: replace(spec, resume_from=Path("runs/trial-001/checkpoint_000001"))})
    with pytest.raises(StorageAwayError, match=f"node {socket.gethostname()} does not see .*runs/study.yaml"):
        trial.step()


def test_checkpoint_waits_until_the_folder_is_mounted(
    spec: TrialSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted = mount(spec)
    trial = worker()
    trial.setup({SPEC: spec})
    trial.step()
    lost = tmp_path / "elsewhere"
    mounted.parent.rename(lost)
    with monkeypatch.context() as patch:
        patch.setattr(buckets, "PATIENCE_SECONDS", 0.0)
        with pytest.raises(StorageAwayError) as away:
            trial.save()
    assert away.value.__notes__ == [STORAGE_AWAY_NOTE]
    saved: list[str | None] = []
    monkeypatch.setattr("ray.tune.Trainable.save", lambda _self, folder: saved.append(folder))
    at_first_pause(monkeypatch, lambda: lost.rename(mounted.parent))
    trial.save("folder")
    assert saved == ["folder"]


@pytest.mark.parametrize("is_lost", [True, False])
def test_error_while_saving_is_one_of_the_trial_unless_the_folder_is_lost(
    spec: TrialSpec, monkeypatch: pytest.MonkeyPatch, *, is_lost: bool
) -> None:
    mounted = mount(spec)
    trial = worker()
    trial.setup({SPEC: spec})

    def fail(_self: object, _folder: str | None) -> None:
        if is_lost:
            mounted.unlink()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("ray.tune.Trainable.save", fail)
    with pytest.raises(StorageAwayError if is_lost else OSError) as error:
        trial.save()
    assert (STORAGE_AWAY_NOTE in error.value.__notes__) is is_lost
    assert (DISK_FULL_NOTE in error.value.__notes__) is not is_lost
