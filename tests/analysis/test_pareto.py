from __future__ import annotations

import html
import json
from pathlib import Path
from typing import IO, Any

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from analysis import pareto, plots
from analysis.report.page import study as page
from tests.analysis.studies import Written, write_study
from tests.analysis.test_variants import row, write

PLOTS = {f"front_{cost}.{kind}" for cost in ("params", "flops") for kind in ("png", "svg")}
FILES = {"report.html", "front.md", "trials.csv", "summary.json", *PLOTS}


@pytest.fixture
def study(client: MlflowClient, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A small study in ./mlflow.db; returns its name."""
    runs = [
        Written("teacher", mr2=(0.2,), num_params=6e6, flops=10e9, role="teacher"),
        Written("b0", mr2=(0.9, 0.8, 0.7, 0.5), role="baseline", baseline="undistilled"),
        Written("00001", mr2=(0.9, 0.8, 0.7, 0.3)),
        Written("00002", mr2=(0.9, 0.8, 0.7, 0.6), num_params=5e5, flops=1e9),
        Written("00003", mr2=(0.9,), status="failed"),
    ]
    write_study(client, "demo", runs)
    monkeypatch.chdir(tmp_path)
    return "demo"


def test_report_is_written_and_front_printed(study: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pareto.main(["--study", study]) == 0
    folder = tmp_path / "reports" / "demo"
    assert {path.name for path in folder.iterdir()} == FILES
    # The temporary folder of the files was removed.
    assert [path.name for path in folder.parent.iterdir()] == ["demo"]
    summary = json.loads((folder / "summary.json").read_text())
    assert [student["trial_id"] for student in summary["front"]] == ["00001", "00002"]
    table = pd.read_csv(folder / "trials.csv", dtype={"trial_id": str})
    assert list(table["trial_id"]) == ["teacher", "b0", "00001", "00002", "00003"]
    assert (folder / "front_params.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "1     00001    30.0" in printed
    assert "4 trials and baselines: 1 failed, 3 finished" in printed
    # 00001 is 10 points above the teacher.
    for text in (printed, summary["headline"], (folder / "report.html").read_text(), (folder / "front.md").read_text()):
        assert "Ship 00001 if its loss is acceptable" in text
    for name in FILES:
        assert str(Path("reports/demo") / name) in printed


@pytest.mark.parametrize(
    ("objectives", "pictures"),
    [
        (("mr2_all", "num_params"), {"front_params.png"}),
        (("gmacs", "mr2_all", "mr2_small"), {"front_gmacs.png", "front_gmacs_mr2_small.png"}),
        (("mr2_all", "mr2_small"), set()),
    ],
)
@pytest.mark.usefixtures("without_drawing")
def test_report_follows_objectives_of_study(
    objectives: tuple[str, ...],
    pictures: set[str],
    client: MlflowClient,
    database: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # No validation image has a reasonable pedestrian.
    runs = [
        Written("teacher", mr2=(0.2,), miss_rate="mr2_all", num_params=6e6, flops=10e9, role="teacher"),
        Written("t0", miss_rate="mr2_all", metrics={"mr2_small": 0.5}),
        Written("t1", mr2=(0.9, 0.8, 0.7, 0.6), miss_rate="mr2_all", metrics={"mr2_small": 0.6}),
    ]
    write_study(client, "demo", runs, objectives=objectives)
    folder = tmp_path / "report"
    # An absolute path: MLflow keeps the stores of this process by their URI, also after a change of the working folder.
    assert pareto.main(["--study", "demo", "--tracking-uri", f"sqlite:///{database}", "--out", str(folder)]) == 0
    assert {path.name for path in folder.glob("*.png")} == pictures
    summary = json.loads((folder / "summary.json").read_text())
    assert set(summary["objectives"]) == set(objectives)
    # The other trial has the same costs and higher miss rates.
    assert [student["trial_id"] for student in summary["front"]] == ["t0"]
    printed = capsys.readouterr().out
    assert "Nothing here is ready to ship: the best student, t0," in printed  # 20 points above the teacher
    assert "miss rate (all) %" in printed
    assert "three-objective" not in (folder / "report.html").read_text()


@pytest.mark.filterwarnings("ignore:Query string argument:sqlalchemy.exc.SAWarning")
@pytest.mark.usefixtures("without_drawing")
def test_no_output_has_credentials(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [
        Written("t0", params={"teacher.checkpoint": "s3://anna:hunter2@bucket/x", "db.password": "hunter2"}),
        Written("t1", params={"teacher.checkpoint": "s3://bucket/x?token=hunter2"}),
        Written("t2", mr2=(0.9,), status="failed", error="OSError: postgresql://anna:hunter2/x@host/db"),
        Written("t3", status="http://anna:hunter2@host"),
    ]
    experiment = write_study(client, "demo", runs)
    (parent,) = client.search_runs([experiment], "tags.`hkd.role` = 'study'")
    client.log_param(parent.info.run_id, "tracking.uri", "http://anna:hunter2@host")
    client.set_tag(parent.info.run_id, "origin", "http://host/?password=hunter2")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db?password=hunter2")
    for given in ([], ["--tracking-uri", "sqlite:///mlflow.db?password=***"]):
        assert pareto.main(["--study", "demo", *given]) == 0
    printed = capsys.readouterr()
    written = {path.name: path.read_bytes() for path in (tmp_path / "reports" / "demo").iterdir()}
    assert set(written) == FILES
    for content in (*written.values(), printed.out.encode(), printed.err.encode()):
        assert b"hunter2" not in content
        assert b"anna" not in content
    assert b"***" in written["trials.csv"]


def test_credentials_on_the_command_line_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--study", "demo", "--tracking-uri", "http://anna:hunter2@host", "--out", str(tmp_path / "report")]
    assert pareto.main(given) == 2
    message = error_of(capsys)
    assert "hunter2" not in message
    for fact in ("--tracking-uri", "http://***@host", "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_PASSWORD"):
        assert fact in message


def test_error_of_command_line_has_no_credentials(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        pareto.main(["--study", "demo", "http://anna:hunter2@host"])
    assert "hunter2" not in capsys.readouterr().err


@pytest.fixture
def without_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing is slow and is tested in test_plots."""
    monkeypatch.setattr(plots, "draw_front", lambda *_: plots.Picture(b"a picture", b"a picture"))


@pytest.mark.usefixtures("without_drawing")
def test_markdown_prints_only_table(study: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert pareto.main(["--study", study, "--markdown", "--out", "elsewhere"]) == 0
    printed = capsys.readouterr().out
    written = Path("elsewhere/front.md").read_text()
    assert written.endswith(f"\n\n{printed}")
    # Above the table: the headline, as one paragraph.
    assert written.startswith("Ship 00001 if")
    assert all(line.startswith("| ") for line in printed.splitlines())


def error_of(capsys: pytest.CaptureFixture[str], lines: int = 1) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == lines
    return captured.err


def test_missing_store_is_one_message_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert pareto.main(["--study", "demo"]) == 2
    assert error_of(capsys).startswith("pareto: error: there is no MLflow store at mlflow.db")
    assert list(tmp_path.iterdir()) == []


def test_unknown_study_is_one_message(study: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pareto.main(["--study", "dmeo"]) == 2
    assert "studies: demo." in error_of(capsys)
    assert not (tmp_path / "reports").exists()


def test_out_that_is_file_is_one_message(study: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "occupied").write_text("mine")
    assert pareto.main(["--study", study, "--out", "occupied/report"]) == 2
    assert "--out occupied/report: occupied is a file; name a folder." in error_of(capsys)
    assert (tmp_path / "occupied").read_text() == "mine"


@pytest.mark.usefixtures("without_drawing")
def test_failure_leaves_older_report_unchanged(study: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pareto.main(["--study", study]) == 0
    folder = tmp_path / "reports" / "demo"
    before = {path.name: b"older " + path.read_bytes() for path in folder.iterdir()}
    for name, content in before.items():
        (folder / name).write_bytes(content)

    def fail(path: Path, mode: str = "r", *arguments: Any, **options: Any) -> IO[Any]:
        if "trials.csv" in path.name and mode != "rb":
            raise OSError(28, "No space left on device")
        return original(path, mode, *arguments, **options)

    original = Path.open
    monkeypatch.setattr(Path, "open", fail)
    assert pareto.main(["--study", study]) == 2
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["demo"]


@pytest.mark.usefixtures("without_drawing")
def test_new_report_replaces_old_one_and_no_other_file(
    study: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pareto.main(["--study", study]) == 0
    folder = tmp_path / "reports" / "demo"
    (folder / "notes.txt").write_text("mine")
    monkeypatch.setattr(page, "render_html", lambda *_, **__: "second")
    assert pareto.main(["--study", study]) == 0
    assert (folder / "report.html").read_text() == "second"
    assert (folder / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("study", "folder"),
    [("demo", "demo"), ("a/b", "a_b"), ("../up", ".._up"), ("..", "_"), ("", "_"), ("größe 2", "größe_2")],
)
def test_folder_of_study_is_inside_reports(study: str, folder: str) -> None:
    assert pareto.folder_name(study) == folder


def test_help_fits_80_columns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        pareto.main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "  python analysis/pareto.py --study demo" in lines


def test_names_of_other_studies_add_no_lines(
    client: MlflowClient, database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client.create_experiment("other\npareto: fine \x1b[31m")
    given = ["--study", "demo", "--tracking-uri", f"sqlite:///{database}", "--out", str(tmp_path / "report")]
    assert pareto.main(given) == 2
    assert r"its studies: other\npareto: fine \x1b[31m" in error_of(capsys)


def test_budgets_decide_the_headline(study: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert pareto.main(["--study", study, "--max-params", "7e5", "--max-gflops", "1"]) == 0
    assert "00002" in capsys.readouterr().out.split("\n\n")[2]
    # Nothing has 20 %; 00001 is 1.5 times over.
    assert pareto.main(["--study", study, "--max-miss-rate", "0.2"]) == 0
    said = capsys.readouterr().out
    assert "No student meets the budget" in said
    assert "nearest is 00001" in said
    assert "1.50x" in said
    read = json.loads(Path("reports/demo/summary.json").read_text())["recommendation"]
    assert (read["verdict"], read["limits"]) == ("over budget", {"mr2_reasonable": 0.2})


def test_page_repeats_the_command_with_its_options(study: str, tmp_path: Path) -> None:
    write(tmp_path / "phone.json", row("00001", "fp32", 20.0))
    options = ["--study", study, "--max-latency-ms", "30", "--out", "a b", "--variants", "phone.json", "--no-images"]
    assert pareto.main([*options, "--attach"]) == 0
    command = f"--study {study} --max-latency-ms 30 --out 'a b' --variants phone.json --no-images"
    assert command in html.unescape(Path("a b/report.html").read_text())


def test_all_invalid_budgets_are_refused_before_the_store_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert pareto.main(["--study", "demo", "--max-params", "0", "--max-miss-rate", "10 %"]) == 2
    said = error_of(capsys, lines=2)
    assert "--max-params: found '0'" in said
    assert "--max-miss-rate: found '10 %'" in said
    assert "write 0.1" in said


def test_budget_on_what_is_not_measured_is_refused(study: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert pareto.main(["--study", study, "--max-latency-ms", "30"]) == 2
    assert "latency_ms" in error_of(capsys)


def test_several_studies_are_compared(
    study: str, client: MlflowClient, database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # MLflow keeps the connection of an earlier test to the relative path of another folder.
    store = ["--tracking-uri", f"sqlite:///{database}"]
    runs = [
        Written("teacher", mr2=(0.2,), num_params=8e6, flops=10e9, role="teacher"),
        Written("00001", mr2=(0.9, 0.8, 0.7, 0.25)),
    ]
    write_study(client, "demo two", runs)
    assert pareto.main(["--study", study, "--study", "demo two", *store]) == 0
    folder = tmp_path / "reports" / "demo_vs_demo_two"
    written = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    own = {
        "comparison.html",
        "comparison.md",
        "comparison.json",
        *(name.replace("front_", "fronts_") for name in PLOTS),
    }
    assert written == own | {f"{each}/{name}" for each in ("demo", "demo_two") for name in FILES}
    said = capsys.readouterr().out
    # (1 - mr2) (1 - params / 8e6) (1 - flops / 10e9): 0.7 x 0.875 x 0.8 and 0.4 x 0.9375 x 0.9, less what both
    # dominate, 0.4 x 0.875 x 0.8; the other study has 0.75 x 0.875 x 0.8 = 0.525.
    assert "demo has the largest hypervolume in miss rate, parameters and FLOPs: 0.5475" in said
    read = json.loads((folder / "comparison.json").read_text())
    assert read["reference_point"] == {"mr2_reasonable": 1.0, "num_params": 8e6, "flops": 10e9}
    assert [each["study"] for each in read["studies"]] == ["demo", "demo two"]
    assert pareto.main(["--study", study, "--study", study, *store]) == 2
    assert "once" in error_of(capsys)


def test_name_near_to_an_unknown_study_is_suggested(study: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert pareto.main(["--study", "dmeo"]) == 2
    assert "nearest names: 'demo'" in error_of(capsys)
