from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from hkd.config import DetectorConfig, Section, TrainingConfig, TrialConfig
from hkd.config_io import (
    ConfigError,
    allowed_values,
    apply_overrides,
    config_hash,
    dump_yaml,
    flatten,
    load_config,
    load_yaml,
    parse_config,
)

WriteYaml = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> WriteYaml:
    def write_text(text: str) -> Path:
        path = tmp_path / "trial.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_text


def problems_of(raw: Any, model: type[BaseModel] = TrialConfig) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        parse_config(model, raw, source="test")
    return caught.value.problems


# ---------------------------------------------------------------------------------------------- load_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 100000.0),
        ("-2.5e+1", -25.0),
        (".5", 0.5),
        ("3.", 3.0),
        ("010", 10),  # eight in YAML 1.1
        ("-7", -7),
        ("1_000", "1_000"),  # a number in YAML 1.1
        ("12:30", "12:30"),  # 750 in YAML 1.1
        ("2024-01-01", "2024-01-01"),  # a date in YAML 1.1
        ("yes", "yes"),  # true in YAML 1.1
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ('"1e-3"', "1e-3"),
        ("e3", "e3"),
        (".", "."),
        ("[1e-3, 2]", [0.001, 2]),
    ],
)
def test_scalars_read_by_yaml_1_2(write: WriteYaml, text: str, value: object) -> None:
    found = load_yaml(write(f"key: {text}"))["key"]
    assert found == value
    assert type(found) is type(value)


def test_infinities_are_read_so_that_they_can_be_refused(write: WriteYaml) -> None:
    path = write("training: {learning_rate: .inf, momentum: .nan}")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "training.learning_rate",
        "training.momentum",
    ]


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n"])
def test_empty_file_is_all_defaults(write: WriteYaml, text: str) -> None:
    assert load_yaml(write(text)) == {}
    assert load_config(write(text)) == TrialConfig()


def test_merge_keys_and_anchors_work(write: WriteYaml) -> None:
    path = write("training: &t {batch_size: 4, seed: 1}\nteacher: {training: {<<: *t, seed: 2}}")
    config = load_config(path)
    assert config.teacher is not None
    assert (config.teacher.training.batch_size, config.teacher.training.seed) == (4, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1\n- 2", "found [1, 2] (list); allowed: a mapping"),
        ("5", "found 5 (int); allowed: a mapping"),
        ("a: [1", "line 1, column 6: not readable as YAML"),
        ("a: 1\n\tb: 2", "line 2, column 1: not readable as YAML"),
        ("a: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("a: 1\n---\nb: 2", "not readable as YAML"),
        ("a: &x [*x]", "line 1: an alias that contains itself"),
        ("a: *nothing", "not readable as YAML"),
        ("1: a", "the key 1 is not text"),
        ("null: a", "the key null is not text"),
        ("[a]: b", "the key a list or mapping is not text"),
        ("a: " + "[" * 5000, "nested too deeply"),
        ("a: " + "9" * 5000, "not readable as YAML"),
        ("a: !!bool maybe", "not readable as YAML: a value is not what its tag"),
        ("a: !!timestamp never", "not readable as YAML: a value is not what its tag"),
        ("a: !!float ''", "not readable as YAML: a value is not what its tag"),
    ],
)
def test_unreadable_yaml_is_one_message_that_names_the_file(write: WriteYaml, text: str, message: str) -> None:
    path = write(text)
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        load_yaml(path)
    assert str(path) in str(caught.value)
    assert len(caught.value.problems) == 1


