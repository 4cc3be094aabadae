"""The teacher of a study as recorded in the study's folder, ``teacher.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hkd.files import write_atomically
from hkd.metric_names import TEST_PREFIX
from hkd.training.teacher.prepare import PreparedTeacher
from hkd.training.teacher.pseudo_labels import PseudoLabels


@dataclass(frozen=True)
class TeacherRecord:
    """Where the teacher's weights are, and how good and how large it is."""

    path: Path
    metrics: Mapping[str, float]
    """Its evaluation, ``num_params``, ``flops`` and ``gmacs``, what it labelled, and ``test_...`` on test images."""
    test_images: str | None = None
    """Hash of the annotations of these."""

    @property
    def on_test_images(self) -> dict[str, float]:
        """The metrics of its evaluation on test images, with the prefix ``test_``."""
        return {name: value for name, value in self.metrics.items() if name.startswith(TEST_PREFIX)}


def teacher_record(prepared: PreparedTeacher, labels: PseudoLabels | None = None) -> TeacherRecord:
    """The record of a teacher that is ready, and of its labels of unlabelled images."""
    of_labels = {} if labels is None else labels.summary.as_metrics()
    return TeacherRecord(prepared.path, {**prepared.metrics, **prepared.cost.as_metrics(), **of_labels})


def write_teacher(file: Path, teacher: TeacherRecord) -> None:
    """Write the record atomically."""
    content = {"path": str(teacher.path), "metrics": teacher.metrics, "test_images": teacher.test_images}
    write_atomically(file, json.dumps(content, indent=2) + "\n", durable=True)


def read_teacher(file: Path) -> TeacherRecord | None:
    """The record that :func:`write_teacher` wrote; None where there is no file."""
    if not file.is_file():
        return None
    raw = json.loads(file.read_text(encoding="utf-8"))
    return TeacherRecord(Path(raw["path"]), raw["metrics"], raw.get("test_images"))
