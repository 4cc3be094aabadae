"""All settings of one training."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from hkd.config.data import DataConfig, unlabelled_per_batch
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
        """Whether the training needs the teacher: to distil it, to select first weights from it, or to label images."""
        selects = self.student.init_from == SELECTED_FROM_TEACHER
        return self.is_distilled or selects or self.data.unlabelled_images is not None

    @model_validator(mode="after")
    def _usable_unlabelled_images(self) -> Self:
        if self.data.unlabelled_images is None:
            return self
        if self.teacher is None:
            raise ValueError(
                "data.unlabelled_images is set, but teacher is null, so that nothing labels them; configure a teacher, "
                "or set data.unlabelled_images to null"
            )
        size, fraction = self.training.batch_size, self.data.unlabelled_fraction
        unlabelled = unlabelled_per_batch(size, fraction)
        if not 0 < unlabelled < size:
            kind = "unlabelled" if unlabelled == 0 else "labelled"
            raise ValueError(
                f"data.unlabelled_fraction {fraction:g} of training.batch_size {size} leaves no {kind} image in a "
                "batch; choose a larger batch, or a fraction nearer to 0.5"
            )
        return self

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
