"""Reading a study: defaults, overrides, and all mistakes in one report."""

from __future__ import annotations

from pathlib import Path

import pytest

from hkd.config import LatencyConfig, TrialConfig
from hkd.config_files.parsing import parse_config
from hkd.config_files.problems import ConfigError
from hkd.config_files.yaml_format import dump_yaml, load_yaml
from sweeps.settings.space import FloatRange, IntegerRange, trial_config
from sweeps.settings.study import CONFIGS, NO_DISTILLATION, StudyConfig, load_study
from tests.test_config import unbounded_numbers


def read(tmp_path: Path, text: str, *overrides: str, name: str | None = None) -> StudyConfig:
    path = tmp_path / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return load_study(path, overrides, name=name)


def problems_of(tmp_path: Path, text: str, *overrides: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text, *overrides)
    return caught.value.problems


def test_defaults(tmp_path: Path) -> None:
    study = read(tmp_path, "name: x")
    assert study.base == TrialConfig()
    assert study.objectives == ("mr2_reasonable", "num_params", "flops")
    assert study.tracking.uri == "sqlite:///mlflow.db"
    assert study.storage_path == Path("runs")
    assert study.baselines == {"undistilled": NO_DISTILLATION, "default-weights": {}}


def test_undistilled_baseline_has_no_first_weights_from_the_teacher(tmp_path: Path) -> None:
    for text, *overrides in (
        ("name: x\nbase: {student: {init_from: teacher}}",),
        ("name: x", "base.student.init_from=teacher"),
    ):
        study = read(tmp_path, text, *overrides)
        assert study.baselines == {
            "undistilled": {**NO_DISTILLATION, "student.init_from": None},
            "default-weights": {},
        }
        assert not trial_config(study.base, study.baselines["undistilled"]).uses_teacher
    # What a file states is not changed, even where it is equal to the default.
    for own in ({"undistilled": {"distillation.logits.weight": 0.0}}, {"undistilled": NO_DISTILLATION}):
        assert read(tmp_path, f"name: x\nbase: {{student: {{init_from: teacher}}}}\nbaselines: {own}").baselines == own


def test_undistilled_baseline_distills_nothing(tmp_path: Path) -> None:
    study = read(tmp_path, "name: x\nbase: {distillation: {logits: {box_deltas_weight: 3}, embedding: {weight: 2}}}")
    assert study.base.distillation.is_active
    assert not trial_config(study.base, study.baselines["undistilled"]).distillation.is_active


def test_one_default_baseline_without_teacher(tmp_path: Path) -> None:
    assert list(read(tmp_path, "name: x\nbase: {teacher: null}").baselines) == ["undistilled"]
    assert list(read(tmp_path, "name: x", "base.teacher=null").baselines) == ["undistilled"]


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_studies_are_valid_and_named_after_their_files(path: Path) -> None:
    study = load_study(path)
    assert study.name == path.stem
    assert study.space
    assert study.search.num_trials + len(study.baselines) >= 8


def test_gpus_per_trial_may_be_auto_null_or_number(tmp_path: Path) -> None:
    for text, expected in {"auto": "auto", "null": None, "0.25": 0.25, "2": 2.0}.items():
        study = read(tmp_path, "name: x", f"resources.gpus_per_trial={text}")
        assert study.resources.gpus_per_trial == expected


def test_written_study_reads_as_equal(tmp_path: Path) -> None:
    study = load_study(
        CONFIGS / "demo.yaml", ["space.student.backbone={type: categorical, choices: [resnet18, resnet34]}"]
    )
    (tmp_path / "written.yaml").write_text(dump_yaml(study), encoding="utf-8")
    assert parse_config(StudyConfig, load_yaml(tmp_path / "written.yaml"), source="") == study
    assert load_study(tmp_path / "written.yaml") == study


