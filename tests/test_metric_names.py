"""hkd.metric_names is the one place for names that sweeps writes to MLflow and analysis reads."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from hkd import metric_names as names
from hkd.evaluation.evaluator import evaluate
from hkd.evaluation.formats.protocol_files import load_protocol
from sweeps.folder import ARTIFACTS
from sweeps.settings.study import ObjectiveName

REPOSITORY = Path(__file__).parents[1]
FILE_FORMATS = {"hkd.detector.1", "hkd.training_state.1", "hkd.stored_detections.1", "hkd.onnx.1"}
"""Versions of file formats, which look like tags."""
SCANNED = [
    path
    for package in ("hkd", "sweeps", "analysis")
    for path in sorted((REPOSITORY / package).rglob("*.py"))
    if path != Path(names.__file__)
]


def strings(path: Path) -> Iterator[str]:
    """Every string in the code, parts of f-strings included, without docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documentation: set[ast.AST] = {
        statement.value
        for statement in ast.walk(tree)
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node not in documentation and isinstance(node.value, str):
            yield node.value


@pytest.mark.parametrize("path", SCANNED, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_no_module_spells_tag_or_miss_rate(path: Path) -> None:
    spelt = [text for text in strings(path) if text.startswith(("hkd.", names.MR2_PREFIX)) and text not in FILE_FORMATS]
    assert spelt == []


@pytest.mark.parametrize("package", ["sweeps/tracking", "sweeps/console", "sweeps/trials", "analysis"])
def test_tracking_and_report_spell_no_metric(package: str) -> None:
    others = (names.AP, names.AP50, names.TOTAL_LOSS, names.BUDGET_FRACTION, names.PEAK_MEMORY_BYTES, names.UTILISATION)
    metrics = {*names.MISS_RATES, *names.COSTS, *others}
    files = sorted((REPOSITORY / package).rglob("*.py"))
    assert [(file.name, text) for file in files for text in strings(file) if text in metrics] == []


@pytest.mark.parametrize("package", ["hkd/training", "sweeps", "analysis"])
def test_no_module_spells_artifact_or_planned_epochs(package: str) -> None:
    spelt = {*ARTIFACTS, names.PARAM_TOTAL_EPOCHS}
    files = sorted((REPOSITORY / package).rglob("*.py"))
    assert [(file.name, text) for file in files for text in strings(file) if spelt & set(text.split())] == []


def test_objectives_of_study_are_those_of_metric_names() -> None:
    assert get_args(ObjectiveName) == (*names.MISS_RATES, *names.COSTS)
    assert set(names.DEFAULT_OBJECTIVES) <= set(get_args(ObjectiveName))


def test_metrics_of_evaluation_are_those_of_metric_names() -> None:
    record = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 50, 100], "vis_ratio": 1.0, "height": 100}
    ground_truth = {
        "images": [{"id": 1, "width": 640, "height": 480}],
        "categories": [{"id": 1, "name": "pedestrian"}],
        "annotations": [record],
    }
    metrics = evaluate(ground_truth, [], load_protocol("citypersons")).as_metrics()
    assert set(metrics) <= {*names.MISS_RATES, names.AP, names.AP50}
    assert {names.MR2_REASONABLE, names.MR2_ALL, names.AP} <= set(metrics)
