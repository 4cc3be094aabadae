"""What measured miss rates show about a teacher, its students and distillation: all limits and rules.

The report of a study, its console output and the warnings during a training use these rules, so that they agree.
Miss rates are MR^-2 as fractions, measured on the same validation images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hkd.metric_names import MR2_ALL, MR2_PREFIX, MR2_REASONABLE

NEAR_POINTS = 5.0
"""Points of MR^-2 above the teacher up to which a student is recommended: at the same rate of false alarms, about one
person in 20 more is missed. On a few hundred validation images, the bootstrap interval of one miss rate is about as
wide (four to five points on CityPersons' 500), so that less is hardly measurable."""
SHIPPABLE_POINTS = 15.0
"""Points above the teacher up to which a student may be shipped by someone who accepts the loss: about one more person
in seven is missed. Beyond, the saving does not decide: another training is cheaper than such a product."""
NEARLY_EVERYONE = 0.9
"""Miss rate from which a detector has learned next to nothing: not to be shipped, nor to be compared with."""
LOWEST_MEASURED = 1e-10
"""What Dollar's protocols read instead of a miss rate of 0, which one point of the curve without a miss gives."""
READINESS_RULE = (
    f"a student is recommended up to {NEAR_POINTS:g} points of MR^-2 above its teacher, may be shipped by those who "
    f"accept the loss up to {SHIPPABLE_POINTS:g} points, and is not ready beyond"
)

Readiness = Literal["near", "with loss", "not ready", "no teacher"]
"""Of the student to ship; ``no teacher``: there is none to compare it with."""
FindingKind = Literal["nothing ready", "weak teacher", "teacher passed", "no gain"]


@dataclass(frozen=True)
class Measured:
    """A student that was trained for all its epochs."""

    name: str
    miss_rate: float
    cost: float | None
    """The first cost of the study's objectives; None without one."""
    is_distilled: bool
    is_undistilled_baseline: bool = False
    """Whether it is the baseline that differs from distilled students in the distillation weights alone."""


@dataclass(frozen=True)
class Finding:
    """Something that a user should act on."""

    kind: FindingKind
    sentence: str
    remedy: str
    students: tuple[str, ...] = ()
    """Names of the students that it is about, lowest miss rate first."""

    @property
    def text(self) -> str:
        """The finding and its remedy."""
        return f"{self.sentence} {self.remedy}"


def points_above(miss_rate: float, other: float) -> float:
    """The difference in points of MR^-2, rounded to a tenth as it is shown, so that verdicts agree with numbers."""
    return round(100 * (miss_rate - other), 1)


def is_determined(miss_rate: float) -> bool:
    """False for 0, and for what replaces it: it is a property of a small validation set, and not of the detector."""
    return miss_rate > LOWEST_MEASURED


def readiness(miss_rate: float, teacher: float | None) -> Readiness:
    """Whether a student may be shipped, by its distance from the teacher."""
    if max(miss_rate, teacher or 0.0) >= NEARLY_EVERYONE:
        return "not ready"
    if teacher is None:
        return "no teacher"
    gap = points_above(miss_rate, teacher)
    return "near" if gap <= NEAR_POINTS else "with loss" if gap <= SHIPPABLE_POINTS else "not ready"


def compared_miss_rate(metrics: Mapping[str, float]) -> str | None:
    """The miss rate by which detectors are compared where no objectives are configured; None where none is known."""
    return next((name for name in (MR2_REASONABLE, MR2_ALL) if name in metrics), None)


def passed_by_student(teacher: Mapping[str, float], student: Mapping[str, float]) -> Finding | None:
    """As :func:`teacher_passed`, of one distilled student at an evaluation; metrics by name."""
    metric = compared_miss_rate(teacher)
    if metric is None or metric not in student:
        return None
    measured = Measured("the student", student[metric], cost=None, is_distilled=True)
    return teacher_passed(metric, [measured], teacher[metric])


def weak_teacher(metric: str, miss_rate: float) -> Finding | None:
    """A teacher that misses nearly everyone."""
    if not miss_rate >= NEARLY_EVERYONE:
        return None
    return Finding(
        "weak teacher",
        f"The teacher misses nearly everyone ({_name(metric)} {_percent(miss_rate)}): students can learn little from "
        "it.",
        "Perhaps its anchors or its input size (data.image_height, data.image_width) are not those it was trained "
        "with, it was trained too briefly, or on images of another kind.",
    )


def teacher_passed(metric: str, students: Sequence[Measured], teacher: float) -> Finding | None:
    """Students that miss fewer people than the teacher; all of them distilled, or none."""
    passing = [each for each in _ranked(students) if points_above(each.miss_rate, teacher) < 0]
    if not passing:
        return None
    best, others = passing[0], len(passing) - 1
    who = best.name + (f" (and {others} more like it)" if others else "")
    numbers = f"({_name(metric)} {_percent(best.miss_rate)}; teacher: {_percent(teacher)})"
    names = tuple(each.name for each in passing)
    if best.is_distilled:
        sentence = f"The teacher holds students back: {who} misses fewer people than it {numbers}."
        return Finding("teacher passed", sentence, "Train the teacher longer, or use a better one.", names)
    return Finding(
        "teacher passed",
        f"The teacher may hold students back: {who}, trained without distillation, misses fewer people {numbers}.",
        "Train the teacher longer, or check that its settings are those of its weights.",
        names,
    )


def best_rival(baseline: Measured, students: Sequence[Measured]) -> Measured | None:
    """The distilled student of lowest miss rate that costs no more than the baseline; None if all cost more."""
    rivals = [
        each
        for each in students
        if each.is_distilled
        and each.name != baseline.name
        and (each.cost is None or baseline.cost is None or each.cost <= baseline.cost)
    ]
    return min(rivals, key=_rank, default=None)


def no_gain(metric: str, students: Sequence[Measured]) -> Finding | None:
    """A baseline without distillation that learned something and that no distilled student of its cost surpasses."""
    for baseline in students:
        rival = best_rival(baseline, students) if baseline.is_undistilled_baseline else None
        if rival is None or not is_determined(baseline.miss_rate) or not is_determined(rival.miss_rate):
            continue
        if baseline.miss_rate >= NEARLY_EVERYONE:  # nothing was learned, with or without distillation
            continue
        if points_above(rival.miss_rate, baseline.miss_rate) >= 0:
            return Finding(
                "no gain",
                f"Distillation gained nothing here: no distilled student that costs no more than {baseline.name} "
                f"({_name(metric)} {_percent(baseline.miss_rate)}) misses fewer people; the best, {rival.name}, has "
                f"{_percent(rival.miss_rate)}.",
                "Distillation needs a teacher that is much better than the student, and gains most where labels are "
                "few: train the teacher longer, add unlabelled images (data.unlabelled_images), or repeat both with "
                "other seeds, as a few points may be chance.",
                (baseline.name, rival.name),
            )
    return None


def nothing_ready(metric: str, students: Sequence[Measured], teacher: float | None) -> Finding | None:
    """A study without a student that may be shipped."""
    if not students:
        return None
    best = min(students, key=_rank)
    if readiness(best.miss_rate, teacher) != "not ready":
        return None
    if teacher is not None and teacher >= NEARLY_EVERYONE:
        return Finding(
            "nothing ready",
            f"Nothing here is ready to ship: the teacher has an {_name(metric)} of {_percent(teacher)}, so that a "
            f"comparison with it means nothing (best student: {best.name}, {_percent(best.miss_rate)}).",
            "Repair the teacher first.",
            (best.name,),
        )
    compared = ""
    if teacher is not None:
        gap = points_above(best.miss_rate, teacher)
        compared = f", {abs(gap):.1f} points {'above' if gap >= 0 else 'below'} the teacher's {_percent(teacher)}"
    return Finding(
        "nothing ready",
        f"Nothing here is ready to ship: the best student, {best.name}, has an {_name(metric)} of "
        f"{_percent(best.miss_rate)}{compared}.",
        "Train the students longer (training.total_epochs), search larger ones (student.width_multiplier, "
        "student.pyramid_channels, student.head_channels), start them from the teacher's weights (student.init_from: "
        "teacher), check that the teacher is much better than they are, or add labelled or unlabelled images "
        "(data.unlabelled_images).",
        (best.name,),
    )


def study_findings(metric: str, students: Sequence[Measured], teacher: float | None) -> tuple[Finding, ...]:
    """All findings of a study, the most important first.

    Args:
        metric: The first miss rate of the study's objectives.
        students: Trials and baselines that were trained for all their epochs.
        teacher: The teacher's miss rate; None where there is none or it is not known.
    """
    found = [nothing_ready(metric, students, teacher)]
    if teacher is not None:
        found += [
            weak_teacher(metric, teacher),
            teacher_passed(metric, [each for each in students if each.is_distilled], teacher),
            teacher_passed(metric, [each for each in students if not each.is_distilled], teacher),
        ]
    found.append(no_gain(metric, students))
    return tuple(each for each in found if each is not None)


def _ranked(students: Sequence[Measured]) -> list[Measured]:
    """Students whose miss rate is determined, lowest first."""
    return sorted((each for each in students if is_determined(each.miss_rate)), key=_rank)


def _rank(student: Measured) -> tuple[float, float, str]:
    """Of equal miss rates the cheaper student, then the first name: the order in which students were read is chance."""
    return student.miss_rate, student.cost or 0.0, student.name


def _name(metric: str) -> str:
    return f"MR^-2 {metric.removeprefix(MR2_PREFIX)}"


def _percent(miss_rate: float) -> str:
    return f"{100 * miss_rate:.1f} %"
