"""The latencies of a study: given, measured, kept."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import optuna
import pytest

from hkd.inference.deployed.packages import MissingPackageError
from hkd.metric_names import LATENCY_MS
from sweeps import ready_latency as module
from sweeps.checks import check_limits
from sweeps.folder import StudyError, StudyFolder
from sweeps.ready_latency import describe_latency, export_students, known_latency, ready_latency
from sweeps.settings.space import trial_config
from sweeps.settings.study import StudyConfig
from sweeps.trials.cost import student_cost
from sweeps.trials.largest import largest_sizes
from sweeps.trials.latency.measurement import LatencyError
from sweeps.trials.latency.shapes import detectors_to_measure
from sweeps.trials.samplers import front_sampler
from tests.sweeps.trials.latency.measured import invented_ms, write_table

SIZE = (64, 64)
SMALL = {"width_multiplier": 0.125, "pyramid_channels": 16, "head_channels": 16, "proposals_per_image": 16}
PYRAMID = {"student.pyramid_channels": {"type": "int", "low": 8, "high": 128, "step": 8}}


def study_of(folder: Path, *, space: dict[str, Any] = PYRAMID, search: Any = (), **latency: Any) -> StudyConfig:
    data = {"image_height": SIZE[0], "image_width": SIZE[1]}
    base = {"teacher": None, "student": SMALL, "data": data, "evaluation": {"latency": latency}}
    raw = {"name": "x", "base": base, "space": space, "storage_path": folder, "search": dict(search)}
    raw |= {"objectives": ["mr2_reasonable", LATENCY_MS], "baselines": {"default-weights": {}}}
    return StudyConfig.model_validate(raw)


def start(study: StudyConfig) -> tuple[StudyConfig, list[str]]:
    """The study with its latencies as its first session has them, and what it prints."""
    folder, lines = StudyFolder(study), list[str]()
    folder.path.mkdir(exist_ok=True)
    found = ready_latency(known_latency(study, folder), folder, lines.append)
    folder.write_study(study)
    return found, lines


def test_given_table_is_kept_and_predicts_costs(tmp_path: Path) -> None:
    table = tmp_path / "device.json"
    study = study_of(tmp_path, table=table)
    write_table(table, detectors_to_measure(study), *SIZE)
    found, lines = start(study)
    assert "16 measured detectors" in lines[0]
    config = trial_config(found.base, {"student.pyramid_channels": 56})
    expected = invented_ms(config.student, *SIZE)
    assert student_cost(config).as_metrics()[LATENCY_MS] == pytest.approx(expected, rel=0.01)
    # A resumed study reads its own copy.
    table.unlink()
    resumed = known_latency(study, StudyFolder(study))
    assert student_cost(trial_config(resumed.base, {"student.pyramid_channels": 56})) == student_cost(config)
    (tmp_path / "x" / "latency.json").unlink()
    with pytest.raises(StudyError, match=r"x/latency\.json"):
        known_latency(study, StudyFolder(study))


def test_limit_on_latency_holds_for_every_proposal(tmp_path: Path) -> None:
    study = study_of(tmp_path, table=tmp_path / "device.json")
    detectors = detectors_to_measure(study)
    write_table(tmp_path / "device.json", detectors, *SIZE)
    middle = sorted(invented_ms(each, *SIZE) for each in detectors)[8]
    search = {"sampler": "front", "startup_trials": 2, "max_latency_ms": middle}
    limited, _ = start(study_of(tmp_path, table=tmp_path / "device.json", search=search))
    check_limits(limited)

    def time(params: Any) -> float:
        return student_cost(trial_config(limited.base, params)).as_metrics()[LATENCY_MS]

    trials = optuna.create_study(directions=["minimize"] * 2, sampler=front_sampler(limited))
    for number in range(6):
        trial = trials.ask({"student.pyramid_channels": optuna.distributions.IntDistribution(8, 128, step=8)})
        assert time(trial.params) <= middle
        trials.tell(trial, [1.0 / (number + 1), time(trial.params)])
    largest = max(largest_sizes(limited), key=time)
    above = {"student.pyramid_channels": largest["student.pyramid_channels"] + 8}
    assert time(largest) <= middle < time(above)
    impossible = study_of(tmp_path, table=tmp_path / "device.json", search={**search, "max_latency_ms": 0.01})
    with pytest.raises(StudyError, match=r"at most 0\.01 ms \(max_latency_ms\); the nearest has \d+\.\d\d ms"):
        check_limits(impossible)


def test_table_that_predicts_from_too_few_detectors_is_refused(tmp_path: Path) -> None:
    study = study_of(tmp_path, table=tmp_path / "device.json")
    write_table(tmp_path / "device.json", detectors_to_measure(study)[:5], *SIZE)
    with pytest.raises(StudyError, match=r"has 5 detectors .* at least 6"):
        known_latency(study, StudyFolder(study))


def test_small_space_needs_no_prediction(tmp_path: Path) -> None:
    space = {"student.pyramid_channels": {"type": "int", "low": 8, "high": 16, "step": 8}}
    study = study_of(tmp_path, space=space, table=tmp_path / "device.json")
    write_table(tmp_path / "device.json", detectors_to_measure(study), *SIZE)
    assert "error" not in describe_latency(known_latency(study, StudyFolder(study)))


def test_untrained_students_are_measured_on_this_machine(tmp_path: Path) -> None:
    space = {"student.pyramid_channels": {"type": "categorical", "choices": [8, 96]}}
    study = study_of(tmp_path, space=space)
    assert known_latency(study, StudyFolder(study)) == study
    check_limits(study_of(tmp_path, space=space, search={"sampler": "front", "max_latency_ms": 0.001}))  # unknown yet
    found, lines = start(study)
    assert "3 untrained detectors" in lines[0]
    times = [
        student_cost(trial_config(found.base, {"student.pyramid_channels": channels})).as_metrics()[LATENCY_MS]
        for channels in (8, 96)
    ]
    assert 0 < times[0] < times[1]
    written = json.loads((tmp_path / "x" / "latency.json").read_text())
    assert written["rounds"] == 100
    assert {row["runtime"] for row in written["rows"]} == {"onnxruntime"}


def test_missing_runtime_is_reported_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("hkd.inference.deployed.packages.importlib.import_module", missing)
    with pytest.raises(MissingPackageError, match=r"hkd\[export\]"):
        known_latency(study_of(tmp_path), StudyFolder(study_of(tmp_path)))


def test_failed_measurement_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = "sweeps.trials.latency.measurement"
    monkeypatch.setattr(f"{module}.export_detectors", lambda *_: [tmp_path / "absent.onnx"])
    monkeypatch.setattr(f"{module}._RUN_HKD", "import sys; sys.exit('error: ' + sys.argv[3])")
    with pytest.raises(LatencyError, match=r"evaluation\.latency.*absent\.onnx"):
        start(study_of(tmp_path))


def test_students_are_exported_for_a_measurement_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "export_detectors", lambda _, folder: [folder / "01.onnx"])
    folder, lines = tmp_path / "new students", list[str]()
    export_students(study_of(tmp_path, runtime="openvino"), folder, lines.append)
    (command,) = (line for line in lines if "hkd benchmark" in line)
    assert "openvino" in command
    # As a shell reads it: one word for the folder.
    assert f"{folder}/*.onnx" in shlex.split(command)
    folder.mkdir()
    (folder / "note.txt").touch()
    with pytest.raises(StudyError, match="new students"):
        export_students(study_of(tmp_path), folder, lines.append)
