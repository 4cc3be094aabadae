from __future__ import annotations

import pickle
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from hkd.config import Section, TrialConfig
from hkd.config_files.parsing import parse_config
from hkd.config_files.problems import ConfigError

SECTIONS = "data, teacher, student, distillation, training, evaluation"
SIZE = "number >= 0.1 and <= 16384"
STAGES = "pyramid, region, embedding, logits, compared_cells"


def problems_of(raw: Any, model: type[BaseModel] = TrialConfig) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        parse_config(model, raw, source="test")
    return caught.value.problems


@pytest.mark.parametrize(
    ("raw", "path", "found", "allowed"),
    [
        ({"training": {"total_epochs": "x"}}, "training.total_epochs", '"x" (str)', "integer >= 1 and <= 100000"),
        ({"training": {"total_epochs": True}}, "training.total_epochs", "true (bool)", "integer >= 1 and <= 100000"),
        ({"training": {"total_epochs": "8"}}, "training.total_epochs", '"8" (str)', "integer >= 1 and <= 100000"),
        ({"training": {"total_epochs": 8.0}}, "training.total_epochs", "8.0 (float)", "integer >= 1 and <= 100000"),
        ({"training": {"total_epochs": 0}}, "training.total_epochs", "0 (int)", "integer >= 1 and <= 100000"),
        ({"training": {"total_epochs": None}}, "training.total_epochs", "null", "integer >= 1 and <= 100000"),
        ({"training": {"total_epochs": [8]}}, "training.total_epochs", "[8] (list)", "integer >= 1 and <= 100000"),
        ({"training": {"weight_decay": False}}, "training.weight_decay", "false (bool)", "number >= 0 and <= 10000"),
        (
            {"training": {"gradient_clip_norm": 0}},
            "training.gradient_clip_norm",
            "0 (int)",
            "number > 0 and <= 1000000 or null",
        ),
        ({"training": {"seed": -1}}, "training.seed", "-1 (int)", "integer >= 0 and < 2147483648"),
        (
            {"data": {"image_height": 100}},
            "data.image_height",
            "100 (int)",
            "integer >= 64 and <= 16384, a multiple of 32",
        ),
        ({"data": {"cache_dir": 5}}, "data.cache_dir", "5 (int)", "text"),
        (
            {"student": {"backbone": "resnet-18"}},
            "student.backbone",
            '"resnet-18" (str)',
            "resnet18, resnet34, resnet50",
        ),
        ({"distillation": {"logits": {"loss": "mse"}}}, "distillation.logits.loss", '"mse" (str)', "kl"),
        (
            {"student": {"anchor_sizes": [1, 2, "x", 4, 5]}},
            "student.anchor_sizes[2]",
            '"x" (str)',
            SIZE,
        ),
        (
            {"student": {"anchor_sizes": [1.0]}},
            "student.anchor_sizes",
            "[1.0] (list)",
            f"list of 5 x {SIZE}",
        ),
        ({"distillation": 5}, "distillation", "5 (int)", f"a section with keys {STAGES}"),
        ({"distillation": None}, "distillation", "null", f"a section with keys {STAGES}"),
        ([1], "top level", "[1] (list)", f"a section with keys {SECTIONS}"),
    ],
)
def test_invalid_value_is_reported_with_path_and_allowed_values(
    raw: object, path: str, found: str, allowed: str
) -> None:
    (problem,) = problems_of(raw)
    assert problem.startswith(f"{path}: ")
    assert f" {found};" in problem
    assert problem.endswith(f": {allowed}")


@pytest.mark.parametrize(
    ("raw", "path", "suggestion", "allowed"),
    [
        ({"distillation": {"pyramid": {"wieght": 1}}}, "distillation.pyramid.wieght", "did you mean weight?", "weight"),
        (
            {"distillation": {"temperature": 1}},
            "distillation.temperature",
            "did you mean distillation.logits.temperature?",
            STAGES,
        ),
        ({"studnet": {"backbone": "resnet18"}}, "studnet", "did you mean student?", SECTIONS),
        ({"frames_per_second": 5}, "frames_per_second", None, SECTIONS),
        ({"training.seed": 5}, "training.seed", "write seed below training;", SECTIONS),
    ],
)
def test_unknown_key_is_reported_with_suggestion(raw: object, path: str, suggestion: str | None, allowed: str) -> None:
    (problem,) = problems_of(raw)
    assert problem.startswith(f"{path}: ")
    assert problem.endswith(allowed)
    if suggestion is None:
        assert "did you mean" not in problem
        assert "write" not in problem
    else:
        assert suggestion in problem


def test_invalid_section_is_reported_by_its_path() -> None:
    (problem,) = problems_of({"data": {"train_annotations": "a.json"}})
    assert problem.startswith("data: ")
    assert "train_annotations" in problem
    assert "validation_annotations" in problem


def test_invalid_unicode_is_reported() -> None:
    (problem,) = problems_of({"data": {"cache_dir": "\ud800"}})
    assert "Unicode" in problem


def test_long_value_is_truncated() -> None:
    (problem,) = problems_of({"student": {"backbone": "x" * 1000}})
    assert len(problem) < 200


class _Needs(Section):
    number: int
    choice: dict[str, int | Literal["all"]] = Field(default_factory=dict)


def test_missing_key_is_reported_with_allowed_values() -> None:
    assert problems_of({}, _Needs) == ("number: missing; allowed: integer",)
    # An invalid value is not reported as missing as well.
    assert problems_of({"number": "x"}, _Needs) == ('number: found "x" (str); allowed: integer',)


def test_all_alternatives_are_reported() -> None:
    assert problems_of({"number": 1, "choice": {"a": 1.5}}, _Needs) == (
        "choice.a: found 1.5 (float); allowed: integer or all",
    )


def test_config_error_can_be_pickled() -> None:
    error = ConfigError(["a: wrong", "b: wrong"], "trial.yaml")
    again = pickle.loads(pickle.dumps(error))
    assert again.problems == ("a: wrong", "b: wrong")
    lines = str(again).splitlines()
    assert "2 problems" in lines[0]
    assert "trial.yaml" in lines[0]
    assert [line.strip() for line in lines[1:]] == ["a: wrong", "b: wrong"]


def test_long_list_of_mistakes_is_shortened() -> None:
    error = ConfigError([f"k{i}: unknown key" for i in range(25)], "trial.yaml")
    lines = str(error).splitlines()
    # The heading, 20 mistakes and the number of the others.
    assert (len(lines), lines[0].split()[0], lines[-1].split()) == (22, "25", ["and", "5", "more"])
    assert len(error.problems) == 25
