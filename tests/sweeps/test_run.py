"""The command: its help, warnings and input errors. Whole studies run in tests/end_to_end."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from hkd.coco.writing import annotation_document
from sweeps import run
from tests.sweeps.command import files_in, input_error

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize("command", [["sweeps/run.py"], ["-m", "sweeps.run"]])
def test_help_runs_as_script_and_module(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, *command, "--help"], cwd=REPOSITORY, env={**os.environ, "COLUMNS": "80"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    for flag in ("--config", "--set", "--name", "--resume", "--dry-run", "--confirm", "--enqueue", "--time-budget"):
        assert flag in done.stdout
    assert "examples:" in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    # Where the results are, and how to read them.
    for text in ("runs/NAME", "sqlite:///mlflow.db", "python analysis/pareto.py --study NAME", "RAY_ADDRESS"):
        assert text in done.stdout


def test_script_imports_packages_of_same_checkout(tmp_path: Path) -> None:
    (tmp_path / "sweeps").mkdir()
    shutil.copy(REPOSITORY / "sweeps" / "run.py", tmp_path / "sweeps")
    (tmp_path / "sweeps" / "__init__.py").write_text("raise SystemExit(7)", encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    script = str(tmp_path / "sweeps" / "run.py")
    done = subprocess.run([sys.executable, script, "--help"], cwd=REPOSITORY, env=environment, check=False)
    assert done.returncode == 7


def test_all_configuration_errors_are_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    err = input_error(capsys, "--set", "search.nun_trials=3", "--set", "space.student.pyramid_channels.step=1")
    assert "2 problems in tiny.yaml" in err
    assert "search.nun_trials: unknown key; did you mean num_trials?" in err
    assert "space.student.pyramid_channels: contains 9, which is not allowed" in err
    assert files_in(folder) == {"tiny.yaml"}


def test_missing_annotations_are_reported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--set", "base.data.train_annotations=no.json", "--set", "base.data.validation_annotations=none.json"]
    for flags in (given, [*given, "--dry-run"]):
        message = input_error(capsys, *flags)
        assert "no.json: " in message
        assert "no such file" in message.lower()
    assert files_in(folder) == {"tiny.yaml"}


def test_teacher_weights_of_another_architecture_are_rejected(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from hkd.config import DetectorConfig
    from hkd.models.build import build_detector
    from hkd.models.weights import save_detector

    config = DetectorConfig(width_multiplier=0.125, pyramid_channels=8, head_channels=16)
    save_detector(folder / "other.safetensors", build_detector(config), config, image_height=64, image_width=96)
    given = ["--set", "base.teacher.checkpoint=other.safetensors"]
    for flags in (given, [*given, "--dry-run"]):
        err = input_error(capsys, *flags)
        assert "other.safetensors: holds a detector of another architecture than the one configured" in err
    assert files_in(folder) == {"tiny.yaml", "other.safetensors"}


def test_unreachable_mlflow_server_is_reported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{listening.getsockname()[1]}"
    err = input_error(capsys, "--set", f"tracking.uri={uri}")
    assert uri in err
    assert "--set tracking.uri=sqlite:///mlflow.db" in err
    assert files_in(folder) == {"tiny.yaml"}


def test_ray_client_address_is_rejected(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    assert "Ray Client cannot run a study" in input_error(capsys)
    assert files_in(folder) == {"tiny.yaml"}


def test_existing_study_is_neither_restarted_nor_changed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sweeps.folder import StudyFolder
    from sweeps.search.optuna_samplers import make_sampler
    from sweeps.settings.space import distributions
    from sweeps.settings.study import load_study
    from sweeps.trials.records.ledger import Ledger

    study = load_study(Path("tiny.yaml"))
    study_folder = StudyFolder(study)
    study_folder.write_study(study)
    ledger = Ledger(
        study_folder.journal,
        study.objectives,
        distributions(study.space),
        None,
        lambda number: make_sampler("random", seed=number, startup_trials=2),
        name=study.name,
    )
    metrics = {"mr2_reasonable": 0.5, "num_params": 1, "flops": 1}
    for name in study.baselines:
        ledger.finish(ledger.record_metrics(ledger.start_baseline(name, {}), metrics))
    files = {path: path.read_bytes() for path in study_folder.path.iterdir()}
    err = input_error(capsys)
    assert '"tiny"' in err
    assert "2 of 4 trials" in err
    assert "--name NAME" in err
    # run.py by its absolute path, because the working directory is not the checkout.
    script = shlex.quote(str(REPOSITORY / "sweeps" / "run.py"))
    assert f"python {script} --config tiny.yaml --resume\n" in err
    assert "base.training.batch_size: was 4, is 2" in input_error(
        capsys, "--set", "base.training.batch_size=2", "--resume"
    )
    for _ in range(2):
        trial = ledger.start_proposed()
        assert trial is not None
        ledger.finish(ledger.record_metrics(trial, metrics))
    err = input_error(capsys)
    assert "finished (4 trials)" in err
    assert f"python {script} --config tiny.yaml --resume --num-trials 4" in err
    assert (study_folder.path / "study.yaml").read_bytes() == files[study_folder.path / "study.yaml"]


def test_undecodable_image_is_reported(
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
    assert "does not open as an image" in input_error(capsys, *flags, "--dry-run")
    before = files_in(folder)
    # The study decodes images after it has connected to MLflow; creating a real store would take seconds.
    monkeypatch.setattr(mlflow_store, "connect", lambda _: None)
    monkeypatch.setattr(mlflow_store, "find_experiment", lambda *_, **__: None)
    assert "does not open as an image" in input_error(capsys, *flags)
    assert files_in(folder) == before
    assert not (folder / "runs" / "tiny").exists()


def test_resume_command_has_no_password(folder: Path) -> None:
    given = ["--set", "base.teacher.checkpoint=s3://me:SECRET@bucket"]
    command = run._resume_command(run._parser().parse_args(given), given)
    assert command.endswith("--set 'base.teacher.checkpoint=s3://***@bucket' --resume")


def test_interruption_prints_resume_command(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sweeps import study as study_module
    from sweeps.folder import StudyFolder
    from sweeps.settings.study import load_study

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(study_module, "run_study", interrupted)
    assert run.main(["--config", "tiny.yaml"]) == 130
    err = capsys.readouterr().err
    assert "same command" in err
    assert "--resume" not in err
    study = load_study(Path("tiny.yaml"))
    StudyFolder(study).write_study(study)
    # Without --resume, the command is rejected once the study exists.
    assert run.main(["--config", "tiny.yaml"]) == 130
    assert "--config tiny.yaml --resume" in capsys.readouterr().err


WARNINGS_SCRIPT = """
import sys, types, warnings
from sweeps import run

