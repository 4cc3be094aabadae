from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

from hkd.config import DetectorConfig, Section, TrainingConfig, TrialConfig
from hkd.config_files.parsing import (
    MOST_PROBLEMS,
    allowed_values,
    apply_overrides,
    config_hash,
    flatten,
    load_config,
    parse_config,
)
from hkd.config_files.problems import ConfigError
from tests.config_files.conftest import WriteYaml


def problems_of(raw: Any, model: type[BaseModel] = TrialConfig) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        parse_config(model, raw, source="test")
    return caught.value.problems


def test_all_mistakes_are_reported_together() -> None:
    raw = {
        # pydantic checks rules between keys only if every key is valid.
        "data": {
            "train_annotations": "a.json",
            "image_height": 100,
            "augmentation": {"scale_min": 3.0, "scale_max": 2.0, "contrast": 7},
        },
        "teacher": {"checkpoint": "a", "init_from": "b", "backbone": "vgg"},
        "sudent": {},
    }
    found = problems_of(raw)
    assert [problem.split(":")[0] for problem in found] == [
        "data.image_height",
        "data.augmentation.contrast",
        "teacher.backbone",
        "sudent",
        "data.augmentation",
        "teacher",
        "data",
    ]


def test_consequences_of_an_invalid_key_are_not_reported() -> None:
    # If the invalid scale_max were replaced by its default of 1.3, it would be below scale_min.
    raw = {"data": {"augmentation": {"scale_min": 3.0, "scale_max": "x"}}}
    (problem,) = problems_of(raw)
    assert problem.startswith("data.augmentation.scale_max: ")


class _Outer(Section):
    trial: TrialConfig | None = None


def test_yaml_types_are_converted() -> None:
    raw = {
        "training": {"learning_rate": 1, "gradient_clip_norm": None},
        "data": {"cache_dir": "somewhere", "image_root": None},
        "student": {"anchor_sizes": [1, 2, 3, 4, 5.5], "anchor_aspect_ratios": (2.0,)},
    }
    config = parse_config(TrialConfig, raw, source="test")
    assert config.training.learning_rate == 1.0
    assert isinstance(config.training.learning_rate, float)
    assert config.training.gradient_clip_norm is None
    assert config.data.cache_dir == Path("somewhere")
    assert config.student.anchor_sizes == (1.0, 2.0, 3.0, 4.0, 5.5)
    assert config.student.anchor_aspect_ratios == (2.0,)


def test_paths_sections_and_numpy_scalars_are_accepted() -> None:
    raw = {
        "data": {"cache_dir": Path("somewhere")},
        "student": DetectorConfig(pyramid_channels=32),
        "training": {"total_epochs": np.int64(3), "learning_rate": np.float32(0.5), "weight_decay": np.float64(0.25)},
    }
    config = parse_config(TrialConfig, raw, source="test")
    assert config.data.cache_dir == Path("somewhere")
    assert config.student.pyramid_channels == 32
    assert (config.training.total_epochs, config.training.learning_rate) == (3, 0.5)
    assert config.training.weight_decay == 0.25
    (problem,) = problems_of({"training": {"total_epochs": np.bool_(True)}})
    assert problem.startswith("training.total_epochs: ")
    assert "true (bool)" in problem


@pytest.mark.parametrize("below", [False, True])
def test_partial_section_is_completed_by_default_of_its_field(below: bool) -> None:
    # The default weight is 0 in distillation.embedding, and 1 in its class.
    raw: dict[str, Any] = {"distillation": {"embedding": {"loss": "mse"}}}
    if below:
        trial = parse_config(_Outer, {"trial": raw}, source="test").trial
        assert trial is not None
    else:
        trial = parse_config(TrialConfig, raw, source="test")
    assert trial.distillation.embedding.loss == "mse"
    assert trial.distillation.embedding.weight == 0.0


def test_empty_section_has_default_of_its_field() -> None:
    config = parse_config(TrialConfig, {"teacher": {}, "distillation": {"embedding": {}}}, source="test")
    assert config == TrialConfig()


