from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hkd.config import TrialConfig
from hkd.config_files.parsing import load_config, parse_config
from hkd.config_files.problems import ConfigError
from hkd.config_files.yaml_format import dump_yaml, load_yaml
from tests.config_files.conftest import WriteYaml


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
def test_scalars_follow_yaml_1_2(write: WriteYaml, text: str, value: object) -> None:
    found = load_yaml(write(f"key: {text}"))["key"]
    assert found == value
    assert type(found) is type(value)


def test_infinity_and_nan_are_rejected(write: WriteYaml) -> None:
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
        ("a: [1", "line 1, column 6: not valid YAML"),
        ("a: 1\n\tb: 2", "line 2, column 1: not valid YAML"),
        ("a: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("a: 1\n---\nb: 2", "not valid YAML"),
        ("a: &x [*x]", "line 1: an alias that contains itself"),
        ("a: *nothing", "not valid YAML"),
        ("1: a", "line 1: the key 1 is not text"),
        ("null: a", "line 1: the key null is not text"),
        ("[a]: b", "line 1: the key a list or mapping is not text"),
        ("a: " + "[" * 5000, "nested too deeply"),
        ("a: " + "9" * 5000, "not valid YAML"),
        ("a: !!bool maybe", "tag"),
        ("a: !!timestamp never", "tag"),
        ("a: !!float ''", "tag"),
    ],
)
def test_invalid_yaml_is_reported_once_with_its_file(write: WriteYaml, text: str, message: str) -> None:
    path = write(text)
    with pytest.raises(ConfigError) as caught:
        load_yaml(path)
    (problem,) = caught.value.problems
    assert message in problem
    assert str(path) in str(caught.value)


def test_every_duplicate_key_is_reported_with_its_lines(write: WriteYaml) -> None:
    path = write("training:\n  seed: 1\n  seed: 2\nstudent: {}\nstudent: {}\n")
    with pytest.raises(ConfigError) as caught:
        load_yaml(path)
    # Depth first: the duplicate inside training comes before the second student.
    first, second = caught.value.problems
    assert [fact for fact in ("line 3", '"seed"', "line 2") if fact not in first] == []
    assert [fact for fact in ("line 5", '"student"', "line 4") if fact not in second] == []


def test_unreadable_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing.yaml:\n  no such file"):
        load_yaml(tmp_path / "missing.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_yaml(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"a: \xff\xfe\x00")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_yaml(tmp_path / "binary.yaml")


def assert_restored(config: TrialConfig, path: Path) -> None:
    path.write_text(dump_yaml(config), encoding="utf-8")
    assert load_config(path) == config
    # Text must remain text for readers of YAML 1.1, too.
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
def test_text_that_resembles_other_types_is_restored(tmp_path: Path, text: str) -> None:
    assert_restored(parse_config(TrialConfig, {"data": {"cache_dir": text}}, source="test"), tmp_path / "trial.yaml")


@settings(max_examples=40)
@given(
    text=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1),
    learning_rate=st.floats(min_value=1e-300, max_value=1e300),
    teacher=st.none() | st.builds(lambda seed: {"init_from_synthetic": {"seed": seed}}, st.integers(0, 9)),
)
def test_any_configuration_is_restored(
    tmp_path_factory: pytest.TempPathFactory, text: str, learning_rate: float, teacher: object
) -> None:
    raw = {"data": {"cache_dir": text}, "training": {"learning_rate": learning_rate}, "teacher": teacher}
    config = parse_config(TrialConfig, raw, source="test")
    assert_restored(config, tmp_path_factory.getbasetemp() / "round_trip.yaml")
