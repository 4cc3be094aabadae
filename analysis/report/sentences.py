"""Results as sentences."""

from __future__ import annotations

from analysis.front import Front, Student
from analysis.objectives import Objective, listed_nouns, miss_rates
from analysis.report.tables import label
from analysis.results import StudyResults


def headline(results: StudyResults) -> str:
    """Which student to ship and what it costs, or that none is ready, in one sentence."""
    front = results.front
    student = front.student(results.recommendation.trial_id)
    miss_rate = front.miss_rate
    for finding in results.findings:
        if finding.kind == "nothing ready":
            return finding.sentence
    if not results.recommendation.is_determined:
        return (
            f"Which student to ship is undetermined: the {miss_rate.noun} of {label(student)}, the choice from the "
            "front, is exactly 0, as one point of the curve without a miss makes it. Validate on more images."
        )
    verdict = {
        "near": f"Ship {label(student)}",
        "with loss": f"Ship {label(student)} if its loss is acceptable",
        "no teacher": f"The choice is {label(student)}, without a teacher to compare it with",
    }
    costs = f": {_costs(front, student)}" if front.costs else ""
    return f"{verdict[results.recommendation.readiness]}{costs}, at {_miss_rates(front, student)}."


def reasons(results: StudyResults) -> tuple[str, ...]:
    """Why that student or what to do, what else was found, and which other students are best in one objective."""
    front = results.front
    why = {
        "knee": "It is the knee of the front: towards cheaper students the miss rate rises faster, towards costlier "
        "ones it falls more slowly.",
        "only": "It is the only student on the front: it is best in every objective.",
        "lowest miss rate": "It has the lowest miss rate; the front has no knee.",
        "knee not ready": "It has the lowest miss rate; the knee of the front is not ready to ship.",
    }
    sentences = [] if results.recommendation.readiness == "not ready" else [why[results.recommendation.reason]]
    sentences += advice(results)
    for objective in front.objectives:
        # Members are ordered by miss rate: of students with equal costs, the first has the lowest.
        best = min(front.members, key=lambda student: student.values[objective.name])
        if best.trial_id != results.recommendation.trial_id:
            numbers = ", ".join(f"{each.shown(best.values[each.name])} {each.unit_symbol}" for each in front.objectives)
            adjective = "Fewest" if objective.is_cost else "Lowest"
            sentences.append(f"{adjective} {objective.noun}: {label(best)} ({numbers}).")
            if not objective.is_cost and objective.shown(best.values[objective.name]) == objective.shown(0.0):
                sentences.append("A miss rate of 0 is no proof that it is the best: validate on more images.")
    return tuple(sentences)


def advice(results: StudyResults) -> tuple[str, ...]:
    """What to do, and what was found about the teacher and distillation; the headline has the first finding."""
    return tuple(each.remedy if each.kind == "nothing ready" else each.text for each in results.findings)


def counts(results: StudyResults) -> str:
    """How many trials have which status."""
    by_status = results.count_by_status
    listed = ", ".join(f"{by_status[status]} {status}" for status in sorted(by_status))
    return f"{sum(by_status.values())} trials and baselines: {listed}"


def knees(results: StudyResults) -> str:
    """The knee of each pair's front."""
    found = [
        f"{listed_nouns((pair.miss_rate, pair.cost))}: "
        + (f"{pair.knee.trial_id}, {pair.knee.distance:.3f} from the line" if pair.knee else "none")
        for pair in results.front.pairs
    ]
    return f"Knee of {'; '.join(found)}." if found else "The objectives have no cost, so there is no knee."


def _costs(front: Front, student: Student) -> str:
    first, *others = front.costs
    text = first.in_sentence(student.values[first.name])
    if front.teacher and first.name in student.times_fewer:
        of_teacher = f"{first.shown(front.teacher.values[first.name])} {first.unit_symbol}"
        text += f", {_fewer(student.times_fewer[first.name])} the teacher's {of_teacher}" + ("," if others else "")
    for cost in others:
        text += f" and {cost.in_sentence(student.values[cost.name])}"
        if cost.name in student.times_fewer:
            text += f" ({_fewer(student.times_fewer[cost.name])} the teacher's)"
    return text


def _miss_rates(front: Front, student: Student) -> str:
    return ", and ".join(_miss_rate(front, student, objective) for objective in miss_rates(front.objectives))


def _miss_rate(front: Front, student: Student, objective: Objective) -> str:
    text = f"a {objective.in_sentence(student.values[objective.name])}"
    if front.teacher and objective.name in student.gaps:
        gap = round(100 * student.gaps[objective.name], 1)
        side = f"{abs(gap):.1f} points {'worse' if gap > 0 else 'better'} than" if gap else "the same as"
        text += f", {side} the teacher's {objective.shown(front.teacher.values[objective.name])} %"
    return text


def _fewer(ratio: float) -> str:
    return f"{ratio:.1f}x fewer than" if ratio >= 1 else f"{1 / ratio:.1f}x as many as"