def test_later_override_replaces_earlier_one(write: WriteYaml) -> None:
    config = load_config(
        write("student: {backbone: resnet34}\ntraining: {seed: 1}"),
        [
            "student.width_multiplier=0.25",
            "training.learning_rate=1e-4",
            "training.seed=2",
            "training.seed=3",
            "student.anchor_sizes=[1,2,3,4,5]",
            "training.gradient_clip_norm=null",
            "data.cache_dir=a=b",
        ],
    )
    assert config.student.backbone == "resnet34"
    assert config.student.width_multiplier == 0.25
    assert config.training.learning_rate == 1e-4
    assert config.training.seed == 3
    assert config.student.anchor_sizes == (1.0, 2.0, 3.0, 4.0, 5.0)
    assert config.training.gradient_clip_norm is None
    assert config.data.cache_dir == Path("a=b")


def test_override_creates_absent_section(write: WriteYaml) -> None:
    absent = write("teacher: null")
    config = load_config(absent, ["teacher.init_from_synthetic.total_epochs=3"])
    assert config.teacher is not None
    assert config.teacher.init_from_synthetic == TrainingConfig(total_epochs=3)
    assert config.teacher.training == TrainingConfig()
    assert load_config(absent).teacher is None
    assert load_config(None, ["teacher=null"]).teacher is None


@pytest.mark.parametrize(
    ("override", "where", "facts"),
    [
        ("student.widht_multiplier=0.5", "student.widht_multiplier", ["unknown key", "width_multiplier?"]),
        ("sudent.width_multiplier=0.5", "sudent", ["unknown key", "student?"]),
        ("training.seed.value=1", "training.seed.value", ["unknown key", "integer >= 0 and < 2147483648"]),
        ("training=5", "training", ["5 (int)", "a section"]),
        ("training=null", "training", ["null", "a section"]),
        ("training.total_epochs=yes", "training.total_epochs", ['"yes" (str)', "integer >= 1"]),
        ('training.total_epochs="8"', "training.total_epochs", ['"8" (str)', "integer >= 1"]),
        ("training.seed", "--set training.seed", ["section.key=value"]),
        ("training.seed=", "--set training.seed=", ["section.key=value"]),
        ("=5", "--set =5", ["section.key=value"]),
        ("training..seed=5", "--set training..seed=5", ["section.key=value"]),
        ("training.seed=[", "training.seed", ["line 1, column 2", "YAML"]),
    ],
)
def test_invalid_override_is_reported(override: str, where: str, facts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, [override])
    (problem,) = caught.value.problems
    assert problem.startswith(f"{where}: ")
    assert [fact for fact in facts if fact not in problem] == []


def test_mistakes_of_file_and_overrides_are_reported_together(write: WriteYaml) -> None:
    path = write("training: {seed: -1}")
    with pytest.raises(ConfigError) as caught:
        load_config(path, ["nonsense", "training.sed=4", "evaluation.nms_iou=1.0"])
    # nms_iou must be below 1.
    assert len(caught.value.problems) == 4
    lines = str(caught.value).splitlines()
    assert len(lines) == 5
    assert [fact for fact in ("4 problems", str(path), "--set") if fact not in lines[0]] == []


def test_apply_overrides_does_not_change_its_input() -> None:
    raw = {"a": {"b": {"c": 1}}, "x": None}
    assert apply_overrides(raw, {"a.b.d": 2, "x.y": 3, "z": 4}) == {
        "a": {"b": {"c": 1, "d": 2}},
        "x": {"y": 3},
        "z": 4,
    }
    assert raw == {"a": {"b": {"c": 1}}, "x": None}


def test_apply_overrides_reports_values_used_as_sections() -> None:
    with pytest.raises(ConfigError) as caught:
        apply_overrides({"a": {"b": 1}, "c": [1]}, {"a.b.d": 2, "c.e": 3, "f": 4})
    first, second = caught.value.problems
    assert first.startswith("a.b.d: a.b is 1 (int)")
    assert second.startswith("c.e: c is [1] (list)")


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("student.width_multiplier", "number >= 0.125 and <= 2"),
        ("student.backbone", "resnet18, resnet34, resnet50"),
        ("teacher.checkpoint", "text or null"),
        ("student.anchor_sizes", "list of 5 x number >= 0.1 and <= 16384"),
        ("student.anchor_aspect_ratios", "list of 1 to 32 x number >= 0.01 and <= 100"),
    ],
)
def test_allowed_values(name: str, allowed: str) -> None:
    assert allowed_values(TrialConfig, name) == allowed


