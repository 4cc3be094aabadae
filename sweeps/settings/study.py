"""The configuration of one study: a base trial, what is searched around it, and how.

A strict tree like :class:`hkd.config.TrialConfig`. ``--set`` changes any of its keys by dotted name::

    --set search.num_trials=4
    --set base.training.total_epochs=2
    --set space.student.width_multiplier.high=0.75      # one field of a searched range
    --set space.training.learning_rate=null             # do not search it
    --set baselines.undistilled=null                    # omit a baseline
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field, PlainValidator, model_validator

from hkd.bucket_uri import uri_problem
from hkd.config import SELECTED_FROM_TEACHER, Section, TrialConfig
from hkd.config_files.parsing import parse_config
from hkd.config_files.problems import ConfigError
from hkd.config_files.yaml_format import load_yaml, shortened
from hkd.metric_names import (
    BASELINE_UNDISTILLED,
    COSTS,
    DEFAULT_OBJECTIVES,
    LATENCY_MS,
    MISS_RATES,
    CostName,
    MissRateName,
)
from hkd.text.redaction import redacted_text
from hkd.tracking_uri import command_line_problem, default_tracking_uri, with_credentials
from sweeps.settings.overrides import overridden
from sweeps.settings.resources import ResourcesConfig
from sweeps.settings.scheduler import SchedulerConfig, scheduler_problems
from sweeps.settings.search import DEFAULT_CONFIRM_SEEDS, SearchConfig, search_problems
from sweeps.settings.space import RANGE_FIELDS, Choices, FloatRange, IntegerRange, Parameter
from sweeps.settings.space_checks import baseline_problems, space_problems
from sweeps.storage.objects import ObjectStorage, storage_of

CONFIGS = Path(__file__).parents[1] / "configs"
DEMO = CONFIGS / "demo.yaml"

ObjectiveName = Literal[MissRateName, CostName]

TEACHERS_FOLDER = "teachers"
DEFAULT_WEIGHTS = "default-weights"
MOST_ENTRIES = 100
"""Searched settings, and baselines, of a study; a trial has fewer settings."""
NO_DISTILLATION: dict[str, Any] = {
    "distillation.pyramid.weight": 0.0,
    "distillation.region.weight": 0.0,
    "distillation.embedding.weight": 0.0,
    "distillation.logits.weight": 0.0,
    "distillation.logits.box_deltas_weight": 0.0,
}


def _check_objectives(objectives: tuple[ObjectiveName, ...]) -> tuple[ObjectiveName, ...]:
    found = ", ".join(objectives)
    if len(set(objectives)) != len(objectives):
        raise ValueError(f"found {found}; allowed: each objective once")
    if not set(objectives) & set(MISS_RATES):
        raise ValueError(
            f"found {found}, all known before training; "
            f"allowed: one or more of {', '.join(MISS_RATES)}, with any of {', '.join(COSTS)}"
        )
    return objectives


def _storage_path(value: object) -> Path | str:
    """A folder as a path, a URI of object storage as a text."""
    if not isinstance(value, str | Path):
        raise ValueError(f"found {value!r} ({type(value).__name__}); allowed: a path or s3://BUCKET/PATH")
    text = str(value)
    if text.startswith("file://"):
        parts = urlsplit(text)
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/") or parts.query:
            raise ValueError(f"found {text}; allowed: file:///PATH")
        return Path(unquote(parts.path))
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text):
        problem = uri_problem(text)
        if problem is not None:
            raise ValueError(f"found {redacted_text(text)}; {problem}")
        return text
    path = Path(text)
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError(f"there is no user's folder {path.parts[0]}; write the full path") from None


class TrackingConfig(Section):
    """The MLflow store of the results."""

    uri: Annotated[str, Field(min_length=1), AfterValidator(with_credentials)] = Field(
        default_factory=default_tracking_uri
    )
    """MLflow tracking URI: sqlite:///PATH, http(s)://HOST:PORT, ... (postgresql:// needs ``pip install
    'hkd[postgres]'``). By default that of the environment variable
    MLFLOW_TRACKING_URI, else sqlite:///mlflow.db."""


