"""The command: which sections run, what is kept, what is refused; without measuring, but for the end-to-end test."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import packages, processes
from benchmarks.gpu.packages import REQUIRED, PackageError, check_packages
from benchmarks.gpu.processes import Throughput, measure_processes, numbers_of_processes, worthwhile
from benchmarks.gpu.records import Record, read_result, record_path
from benchmarks.gpu.sections import MINUTES, SECTIONS, Section, Settings

ROOT = Path(__file__).parents[3]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sections that ran; ``step`` is measured, ``compile`` fails, all others are not run."""
    names: list[str] = []

    def run(section: Section, folder: Path, settings: Settings, *_: float) -> None:
        names.append(section.name)
        status: Any = {"step": "measured", "compile": "failed"}.get(section.name, "not run")
        machine = f"machine of {section.name}" if section.name == "compile" else "a machine"
        Record(
            section.name, settings.recorded(), status, "a \x1b reason", 1.0, machine, "work", "| table |", "A sentence."
        ).write(folder)

    monkeypatch.setattr(command, "_run", run)
    return names


def test_sections_fit_eight_minutes() -> None:
    assert sum(section.limit_seconds for section in SECTIONS.values()) <= 60 * MINUTES == 480


def test_second_call_measures_only_what_is_missing(
    tmp_path: Path, runs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path)]
    assert command.main([*out, "--sections", "step", "memory"]) == 0
    assert runs == ["step", "memory"]
    assert "| table |\n\nA sentence." in capsys.readouterr().out
    # All sections: "step" is measured, "memory" was not run.
    assert command.main(out) == 1, "one section failed"
    assert runs[2:] == [name for name in SECTIONS if name != "step"]
    printed = capsys.readouterr()
    assert "Not run: a \\x1b reason." in printed.out
    assert "several machines" in printed.out
    assert "compile" in printed.err


def test_report_measures_nothing_and_states_what_is_missing(
    tmp_path: Path, runs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--out", str(tmp_path / "absent"), "--report"]) == 0
    assert capsys.readouterr().out.count("Not measured yet.") == len(SECTIONS)
    assert not (tmp_path / "absent").exists()
    assert runs == []


@pytest.mark.parametrize("content", [None, "{", '{"section": "step", "unknown": 1}'])
def test_results_of_other_settings_and_damaged_ones_are_refused(
    tmp_path: Path, runs: list[str], capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    assert command.main(["--out", str(tmp_path), "--sections", "step"]) == 0
    path = record_path(tmp_path, "step")
    if content is not None:
        path.write_text(content, encoding="utf-8")
    before = path.read_bytes()
    capsys.readouterr()
    assert command.main(["--out", str(tmp_path), "--batch-size", "4", "--sections", "step"]) == 2
    printed = capsys.readouterr().err
    assert str(tmp_path) in printed
    assert "choose another --out" in printed
    assert content is not None or "step: batch_size None instead of 4" in printed
    assert path.read_bytes() == before
    assert runs == ["step"]


def test_section_without_time_left_is_recorded_as_not_run(tmp_path: Path) -> None:
    command._run(SECTIONS["step"], tmp_path, Settings(), 3.0, 8.0)
    record = read_result(tmp_path, "step")
    assert record is not None
    assert record.status == "not run"
    assert "--minutes" in record.reason


def test_list_names_every_section_with_its_limit_and_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(SECTIONS)
    assert "needs a CUDA device, safetensors, pycocotools" in next(line for line in lines if "out_of_memory" in line)


def test_all_absent_packages_are_named_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hidden = {"pydantic", "yaml"}
    found = importlib.util.find_spec
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name in hidden else found(name))
    assert command.main(["--out", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr().err
    assert all(REQUIRED[name] in printed for name in hidden)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("version", "is_accepted"), [("2.10.0", False), ("2.11.0a0+git", True), ("3.0", True)])
def test_torch_before_2_11_is_refused(monkeypatch: pytest.MonkeyPatch, version: str, is_accepted: bool) -> None:
    monkeypatch.setattr(packages, "torch_version", lambda: version)
    if is_accepted:
        check_packages()
    else:
        with pytest.raises(PackageError, match=r"2\.10\.0.*torch>=2\.11"):
            check_packages()


@pytest.mark.parametrize(("largest", "numbers"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])])
def test_numbers_of_processes_double(largest: int, numbers: list[int]) -> None:
    assert numbers_of_processes(largest) == numbers


