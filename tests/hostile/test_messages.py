"""Names, settings and errors that foreign text is in, as the three programs print them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from rich.text import Text

from analysis import pareto
from hkd import cli
from hkd.config import DetectorConfig
from hkd.models.cost import Cost
from hkd.text.escaping import printable
from sweeps import run
from sweeps.console.display import Display, TrialBoard, closing_table
from sweeps.console.tables import RunningTrial, ended_table, live_tables
from sweeps.folder import StudyError
from sweeps.plan import PlannedDetector, _cost_table
from sweeps.trials.records.trial import LedgerTrial
from tests.hostile.texts import TEXTS, is_harmless_on_terminal

EACH_TEXT = pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
FILE_NAMES = {kind: text.replace("\x00", "").replace("/", "_")[:200] for kind, text in TEXTS.items()}
EACH_FILE_NAME = pytest.mark.parametrize("name", FILE_NAMES.values(), ids=FILE_NAMES)


@pytest.fixture(autouse=True)
def _working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def error_of(capsys: pytest.CaptureFixture[str], code: int, start: str, lines: int) -> str:
    captured = capsys.readouterr()
    assert code == 2
    assert captured.err.startswith(start)
    assert len(captured.err.rstrip("\n").split("\n")) <= lines
    assert is_harmless_on_terminal(captured.out + captured.err)
    assert "Traceback" not in captured.err
    assert list(Path().rglob("*outside*")) == []
    return captured.err


@EACH_FILE_NAME
def test_missing_file(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    error_of(capsys, cli.main(["train", f"./{name}"]), "hkd train: ", 2)
    error_of(capsys, run.main(["--config", f"./{name}"]), "error: ", 2)
    arguments = ["--ground-truth", f"./{name}", "--detections", f"./{name}"]
    error_of(capsys, cli.main(["evaluate", *arguments]), "hkd evaluate: ", 2)
    error_of(capsys, cli.main(["detect", f"./{name}", "--weights", f"./{name}", "--out", "o"]), "hkd detect: ", 2)
    error_of(capsys, cli.main(["data", "yolo", "--root", f"./{name}", "--out", "o"]), "hkd data: ", 2)
    error_of(capsys, pareto.main([f"--study={name}", "--tracking-uri", f"./{name}"]), "pareto: error: ", 1)


@EACH_TEXT
def test_key_and_value_of_yaml(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("x.yaml").write_text(yaml.safe_dump({text: text, "data": {text: text}, "training": text}), encoding="utf-8")
    error_of(capsys, cli.main(["train", "x.yaml"]), "hkd train: ", 4)
    study = {"name": text, text: text, "space": {text: text}, "baselines": {text: {text: text}}}
    Path("study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    # Problems: name, key, range, name of the baseline, setting of the baseline; each is one line.
    error_of(capsys, run.main(["--config", "study.yaml"]), "error: ", 8)


@EACH_TEXT
def test_setting_of_the_command_line(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty.yaml").write_text("name: x", encoding="utf-8")
    for setting in (text, f"{text}={text}", f"base.{text}=1"):
        error_of(capsys, run.main(["--config", "empty.yaml", f"--set={setting}"]), "error: ", 4)
    Path("first.yaml").write_text(yaml.safe_dump([{text: text}, text]), encoding="utf-8")
    error_of(capsys, run.main(["--config", "empty.yaml", "--enqueue", "first.yaml"]), "error: ", 4)


@EACH_TEXT
def test_category_name_and_detections(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    truth = {
        "images": [{"id": 1, "file_name": text, "width": 64, "height": 48}],
        "categories": [{"id": 1, "name": text}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 10, 24], "label": text}],
    }
    Path("gt.json").write_text(json.dumps(truth), encoding="utf-8")
    Path("dt.json").write_text(json.dumps([{"image_id": text, "category_id": text, "score": text}]), encoding="utf-8")
    given = ["evaluate", "--ground-truth", "gt.json", "--detections", "dt.json"]
    error_of(capsys, cli.main(given), "hkd evaluate: ", 6)


@EACH_TEXT
def test_console_of_a_study(text: str) -> None:
    out = io.StringIO()
    console = Console(file=out, width=10_000)
    display = Display(console)
    failed = LedgerTrial(text, "trial", text, {}, "failed", 1, None, 0, {}, text, 0)
    board = TrialBoard(display, objectives=("mr2_reasonable",), total=1, ended=[], epochs_per_trial=1)
    board.start(text, 1, 2)
    board.lose_worker(text, text, 1, 3)
    board.update()
    board.end(failed)
    console.print(closing_table([failed], ("mr2_reasonable",), None))
    console.print(live_tables({text: RunningTrial(1, 2)}, [failed], ("mr2_reasonable",), 20))
    console.print(ended_table([failed], ("mr2_reasonable",), {failed.trial_id: 2}))
    console.print(_cost_table([PlannedDetector(text, Cost(1, 1), DetectorConfig())]))
    printed = out.getvalue()
    assert is_harmless_on_terminal(printed)
    # Three lines of the board, then five tables with a row each below their title and header.
    assert len(printed.split("\n")) <= 3 + 5 * 8


@EACH_TEXT
def test_live_line_of_a_study(text: str) -> None:
    # As on a terminal, where the line is drawn with rich's own escape sequences.
    with Display(Console(file=io.StringIO(), force_terminal=True, width=200)) as display:
        display.show_progress(f"before {text} after")
        shown = display._spinner.text
    assert isinstance(shown, Text)  # without markup
    assert shown.plain == f"before {printable(text)} after"


@EACH_TEXT
def test_lines_of_an_error_are_its_own(text: str) -> None:
    assert str(StudyError(text, f"a {text}")).count("\n") == 1
    assert is_harmless_on_terminal(str(StudyError(text)))
