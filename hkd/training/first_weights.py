"""The first weights of a student: random, from a file, or selected from its teacher."""

from __future__ import annotations

from pathlib import Path

import torch

from hkd.config import SELECTED_FROM_TEACHER, TrialConfig
from hkd.models.build import build_detector
from hkd.models.detector import Detector
from hkd.models.weight_selection import SelectedWeights, has_frozen_norms, select_weights
from hkd.models.weights import load_first_weights


def set_first_weights(student: Detector, config: TrialConfig, teacher: Detector | None) -> None:
    """Replace the student's random weights by those that ``config.student.init_from`` names, as far as there are any.

    Raises:
        CheckpointError: a file is unreadable, or the source has fewer channels than the student.
        ValueError: they are to be selected from the teacher, and ``teacher`` is None.
    """
    origin = config.student.init_from
    if origin == SELECTED_FROM_TEACHER:
        if teacher is None:
            raise ValueError("student.init_from is teacher, but there is no teacher; pass load_teacher(...)")
        student.load_state_dict(_of_teacher(student, teacher).tensors, strict=False)
    elif origin is not None:
        load_first_weights(student, Path(origin))


def check_first_weights(config: TrialConfig) -> tuple[str, ...]:
    """Check that ``config.student.init_from`` can be used; nothing but a named file is read.

    Returns:
        What is taken from where, a sentence each.

    Raises:
        CheckpointError: as :func:`set_first_weights`.
    """
    origin = config.student.init_from
    if origin is None:
        return ()
    if origin != SELECTED_FROM_TEACHER:
        with torch.random.fork_rng(devices=[]):
            notes = load_first_weights(build_detector(config.student), Path(origin))
        return (f"first weights of the student: {origin}", *(f"{origin}: {note}" for note in notes))
    assert config.teacher is not None, "checked by TrialConfig"
    with torch.device("meta"):
        selected = _of_teacher(build_detector(config.student), build_detector(config.teacher))
    what = "pyramid, RPN and heads" if selected.has_other_blocks else "all layers"
    left = "; the backbone, of other blocks, stays random" if selected.has_other_blocks else ""
    return (f"first weights of the student: {what} selected from the teacher{left}",)


def _of_teacher(student: Detector, teacher: Detector) -> SelectedWeights:
    return select_weights(
        teacher.state_dict(), student.state_dict(), norm_is_frozen=has_frozen_norms(student), name="the teacher"
    )