def test_all_repeated_keys_are_named_with_their_lines(write: WriteYaml) -> None:
    path = write("training:\n  seed: 1\n  seed: 2\nstudent: {}\nstudent: {}\n")
    with pytest.raises(ConfigError) as caught:
        load_yaml(path)
    # Outer mappings are walked key by key: training's own repetition is met before the second student.
    assert caught.value.problems == (
        'line 3: the key "seed" is already given in line 2',
        'line 5: the key "student" is already given in line 4',
    )


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing.yaml:\n  there is no such file"):
        load_yaml(tmp_path / "missing.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_yaml(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"a: \xff\xfe\x00")
    with pytest.raises(ConfigError, match="not readable as YAML"):
        load_yaml(tmp_path / "binary.yaml")


# ------------------------------------------------------------------------------------------- parse_config


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        ({"training": {"total_epochs": "x"}}, 'training.total_epochs: found "x" (str); allowed: integer >= 1'),
        ({"training": {"total_epochs": True}}, "training.total_epochs: found true (bool); allowed: integer >= 1"),
        ({"training": {"total_epochs": "8"}}, 'training.total_epochs: found "8" (str); allowed: integer >= 1'),
        ({"training": {"total_epochs": 8.0}}, "training.total_epochs: found 8.0 (float); allowed: integer >= 1"),
        ({"training": {"total_epochs": 0}}, "training.total_epochs: found 0 (int); allowed: integer >= 1"),
        ({"training": {"total_epochs": None}}, "training.total_epochs: found null; allowed: integer >= 1"),
        ({"training": {"total_epochs": [8]}}, "training.total_epochs: found [8] (list); allowed: integer >= 1"),
        ({"training": {"weight_decay": False}}, "training.weight_decay: found false (bool); allowed: number >= 0"),
        (
            {"training": {"gradient_clip_norm": 0}},
            "training.gradient_clip_norm: found 0 (int); allowed: number > 0 or null",
        ),
        ({"training": {"seed": -1}}, "training.seed: found -1 (int); allowed: integer >= 0 and < 2147483648"),
        (
            {"data": {"image_height": 100}},
            "data.image_height: found 100 (int); allowed: integer >= 64, a multiple of 32",
        ),
        ({"data": {"cache_dir": 5}}, "data.cache_dir: found 5 (int); allowed: text"),
        (
            {"student": {"backbone": "resnet-18"}},
            'student.backbone: found "resnet-18" (str); allowed: resnet18, resnet34, resnet50',
        ),
        ({"distillation": {"logits": {"loss": "mse"}}}, 'distillation.logits.loss: found "mse" (str); allowed: kl'),
        (
            {"student": {"anchor_sizes": [1, 2, "x", 4, 5]}},
            'student.anchor_sizes[2]: found "x" (str); allowed: number > 0',
        ),
        (
            {"student": {"anchor_sizes": [1.0]}},
            "student.anchor_sizes: found [1.0] (list); allowed: list of 5 x number > 0",
        ),
        (
            {"distillation": 5},
            (
                "distillation: found 5 (int); "
                "allowed: a section with keys pyramid, region, embedding, logits, compared_cells"
            ),
        ),
        (
            {"distillation": None},
            "distillation: found null; allowed: a section with keys pyramid, region, embedding, logits, compared_cells",
        ),
        (
            {"data": {"train_annotations": "a.json"}},
            "data: name both train_annotations and validation_annotations, or neither (generated scenes)",
        ),
        (
            {"distillation": {"pyramid": {"wieght": 1}}},
            "distillation.pyramid.wieght: unknown key; did you mean weight? allowed here: loss, weight",
        ),
        (
            {"distillation": {"temperature": 1}},
            (
                "distillation.temperature: unknown key; did you mean distillation.logits.temperature? "
                "allowed here: pyramid, region, embedding, logits, compared_cells"
            ),
        ),
        (
            {"studnet": {"backbone": "resnet18"}},
            (
                "studnet: unknown key; did you mean student? "
                "allowed: data, teacher, student, distillation, training, evaluation"
            ),
        ),
        (
            {"latency_ms": 5},
            "latency_ms: unknown key; allowed: data, teacher, student, distillation, training, evaluation",
        ),
        (
            {"training.seed": 5},
            (
                "training.seed: unknown key; write seed below training; "
                "allowed: data, teacher, student, distillation, training, evaluation"
            ),
        ),
        (
            [1],
            (
                "top level: found [1] (list); allowed: "
                "a section with keys data, teacher, student, distillation, training, evaluation"
            ),
        ),
        ({"data": {"cache_dir": "\ud800"}}, "some text in it is not valid Unicode"),
    ],
)
def test_each_mistake_is_a_sentence(raw: object, problem: str) -> None:
    assert problems_of(raw) == (problem,)


def test_long_values_are_cut() -> None:
    (problem,) = problems_of({"student": {"backbone": "x" * 1000}})
    assert len(problem) < 200