def test_base_may_be_file_relative_to_study(tmp_path: Path) -> None:
    (tmp_path / "trial.yaml").write_text("training: {total_epochs: 3}", encoding="utf-8")
    study = read(tmp_path, "name: x\nbase: trial.yaml", "base.training.batch_size=2")
    assert (study.base.training.total_epochs, study.base.training.batch_size) == (3, 2)
    (problem,) = problems_of(tmp_path, "name: x\nbase: nowhere.yaml")
    assert problem == f"base: {tmp_path / 'nowhere.yaml'}: no such file"


def test_latency_is_used_only_where_it_is_measured(tmp_path: Path) -> None:
    text = "name: x\nobjectives: [mr2_reasonable, latency_ms]\nsearch: {sampler: front, max_latency_ms: 5}"
    problems = problems_of(tmp_path, text)
    for user in ("objectives", "search.max_latency_ms"):
        assert any(each.startswith(f"{user}: ") and "base.evaluation.latency" in each for each in problems)
    study = read(tmp_path, f"{text}\nbase: {{evaluation: {{latency: {{}}}}}}")
    assert study.base.evaluation.latency == LatencyConfig()
    assert study.search.limits == {"latency_ms": 5.0}
    study = read(tmp_path, text, "base.evaluation.latency.table=device.json")
    assert study.base.evaluation.latency == LatencyConfig(table=Path("device.json"))
    searched = "space: {evaluation.latency.num_threads: {type: int, low: 1, high: 2}}"
    (problem,) = problems_of(tmp_path, f"name: x\n{searched}")
    assert problem.startswith("space.evaluation.latency.num_threads: cannot be searched")


def test_overrides(tmp_path: Path) -> None:
    study = read(
        tmp_path,
        "name: x\nspace: {training.learning_rate: {type: float, low: 1e-4, high: 1e-2, log: true}}",
        "search.num_trials=4",
        "base.training.total_epochs=2",
        "space.student.width_multiplier={type: float, low: 0.25, high: 1}",
        "space.student.width_multiplier.high=0.75",
        "space.student.pyramid_channels.type=int",
        "space.student.pyramid_channels.low=32",
        "space.student.pyramid_channels.high=64",
        "space.student.pyramid_channels.step=32",
        "space.training.learning_rate=null",
        "baselines.undistilled=null",
        "baselines.small.student.width_multiplier=0.25",
        name="y",
    )
    assert study.name == "y"
    assert study.search.num_trials == 4
    assert study.base.training.total_epochs == 2
    assert study.space == {
        "student.width_multiplier": FloatRange(type="float", low=0.25, high=0.75),
        "student.pyramid_channels": IntegerRange(type="int", low=32, high=64, step=32),
    }
    assert study.baselines == {"default-weights": {}, "small": {"student.width_multiplier": 0.25}}