def module(name):
    functions = types.SimpleNamespace(__name__=name, warnings=warnings)
    source = '''
def warn(text, stacklevel=1, category=UserWarning):
    warnings.warn(text, category, stacklevel=stacklevel)
def call(function, *arguments):
    function(*arguments)
'''
    exec(source, vars(functions))
    return functions

ours, library, alike = module("hkd.data.store"), module("ray.tune"), module("hkdx")

def print_plan(study, console):
    ours.warn("ours:\\nhttp://me:SECRET@host")
    library.warn("library")
    alike.warn("alike")
    library.call(ours.warn, "ours at a library's frame", 2)
    ours.call(library.warn, "library at our frame", 2)
    ours.call(library.warn, "deprecated", 2, DeprecationWarning)

sys.modules["sweeps.plan"] = types.SimpleNamespace(print_plan=print_plan)
sys.exit(run.main(["--config", sys.argv[1], "--dry-run"]))
"""


def warnings_printed(study: Path, *flags: str, **environment: str) -> list[str]:
    """Lines on stderr of a command in which our modules and a library issue warnings."""
    done = subprocess.run(
        [sys.executable, *flags, "-c", WARNINGS_SCRIPT, str(study)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONWARNINGS": "", **environment},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stderr.splitlines()


def test_only_warnings_of_our_modules_are_printed(folder: Path) -> None:
    assert warnings_printed(folder / "tiny.yaml") == [
        "warning: ours: http://***@host",
        "warning: library at our frame",
    ]


def test_python_warning_options_override_ours(folder: Path) -> None:
    assert warnings_printed(folder / "tiny.yaml", "-W", "ignore") == []
    lines = "\n".join(warnings_printed(folder / "tiny.yaml", PYTHONWARNINGS="default"))
    for text in ("library", "alike", "ours at a library's frame", "DeprecationWarning: deprecated"):
        assert text in lines


def test_error_has_no_password(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sweeps import study as study_module
    from sweeps.folder import StudyError

    def refuse(*_: object, **__: object) -> None:
        raise StudyError("cannot use http://me:SECRET@host")

    monkeypatch.setattr(study_module, "run_study", refuse)
    assert input_error(capsys) == "error: cannot use http://***@host\n"


def test_defect_shows_traceback(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(*_: object, **__: object) -> None:
        raise ValueError("not about the input")

    monkeypatch.setattr(run, "load_study", break_down)
    with pytest.raises(ValueError, match="not about the input"):
        run.main([])


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (("--num-trials", "0"), ("search.num_trials", "0")),
        (("--max-concurrent", "0"), ("resources.max_concurrent_trials", "0")),
        (("--patience", "-1"), ("search.patience", "-1")),
        (("--enqueue", "none.yaml"), ("--enqueue", "none.yaml", "no such file")),
        (("--enqueue", "first.yaml"), ("entry 1", "student.head_channels", "not searched")),
        (("--warm-start", "other"), ("search.warm_start", "there is no study", "other")),
        (("--set", "space.training.seed={type: int, low: 0, high: 3}"), ("space.training.seed", "confirm_seeds")),
        (("--set", "base.data.test_annotations=test.json"), ("test_annotations", "train_annotations")),
        (("--set", "search.confirm_seeds=-1"), ("search.confirm_seeds", "-1")),
    ],
)
def test_wrong_value_is_one_message_and_touches_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], facts: tuple[str, ...]
) -> None:
    (folder / "first.yaml").write_text("- {student.head_channels: 64}\n", encoding="utf-8")
    before = files_in(folder)
    err = input_error(capsys, *arguments)
    for fact in facts:
        assert fact in err
    assert files_in(folder) == before


@pytest.mark.parametrize("duration", ["8", "soon", "0h"])
def test_wrong_duration_is_refused(folder: Path, capsys: pytest.CaptureFixture[str], duration: str) -> None:
    with pytest.raises(SystemExit) as exit_info:
        run.main(["--config", "tiny.yaml", "--time-budget", duration])
    assert exit_info.value.code == run.EXIT_BAD_INPUT
    assert "--time-budget" in capsys.readouterr().err
    assert files_in(folder) == {"tiny.yaml"}
