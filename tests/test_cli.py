from __future__ import annotations

import argparse
import json
import os
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
from hkd.commands.data import synthetic
from hkd.config import SyntheticConfig
from hkd.evaluation import comparison
from hkd.evaluation.comparison import EvaluationReport

COMMANDS = [
    "init",
    "data",
    *(
        f"data {source}"
        for source in ("pennfudan", "inria", "caltech", "citypersons", "crowdhuman", "eurocity", "kaist")
    ),
    *(f"data {source}" for source in ("coco", "yolo", "synthetic")),
    "train",
    "evaluate",
    "detect",
    "draw",
    "label",
]


def all_parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from all_parsers(below)


def examples() -> list[str]:
    """Every example of a help text, on one line."""
    epilogs = [parser.epilog or "" for parser in all_parsers(cli._parser())]
    joined = [re.sub(r"\\\n\s*", "", epilog) for epilog in epilogs]
    return sorted({line.strip() for text in joined for line in text.splitlines() if line.startswith("  hkd ")})


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


def test_installed_command_is_main() -> None:
    (command,) = entry_points(group="console_scripts", name="hkd")
    assert command.load() is cli.main


def test_version_imports_no_heavy_library() -> None:
    code = (
        "import sys; sys.argv = ['hkd', '--version']\n"
        "try:\n    import hkd.__main__, runpy; runpy.run_module('hkd', run_name='__main__')\n"
        "except SystemExit as error:\n    assert error.code == 0\n"
        "print(sorted({'torch', 'numpy', 'pandas', 'yaml', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"hkd {hkd.__version__}", "[]"]


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert re.findall(r"^    (\w+)(?: |$)", out, flags=re.MULTILINE) == [
        *("init", "data", "train", "evaluate", "detect", "export", "benchmark", "draw", "label")
    ]
    assert [
        command for command in ("init", "data", "train", "evaluate", "detect") if f"\n  hkd {command} " not in out
    ] == []


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_80_columns_and_ends_with_examples(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        cli.main([*command.split(), "--help"])
    out = capsys.readouterr().out
    assert f"examples:\n  {f'hkd {command}'.strip()} " in out
    assert [line for line in out.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("example", examples())
def test_example_of_help_is_accepted(example: str) -> None:
    arguments = shlex.split(example, comments=True)[1:]
    if arguments[-1] == "--help":
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        assert ended.value.code == 0
    else:
        assert callable(cli._parser().parse_args(arguments).run)


@pytest.mark.parametrize("arguments", ["", "data", "train", "detect a.png", "nonsense", "evaluate --ground-truth a"])
def test_incomplete_command_line_exits_with_2(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments.split())
    assert ended.value.code == 2
    assert "usage: hkd" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("data synthetic --out x --train-images 0", '--train-images: found "0"; allowed: integer from 1 to 1000000'),
        (
            "data synthetic --out x --train-images 99999999999",
            '--train-images: found "99999999999"; allowed: integer from 1',
        ),
        ("data synthetic --out x --width 100000", '--width: found "100000"; allowed: integer from 64 to 16384'),
        ("data synthetic --out x --seed 4294967296", '--seed: found "4294967296"; allowed: integer from 0'),
        ("data synthetic --out x --height 8", '--height: found "8"; allowed: integer from 64 to 16384'),
        ("data synthetic --out x --seed -1", '--seed: found "-1"; allowed: integer from 0 to 2147483647'),
        ("init --annotations x --input-size 640", '--input-size: found "640"; allowed: WIDTHxHEIGHT'),
        ("init --annotations x --input-size 640x481", "multiples of 32 from 64 to 8192"),
        ("init --annotations x --validation-fraction 1", 'found "1"; allowed: number > 0 and < 1'),
        ("data caltech --root x --out y --every 0", '--every: found "0"; allowed: integer from 1 to 2147483647'),
        ("data caltech --root x --out y --annotations old", "invalid choice: 'old' (choose from"),
        ("data synthetic --out x --preview 0", '--preview: found "0"; allowed: integer from 1 to 100'),
        (
            "data pennfudan --root x --out y --train-images ten",
            '--train-images: found "ten"; allowed: integer',
        ),
        ("detect a.png --weights w --out x --score-threshold 1", 'found "1"; allowed: number >= 0 and < 1'),
        ("detect a.png --weights w --out x --score-threshold nan", 'found "nan"; allowed: number >= 0 and < 1'),
        ("label a --weights w --out x --object-score 0", '--object-score: found "0"; allowed: number > 0 and <= 1'),
        ("detect a.png --weights w --out x --score-threshold x", 'found "x"; allowed: number >= 0 and < 1'),
    ],
)
def test_invalid_argument_is_reported_with_allowed_values(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments.split())
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_configuration_mistakes_are_reported_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "trial.yaml"
    config.write_text("student: {widht_multiplier: 0.5}")
    code = cli.main(["train", str(config), "--set", "training.seed=x", "--out", str(tmp_path / "out")])
    assert code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    heading, *problems = captured.err.splitlines()
    assert heading.startswith("hkd train: ")
    assert [fact for fact in ("2 problems", str(config), "--set") if fact not in heading] == []
    assert [problem.strip().split(": ")[0] for problem in problems] == ["student.widht_multiplier", "training.seed"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        ("train missing.yaml", ["missing.yaml", "no such file"]),
        ("detect a.png --weights w --out x --config missing.yaml", ["missing.yaml", "no such file"]),
        ("data pennfudan --root missing --out x", ["missing", "Annotation/*.txt"]),
        ("data inria --root missing --out x", ["missing", "no such folder"]),
        ("data caltech --root missing --out x", ["missing", "30"]),
        ("data caltech --root x --out y --annotations-only --preview 3", ["--preview", "--annotations-only"]),
        ("data citypersons --root missing --out x --annotations-only", ["missing", "anno_train.mat", "val_gt.json"]),
        ("data crowdhuman --root missing --out x", ["missing", "annotation_train.odgt", "annotation_val.odgt"]),
        ("data eurocity --root missing --out x", ["missing", "{day,night}/labels/{train,val}"]),
        ("data kaist --root missing --out x", ["missing", "setNN/VNNN/INNNNN.xml"]),
        ("data coco --root missing --out x", ["missing", "no such folder"]),
        ("data yolo --root missing --out x", ["missing", "no such folder"]),
        ("data synthetic --out file", ["file/images", "Not a directory"]),
    ],
)
def test_error_of_user_is_reported_and_exits_with_2(
    arguments: str,
    facts: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert cli.main(arguments.split()) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"hkd {arguments.split(maxsplit=1)[0]}: ")
    assert [fact for fact in facts if fact not in message] == []
    assert not Path("x").exists() or not any(Path("x").rglob("*.*"))


