"""From conditions to trainings: their settings, files and names, and the teachers that they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.distillation_gain.conditions import (
    OWN_UNLABELLED,
    UNLABELLED_SETTING,
    Benchmark,
    Condition,
    trial_config,
)
from benchmarks.distillation_gain.results import Result, Table, as_record
from benchmarks.distillation_gain.scenes import Scenes, content_hash
from benchmarks.distillation_gain.trainings import THREADS, Training, file_hash, training_name
from hkd.config_files.problems import ConfigError


class Jobs:
    """The trainings of a benchmark.

    Args:
        given_teachers: Weights of teachers that are not trained here, by name.
        pyramid_bytes: Capacity of the cache of the teachers' pyramids; 0: none.

    Raises:
        ConfigError: a given teacher is unknown, or its file is absent.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        scenes: Scenes,
        out: Path,
        *,
        given_teachers: Mapping[str, Path] | None = None,
        pyramid_bytes: int = 0,
    ) -> None:
        self._benchmark = benchmark
        self._scenes = scenes
        self._out = out.absolute()
        self._given = {name: path.absolute() for name, path in (given_teachers or {}).items()}
        self._pyramid_bytes = pyramid_bytes
        known = benchmark.catalogue.teachers
        problems = [
            f"--teacher {name}: no such teacher; teachers: {', '.join(known)}"
            for name in self._given
            if name not in known
        ]
        problems += [f"--teacher {name}: {path} is no file" for name, path in self._given.items() if not path.is_file()]
        if problems:
            raise ConfigError(problems, "the command's options")

    def teacher_weights(self, name: str) -> Path:
        """File of a teacher's weights; absent until it is trained."""
        if name in self._given:
            return self._given[name]
        return self._out / "teachers" / f"{self._training_name(name, name)}.safetensors"

    def teacher_descriptions(self) -> dict[str, str]:
        """How each teacher is trained, by name."""
        return {
            name: "weights from a file"
            if name in self._given
            else f"{schedule.labels:,} labelled scenes, {schedule.steps:,} steps"
            for name, schedule in self._benchmark.catalogue.teachers.items()
        }

    def teacher_training(self, name: str) -> Training:
        """The training of a teacher."""
        schedule = self._benchmark.catalogue.teachers[name]
        settings = self._benchmark.teacher_settings(name)
        return Training(
            name=self._training_name(name, f"teacher-{name}-training"),
            condition={"teacher": name},
            settings=settings,
            places=self._places(schedule.labels, schedule.seed, settings),
            out=self._out,
            exported_weights=self.teacher_weights(name),
        )

    def teacher_evaluation(self, name: str) -> Training | None:
        """The evaluation of a teacher; None until it is trained."""
        weights = self.teacher_weights(name)
        if not weights.is_file():
            return None
        schedule = self._benchmark.catalogue.teachers[name]
        sections = ("teacher.", "data.", "evaluation.")
        settings = {key: value for key, value in self._benchmark.base.items() if key.startswith(sections)}
        return Training(
            name=training_name(f"teacher-{name}", settings, content_hash(self._scenes.validation), file_hash(weights)),
            condition={"teacher": name},
            settings=settings,
            places=self._places(schedule.labels, schedule.seed, settings),
            out=self._out,
            teacher_weights=weights,
            is_evaluation=True,
        )

    def training(self, condition: Condition) -> Training | None:
        """The training of a condition; None until its teacher is trained, whose weights are part of its name."""
        weights = None if condition.teacher is None else self.teacher_weights(condition.teacher)
        if weights is not None and not weights.is_file():
            return None
        settings = self._benchmark.settings(condition)
        contents = [*self._contents(condition.labels, condition.seed), None if weights is None else file_hash(weights)]
        if settings.get(UNLABELLED_SETTING) == OWN_UNLABELLED:
            contents.append(content_hash(self._scenes.unlabelled()))
        return Training(
            name=training_name(condition.name, settings, *contents),
            condition=as_record(condition),
            settings=settings,
            places=self._places(condition.labels, condition.seed, settings),
            out=self._out,
            teacher_weights=weights,
            pyramid_bytes=self._pyramid_bytes,
        )

    def check(self, conditions: Sequence[Condition]) -> None:
        """Check the settings of all trainings and draw the scenes that are absent; nothing is trained.

        Raises:
            ConfigError: settings are invalid.
            ScenesError: there are fewer labelled scenes than needed.
        """
        for name in teachers_of(conditions):
            self.teacher_training(name).config()
        for labels, seed in {(condition.labels, condition.seed) for condition in conditions}:
            self._scenes.train(labels, seed)
        # Labels, steps and seeds are checked with the YAML file.
        for condition in {(c.student, c.row): c for c in conditions}.values():
            settings = self._benchmark.settings(condition)
            places = self._places(condition.labels, condition.seed, settings)
            trial_config({**settings, **places}, source=condition.name)

    def table(self, conditions: Sequence[Condition]) -> Table:
        """The results that are finished."""
        trainings = [(condition, self.training(condition)) for condition in conditions]
        found = [(condition, _result(training)) for condition, training in trainings]
        teachers = {name: _result(self.teacher_evaluation(name)) for name in teachers_of(conditions)}
        return Table(
            [(condition, result) for condition, result in found if result is not None],
            {name: result for name, result in teachers.items() if result is not None},
        )

    def _training_name(self, teacher: str, readable: str) -> str:
        """A readable name with the key of a teacher's training."""
        schedule = self._benchmark.catalogue.teachers[teacher]
        settings = self._benchmark.teacher_settings(teacher)
        return training_name(readable, settings, *self._contents(schedule.labels, schedule.seed))

    def _contents(self, labels: int, seed: int) -> tuple[str, str]:
        return content_hash(self._scenes.train(labels, seed)), content_hash(self._scenes.validation)

    def _places(self, labels: int, seed: int, settings: Mapping[str, Any]) -> dict[str, Any]:
        unlabelled = {}
        if settings.get(UNLABELLED_SETTING) == OWN_UNLABELLED:
            unlabelled[UNLABELLED_SETTING] = self._scenes.unlabelled().parent / "images"
        return {
            **unlabelled,
            "data.train_annotations": self._scenes.train(labels, seed),
            "data.validation_annotations": self._scenes.validation,
            "data.cache_dir": self._out / "cache",
            "training.num_threads": THREADS,
            # After the last epoch only.
            "training.evaluate_every_epochs": settings.get("training.total_epochs", 1),
        }


def teachers_of(conditions: Sequence[Condition]) -> list[str]:
    """Names of the teachers that these conditions use."""
    return list(dict.fromkeys(condition.teacher for condition in conditions if condition.teacher is not None))


def _result(training: Training | None) -> Result | None:
    return None if training is None else Result.read(training.result_path)
