from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import hkd
from hkd import cli
from hkd.evaluation import comparison
from hkd.evaluation.comparison import EvaluationReport

COMMANDS = [
    "data",
    *(f"data {source}" for source in ("pennfudan", "caltech", "citypersons", "crowdhuman", "eurocity")),
    *(f"data {source}" for source in ("coco", "yolo", "synthetic")),
    "train",
    "evaluate",
    "detect",
]


def subparsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from subparsers(below)


def examples() -> list[str]:
    """Every command line that a help text shows."""
    epilogs = [parser.epilog or "" for parser in subparsers(cli._parser())]
    return sorted({line.strip() for text in epilogs for line in text.splitlines() if line.startswith("  hkd ")})


@pytest.fixture
def coco(tmp_path: Path) -> tuple[Path, Path]:
    """One image with a person of 100 pixels, found exactly, and nothing else found."""
    truth = {
        "images": [{"id": 1, "file_name": "a.png", "height": 200, "width": 200}],
        "categories": [{"id": 1, "name": "pedestrian"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 20, 41, 100], "height": 100}],
    }
    found = [{"image_id": 1, "category_id": 1, "bbox": [10, 20, 41, 100], "score": 0.9}]
    paths = tmp_path / "gt.json", tmp_path / "dt.json"
    for path, content in zip(paths, (truth, found), strict=True):
        path.write_text(json.dumps(content))
    return paths


# ----------------------------------------------------------------------------------------------------- help


def test_installed_command_is_main() -> None:
    (command,) = entry_points(group="console_scripts", name="hkd")
    assert command.load() is cli.main


def test_help_and_version_need_no_heavy_import() -> None:
    code = (
        "import sys; sys.argv = ['hkd', '--version']\n"
        "try:\n    import hkd.__main__, runpy; runpy.run_module('hkd', run_name='__main__')\n"
        "except SystemExit as error:\n    assert error.code == 0\n"
        "print(sorted({'torch', 'numpy', 'pandas', 'yaml', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"hkd {hkd.__version__}", "[]"]


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert re.findall(r"^    (\w+) ", out, flags=re.MULTILINE) == ["data", "train", "evaluate", "detect"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_examples_of_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main([*command.split(), "--help"])
    assert f"examples:\n  hkd {command} " in capsys.readouterr().out


@pytest.mark.parametrize("example", examples())
def test_every_example_in_a_help_text_is_accepted(example: str) -> None:
    options = cli._parser().parse_args(shlex.split(example, comments=True)[1:])
    assert callable(options.run)


# ----------------------------------------------------------------------------------------------- exit codes


@pytest.mark.parametrize("arguments", ["", "data", "train", "detect a.png", "nonsense", "evaluate --ground-truth a"])
def test_incomplete_command_lines_end_with_2(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments.split())
    assert ended.value.code == 2
    assert "usage: hkd" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("data synthetic --out x --train-images 0", '--train-images: found "0"; allowed: integer >= 1'),
        ("data synthetic --out x --height 8", '--height: found "8"; allowed: integer >= 64'),
        ("data synthetic --out x --seed -1", '--seed: found "-1"; allowed: integer >= 0'),
        ("data caltech --root x --out y --every 0", '--every: found "0"; allowed: integer >= 1'),
        ("data caltech --root x --out y --annotations old", "invalid choice: 'old' (choose from"),
        ("data synthetic --out x --preview 0", '--preview: found "0"; allowed: integer >= 1'),
        ("data pennfudan --root x --out y --train-images ten", '--train-images: found "ten"; allowed: integer >= 1'),
        ("detect a.png --weights w --out x --score-threshold 1", 'found "1"; allowed: number >= 0 and < 1'),
        ("detect a.png --weights w --out x --score-threshold nan", 'found "nan"; allowed: number >= 0 and < 1'),
        ("detect a.png --weights w --out x --score-threshold x", 'found "x"; allowed: number >= 0 and < 1'),
    ],
)
def test_wrong_numbers_are_refused(arguments: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments.split())
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_configuration_mistakes_are_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "trial.yaml"
    config.write_text("student: {widht_multiplier: 0.5}")
    code = cli.main(["train", str(config), "--set", "training.seed=x", "--out", str(tmp_path / "out")])
    assert code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(
        f"hkd train: 2 problems in {config} and the --set overrides:\n"
        "  student.widht_multiplier: unknown key; did you mean width_multiplier?"
    )
    assert 'training.seed: found "x" (str); allowed: integer >= 0 and < 2147483648' in captured.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train missing.yaml", "hkd train: 1 problem in missing.yaml:\n  no such file\n"),
        ("detect a.png --weights w --out x --config missing.yaml", "hkd detect: 1 problem in missing.yaml:"),
        ("data pennfudan --root missing --out x", "hkd data: missing: "),
        ("data caltech --root missing --out x", "hkd data: missing: no annotation of one in 30 frames is there;"),
        ("data caltech --root x --out y --annotations-only --preview 3", "hkd data: --preview draws on the images,"),
        ("data citypersons --root missing --out x --annotations-only", "hkd data: missing: there is no anno_train.mat"),
        ("data crowdhuman --root missing --out x", "hkd data: missing: there is none of annotation_train.odgt"),
        ("data eurocity --root missing --out x", "hkd data: missing: there is no {day,night}/labels/{train,val}"),
        ("data coco --root missing --out x", "hkd data: missing: there is neither annotations/*.json nor"),
        ("data yolo --root missing --out x", "hkd data: missing: there is no data.yaml"),
        ("data synthetic --out file", "hkd data: file/images: Not a directory\n"),
        ("data synthetic --out x --train-images 99999999999", "hkd data: train_images is 99999999999; it must be"),
    ],
)
def test_what_a_user_can_mend_ends_with_2(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert cli.main(arguments.split()) == 2
    assert capsys.readouterr().err.startswith(message)
    assert not Path("x").exists() or not any(Path("x").rglob("*.*"))


def test_errors_of_our_own_making_are_not_hidden(coco: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> EvaluationReport:
        raise ValueError("operands could not be broadcast together")

    monkeypatch.setattr(comparison, "evaluate_detectors", broken)
    with pytest.raises(ValueError, match="broadcast"):
        cli.main(["evaluate", "--ground-truth", str(coco[0]), "--detections", str(coco[1])])


def test_interruption_ends_with_130_and_a_sentence(
    coco: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> EvaluationReport:
        raise KeyboardInterrupt

    monkeypatch.setattr(comparison, "evaluate_detectors", interrupted)
    assert cli.main(["evaluate", "--ground-truth", str(coco[0]), "--detections", str(coco[1])]) == 130
    assert capsys.readouterr().err == "\nhkd evaluate: interrupted. Nothing was finished.\n"


def test_training_says_how_to_go_on_after_an_interruption() -> None:
    options = cli._parser().parse_args(["train", "student.yaml"])
    assert "--resume" in options.after_interrupt
