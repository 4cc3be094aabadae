"""All settings of one training."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from hkd.config.data import DataConfig, unlabelled_per_batch
from hkd.config.detector import SELECTED_FROM_TEACHER, StudentConfig, have_equal_blocks
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
        student, teacher = self.student, self.teacher
        if student.init_from != SELECTED_FROM_TEACHER:
            return self
        if teacher is None:
            raise ValueError(
                "student.init_from is teacher, but teacher is null; configure a teacher, name a file, or set it to null"
            )
        is_selectable = have_equal_blocks(student, teacher)
        widths = ["pyramid_channels", "head_channels"]
        # A backbone that is not selected may be wider.
        widths += ["width_multiplier"] if is_selectable and student.backbone_from is None else []
        problems = [
            f"student.{name} {getattr(student, name)} above teacher.{name} {getattr(teacher, name)} (make the teacher"
            " at least as wide)"
            for name in widths
            if getattr(student, name) > getattr(teacher, name)
        ]
        if not is_selectable and student.backbone_from is None:
            problems.append(
                f"student.backbone {student.backbone} of another family than teacher.backbone {teacher.backbone} (name"
                f" a classification {student.backbone} in student.backbone_from)"
            )
        if problems:
            raise ValueError(
                "student.init_from is teacher, of whose channels the student's are a selection, with "
                f"{'; '.join(problems)}. Or set student.init_from to null"
            )
        return self
