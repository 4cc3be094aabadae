"""``hkd init`` as a user runs it; the commands that it prints are run as printed."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from hkd import cli
from sweeps import run
from tests.proposal.photographs import document, write_json, write_photographs

TINY_DETECTOR = ("width_multiplier=0.125", "pyramid_channels=8", "head_channels=16", "proposals_per_image=8")
TINY_TRAINING = ("total_epochs=1", "batch_size=4", "sampled_anchors_per_image=16", "sampled_regions_per_image=8")
TINY = (
    *(f"{detector}.{setting}" for detector in ("student", "teacher") for setting in TINY_DETECTOR),
    *(
        f"{section}.{setting}"
        for section in ("training", "teacher.training", "teacher.init_from_synthetic")
        for setting in (*TINY_TRAINING, "device=cpu")
    ),
    "data.synthetic.train_images=4",
    "data.synthetic.validation_images=2",
)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten photographs in 'my photos', and mine.json, in the working folder."""
    monkeypatch.chdir(tmp_path)
    names = [f"IMG_{number}.png" for number in range(10)]
    write_photographs(Path("my photos"), names)
    return write_json(Path("mine.json"), document(names))


def _printed_commands(out: str) -> list[list[str]]:
    """The command lines after ``next:``."""
    lines = out.partition("next:\n")[2].splitlines()
    return [shlex.split(line, comments=True) for line in lines]


@pytest.mark.thorough
def test_printed_commands_run_as_printed(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["init", "--annotations", "mine.json", "--images", "my photos", "--out", "my start"]
    assert cli.main(arguments) == 0
    train, dry_run, study, report = _printed_commands(capsys.readouterr().out)
    assert train[:2] == ["hkd", "train"]
    assert cli.main([*train[1:], *(f"--set={setting}" for setting in TINY)]) == 0
    assert json.loads(Path("runs/train/my-start/metrics.json").read_text())
    assert dry_run[:2] == study[:2] == ["python", "sweeps/run.py"]
    assert dry_run == [*study, "--dry-run"]
    assert run.main(dry_run[2:]) == 0
    plan = capsys.readouterr().out
    assert "my-start" in plan
    assert report == ["python", "analysis/pareto.py", "--study", "my-start"]


def test_report_states_what_is_in_the_file(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("my photos/IMG_4.png").unlink()
    arguments = ["init", "--annotations", "mine.json", "--images", "my photos", "--skip-missing"]
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    rows = dict(re.findall(r"^  (\S.*?)  +(\S.*)$", out, flags=re.MULTILINE))
    assert rows["images"] == "9, 9 of them with people"
    assert rows["image sizes"] == "128 x 96 (9) (width x height)"
    assert rows["boxes"] == "9 people, 0 ignored"
    # 72 pixels high and 30 wide, in all nine.
    assert set(rows["height, px"].split()) == {"72"}
    assert set(rows["width / height"].split()) == {"0.42"}
    assert rows["evaluated"].startswith("100 % reasonable")
    assert "IMG_4.png" in out
    assert Path("hkd-start/train.yaml").is_file()


def test_names_with_control_characters_are_escaped(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "a\x1b[31m.png"
    write_photographs(Path("my photos"), [name, "b.png"])
    write_json(mine, document([name, "b.png"]))
    assert cli.main(["init", "--annotations", "mine.json", "--images", "my photos", "--out", "s\x1b[0m"]) == 0
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out + captured.err