class StudyConfig(Section):
    """Everything that determines one study."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")]
    """Name of the study, of its folder and of its MLflow experiment: letters, digits, - and _."""
    base: TrialConfig = TrialConfig()
    """The trial whose settings are searched: inline, or the path of its YAML file, relative to this file's folder."""
    space: dict[str, Parameter] = Field(default_factory=dict, max_length=MOST_ENTRIES)
    """Dotted name in ``base`` -> searched range."""
    objectives: Annotated[
        tuple[ObjectiveName, ...], Field(min_length=1, max_length=20), AfterValidator(_check_objectives)
    ] = DEFAULT_OBJECTIVES
    """Metrics that are minimised together, one miss rate or more among them."""
    search: SearchConfig = SearchConfig()
    scheduler: SchedulerConfig = SchedulerConfig()
    resources: ResourcesConfig = ResourcesConfig()
    tracking: TrackingConfig = Field(default_factory=TrackingConfig)
    storage_path: Annotated[Path | str, PlainValidator(_storage_path)] = Path("runs")
    """Parent of the study's folder: on a cluster, on a file system that all nodes share, or in object storage
    (``s3://BUCKET/PATH`` or ``gs://BUCKET/PATH``), of which each node has copies in ``base.data.cache_dir``."""
    baselines: dict[str, dict[str, Any]] = Field(default_factory=dict, max_length=MOST_ENTRIES)
    """Trials that run first: name -> what differs from ``base``, by dotted name. Without this key: ``undistilled``
    (all distillation weights 0, and no first weights from the teacher) and ``default-weights`` (``base`` as it is)."""

    @property
    def object_storage(self) -> ObjectStorage | None:
        """The bucket that ``storage_path`` names; None for a folder."""
        return storage_of(self.storage_path, self.base.data.cache_dir) if isinstance(self.storage_path, str) else None

    @property
    def storage_folder(self) -> Path:
        """Parent of the study's folder on this machine, absolute: of copies, where ``storage_path`` is a bucket."""
        if isinstance(self.storage_path, Path):
            return self.storage_path.absolute()
        return storage_of(self.storage_path, self.base.data.cache_dir).copies

    @property
    def rungs(self) -> tuple[int, ...]:
        """Epochs after which trials are compared; none if trials are never stopped."""
        return self.scheduler.rungs_below(self.base.training.total_epochs)

    @property
    def main_miss_rate(self) -> str:
        """The first miss rate of the objectives, by which students are ranked and compared with the teacher."""
        return next(name for name in self.objectives if name in MISS_RATES)

    @property
    def confirm_seeds(self) -> int:
        """How often each member of the front is trained again."""
        if self.search.confirm_seeds is not None:
            return self.search.confirm_seeds
        return DEFAULT_CONFIRM_SEEDS if self.base.data.test_annotations is not None else 0

    def with_confirmation(self) -> Self:
        """The study with a confirmation, of the default number of seeds unless it has one."""
        search = self.search.model_copy(update={"confirm_seeds": self.confirm_seeds or DEFAULT_CONFIRM_SEEDS})
        return self.model_copy(update={"search": search})

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.name == TEACHERS_FOLDER:
            raise ValueError(
                f'name: "{self.name}" is the folder of the teachers that all studies share; choose another'
            )
        return self


def load_study(path: Path, overrides: Sequence[str] = (), *, name: str | None = None) -> StudyConfig:
    """Read a study and check all of it, including both ends of every searched range.

    Args:
        path: The study's YAML file.
        overrides: ``dotted.key=value``, see the module's docstring; later ones win.
        name: Replaces the study's name.

    Raises:
        ConfigError: listing every mistake in the file, in its base, in the overrides and in the space.
    """
    problems: list[str] = []
    raw = load_yaml(path)
    try:
        raw = _with_base_inline(raw, path.parent)
    except ConfigError as error:
        problems.extend(f"base: {error.source}: {problem}" for problem in error.problems)
        raw = {key: value for key, value in raw.items() if key != "base"}
    uri_in_file = _tracking_uri(raw)
    names_baselines = "baselines" in raw
    raw, override_problems = overridden(_with_default_baselines(raw), overrides, RANGE_FIELDS)
    problems += override_problems
    uri = _tracking_uri(raw)
    if uri is not None and uri != uri_in_file and (problem := command_line_problem(uri)):
        problems.append(f"tracking.uri: {problem}; or write it in {path}")
    if name is not None:
        raw["name"] = name
    raw = _adapted_baselines(raw, names_baselines=names_baselines)
    source = " with ".join(
        [str(path), *(f"--set {shortened(text)}" for text in overrides), *([f"--name {name}"] if name else [])]
    )
    raw, type_problems = _without_unknown_types(raw)
    problems += type_problems
    study: StudyConfig | None = None
    try:
        study = parse_config(StudyConfig, raw, source=source)
    except ConfigError as error:
        problems.extend(error.problems)
    checked = study or _valid_parts(raw)
    problems += space_problems(checked.space, checked.base) + baseline_problems(checked.baselines, checked.base)
    problems += _latency_problems(checked, raw)
    # An invalid part is absent from those checked: the defaults in its place were not chosen.
    if all(part in checked.model_fields_set or part not in raw for part in ("search", "objectives")):
        problems += search_problems(checked.search, checked.objectives, checked.space)
    if all(part in checked.model_fields_set or part not in raw for part in ("scheduler", "base")):
        problems += scheduler_problems(checked.scheduler, checked.base.training.total_epochs, checked.space)
    if problems or study is None:
        raise ConfigError(dict.fromkeys(map(redacted_text, problems)), redacted_text(source))
    return study