def test_allowed_values_of_unknown_name_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"student\.width: .*did you mean"):
        allowed_values(TrialConfig, "student.width")


def test_flatten_yields_every_setting_by_dotted_name() -> None:
    flat = flatten(TrialConfig())
    assert flat["student.width_multiplier"] == 0.5
    assert flat["data.cache_dir"] == "data/cache"
    assert flat["teacher.init_from_synthetic"] is None
    assert flat["student.anchor_sizes"] == list(TrialConfig().student.anchor_sizes)
    assert all(isinstance(value, str | int | float | bool | list | None) for value in flat.values())
    # Every dotted name is a valid key of overrides and search spaces.
    assert all(allowed_values(TrialConfig, name) for name in flat)
    without_teacher = flatten(load_config(None, ["teacher=null"]))
    assert without_teacher["teacher"] is None
    assert not any(name.startswith("teacher.") for name in without_teacher)


def test_flattened_configuration_is_restored_by_overrides() -> None:
    config = load_config(None, ["teacher.init_from_synthetic.seed=3", "training.learning_rate=1e-5"])
    assert parse_config(TrialConfig, apply_overrides({}, flatten(config)), source="flat") == config


def test_hash_depends_on_content_alone() -> None:
    first = config_hash({"a": 1, "b": [1, 2]}, TrialConfig())
    assert re.fullmatch("[0-9a-f]{16}", first)
    assert config_hash({"b": (1, 2), "a": 1}, TrialConfig()) == first
    assert config_hash({"a": 1, "b": [2, 1]}, TrialConfig()) != first
    assert config_hash(TrialConfig(), {"a": 1, "b": [1, 2]}) != first
    assert config_hash({"a": 1, "b": [1, 2]}, load_config(None, ["training.seed=1"])) != first
    # The boundary between two sections matters.
    assert config_hash([1], [2]) != config_hash([1, 2])


def test_hash_is_stable_across_machines() -> None:
    # echo -n '[{"a":1.5,"b":"x"}]' | sha256sum
    assert config_hash({"b": Path("x"), "a": 1.5}) == "f8b0b35a4963c6e0"


@pytest.mark.parametrize("section", ["", "training: "])
def test_file_of_thousands_of_mistakes_is_rejected_after_the_first_hundred(write: WriteYaml, section: str) -> None:
    path = write(section + "{" + ", ".join(f"k{i}: 1" for i in range(2_000)) + "}")
    with pytest.raises(ConfigError, match=r"k0: unknown key") as caught:
        load_config(path)
    assert len(caught.value.problems) == MOST_PROBLEMS + 1


@pytest.mark.parametrize("name", ["x" * 100_000, "training." + "a." * 50_000 + "b"])
def test_long_name_of_an_override_is_rejected_shortly(name: str) -> None:
    with pytest.raises(ConfigError, match=f"a name of {len(name)} characters") as caught:
        load_config(None, [f"{name}=1"])
    assert len(str(caught.value)) < 1000


def test_torchvision_of_a_file_or_override_sets_its_architecture(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("teacher: {proposals_per_image: 300}\n")
    teacher = load_config(tmp_path / "a.yaml", ["teacher.torchvision=a.pth"]).teacher
    assert teacher is not None
    assert (teacher.backbone, teacher.pyramid_channels, teacher.head_channels) == ("resnet50", 256, 1024)
    assert teacher.anchor_sizes == (32.0, 64.0, 128.0, 256.0, 512.0)
    assert teacher.proposals_per_image == 300
    (tmp_path / "b.yaml").write_text("teacher: {anchor_sizes: [8, 16, 32, 64, 128]}\n")
    with pytest.raises(ConfigError, match=r"(?s)teacher: torchvision is set.*anchor_sizes is \[8\.0"):
        load_config(tmp_path / "b.yaml", ["teacher.torchvision=a.pth"])


def test_settings_that_nobody_set_are_distinguished() -> None:
    teacher = load_config(None, ["teacher.anchor_sizes=[8, 16, 32, 64, 128]"]).teacher
    assert teacher is not None
    assert teacher.model_fields_set == {"anchor_sizes"}