def test_all_mistakes_are_told_together() -> None:
    raw = {
        # Rules between keys are only looked at by pydantic when each key is right by itself.
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


def test_no_mistake_is_told_that_leaving_out_a_wrong_key_would_make() -> None:
    # Without scale_max its default of 1.3 would be below scale_min: not what the user wrote.
    raw = {"data": {"augmentation": {"scale_min": 3.0, "scale_max": "x"}}}
    assert problems_of(raw) == ('data.augmentation.scale_max: found "x" (str); allowed: number > 0',)


class _Needs(Section):
    number: int
    choice: dict[str, int | Literal["all"]] = Field(default_factory=dict)
    trial: TrialConfig | None = None


def test_missing_keys_and_alternatives() -> None:
    assert problems_of({}, _Needs) == ("number: missing; allowed: integer",)
    # A key that is there but wrong is not missing as well.
    assert problems_of({"number": "x"}, _Needs) == ('number: found "x" (str); allowed: integer',)
    assert problems_of({"number": 1, "choice": {"a": 1.5}}, _Needs) == (
        "choice.a: found 1.5 (float); allowed: integer or all",
    )


def test_what_fits_is_taken() -> None:
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


def test_values_of_other_libraries_are_taken() -> None:
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
    assert problems_of({"training": {"total_epochs": np.bool_(True)}}) == (
        "training.total_epochs: found true (bool); allowed: integer >= 1",
    )


@pytest.mark.parametrize("below", [False, True])
def test_a_section_given_in_part_keeps_the_rest_of_its_own_default(below: bool) -> None:
    # distillation.embedding has weight 0 by default, though the class of its section has 1.
    raw: dict[str, Any] = {"distillation": {"embedding": {"loss": "mse"}}}
    if below:
        trial = parse_config(_Needs, {"number": 1, "trial": raw}, source="test").trial
        assert trial is not None
    else:
        trial = parse_config(TrialConfig, raw, source="test")
    assert trial.distillation.embedding.loss == "mse"
    assert trial.distillation.embedding.weight == 0.0


def test_a_section_set_to_its_bare_form_keeps_its_own_default() -> None:
    config = parse_config(TrialConfig, {"teacher": {}, "distillation": {"embedding": {}}}, source="test")
    assert config == TrialConfig()


# ---------------------------------------------------------------------------------------------- overrides


def test_overrides_are_read_as_yaml_and_later_ones_win(write: WriteYaml) -> None:
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


def test_an_override_makes_an_absent_section(write: WriteYaml) -> None:
    absent = write("teacher: null")
    config = load_config(absent, ["teacher.init_from_synthetic.total_epochs=3"])
    assert config.teacher is not None
    assert config.teacher.init_from_synthetic == TrainingConfig(total_epochs=3)
    assert config.teacher.training == TrainingConfig()
    assert load_config(absent).teacher is None
    assert load_config(None, ["teacher=null"]).teacher is None


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("student.widht_multiplier=0.5", "student.widht_multiplier: unknown key; did you mean width_multiplier?"),
        ("sudent.width_multiplier=0.5", "sudent: unknown key; did you mean student?"),
        ("training.seed.value=1", "training.seed: unknown key"),
        ("training=5", "training: found 5 (int); allowed: a section"),
        ("training=null", "training: found null; allowed: a section"),
        ("training.total_epochs=yes", 'training.total_epochs: found "yes" (str); allowed: integer >= 1'),
        ('training.total_epochs="8"', 'training.total_epochs: found "8" (str); allowed: integer >= 1'),
        ("training.seed", "--set training.seed: must read section.key=value"),
        ("training.seed=", "--set training.seed=: must read section.key=value"),
        ("=5", "--set =5: must read section.key=value"),
        ("training..seed=5", "--set training..seed=5: must read section.key=value"),
        ("training.seed=[", "training.seed: line 1, column 2: not readable as YAML"),
    ],
)
def test_wrong_overrides_are_refused(override: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, [override])
    (found,) = caught.value.problems
    if override == "training.seed.value=1":
        assert found == (
            "training.seed.value: unknown key; training.seed holds no keys, but integer >= 0 and < 2147483648"
        )
    else:
        assert found.startswith(problem)


def test_mistakes_of_file_and_overrides_are_told_together(write: WriteYaml) -> None:
    path = write("training: {seed: -1}")
    with pytest.raises(ConfigError) as caught:
        load_config(path, ["nonsense", "training.sed=4", "evaluation.nms_iou=1.0"])
    # nms_iou lies strictly between 0 and 1.
    assert len(caught.value.problems) == 4
    lines = str(caught.value).splitlines()
    assert lines[0] == f"4 problems in {path} and the --set overrides:"
    assert len(lines) == 5


def test_apply_overrides_leaves_its_input_alone() -> None:
    raw = {"a": {"b": {"c": 1}}, "x": None}
    assert apply_overrides(raw, {"a.b.d": 2, "x.y": 3, "z": 4}) == {
        "a": {"b": {"c": 1, "d": 2}},
        "x": {"y": 3},
        "z": 4,
    }
    assert raw == {"a": {"b": {"c": 1}}, "x": None}


def test_apply_overrides_refuses_to_go_through_a_value() -> None:
    with pytest.raises(ConfigError) as caught:
        apply_overrides({"a": {"b": 1}, "c": [1]}, {"a.b.d": 2, "c.e": 3, "f": 4})
    assert caught.value.problems == (
        "a.b.d: a.b is 1 (int), which holds no keys",
        "c.e: c is [1] (list), which holds no keys",
    )