def _latency_problems(study: StudyConfig, raw: Mapping[str, Any]) -> list[str]:
    """Latency is used as objective or limit only where it is measured."""
    if study.base.evaluation.latency is not None or ("base" in raw and "base" not in study.model_fields_set):
        return []
    users = ["objectives"] * (LATENCY_MS in study.objectives)
    users += ["search.max_latency_ms"] * (study.search.max_latency_ms is not None)
    return [
        f"{user}: {LATENCY_MS} is not measured: base.evaluation.latency is null; add it ({{}} for its defaults), or "
        "remove this"
        for user in users
    ]


def _tracking_uri(raw: Mapping[str, Any]) -> str | None:
    tracking = raw.get("tracking")
    uri = tracking.get("uri") if isinstance(tracking, Mapping) else None
    return uri if isinstance(uri, str) else None


def _with_base_inline(raw: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    base = raw.get("base")
    return {**raw, "base": load_yaml(folder / base)} if isinstance(base, str) else dict(raw)


def _with_default_baselines(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Add the two default baselines where the file names none."""
    return {"baselines": {BASELINE_UNDISTILLED: NO_DISTILLATION, DEFAULT_WEIGHTS: {}}, **raw}


def _adapted_baselines(raw: Mapping[str, Any], *, names_baselines: bool) -> dict[str, Any]:
    """The default baselines, as ``base`` requires: the undistilled one uses no teacher, not even for first weights.

    Without a teacher, the two are equal: one is omitted.
    """
    baselines, base = raw["baselines"], raw.get("base")
    if not isinstance(baselines, Mapping):
        return dict(raw)
    baselines = dict(baselines)
    base = base if isinstance(base, Mapping) else {}
    student = base.get("student")
    is_selected = isinstance(student, Mapping) and student.get("init_from") == SELECTED_FROM_TEACHER
    if is_selected and not names_baselines and baselines.get(BASELINE_UNDISTILLED) == NO_DISTILLATION:
        baselines[BASELINE_UNDISTILLED] = {**NO_DISTILLATION, "student.init_from": None}
    has_teacher = base.get("teacher", {}) is not None
    if not has_teacher and BASELINE_UNDISTILLED in baselines and baselines.get(DEFAULT_WEIGHTS) == {}:
        del baselines[DEFAULT_WEIGHTS]
    return {**raw, "baselines": baselines}


def _without_unknown_types(raw: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Omit ranges of an unknown type, with a clearer message than pydantic has."""
    entries = raw.get("space")
    if not isinstance(entries, Mapping):
        return dict(raw), []
    types = [get_args(model.model_fields["type"].annotation)[0] for model in (FloatRange, IntegerRange, Choices)]
    wrong = {
        key: entry for key, entry in entries.items() if isinstance(entry, Mapping) and entry.get("type") not in types
    }
    problems = []
    for key, entry in wrong.items():
        found = f"found {entry['type']}" if "type" in entry else "missing"
        problems.append(f"space.{key}.type: {found}; allowed: {', '.join(types)}")
    return {**raw, "space": {key: entry for key, entry in entries.items() if key not in wrong}}, problems


def _valid_parts(raw: Mapping[str, Any]) -> StudyConfig:
    """The study without its invalid parts, so that the mistakes of all others are reported together with theirs."""

    def is_valid(part: Mapping[str, Any]) -> bool:
        try:
            parse_config(StudyConfig, {"name": "x", **part}, source="")
        except ConfigError:
            return False
        return True

    known = {key: value for key, value in raw.items() if key in StudyConfig.model_fields and key != "space"}
    valid: dict[str, Any] = {key: value for key, value in known.items() if is_valid({key: value})}
    entries = raw.get("space")
    if isinstance(entries, Mapping) and len(entries) <= MOST_ENTRIES:
        valid["space"] = {key: value for key, value in entries.items() if is_valid({"space": {key: value}})}
    return parse_config(StudyConfig, {**valid, "name": "x"}, source="")
