"""Several studies as one interactive page."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from analysis.front import Student
from analysis.marks import STUDIES
from analysis.report import comparison as texts
from analysis.report.page.html import render
from analysis.report.page.study_data import measure_data
from analysis.studies import PairComparison, StudiesComparison, StudyFront
from hkd.dominance import non_dominated
from hkd.text.escaping import printable

SCRIPTS: Final = ("elements.js", "svg.js", "points.js", "tables.js", "theme.js", "comparison.js")
"""See :func:`analysis.report.page.html.render`."""


def render_comparison(comparison: StudiesComparison, folders: Mapping[str, str]) -> str:
    """The page of a comparison.

    Args:
        comparison: Of the studies.
        folders: Study -> folder of its own report, beside this page.
    """
    reference = zip(comparison.objectives, comparison.reference_point, strict=True)
    return render(
        "comparison.html.j2",
        SCRIPTS,
        _data(comparison),
        studies=[each.study for each in comparison.studies],
        folders=[(each.study, folders[each.study]) for each in comparison.studies],
        sentences=texts.sentences(comparison),
        notes=comparison.notes,
        has_plots=bool(comparison.pairs),
        range_tables=[
            (f"Lowest {pair.miss_rate.noun} by {pair.cost.noun}", texts.segments_table(comparison, pair))
            for pair in comparison.pairs
        ],
        studies_table=texts.studies_table(comparison),
        coverage_table=texts.coverage_table(comparison),
        reference_point=", ".join(objective.in_sentence(value) for objective, value in reference),
    )


def _data(comparison: StudiesComparison) -> dict[str, Any]:
    objectives = comparison.objectives
    students = [(index, student) for index, each in enumerate(comparison.studies) for student in each.front.students]
    position_of = {(index, student.trial_id): position for position, (index, student) in enumerate(students)}
    joint = [frozenset(each.joint_members) for each in comparison.studies]
    return {
        "measures": [measure_data(each) for each in objectives],
        "studies": [
            {"name": printable(each.study), "numOnFront": len(each.front.members), "mark": asdict(mark)}
            for each, mark in zip(comparison.studies, itertools.cycle(STUDIES), strict=False)
        ],
        "students": [
            {
                "study": index,
                "id": printable(student.trial_id),
                "values": [student.values[each.name] for each in objectives],
                "isJoint": student.trial_id in joint[index],
            }
            for index, student in students
        ],
        "pairs": [
            {
                "miss": objectives.index(pair.miss_rate),
                "cost": objectives.index(pair.cost),
                "fronts": [
                    [position_of[index, student.trial_id] for student in _front(each, pair)]
                    for index, each in enumerate(comparison.studies)
                ],
                "segments": _segments(comparison, pair),
            }
            for pair in comparison.pairs
        ],
    }


def _front(study: StudyFront, pair: PairComparison) -> Sequence[Student]:
    """Students that no other of the study dominates in the pair, lowest cost first; of equal ones the first."""
    students = study.front.students
    points = np.array([[each.values[pair.cost.name], each.values[pair.miss_rate.name]] for each in students])
    front: dict[tuple[float, ...], Student] = {}
    for student, point, is_kept in zip(students, points.tolist(), non_dominated(points).tolist(), strict=True):
        if is_kept:
            front.setdefault(tuple(point), student)
    return [front[point] for point in sorted(front)]


def _segments(comparison: StudiesComparison, pair: PairComparison) -> list[dict[str, Any]]:
    index_of = {each.study: index for index, each in enumerate(comparison.studies)}
    return [
        {
            "low": each.low,
            "high": each.high,
            "best": None if each.best is None else index_of[each.best],
            "probability": each.probability,
        }
        for each in pair.segments
    ]