# --------------------------------------------------------------------------------- allowed_values and others


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("student.width_multiplier", "number >= 0.125 and <= 2"),
        ("student.backbone", "resnet18, resnet34, resnet50"),
        ("teacher.checkpoint", "text or null"),
        ("student.anchor_sizes", "list of 5 x number > 0"),
        ("student.anchor_aspect_ratios", "list of at least 1 x number > 0"),
    ],
)
def test_allowed_values(name: str, allowed: str) -> None:
    assert allowed_values(TrialConfig, name) == allowed


def test_allowed_values_of_an_unknown_name() -> None:
    with pytest.raises(ConfigError, match="student.width: unknown key; did you mean"):
        allowed_values(TrialConfig, "student.width")


def test_config_error_survives_pickling() -> None:
    error = ConfigError(["a: wrong", "b: wrong"], "trial.yaml")
    again = pickle.loads(pickle.dumps(error))
    assert again.problems == ("a: wrong", "b: wrong")
    assert str(again) == "2 problems in trial.yaml:\n  a: wrong\n  b: wrong"


def test_flatten_names_every_setting_once() -> None:
    flat = flatten(TrialConfig())
    assert flat["student.width_multiplier"] == 0.5
    assert flat["data.cache_dir"] == "data/cache"
    assert flat["teacher.init_from_synthetic"] is None
    assert flat["student.anchor_sizes"] == list(TrialConfig().student.anchor_sizes)
    assert all(isinstance(value, str | int | float | bool | list | None) for value in flat.values())
    # Every dotted name is a key that overrides and search spaces know.
    assert all(allowed_values(TrialConfig, name) for name in flat)
    without_teacher = flatten(load_config(None, ["teacher=null"]))
    assert without_teacher["teacher"] is None
    assert not any(name.startswith("teacher.") for name in without_teacher)


def test_flat_names_are_overrides_that_give_the_same_configuration() -> None:
    config = load_config(None, ["teacher.init_from_synthetic.seed=3", "training.learning_rate=1e-5"])
    assert parse_config(TrialConfig, apply_overrides({}, flatten(config)), source="flat") == config


def assert_reads_back_equal(config: TrialConfig, path: Path) -> None:
    path.write_text(dump_yaml(config), encoding="utf-8")
    assert load_config(path) == config
    # Readers of YAML 1.1 must not take its text for anything else either.
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["data"]["cache_dir"] == str(config.data.cache_dir)


@pytest.mark.parametrize(
    "text",
    [
        "1e-3",
        "yes",
        "null",
        "~",
        "010",
        "0o7",
        "1_000",
        "12:30",
        "2024-01-01",
        "=",
        "<<",
        "- a",
        "#",
        "a: b",
        " a ",
        "\x85",
    ],
)
def test_text_that_looks_like_something_else_reads_back_equal(tmp_path: Path, text: str) -> None:
    assert_reads_back_equal(
        parse_config(TrialConfig, {"data": {"cache_dir": text}}, source="test"), tmp_path / "trial.yaml"
    )


@settings(max_examples=40)
@given(
    text=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1),
    learning_rate=st.floats(min_value=1e-300, max_value=1e300),
    teacher=st.none() | st.builds(lambda seed: {"init_from_synthetic": {"seed": seed}}, st.integers(0, 9)),
)
def test_any_configuration_reads_back_equal(
    tmp_path_factory: pytest.TempPathFactory, text: str, learning_rate: float, teacher: object
) -> None:
    raw = {"data": {"cache_dir": text}, "training": {"learning_rate": learning_rate}, "teacher": teacher}
    config = parse_config(TrialConfig, raw, source="test")
    assert_reads_back_equal(config, tmp_path_factory.getbasetemp() / "round_trip.yaml")


def test_hash_tells_contents_apart_and_nothing_else() -> None:
    first = config_hash({"a": 1, "b": [1, 2]}, TrialConfig())
    assert re.fullmatch("[0-9a-f]{16}", first)
    assert config_hash({"b": (1, 2), "a": 1}, TrialConfig()) == first
    assert config_hash({"a": 1, "b": [2, 1]}, TrialConfig()) != first
    assert config_hash(TrialConfig(), {"a": 1, "b": [1, 2]}) != first
    assert config_hash({"a": 1, "b": [1, 2]}, load_config(None, ["training.seed=1"])) != first
    # Where one section ends and the next begins counts.
    assert config_hash([1], [2]) != config_hash([1, 2])


def test_hash_is_the_same_on_every_machine() -> None:
    # echo -n '[{"a":1.5,"b":"x"}]' | sha256sum
    assert config_hash({"b": Path("x"), "a": 1.5}) == "f8b0b35a4963c6e0"
