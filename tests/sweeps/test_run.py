"""The command: what it refuses before anything is begun, and what it plans. Whole studies run in tests/end_to_end."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sweeps import run
from tests.sweeps.tiny import write_tiny_study

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command is given: no cluster is near, and tiny.yaml is there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "ray"))
    write_tiny_study(tmp_path / "tiny.yaml", tmp_path / "cache")
    return tmp_path


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one message of a command that is refused."""
    assert run.main(["--config", "tiny.yaml", *arguments]) == run.EXIT_BAD_INPUT
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert "Traceback" not in err
    return err


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("command", [["sweeps/run.py"], ["-m", "sweeps.run"]])
def test_help_runs_as_a_script_and_as_a_module(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, *command, "--help"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    for flag in ("--config", "--set", "--name", "--resume", "--dry-run"):
        assert flag in done.stdout
    assert "examples:" in done.stdout


def test_all_mistakes_of_a_configuration_are_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    err = refusal(capsys, "--set", "search.nun_trials=3", "--set", "space.student.pyramid_channels.step=1")
    assert "2 problems in tiny.yaml" in err
    assert "search.nun_trials: unknown key; did you mean num_trials?" in err
    assert "space.student.pyramid_channels: contains 9, which is not allowed" in err
    assert files_in(folder) == {"tiny.yaml"}


def test_missing_data_is_told_before_anything_is_begun(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--set", "base.data.train_annotations=no.json", "--set", "base.data.validation_annotations=none.json"]
    for flags in (given, [*given, "--dry-run"]):
        assert "no.json: there is no such file" in refusal(capsys, *flags)
    assert files_in(folder) == {"tiny.yaml"}


def test_a_teacher_of_another_architecture_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from hkd.config import DetectorConfig
    from hkd.models.build import build_detector
    from hkd.training.checkpoint import save_detector

    config = DetectorConfig(width_multiplier=0.125, pyramid_channels=8, head_channels=16)
    save_detector(folder / "other.safetensors", build_detector(config), config, image_height=64, image_width=96)
    given = ["--set", "base.teacher.checkpoint=other.safetensors"]
    for flags in (given, [*given, "--dry-run"]):
        err = refusal(capsys, *flags)
        assert "other.safetensors: holds a detector of another architecture than the one configured" in err
    assert files_in(folder) == {"tiny.yaml", "other.safetensors"}


def test_an_unreachable_server_is_told_before_anything_is_begun(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{listening.getsockname()[1]}"
    assert f"the MLflow server {uri} (tracking.uri) cannot be reached" in refusal(
        capsys, "--set", f"tracking.uri={uri}"
    )
    assert files_in(folder) == {"tiny.yaml"}


def test_an_unreachable_cluster_is_told_before_anything_is_begun(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    assert "Ray Client cannot run a study" in refusal(capsys)
    assert files_in(folder) == {"tiny.yaml"}


def test_a_study_that_was_begun_is_neither_begun_again_nor_mixed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from sweeps.folder import StudyFolder
    from sweeps.ledger import Ledger, make_sampler
    from sweeps.space import distributions
    from sweeps.study_config import load_study

    study = load_study(Path("tiny.yaml"))
    begun = StudyFolder(study)
    begun.begin(study)
    ledger = Ledger(
        begun.journal,
        study.objectives,
        distributions(study.space),
        None,
        lambda number: make_sampler("random", seed=number, startup_trials=2),
    )
    metrics = {"mr2_reasonable": 0.5, "num_params": 1, "flops": 1}
    for name in study.baselines:
        ledger.finish(ledger.note_result(ledger.begin_baseline(name, {}), metrics))
    files = {path: path.read_bytes() for path in begun.path.iterdir()}
    err = refusal(capsys)
    assert 'the study "tiny" was begun and has 2 of 4 trials done' in err
    assert "Go on with it: python sweeps/run.py --config tiny.yaml --resume" in err
    assert "base.training.batch_size: was 4, is 2" in refusal(capsys, "--set", "base.training.batch_size=2", "--resume")
    for _ in range(2):
        trial = ledger.begin_proposed()
        assert trial is not None
        ledger.finish(ledger.note_result(trial, metrics))
    err = refusal(capsys)
    assert 'the study "tiny" is finished (4 trials)' in err
    assert "Add trials to it: python sweeps/run.py --config tiny.yaml --resume --set search.num_trials=4" in err
    assert (begun.path / "study.yaml").read_bytes() == files[begun.path / "study.yaml"]


def test_a_defect_of_ours_shows_its_traceback(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(*_: object, **__: object) -> None:
        raise ValueError("not about the input")

    monkeypatch.setattr(run, "load_study", break_down)
    with pytest.raises(ValueError, match="not about the input"):
        run.main([])


def test_a_dry_run_tells_what_would_be_done_and_does_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from hkd.models.cost import config_cost
    from sweeps.space import trial_config
    from sweeps.study_config import load_study

    assert run.main(["--config", "tiny.yaml", "--dry-run", "--set", "search.num_trials=3"]) == 0
    out = capsys.readouterr().out
    assert files_in(folder) == {"tiny.yaml"}
    study = load_study(Path("tiny.yaml"))
    # The study as resolved: defaults are told, too.
    assert "num_trials: 3" in out
    assert "sampler: tpe" in out
    for title, values in {
        "smallest student": {"student.pyramid_channels": 8},
        "largest student": {"student.pyramid_channels": 32},
        "baseline-undistilled": {},
    }.items():
        cost = config_cost(trial_config(study.base, values).student, 64, 96)
        (row,) = (line for line in out.splitlines() if title in line)
        assert row.split()[-2:] == [f"{cost.num_params / 1e6:.2f}", f"{cost.flops / 1e9:.2f}"]
    assert re.search(r"train 3 students proposed by tpe, 2 epochs each", out)
    assert "train the teacher for 1 epochs" in out
    assert "measure" not in out
    assert f"write to {folder}/runs/tiny (which would be made) and sqlite:///mlflow.db" in out


def test_a_dry_run_tells_that_gpus_will_be_measured(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--config", "tiny.yaml", "--dry-run", "--set", "resources.gpus_per_trial=auto"]) == 0
    out = capsys.readouterr().out
    assert "  measure, where there are GPUs, how many of its largest trials share one\n" in out


def test_a_dry_run_counts_what_a_small_space_holds(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Four numbers of channels: 8, 16, 24, 32.
    flags = ["--set", "space.distillation.pyramid.weight=null", "--set", "search.num_trials=50"]
    assert run.main(["--config", "tiny.yaml", "--dry-run", *flags]) == 0
    assert "train 4 students proposed by tpe" in capsys.readouterr().out
