"""The conditions of the benchmark, from YAML: which students are trained, how, for how long and on how many labels."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import Field, model_validator

from hkd.config import SyntheticConfig, TrainingConfig, TrialConfig
from hkd.config.section import Epochs, Section, Seed
from hkd.config_files.parsing import apply_overrides, parse_config, parse_override
from hkd.config_files.problems import ConfigError
from hkd.config_files.yaml_format import load_yaml

CONDITIONS = Path(__file__).with_name("conditions.yaml")
ALONE = "alone"
"""The row that the others are compared with."""
STARTING_ROW = "default"
"""The row that an extra row starts from unless it names another."""
FROM = "from"
UNLABELLED_SETTING = "data.unlabelled_images"
OWN_UNLABELLED = "unlabelled"
"""Value of that setting for the benchmark's own unlabelled scenes."""

# Names become parts of file names.
_NAME = r"[A-Za-z0-9][A-Za-z0-9_.+]*(-[A-Za-z0-9_.+]+)*"
Name = Annotated[str, Field(pattern=f"^{_NAME}$", max_length=40)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]

T = TypeVar("T")


class TeacherSchedule(Section):
    """How a teacher is trained."""

    labels: Count
    """Number of labelled scenes."""
    steps: Epochs
    seed: Seed = 0
    """Of its training, and of the choice of its labelled scenes."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Further settings of its training, by dotted name."""


class ScenesConfig(SyntheticConfig):
    """The generated scenes of the benchmark."""

    unlabelled_images: Count = 4000
    """Scenes of another seed, whose labels no training reads."""


class Block(Section):
    """Conditions: the product of its lists."""

    teachers: tuple[str, ...]
    students: tuple[str, ...]
    rows: tuple[str, ...]
    labels: tuple[Count, ...]
    steps: tuple[Epochs, ...]
    seeds: tuple[Seed, ...]


class Catalogue(Section):
    """Everything that the YAML file describes."""

    scenes: ScenesConfig = ScenesConfig()
    base: dict[str, Any]
    """Settings of all trainings, nested as in a configuration of hkd."""
    students: dict[Name, dict[str, Any]]
    """Settings of each student, by dotted name."""
    teachers: dict[Name, TeacherSchedule]
    rows: dict[Name, dict[str, Any]]
    """Settings of each row, by dotted name, and under ``from`` the row that it starts from."""
    plans: dict[Name, tuple[Block, ...]]

    @model_validator(mode="after")
    def _known_names(self) -> Self:
        problems = [
            f"rows.{name}.{FROM} names {row[FROM]!r}, which is no row; rows: {', '.join(self.rows)}"
            for name, row in self.rows.items()
            if FROM in row and row[FROM] not in self.rows
        ]
        for plan, blocks in self.plans.items():
            for kind in ("teachers", "students", "rows"):
                known: Collection[str] = getattr(self, kind)
                named = {name for block in blocks for name in getattr(block, kind)}
                problems += [
                    f"plans.{plan} names {name!r}, which is not one of the {kind}: {', '.join(known)}"
                    for name in sorted(named.difference(known))
                ]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def row_settings(self, row: str) -> dict[str, Any]:
        """Settings of a row by dotted name, with those of the rows that it starts from."""
        settings: dict[str, Any] = {}
        seen: list[str] = []
        name: str | None = row
        while name is not None:
            if name in seen:
                raise ConfigError(f"rows.{row}: starts from itself ({' from '.join([*seen, name])})")
            seen.append(name)
            settings = {**self.rows[name], **settings}
            settings.pop(FROM, None)
            name = self.rows[name].get(FROM)
        return settings


@dataclass(frozen=True)
class Condition:
    """One training of a student."""

    student: str
    row: str
    teacher: str | None
    """None where the row uses no teacher."""
    steps: int
    """As in the tables: the training has the number of epochs that comes nearest."""
    labels: int
    seed: int

    @property
    def name(self) -> str:
        """Readable name, part of the names of its files."""
        teacher = [self.teacher] if self.teacher else []
        return "-".join(
            [self.student, self.row, *teacher, f"{self.steps}steps", f"{self.labels}labels", f"seed{self.seed}"]
        )