def test_trial_setting_outside_base_is_rejected(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, "name: x", "training.total_epochs=2")
    assert problem.startswith("training.total_epochs: unknown key; ")
    assert problem.endswith("did you mean base.training.total_epochs?")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{}", "name: missing"),
        ("name: a/b", "name: found"),
        ("name: ..", "name: found"),
        ("name: teachers", "the folder of the teachers"),
        ("name: x\nobjectives: [ap]", "allowed: mr2_reasonable, mr2_small"),
        ("name: x\nobjectives: [mr2_all, mr2_all]", "objectives: found mr2_all, mr2_all; allowed: each objective once"),
        # Known before training: such a study needs none.
        ("name: x\nobjectives: [num_params]", "objectives: found num_params, all known before training"),
        ("name: x\nobjectives: [gmacs, flops]",
         "allowed: one or more of mr2_reasonable, mr2_small, mr2_heavy, mr2_all, with any of num_params, flops, gmacs"),
        ("name: x\nobjectives: []", "objectives: found"),
        ("name: x\nsearch: {sampler: cma}", 'search.sampler: found "cma"; allowed: tpe, nsga2, gp, random, front, '),
        ("name: x\nsearch: {num_trials: 0}", "search.num_trials: found 0"),
        ("name: x\nresources: {gpus_per_trial: 1.5}", "gpus_per_trial above 1 must be a whole number"),
        ("name: x\nresources: {gpus_per_trial: all}", 'gpus_per_trial: found "all" (str); allowed: number >= 0 and <='),
        ("name: x\nresources: {cpus_per_trial: 0}", "resources.cpus_per_trial: found 0"),
        ("name: x\nscheduler: {type: asha}", "scheduler.type: found \"asha\" (str); allowed: fifo, front"),
        ("name: x\nbaselines: {b/c: {}}", 'baselines: the name "b/c" is not allowed'),
        ("name: x\nbaselines: {b: {student.width: 1}}", "baselines.b: student.width: unknown key"),
        ("name: x\nspace: {training.seed: {low: 0, high: 3}}", "seed.type: missing; allowed: float, int"),
        ("name: x\nspace: {training.seed: {type: integer, low: 0, high: 3}}", "seed.type: found integer; allowed:"),
        ("name: x\nspace: {training.seed: {type: int, low: 3, high: 3}}", "low (3) must be below high (3)"),
        ("name: x\nspace: {training.seed: {type: int, low: 0, high: 3, log: true}}", "low (0) must be above 0"),
        ("name: x\nspace: {training.seed: {type: int, low: 1, high: 3, log: true, step: 2}}", "log and step exclude"),
        ("name: x\nspace: {training.seed: {type: int, low: 0, high: 5, step: 2}}", "not low (0) plus a whole number"),
        ("name: x\nspace: {training.momentum: {type: float, low: 0, high: 0.35, step: 0.1}}", "high (0.35) is not"),
        ("name: x\nspace: {training.momentum: {type: float, low: 0, high: 0.5, step: 1e-30}}", "step (1e-30) is too"),
        ("name: x\nbaselines: {b: {teacher.head_channels: 64}}", "teacher.head_channels: cannot differ from base"),
        ("name: x\nbaselines: {b: {data.unlabelled_images: other}}", "data.unlabelled_images: cannot differ from base"),
        ("name: x\nbaselines: {b: {data.image_height: 64}}", "data.image_height: cannot differ from base"),
        ("name: x\nbaselines: {b: {training.device: cuda}}", "training.device: cannot differ from base"),
        ("name: x\nstorage_path: hdfs://host/runs", "storage_path: found hdfs://host/runs; allowed: a folder of"),
        ("name: x\nstorage_path: ~nobody-of-that-name/runs", "there is no user's folder ~nobody-of-that-name"),
        ("name: x\nspace: {training.seed: {type: categorical, choices: [1]}}", "choices must be two or more"),
        # One mistake, though the type also lacks its valid choices then.
        ("name: x\nspace: {training.seed: {type: categorical, choices: 5}}", "training.seed.choices: found 5 (int)"),
        ("name: x\nspace: {training.seed: {type: categorical, choices: [1, 1]}}", "found 1 more than once"),
    ],
)  # fmt: skip
def test_mistake_is_reported(tmp_path: Path, text: str, problem: str) -> None:
    found = problems_of(tmp_path, text)
    assert len(found) == 1
    assert problem in found[0]


@pytest.mark.parametrize(
    ("text", "override", "problem"),
    [
        (
            "name: x",
            "space.student.wdth_multiplier=null",
            "space.student.wdth_multiplier: no such entry to omit; available: none",
        ),
        ("name: x", "baselines.undistiled=null", "did you mean undistilled? available: undistilled, def"),
        ("name: x\nspace: [1]", "space.training.seed.low=1", "space: found [1], which has no keys"),
        ("name: x\nspace: 5", "space.training.seed=null", "space: found 5, which has no keys"),
        (
            "name: x\nspace: {training.seed: 5}",
            "space.training.seed.low=1",
            "space.training.seed: found 5, which has",
        ),
        ("name: x\nbaselines: [a]", "baselines.b=null", "baselines: found ['a'], which has no keys"),
        ("name: x\nbaselines: {a: 5}", "baselines.a.training.seed=3", "baselines.a: found 5, which has no keys"),
    ],
)
def test_override_without_effect_is_rejected(tmp_path: Path, text: str, override: str, problem: str) -> None:
    assert problem in problems_of(tmp_path, text, override)[0]