def test_error_of_library_is_raised(coco: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> EvaluationReport:
        raise ValueError("operands could not be broadcast together")

    monkeypatch.setattr(comparison, "evaluate_detectors", broken)
    with pytest.raises(ValueError, match="broadcast"):
        cli.main(["evaluate", "--ground-truth", str(coco[0]), "--detections", str(coco[1])])


def test_interruption_exits_with_130(
    coco: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> EvaluationReport:
        raise KeyboardInterrupt

    monkeypatch.setattr(comparison, "evaluate_detectors", interrupted)
    assert cli.main(["evaluate", "--ground-truth", str(coco[0]), "--detections", str(coco[1])]) == 130
    message = capsys.readouterr().err
    assert "hkd evaluate: interrupted" in message
    assert len(message.strip().splitlines()) == 1


def test_reader_that_stops_reading_ends_the_command_silently(coco: tuple[Path, Path]) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)  # as `| head -0` does
    command = [sys.executable, "-m", "hkd", "evaluate", "--resamples", "0", "--ground-truth", str(coco[0])]
    result = subprocess.run(
        [*command, "--detections", str(coco[1])], stdout=write_end, stderr=subprocess.PIPE, check=False
    )
    os.close(write_end)
    # 128 + SIGPIPE, as a shell reports programs that the signal ends.
    assert (result.returncode, result.stderr) == (141, b"")


def test_interrupted_training_reports_resume_option() -> None:
    options = cli._parser().parse_args(["train", "student.yaml"])
    assert "--resume" in options.after_interrupt


def test_limits_of_generated_scenes_are_those_of_the_configuration() -> None:
    fields = SyntheticConfig.model_json_schema()["properties"]
    assert fields["train_images"]["maximum"] == fields["validation_images"]["maximum"] == synthetic.MOST_SCENES
    assert (fields["height"]["minimum"], fields["width"]["maximum"]) == (
        synthetic.SMALLEST_SIDE,
        synthetic.LARGEST_SIDE,
    )


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc.cpp] DefaultCPUAllocator: can't allocate memory: you tried\nx"),
    ],
    ids=["Python", "torch"],
)
def test_exhausted_memory_is_reported_with_what_to_reduce(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_out(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("hkd.data.sources.synthetic.write_scenes", run_out)
    assert cli.main(["data", "synthetic", "--out", "out"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("hkd data: not enough memory (")
    assert "smaller batch_size" in message
    assert message.count("\n") == 1


def test_other_errors_of_libraries_show_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr("hkd.data.sources.synthetic.write_scenes", fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        cli.main(["data", "synthetic", "--out", "out"])