@dataclass(frozen=True)
class Selection:
    """Names and numbers to which the conditions are restricted; None does not restrict."""

    students: Sequence[str] | None = None
    rows: Sequence[str] | None = None
    teachers: Sequence[str] | None = None
    steps: Sequence[int] | None = None
    labels: Sequence[int] | None = None
    seeds: Sequence[int] | None = None


class Benchmark:
    """Conditions of the chosen plans, and the settings of each.

    Args:
        catalogue: The YAML file.
        overrides: Settings of all trainings, by dotted name.
        extra_rows: Further rows, in every block of every plan.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        overrides: Mapping[str, Any] | None = None,
        extra_rows: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.extra_rows = tuple(extra_rows or {})
        known = [name for name in self.extra_rows if name in catalogue.rows]
        if known:
            raise ConfigError(f"extra row {', '.join(known)}: there is a row of this name; choose another")
        rows = {**catalogue.rows, **{name: dict(row) for name, row in (extra_rows or {}).items()}}
        raw = {**catalogue.model_dump(mode="json"), "rows": rows}
        self.catalogue = parse_config(Catalogue, raw, source="the benchmark's conditions with the extra rows")
        self._overrides = dict(overrides or {})
        self._needs_teacher: dict[tuple[str, str], bool] = {}

    @property
    def base(self) -> dict[str, Any]:
        """Settings of all trainings of students, by dotted name."""
        return {**_dotted(self.catalogue.base), **self._overrides}

    def conditions(self, plans: Sequence[str], selection: Selection = Selection()) -> list[Condition]:
        """Conditions without duplicates, by seed, then by group, so that partial results can be compared.

        Raises:
            ConfigError: no condition is selected, or a plan, or a selected name or number, is unknown.
        """
        unknown = [plan for plan in plans if plan not in self.catalogue.plans]
        if unknown:
            raise ConfigError(f"no plan {', '.join(map(repr, unknown))}; plans: {', '.join(self.catalogue.plans)}")
        blocks = list(itertools.chain.from_iterable(self.catalogue.plans[plan] for plan in plans))
        self._require_known(blocks, selection)
        found: dict[Condition, None] = {}
        for block in blocks:
            rows = dict.fromkeys((*block.rows, *self.extra_rows))
            for labels, teacher, steps, student, row, seed in itertools.product(
                _kept(block.labels, selection.labels),
                _kept(block.teachers, selection.teachers),
                _kept(block.steps, selection.steps),
                _kept(block.students, selection.students),
                _kept(rows, selection.rows),
                _kept(block.seeds, selection.seeds),
            ):
                condition = Condition(student, row, teacher, steps, labels, seed)
                found.setdefault(condition if self._uses_teacher(condition) else replace(condition, teacher=None))
        if not found:
            raise ConfigError("no condition of these plans has the selected names and numbers")
        label_order = list(dict.fromkeys(condition.labels for condition in found))
        # A row without a teacher runs beside the first teacher's.
        teacher_order = list(dict.fromkeys(condition.teacher for condition in found if condition.teacher))
        return sorted(
            found,
            key=lambda c: (
                c.seed,
                label_order.index(c.labels),
                teacher_order.index(c.teacher) if c.teacher else 0,
                # Other batches, and so other pyramids of the teacher.
                self.settings(c).get(UNLABELLED_SETTING) is not None,
                c.steps,
            ),
        )

    def settings(self, condition: Condition) -> dict[str, Any]:
        """All settings that a condition states, by dotted name: they, the data and the teacher determine its result."""
        settings = {
            **_dotted(self.catalogue.base),
            **self.catalogue.students[condition.student],
            **self.catalogue.row_settings(condition.row),
            **self._overrides,
            "training.seed": condition.seed,
        }
        if condition.teacher is None:
            settings = {name: value for name, value in settings.items() if not name.startswith("teacher.")}
            settings["teacher"] = None
        return _with_epochs(settings, condition.steps, condition.labels + self._num_unlabelled(settings))

    def teacher_settings(self, name: str) -> dict[str, Any]:
        """All settings of a teacher's training: its architecture is that of the training's student."""
        schedule = self.catalogue.teachers[name]
        base = _dotted(self.catalogue.base)
        architecture = {key: value for key, value in base.items() if key.startswith("teacher.")}
        kept = {key: value for key, value in base.items() if not key.startswith(("teacher.", "student."))}
        settings = {
            **kept,
            **{key.replace("teacher.", "student.", 1): value for key, value in architecture.items()},
            "teacher": None,
            **schedule.settings,
            "training.seed": schedule.seed,
        }
        return _with_epochs(settings, schedule.steps, schedule.labels)

    def _require_known(self, blocks: Sequence[Block], selection: Selection) -> None:
        problems = []
        for kind in (field.name for field in fields(Selection)):
            known = dict.fromkeys(value for block in blocks for value in getattr(block, kind))
            known |= dict.fromkeys(self.extra_rows if kind == "rows" else ())
            unknown = [value for value in getattr(selection, kind) or () if value not in known]
            if unknown:
                problems.append(
                    f"--{kind}: not in these plans: {', '.join(map(str, unknown))}; allowed:"
                    f" {', '.join(map(str, known))}"
                )
        if problems:
            raise ConfigError(problems, "the command's options")

    def _num_unlabelled(self, settings: Mapping[str, Any]) -> int:
        # The folder has one more: a scene of the validation set that belongs to this seed.
        return self.catalogue.scenes.unlabelled_images + 1 if settings.get(UNLABELLED_SETTING) == OWN_UNLABELLED else 0

    def _uses_teacher(self, condition: Condition) -> bool:
        key = condition.student, condition.row
        if key not in self._needs_teacher:
            config = trial_config(self.settings(condition), source=f"student {key[0]}, row {key[1]}")
            self._needs_teacher[key] = config.uses_teacher
        return self._needs_teacher[key]


def load_catalogue(path: Path) -> Catalogue:
    """Read and check the YAML file.

    Raises:
        ConfigError: listing every mistake in it.
    """
    return parse_config(Catalogue, load_yaml(path), source=str(path))


def trial_config(settings: Mapping[str, Any], source: str) -> TrialConfig:
    """The configuration of these settings.

    Raises:
        ConfigError: listing every mistake in them.
    """
    return parse_config(TrialConfig, apply_overrides({}, settings), source=source)


def parse_extra_row(text: str) -> tuple[str, dict[str, Any]]:
    """Split ``NAME:KEY=VALUE,KEY=VALUE`` into the name and the row's settings.

    A comma within brackets belongs to a value. The row starts from ``default``, or from the row that ``from`` names.

    Raises:
        ConfigError: the name or a setting is missing.
    """
    name, colon, rest = text.partition(":")
    if not colon or not re.fullmatch(_NAME, name):
        raise ConfigError(f"--extra-row {text}: write NAME:KEY=VALUE,KEY=VALUE", "--extra-row")
    settings = dict(parse_override(part) for part in re.split(r",(?![^\[]*\])", rest))
    return name, {FROM: STARTING_ROW, **settings}


def _with_epochs(settings: dict[str, Any], steps: int, images: int) -> dict[str, Any]:
    """Add the number of epochs whose steps come nearest."""
    batch_size = settings.get("training.batch_size", TrainingConfig().batch_size)
    if type(batch_size) is not int or batch_size < 1:
        raise ConfigError(f"training.batch_size: found {batch_size!r}; allowed: integer >= 1")
    # Images that do not fill a batch are left out of an epoch.
    steps_per_epoch = max(1, images // batch_size)
    return {**settings, "training.total_epochs": max(1, round(steps / steps_per_epoch))}


def _dotted(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat |= _dotted(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _kept(values: Collection[T], chosen: Sequence[T] | None) -> list[T]:
    return [value for value in values if chosen is None or value in chosen]
