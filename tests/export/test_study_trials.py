from __future__ import annotations

import json
from pathlib import Path

import pytest

from hkd.cli import main
from hkd.config_files.yaml_format import dump_yaml
from hkd.export.onnx_export import ExportError
from hkd.export.study_trials import trial_weights
from hkd.inference.deployed.onnx_file import read_onnx_file
from hkd.models.weights import save_detector
from tests.export.exported import crowded_detector
from tests.training.tiny import HEIGHT, STUDENT, WIDTH, trial_config


def add_checkpoint(folder: Path, budget_fraction: float = 1.0) -> Path:
    """As Ray Tune and hkd write it."""
    folder.mkdir(parents=True)
    weights = folder / "student.safetensors"
    save_detector(weights, crowded_detector(), STUDENT, image_height=HEIGHT, image_width=WIDTH)
    (folder / "metrics.json").write_text(json.dumps({"budget_fraction": budget_fraction}))
    (folder / "config.yaml").write_text(dump_yaml(trial_config(folder, evaluation__score_threshold=0.25)))
    return weights


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    study = tmp_path / "runs" / "inria"
    add_checkpoint(study / "trial-001" / "checkpoint_000002")
    add_checkpoint(study / "trial-002" / "checkpoint_000001", budget_fraction=0.5)
    add_checkpoint(study / "trial-003" / "checkpoint_000001")
    add_checkpoint(study / "trial-003-attempt-9" / "checkpoint_000000")
    add_checkpoint(study / "trial-003-attempt-10" / "checkpoint_000000")
    (study / "study.yaml").write_text("")
    return tmp_path / "runs"


def test_last_attempt_of_a_finished_trial_is_exported(
    storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = storage / "inria"
    first = study / "trial-001" / "checkpoint_000002" / "student.safetensors"
    assert trial_weights(storage, "inria", "trial-001") == first
    last = study / "trial-003-attempt-10" / "checkpoint_000000" / "student.safetensors"
    assert trial_weights(storage, "inria", "trial-003") == last
    monkeypatch.chdir(tmp_path)
    assert main(["export", "--study", "inria", "--trial", "trial-001", "--out", "student.onnx"]) == 0
    metadata = read_onnx_file(tmp_path / "student.onnx").metadata
    assert metadata.study is not None
    assert (metadata.study.study, metadata.study.trial) == ("inria", "trial-001")
    assert metadata.score_threshold == 0.25  # of the trial's configuration


@pytest.mark.parametrize(
    ("study", "trial", "fact"),
    [
        ("caltech", "trial-001", "found: inria"),
        ("../runs/inria", "trial-001", "found: inria"),
        ("inria", "trial-009", "found: trial-001, trial-002, trial-003"),
        ("inria", "trial-002", "50 % of its epochs"),
    ],
)
def test_unknown_and_unfinished_trials_are_refused(storage: Path, study: str, trial: str, fact: str) -> None:
    with pytest.raises(ExportError, match=fact):
        trial_weights(storage, study, trial)


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        ([], "--weights"),
        (["--weights", "a.safetensors", "--trial", "t", "--study", "s"], "either"),
        (["--trial", "t"], "--study"),
        (["--weights", "a.safetensors", "--int8"], "--calibration and --validation"),
        (["--weights", "a.safetensors", "--max-drop", "1"], "--int8"),
    ],
)
def test_options_that_contradict_are_refused(
    options: list[str], fact: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", *options, "--out", str(tmp_path / "a.onnx")]) == 2
    assert fact in capsys.readouterr().err