def test_mistakes_are_reported_without_passwords(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(
            tmp_path, "name: x", "tracking.uri=http://me:SECRET@host", "tracking.url=http://me:SECRET@host", "search=1"
        )
    assert "--set tracking.uri=http://***@host" in str(caught.value)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    "override", ["tracking.uri=http://me:SECRET@host", "tracking={uri: 'http://host/?token=SECRET'}"]
)
def test_credentials_on_the_command_line_are_refused(tmp_path: Path, override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, "name: x", override)
    (problem,) = caught.value.problems
    assert problem.startswith("tracking.uri: ")
    for fact in ("***", "list of processes", "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_PASSWORD", "study.yaml"):
        assert fact in problem
    # In the file they are not visible, and one without them may replace it.
    text = "name: x\ntracking: {uri: 'http://me:SECRET@host'}"
    assert read(tmp_path, text).tracking.uri == "http://me:SECRET@host"
    assert read(tmp_path, text, "tracking.uri=http://other").tracking.uri == "http://other"


def test_tracking_uri_is_that_of_the_environment_unless_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(tmp_path, "name: x").tracking.uri == "sqlite:///mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:SECRET@host")
    assert read(tmp_path, "name: x").tracking.uri == "http://me:SECRET@host"
    assert read(tmp_path, "name: x\ntracking: {uri: 'http://a'}").tracking.uri == "http://a"
    # The file of a study, study.yaml, has the URI without its credentials.
    assert read(tmp_path, "name: x\ntracking: {uri: 'http://***@host'}").tracking.uri == "http://me:SECRET@host"
    assert read(tmp_path, "name: x\ntracking: {uri: 'http://***@a'}").tracking.uri == "http://***@a"


def test_tilde_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert read(tmp_path, "name: x\nstorage_path: ~/runs").storage_path == Path("/home/someone/runs")


def test_decimal_steps_are_counted_exactly(tmp_path: Path) -> None:
    # In binary, (0.4 - 0.1) / 0.1 is 3.0000000000000004.
    study = read(tmp_path, "name: x\nspace: {training.momentum: {type: float, low: 0.1, high: 0.4, step: 0.1}}")
    assert isinstance(study.space["training.momentum"], FloatRange)


def test_all_mistakes_are_reported_together(tmp_path: Path) -> None:
    found = problems_of(
        tmp_path,
        """
        name: x
        base: {training: {total_epoch: 1}, student: {width_multiplier: 9}}
        space:
          student.width_multiplier: {type: float, low: 0.01, high: 3}
          student.pyramid_chanels: {type: int, low: 32, high: 64}
          training.batch_size: {type: int, low: 8, high: 2}
        search: {sampler: cma}
        """,
        "foo=1",
        "search.num_trials",
    )
    expected = (
        "base.training.total_epoch: unknown key; did you mean total_epochs?",
        "base.student.width_multiplier: found 9",
        "space.student.width_multiplier.low: found 0.01",
        "space.student.width_multiplier.high: found 3",
        "space.student.pyramid_chanels: unknown key; did you mean pyramid_channels?",
        "space.training.batch_size: low (8) must be below high (2)",
        'search.sampler: found "cma"',
        "foo: unknown key",
        "--set search.num_trials: ",
    )
    assert len(found) == len(expected)
    for prefix in expected:
        assert any(problem.startswith(prefix) for problem in found), prefix


