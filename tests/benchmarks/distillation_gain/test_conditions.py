"""Conditions and their settings, from YAML and from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.distillation_gain.conditions import (
    CONDITIONS,
    Benchmark,
    Catalogue,
    Condition,
    Selection,
    load_catalogue,
    parse_extra_row,
    trial_config,
)
from benchmarks.distillation_gain.trainings import training_name
from hkd.config import DistillationConfig
from hkd.config_files.problems import ConfigError
from hkd.models.cost import config_cost
from tests.benchmarks.distillation_gain.miniature import MINIATURE, miniature_benchmark


@pytest.fixture(scope="module")
def shipped() -> Benchmark:
    return Benchmark(load_catalogue(CONDITIONS))


def test_conditions_are_ordered_by_seed_then_labels_then_teacher(shipped: Benchmark) -> None:
    chosen = Selection(
        rows=["alone", "default"], students=["20x"], steps=[1600, 6400], seeds=[0, 1], labels=[400, 1600]
    )
    found = [condition.name for condition in shipped.conditions(["length", "teachers", "labels"], chosen)]
    of_seed = [
        # The first group: the strong teacher on 1,600 scenes. The student alone belongs to no teacher, and occurs once.
        "20x-alone-1600steps-1600labels-seed{}",
        "20x-default-strong-1600steps-1600labels-seed{}",
        "20x-alone-6400steps-1600labels-seed{}",
        "20x-default-strong-6400steps-1600labels-seed{}",
        "20x-default-weak-1600steps-1600labels-seed{}",
        "20x-default-weak-6400steps-1600labels-seed{}",
        "20x-default-few-6400steps-1600labels-seed{}",
        "20x-alone-6400steps-400labels-seed{}",
        "20x-default-strong-6400steps-400labels-seed{}",
        "20x-default-few-6400steps-400labels-seed{}",
    ]
    assert found == [name.format(seed) for seed in (0, 1) for name in of_seed]


@pytest.mark.parametrize(
    ("labels", "steps", "epochs"),
    [
        (1600, 400, 1),  # 400 steps an epoch
        (400, 6400, 64),  # 100
        (102, 400, 16),  # 25, as 2 images do not fill a batch of 4: 16 epochs have 400 steps; of 26 steps, 15 have 390
    ],
)
def test_epochs_come_nearest_to_the_steps(shipped: Benchmark, labels: int, steps: int, epochs: int) -> None:
    condition = Condition("6x", "alone", None, steps, labels, seed=3)
    settings = shipped.settings(condition)
    assert settings["training.total_epochs"] == epochs
    assert settings["training.seed"] == 3


def test_epochs_of_unlabelled_rows_have_all_scenes(shipped: Benchmark) -> None:
    settings = shipped.settings(Condition("6x", "unlabelled", "strong", 6400, 400, 0))
    # 400 labelled and 4,001 unlabelled scenes: 1,100 steps of 4 an epoch, 6,400 / 1,100 = 5.8.
    assert settings["training.total_epochs"] == 6
    assert settings["data.unlabelled_images"] == "unlabelled"
    assert settings["student.init_from"] == "teacher"


def test_steps_per_epoch_follow_an_overridden_batch_size() -> None:
    benchmark = Benchmark(load_catalogue(CONDITIONS), {"training.batch_size": 16})
    settings = benchmark.settings(Condition("6x", "alone", None, 400, 1600, 0))
    assert settings["training.total_epochs"] == 4


def test_all_shipped_conditions_are_valid_and_rows_are_what_they_are_called(shipped: Benchmark) -> None:
    conditions = shipped.conditions(list(shipped.catalogue.plans))
    configs = {c.row: trial_config(shipped.settings(c), c.name) for c in conditions if c.teacher != "weak"}
    assert configs["default"].distillation == DistillationConfig()
    assert configs["alone"].teacher is None
    assert not configs["selected"].distillation.is_active
    assert configs["selected"].student.init_from == configs["selected+default"].student.init_from == "teacher"
    weights = {
        stage: getattr(configs[stage].distillation, stage).weight
        for stage in ("pyramid", "region", "embedding", "logits")
    }
    assert set(weights.values()) == {1.0}
    assert all(configs[stage].distillation != DistillationConfig() for stage in weights)


def test_rows_with_selected_weights_state_the_images_of_the_fit(shipped: Benchmark) -> None:
    settings = {row: shipped.catalogue.row_settings(row) for row in shipped.catalogue.rows}
    selected = {row: each for row, each in settings.items() if each.get("student.init_from") == "teacher"}
    assert selected.keys() == {"selected", "selected+default", "unlabelled"}
    assert {each.get("student.reconstruction_images") for each in selected.values()} == {64}


@pytest.mark.parametrize("plan", ["labels", "unlabelled"])
def test_teacher_of_few_labels_has_no_students_of_fewer(shipped: Benchmark, plan: str) -> None:
    conditions = shipped.conditions([plan])
    assert {c.teacher for c in conditions} == {None, "strong", "few"}
    few = shipped.catalogue.teachers["few"].labels
    assert min(c.labels for c in conditions if c.teacher == "few") == few == 400


def test_students_have_at_least_six_and_twenty_times_fewer_parameters(shipped: Benchmark) -> None:
    def num_params(student: str) -> tuple[int, int]:
        config = trial_config(shipped.settings(Condition(student, "default", "strong", 400, 400, 0)), student)
        assert config.teacher is not None
        size = config.data.image_height, config.data.image_width
        return config_cost(config.student, *size).num_params, config_cost(config.teacher, *size).num_params

    for student, factor in (("6x", 6), ("20x", 20)):
        of_student, of_teacher = num_params(student)
        assert of_teacher >= factor * of_student


def test_teacher_is_trained_as_a_student_of_its_architecture(shipped: Benchmark) -> None:
    config = trial_config(shipped.teacher_settings("strong"), "strong")
    assert config.teacher is None
    assert (config.student.width_multiplier, config.student.head_channels) == (0.75, 256)
    # 3,200 / 4 = 800 steps an epoch; 12,800 / 800.
    assert (config.training.total_epochs, config.training.learning_rate) == (16, 1e-3)


def test_extra_row_joins_every_plan_and_starts_from_default(tmp_path: Path) -> None:
    name, row = parse_extra_row("wide:student.anchor_sizes=[11,19,32,50,73],distillation.pyramid.weight=2")
    benchmark = miniature_benchmark(tmp_path, extra_rows={name: row})
    condition = next(c for c in benchmark.conditions(["length"]) if c.row == "wide")
    settings = benchmark.settings(condition)
    assert settings["student.anchor_sizes"] == [11, 19, 32, 50, 73]
    assert settings["distillation.pyramid.weight"] == 2
    assert settings["student.init_from"] == "teacher"
    assert condition.teacher == "strong"


def test_name_depends_on_stated_settings_and_contents_only(tmp_path: Path) -> None:
    benchmark = miniature_benchmark(tmp_path)
    condition = benchmark.conditions(["length"])[0]
    settings = benchmark.settings(condition)
    name = training_name(condition.name, settings, "data", None)
    assert name.startswith("small-alone-4steps-8labels-seed0-")
    assert name == training_name(condition.name, dict(reversed(settings.items())), "data", None)
    others = [
        training_name(condition.name, {**settings, "training.learning_rate": 0.5}, "data", None),
        training_name(condition.name, settings, "other data", None),
        training_name(condition.name, settings, "data", "teacher"),
    ]
    assert len({name, *others}) == 4
    # Not of defaults: the settings are those of the YAML file and the row.
    assert "training.weight_decay" not in settings


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"rows": {**MINIATURE["rows"], "default": {"from": "absent"}}}, "absent"),
        ({"plans": {"length": [{**MINIATURE["plans"]["length"][0], "students": ["huge"]}]}}, "huge"),
        ({"teachers": {"a/b": {"labels": 8, "steps": 4}}}, "a/b"),
    ],
)
def test_unknown_names_are_refused(change: dict[str, Any], fact: str) -> None:
    with pytest.raises(ValueError, match=fact):
        Catalogue.model_validate({**MINIATURE, **change})


def test_rows_that_start_from_each_other_are_refused() -> None:
    rows = {**MINIATURE["rows"], "one": {"from": "two"}, "two": {"from": "one"}}
    with pytest.raises(ConfigError, match="one from two"):
        Catalogue.model_validate({**MINIATURE, "rows": rows}).row_settings("one")


def test_empty_selection_and_unknown_plan_are_refused(tmp_path: Path) -> None:
    benchmark = miniature_benchmark(tmp_path)
    with pytest.raises(ConfigError, match="no condition"):
        benchmark.conditions(["length"], Selection(seeds=[]))
    # Beside a known name, too, as otherwise a row would be missing without a word.
    with pytest.raises(ConfigError, match=r"--rows.*typo.*alone"):
        benchmark.conditions(["length"], Selection(rows=["alone", "typo"]))
    with pytest.raises(ConfigError, match="typo"):
        benchmark.conditions(["typo"])
