from __future__ import annotations

import os
from pathlib import Path
from threading import Thread

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hkd.config import TrialConfig
from hkd.config_files import yaml_format
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
        ("a: " + "9" * 5000, "line 1: an integer of 5000 digits; allowed: 100"),
        ("a: !!bool maybe", "tag"),
        ("a: !!timestamp 2024-01-01", "tag"),
        ("a: !!binary aGVsbG8=", "tag"),
        ("a: !!set {x, y}", "tag"),
        ("a: !!omap [x: 1]", "tag"),
        ("a: !" + "x" * 100_000 + " 1", "tag"),
        ('a: "\\0"', "line 1: text with a null character"),
        ('a: "\\ud800"', "not valid Unicode"),
        ("a: " + "9" * 101, "line 1: an integer of 101 digits; allowed: 100"),
        ("? " + "k" * 201 + "\n: 1", "line 1: a key of 201 characters; allowed: 200"),
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


def aliases(levels: int, width: int, first: str = "[x, x, x]", inside: str = "[{}]") -> str:
    """Nested aliases: level i is a list of ``width`` times level i - 1, which all together stand for width^levels."""
    lines = [f"a0: &a0 {first}"]
    lines += [f"a{i}: &a{i} {inside.format(', '.join([f'*a{i - 1}'] * width))}" for i in range(1, levels + 1)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (aliases(9, 9), "2000 values"),
        (aliases(30, 2), "2000 values"),
        (aliases(11, 4, "{x: 1}", "{{<<: [{}]}}"), "2000 values"),
        (f"a: &a {'x' * 10_000}\nb: [{', '.join(['*a'] * 20)}]", "100000 characters"),
        (f"a: &a {{{'x' * 200}: 1}}\nb: [{', '.join(['*a'] * 600)}]", "100000 characters"),
        (aliases(60, 1), "nested too deeply"),
        ("a: [" + "1," * 2_000 + "]", "2000 values"),
        ("\n".join(f"k{i}: 1" for i in range(1_000)), "2000 values"),
        ("- " * 100_000, "nested too deeply"),
        ("a: " + "{a: " * 100_000, "nested too deeply"),
        ("a: &a {<<: *a}", "an alias that contains itself"),
        ("# " + "x" * (1 << 20), "larger than 1 MiB"),
    ],
    ids=[
        "billion laughs", "halves", "merge keys", "long text", "long keys", "deep aliases",
        "long list", "many keys", "deep lists", "deep mappings", "merges itself", "long file",
    ],
)  # fmt: skip
def test_size_of_a_document_is_bounded(
    write: WriteYaml, text: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(text)
    monkeypatch.setattr(yaml_format, "MOST_VALUES", 2_000)  # 50,000 take a second or two
    monkeypatch.setattr(yaml_format, "MOST_CHARACTERS", 100_000)
    with pytest.raises(ConfigError) as caught:
        load_yaml(path)
    assert [message in problem for problem in caught.value.problems] == [True]


def test_aliases_within_the_limits_are_read(write: WriteYaml) -> None:
    # 40 levels of one alias each are 2 + ... + 41 lists, and the value three times in each.
    found = load_yaml(write(aliases(40, 1)))
    assert found["a2"] == [[["x", "x", "x"]]]
    assert len(found) == 41


def test_pipe_is_read_and_device_without_end_rejected(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = Thread(target=path.write_text, args=["training: {seed: 3}"])
    writer.start()
    assert load_config(path).training.seed == 3
    writer.join()
    with pytest.raises(ConfigError, match="/dev/zero:\n  cannot be read: it is larger than 1 MiB"):
        load_yaml("/dev/zero")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_mark_is_read(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "marked.yaml").write_text("training: {seed: 3}", encoding=encoding)
    assert load_yaml(tmp_path / "marked.yaml") == {"training": {"seed": 3}}


def test_every_duplicate_key_is_reported_with_its_lines(write: WriteYaml) -> None:
    path = write("training:\n  seed: 1\n  seed: 2\nstudent: {}\nstudent: {}\n")
    with pytest.raises(ConfigError) as caught:
        load_yaml(path)
    # In the order of the lines.
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
    learning_rate=st.floats(min_value=1e-300, max_value=1e4),
    teacher=st.none() | st.builds(lambda seed: {"init_from_synthetic": {"seed": seed}}, st.integers(0, 9)),
)
def test_any_configuration_is_restored(
    tmp_path_factory: pytest.TempPathFactory, text: str, learning_rate: float, teacher: object
) -> None:
    raw = {"data": {"cache_dir": text}, "training": {"learning_rate": learning_rate}, "teacher": teacher}
    config = parse_config(TrialConfig, raw, source="test")
    assert_restored(config, tmp_path_factory.getbasetemp() / "round_trip.yaml")