def test_mistakes_in_the_search_cause_no_messages_on_defaults(tmp_path: Path) -> None:
    # The default tpe uses no priors, but was not chosen.
    found = problems_of(
        tmp_path,
        """
        name: x
        space: {training.momentum: {type: float, low: 0.1, high: 0.4, prior: {center: 0.2, width: 0.1}}}
        search: {sampler: front, num_trials: 0}
        """,
    )
    assert len(found) == 1
    assert found[0].startswith("search.num_trials: found 0")


def test_every_number_of_a_study_has_an_upper_limit() -> None:
    # The ends of a searched range are checked as values of their setting.
    assert {name for name in unbounded_numbers(StudyConfig) if not name.startswith(".space")} == set()


VALID_RANGE = "{type: int, low: 1, high: 2}"
NUMBER_TYPE = "training.learning_rate: {type: float, low: "


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("space: {" + NUMBER_TYPE + "-1e308, high: 1e308, step: 1e300}}", "step (1e+300) is too small"),
        ("space: {" + NUMBER_TYPE + "0.1, high: 1, step: 0}}", "step: found 0"),
        ("space: {" + NUMBER_TYPE + "0.1, high: .inf}}", "high: found Infinity"),
        ("space: {" + NUMBER_TYPE + "0.1, high: 1e30}}", "high: found 1e+30 (float); allowed: number > 0 and <= 10000"),
        (f"space: {{training.seed: {{type: categorical, choices: {list(range(257))}}}}}", "allowed: list of 0 to 256"),
        (
            "space: {" + ", ".join(f"k{i}: {VALID_RANGE}" for i in range(1_000)) + "}",
            "at most 100 keys",
        ),
        ("baselines: {" + ", ".join(f"b{i}: {{}}" for i in range(1_000)) + "}", "at most 100 keys"),
        (f"objectives: [{', '.join(['flops'] * 1_000)}]", "allowed: list of 1 to 20"),
        ("search: {num_trials: 1" + "0" * 30 + "}", "search.num_trials: found 1"),
        ("base: /dev/zero", "base: /dev/zero: cannot be read: it is larger than"),
        ("base: .", "Is a directory"),
        ("base: study.yaml", "base.base: unknown key"),
    ],
    ids=[
        "step",
        "no step",
        "infinite",
        "end",
        "choices",
        "space",
        "baselines",
        "objectives",
        "trials",
        "device",
        "folder",
        "itself",
    ],
)
def test_study_beyond_all_limits_is_rejected(tmp_path: Path, text: str, problem: str) -> None:
    found = problems_of(tmp_path, f"name: x\n{text}")
    assert [problem in each for each in found].count(True) == 1


def test_thousands_of_mistakes_of_a_study_are_rejected_after_the_first_hundred(tmp_path: Path) -> None:
    found = problems_of(tmp_path, "name: x\n" + "\n".join(f"k{i}: 1" for i in range(2_000)))
    assert len(found) == 101


def test_long_choices_are_paired_at_evenly_spaced_values(tmp_path: Path) -> None:
    # 256 x 256 pairs would take minutes.
    choices = list(range(1, 257))
    study = read(
        tmp_path,
        f"name: x\nspace: {{training.sampled_regions_per_image: {{type: categorical, choices: {choices}}},\n"
        f"  training.batch_size: {{type: categorical, choices: {choices}}}}}",
    )
    assert len(study.space) == 2


def test_baseline_may_do_without_unlabelled_images() -> None:
    base = {"data": {"unlabelled_images": "footage"}}
    study = StudyConfig.model_validate(
        {"name": "x", "base": base, "baselines": {"labelled": {"data.unlabelled_images": None}}}
    )
    assert study.baselines["labelled"] == {"data.unlabelled_images": None}


def test_seed_is_not_searched(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, "name: x\nspace: {training.seed: {type: int, low: 0, high: 3}}")
    assert "space.training.seed: cannot be searched" in problem
    assert "search.confirm_seeds" in problem
