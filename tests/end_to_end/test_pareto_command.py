"""The report command as a user runs it: from a checkout, in its own process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from tests.analysis.studies import Written, make_empty_database, write_study

REPOSITORY = Path(__file__).parents[2]
PARETO = REPOSITORY / "analysis" / "pareto.py"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with mlflow.db, which holds the study demo."""
    make_empty_database(tmp_path / "mlflow.db")
    runs = [
        Written(f"t{index}", mr2=(0.9, 0.8, 0.7, 0.6 - index / 20), num_params=1e5 * 2**index, params={"a.b": index})
        for index in range(8)
    ]
    teacher = Written("teacher", mr2=(0.2,), num_params=6e6, flops=10e9, role="teacher")
    write_study(MlflowClient(f"sqlite:///{tmp_path}/mlflow.db"), "demo", [teacher, *runs])
    return tmp_path


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    command_line = [sys.executable, *command]
    return subprocess.run(command_line, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


def test_report_from_any_folder(folder: Path) -> None:
    done = run(folder, str(PARETO), "--study", "demo")
    assert done.returncode == 0, done.stderr
    plots = [f"front_{cost}.{suffix}" for cost in ("params", "flops") for suffix in ("png", "svg")]
    files = ["report.html", *plots, "front.md", "trials.csv", "summary.json"]
    assert done.stdout.splitlines()[-8:] == [f"reports/demo/{name}" for name in files]
    assert (folder / "reports" / "demo" / "report.html").is_file()
    # MLflow and Optuna are silenced.
    assert done.stderr == ""


def test_module_runs_without_torch_or_ray(folder: Path) -> None:
    program = (
        "import runpy, sys\n"
        "sys.argv = ['pareto', '--study', 'demo', '--markdown']\n"
        "try:\n"
        "    runpy.run_module('analysis.pareto', run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    print('exit', end.code, sorted({'torch', 'torchvision', 'ray'} & set(sys.modules)))\n"
    )
    done = run(folder, "-c", f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n{program}")
    assert done.stdout.splitlines()[-1] == "exit 0 []", done.stderr
    assert done.stdout.startswith("| rank | trial |")


def test_help_shows_example_and_wrong_store_exits_with_2(tmp_path: Path) -> None:
    shown = run(tmp_path, str(PARETO), "--help")
    assert shown.returncode == 0
    assert "python analysis/pareto.py --study demo" in shown.stdout
    assert run(tmp_path, str(PARETO)).returncode == 2
    missed = run(tmp_path, str(PARETO), "--study", "demo")
    assert missed.returncode == 2
    assert missed.stderr.startswith("pareto: error: there is no MLflow store at mlflow.db")
    assert missed.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_help_and_mistakes_load_no_heavy_library(tmp_path: Path) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n"
        "from analysis import pareto\n"
        "heavy = {'mlflow', 'matplotlib', 'pandas', 'optuna'}\n"
        "print(pareto.main(['--study', 'demo']), sorted(heavy & set(sys.modules)))\n"
    )
    assert run(tmp_path, "-c", program).stdout == "2 []\n"
