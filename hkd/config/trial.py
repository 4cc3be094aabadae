"""All settings of one training."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from hkd.config.data import DataConfig
from hkd.config.detector import SELECTED_FROM_TEACHER, StudentConfig
from hkd.config.distillation import DistillationConfig
from hkd.config.section import Section
from hkd.config.teacher import TeacherConfig
from hkd.config.training import EvaluationConfig, TrainingConfig


class TrialConfig(Section):
    """All settings of one training (in a study: of a trial)."""

    data: DataConfig = DataConfig()
    teacher: TeacherConfig | None = TeacherConfig()
    """null: the student is trained alone."""
    student: StudentConfig = StudentConfig()
    distillation: DistillationConfig = DistillationConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @property
    def is_distilled(self) -> bool:
        """Whether there is a teacher and a distillation weight above 0."""
        return self.teacher is not None and self.distillation.is_active

    @property
    def uses_teacher(self) -> bool:
        """Whether the training needs the teacher's weights: to distil them, or to select first weights from them."""
        return self.is_distilled or self.student.init_from == SELECTED_FROM_TEACHER

    @model_validator(mode="after")
    def _teacher_to_select_from(self) -> Self:
        if self.student.init_from == SELECTED_FROM_TEACHER and self.teacher is None:
            raise ValueError(
                "student.init_from is teacher, but teacher is null; configure a teacher, name a file, or set it to null"
            )
        if self.student.init_from == SELECTED_FROM_TEACHER and self.teacher is not None:
            larger = [
                f"student.{name} {getattr(self.student, name)} above teacher.{name} {getattr(self.teacher, name)}"
                for name in self._selected_widths()
                if getattr(self.student, name) > getattr(self.teacher, name)
            ]
            if len(self.student.anchor_aspect_ratios) != len(self.teacher.anchor_aspect_ratios):
                larger.append("another number of anchor_aspect_ratios")
            if larger:
                raise ValueError(
                    "student.init_from is teacher, of whose channels the student's are a selection, with "
                    f"{'; '.join(larger)}; make the teacher at least as wide, or set student.init_from to null"
                )
        return self

    def _selected_widths(self) -> tuple[str, ...]:
        """Settings of the student that must not be above the teacher's if its weights are selected from it."""
        assert self.teacher is not None
        has_equal_blocks = (self.student.backbone == "resnet50") == (self.teacher.backbone == "resnet50")
        return ("pyramid_channels", "head_channels", *(["width_multiplier"] if has_equal_blocks else []))
