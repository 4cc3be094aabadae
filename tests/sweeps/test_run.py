"""The command: what it refuses before anything is begun, and what it plans. Whole studies run in tests/end_to_end."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from hkd.data.annotations import annotation_document
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
        [sys.executable, *command, "--help"], cwd=REPOSITORY, env={**os.environ, "COLUMNS": "80"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    for flag in ("--config", "--set", "--name", "--resume", "--dry-run"):
        assert flag in done.stdout
    assert "examples:" in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 81


def test_script_imports_packages_of_its_own_checkout(tmp_path: Path) -> None:
    (tmp_path / "sweeps").mkdir()
    shutil.copy(REPOSITORY / "sweeps" / "run.py", tmp_path / "sweeps")
    (tmp_path / "sweeps" / "__init__.py").write_text("raise SystemExit(7)", encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    script = str(tmp_path / "sweeps" / "run.py")
    done = subprocess.run([sys.executable, script, "--help"], cwd=REPOSITORY, env=environment, check=False)
    assert done.returncode == 7


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
    from hkd.models.weights import save_detector

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
    from sweeps.settings.space import distributions
    from sweeps.settings.study import load_study
    from sweeps.trials.ledger import Ledger
    from sweeps.trials.samplers import make_sampler

    study = load_study(Path("tiny.yaml"))
    begun = StudyFolder(study)
    begun.write_study(study)
    ledger = Ledger(
        begun.journal,
        study.objectives,
        distributions(study.space),
        None,
        lambda number: make_sampler("random", seed=number, startup_trials=2),
    )
    metrics = {"mr2_reasonable": 0.5, "num_params": 1, "flops": 1}
    for name in study.baselines:
        ledger.finish(ledger.record_metrics(ledger.start_baseline(name, {}), metrics))
    files = {path: path.read_bytes() for path in begun.path.iterdir()}
    err = refusal(capsys)
    assert 'the study "tiny" was begun and has 2 of 4 trials done' in err
    # The working folder is not the checkout's.
    script = shlex.quote(str(REPOSITORY / "sweeps" / "run.py"))
    assert f"Go on with it: python {script} --config tiny.yaml --resume" in err
    assert "base.training.batch_size: was 4, is 2" in refusal(capsys, "--set", "base.training.batch_size=2", "--resume")
    for _ in range(2):
        trial = ledger.start_proposed()
        assert trial is not None
        ledger.finish(ledger.record_metrics(trial, metrics))
    err = refusal(capsys)
    assert 'the study "tiny" is finished (4 trials)' in err
    assert f"Add trials to it: python {script} --config tiny.yaml --resume --set search.num_trials=4" in err
    assert (begun.path / "study.yaml").read_bytes() == files[begun.path / "study.yaml"]


def test_images_that_do_not_open_are_told_before_anything_is_begun(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sweeps.tracking import store as mlflow_store

    for name in ("a.png", "b.png"):
        Image.new("RGB", (96, 64)).save(folder / name)
    images = [{"id": 1, "file_name": "a.png", "height": 64, "width": 96},
              {"id": 2, "file_name": "b.png", "height": 64, "width": 96}]  # fmt: skip
    document = annotation_document(images, [{"image_id": 1, "bbox": [1, 1, 20, 55]}], ".")
    (folder / "set.json").write_text(json.dumps(document), encoding="utf-8")
    (folder / "b.png").write_bytes(b"no image")
    given = [f"base.data.{which}_annotations=set.json" for which in ("train", "validation")]
    flags = [word for setting in given for word in ("--set", setting)]
    assert "does not open as an image" in refusal(capsys, *flags, "--dry-run")
    before = files_in(folder)
    # The real run comes to them last of all. To make an MLflow store takes seconds.
    monkeypatch.setattr(mlflow_store, "connect", lambda _: None)
    monkeypatch.setattr(mlflow_store, "find_experiment", lambda *_, **__: None)
    assert "does not open as an image" in refusal(capsys, *flags)
    assert files_in(folder) == before
    assert not (folder / "runs" / "tiny").exists()


def test_a_resume_command_shows_no_password(folder: Path) -> None:
    options = run._parser().parse_args(["--set", "tracking.uri=http://me:SECRET@host"])
    command = run._resume_command(options, ["--set", "tracking.uri=http://me:SECRET@host"])
    assert command.endswith("--set 'tracking.uri=http://***@host' --resume")


def test_an_interruption_says_how_to_go_on(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sweeps import study as study_module
    from sweeps.folder import StudyFolder
    from sweeps.settings.study import load_study

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(study_module, "run_study", interrupted)
    assert run.main(["--config", "tiny.yaml"]) == 130
    assert "Go on by giving the same command again" in capsys.readouterr().err
    study = load_study(Path("tiny.yaml"))
    StudyFolder(study).write_study(study)
    # Where there is a study, the same command would be refused.
    assert run.main(["--config", "tiny.yaml"]) == 130
    assert "--config tiny.yaml --resume" in capsys.readouterr().err


def test_a_defect_of_ours_shows_its_traceback(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(*_: object, **__: object) -> None:
        raise ValueError("not about the input")

    monkeypatch.setattr(run, "load_study", break_down)
    with pytest.raises(ValueError, match="not about the input"):
        run.main([])


def test_a_dry_run_tells_what_would_be_done_and_does_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from hkd.models.cost import config_cost
    from sweeps.settings.space import trial_config
    from sweeps.settings.study import load_study

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


def test_a_dry_run_refuses_what_the_run_would(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sweeps.folder import StudyFolder
    from sweeps.settings.study import load_study

    study = load_study(Path("tiny.yaml"))
    StudyFolder(study).write_study(study)
    assert run.main(["--config", "tiny.yaml", "--dry-run"]) == 0
    assert "(which is there already; see --resume)" in capsys.readouterr().out
    assert 'the name "tiny" is taken' in refusal(capsys, "--dry-run", "--set", "base.training.batch_size=2")


def test_a_dry_run_fits_a_terminal(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    name = "a-baseline-of-a-long-name-indeed"
    assert run.main(["--config", "tiny.yaml", "--dry-run", "--set", f"baselines.{name}.training.seed=1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    begin, end = (
        next(i for i, line in enumerate(lines) if text in line) for text in ("M params", "This was a dry run")
    )
    table = lines[begin:end]
    assert table[0].split() == ["backbone", "width", "pyramid", "head", "M", "params", "GFLOPs"]
    assert max(map(len, table)) <= 80
    # Teacher, three baselines and the two ends of the space: nothing is cut, long names are folded.
    assert sum(len(re.findall("resnet18 ", line)) for line in table) == 6
    assert f"baseline-{name}" in "".join(line.partition(" resnet18 ")[0].strip() for line in table)
    assert "…" not in "".join(table)


def test_a_dry_run_counts_what_a_small_space_holds(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Four numbers of channels: 8, 16, 24, 32.
    flags = ["--set", "space.distillation.pyramid.weight=null", "--set", "search.num_trials=50"]
    assert run.main(["--config", "tiny.yaml", "--dry-run", *flags]) == 0
    assert "train 4 students proposed by tpe" in capsys.readouterr().out