def test_more_processes_are_worthwhile_while_they_add_five_per_cent() -> None:
    found = [Throughput(count, rate) for count, rate in ((1, 10.0), (2, 15.0), (4, 15.7), (8, 20.0))]
    # 15 is 50 % more than 10; 15.7 is less than 1.05 * 15 = 15.75.
    assert worthwhile(found) is found[1]
    assert worthwhile(found[:1]) is found[0]


class FakeWorker:
    """The third of three processes does not fit; each trains 4 steps in 2 seconds alone, 3 in 2 beside another."""

    started = 0
    running = 0

    def __init__(self, settings: Settings) -> None:
        assert settings.device == "cpu"
        type(self).started += 1
        self._answers: list[Any] = [{"ready": True} if self.started < 3 else {"error": "CUDA out of memory"}]

    def start(self, seconds: float) -> None:
        type(self).running += 1
        self._answers.append({"seconds": seconds})

    def answer(self) -> dict[str, Any]:
        answer: dict[str, Any] = self._answers.pop(0)
        if "seconds" in answer:
            answer["steps"] = 3 if type(self).running > 1 else 4
            if answer["steps"] == 4:
                type(self).running = 0
        return answer

    def __enter__(self) -> FakeWorker:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def test_throughput_is_that_of_the_processes_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.benchmarks.gpu.test_steps import TINY

    monkeypatch.setattr(processes, "Worker", FakeWorker)
    found = measure_processes(TINY, Settings(processes=3, seconds=2.0))
    # One: 4 / 2 s. Two: 2 * 3 / 2 s, 1.5 times as much; 3 * 2 images per second.
    assert [(own["processes"], own["steps_per_second"]) for own in found.figures["throughput"]] == [(1, 2.0), (2, 3.0)]
    assert "| 2 | 3.00 | 6.0 | 667 | 1.50x |" in found.tables
    assert "1 of 3 processes did not fit the device: CUDA out of memory" in found.tables


_IMPORT_ALL = """
import importlib, pkgutil, sys
import benchmarks.gpu
for module in pkgutil.iter_modules(benchmarks.gpu.__path__):
    importlib.import_module(f"benchmarks.gpu.{module.name}")
print(sorted({"ray", "optuna", "mlflow"} & set(sys.modules)))
"""


@pytest.mark.thorough
def test_benchmark_imports_nothing_of_ray_optuna_and_mlflow() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT_ALL], cwd=ROOT, env=_environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.end_to_end
def test_sections_run_in_processes_of_their_own(tmp_path: Path) -> None:
    options = "--device cpu --batch-size 2 --height 64 --width 96 --rounds 1 --processes 1 --seconds 0.1 --minutes 60"
    options += " --sections synchronization processes"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *options.split(), "--out", str(tmp_path)],
        cwd=ROOT,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Not run: the device is cpu" in done.stdout
    throughput = json.loads(record_path(tmp_path, "processes").read_text(encoding="utf-8"))["figures"]["throughput"]
    assert [own["processes"] for own in throughput] == [1]


@pytest.mark.end_to_end
@pytest.mark.parametrize(
    ("device", "status", "reason"),
    [("cuda", "not run", "torch finds no GPU"), ("tpu", "failed", "exit status 1")],
)
def test_section_that_cannot_start_leaves_a_record(tmp_path: Path, device: str, status: str, reason: str) -> None:
    if device == "cuda":
        import torch

        if torch.cuda.is_available():
            pytest.skip("this machine has a GPU")
    command._run(SECTIONS["step"], tmp_path, Settings(device=device), 600.0, 60.0)
    record = read_result(tmp_path, "step")
    assert record is not None
    assert record.status == status
    assert reason in record.reason


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}
