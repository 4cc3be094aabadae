"""Results as sentences."""

from __future__ import annotations

import math

from analysis.certainty.confirmation import Repeated
from analysis.certainty.uncertainty import Difference
from analysis.front import Front, Student
from analysis.objectives import OBJECTIVES, Objective, listed_nouns, miss_rates
from analysis.records.study_records import StudyRecords
from analysis.report.tables import in_points, label
from analysis.results import StudyResults
from hkd import metric_names as names
from hkd.findings import readiness

_MOST_NAMED = 5


def headline(results: StudyResults) -> str:
    """Which student to ship and what it costs, or that none is ready, in one sentence."""
    front, found = results.front, results.recommendation
    student = front.student(found.trial_id)
    miss_rate = front.miss_rate
    if found.verdict == "over budget":
        return (
            f"No {'confirmed ' if front.once else ''}student meets the budget of {_budget(results)}; the nearest is "
            f"{label(student)}: {_excess(results)}.{_once_within(results)}"
        )
    for finding in results.findings:
        if finding.kind == "nothing ready":
            return finding.sentence
    if found.verdict == "not ready":
        return (
            f"No student within the budget of {_budget(results)} is near its teacher: the best, {label(student)}, has "
            f"{_miss_rates(front, student)}. Train the students longer, or allow more."
        )
    if found.verdict == "undetermined":
        return (
            f"Which student to ship is undetermined: the {miss_rate.noun} of {label(student)}, the choice from the "
            "front, is exactly 0, as one point of the curve without a miss makes it. Validate on more images."
        )
    ship = {
        "near": f"Ship {label(student)}",
        "with loss": f"Ship {label(student)} if its loss is acceptable",
        "no teacher": f"The choice is {label(student)}, without a teacher to compare it with",
    }
    costs = f": {_costs(front, student)}" if front.costs else ""
    larger = f" {_no_difference(results, found.larger)}" if found.larger else ""
    tested = on_test(results)
    return (
        f"{ship[found.readiness]}{costs}, at {_miss_rates(front, student)}{_seeds(front, student)}."
        f"{f' {tested}' if tested else ''}{larger}"
    )


def on_test(results: StudyResults) -> str | None:
    """The test result of a choice by means, which selected nothing; None where there is none, or nothing to ship.

    Where the student is so far from its teacher there that it would be less ready to ship, this is stated.
    """
    found, confirmation = results.recommendation, results.confirmation
    again = confirmation.of(found.trial_id)
    is_shipped = found.verdict in ("near", "with loss", "no teacher", "indistinguishable")
    if results.front.basis == "search" or not is_shipped or again is None or again.test_mean is None:
        return None
    mean, of_teacher = again.test_mean, confirmation.teacher_on_test
    text = f"On the test images, by which nothing was chosen, its {results.front.miss_rate.noun} is "
    text += _mean_and_spread(mean, again.test_spread)
    if of_teacher is None:
        return f"{text}."
    text += f", {_beside_teacher(results.front.miss_rate, mean - of_teacher, of_teacher)}"
    worse = {"near": ("with loss", "not ready"), "with loss": ("not ready",)}.get(found.readiness, ())
    tested = readiness(mean, of_teacher)
    if tested not in worse:
        return f"{text}."
    ready = "is one to ship only if its loss is acceptable" if tested == "with loss" else "is not ready to ship"
    return f"{text}: by these, it {ready}."


def basis(results: StudyResults) -> str | None:
    """What the miss rates by which students are chosen are, where some were trained again with other seeds."""
    front, confirmation = results.front, results.confirmation
    if front.basis != "search":
        sentence = (
            "Miss rates are means over trainings with other seeds than those of the search, on the validation images; "
            "choice, front and ranks follow them."
        )
        if not front.once:
            return sentence
        others = "student was" if len(front.once) == 1 else "students were"
        return (
            f"{sentence} {len(front.once)} {others} trained once: the miss rate by which a search selects tends to be "
            "too low beside means, so that they are shown, but neither ranked nor chosen."
        )
    if confirmation.missing:
        have = "has" if len(confirmation.missing) == 1 else "have"
        return (
            f"Choice, front and ranks follow the miss rates in the search: of the {len(front.members)} students on its "
            f"front, {len(confirmation.missing)} {have} not been trained again with other seeds "
            f"({', '.join(confirmation.missing)}); `python sweeps/run.py --confirm` trains them."
        )
    return None


def reasons(results: StudyResults) -> tuple[str, ...]:
    """Why that student or what to do, what else was found, and which other students are best in one objective."""
    front, found = results.front, results.recommendation
    budget = f"the budget of {_budget(results)}"
    why = {
        "knee": "It is the knee of the front: towards cheaper students the miss rate rises faster, towards costlier "
        "ones it falls more slowly.",
        "only": "It is the only student on the front: it is best in every objective.",
        "lowest miss rate": "It has the lowest miss rate; the front has no knee.",
        "knee not ready": "It has the lowest miss rate; the knee of the front is not ready to ship.",
        "lowest miss rate within the budget": f"It has the lowest miss rate within {budget}.",
        "cheapest within the budget": f"It is the cheapest student within {budget}.",
    }
    sentences = [] if found.verdict in ("over budget", "not ready") or found.larger else [why[found.reason]]
    sentences += advice(results)
    for objective in front.objectives:
        # Members are ordered by miss rate: of students with equal costs, the first has the lowest.
        best = min(front.members, key=lambda student: student.values[objective.name])
        if best.trial_id != found.trial_id:
            numbers = ", ".join(f"{each.shown(best.values[each.name])} {each.unit_symbol}" for each in front.objectives)
            adjective = "Fewest" if objective.is_cost and objective.is_counted else "Lowest"
            sentences.append(f"{adjective} {objective.noun}: {label(best)} ({numbers}).")
            if not objective.is_cost and objective.shown(best.values[objective.name]) == objective.shown(0.0):
                sentences.append("A miss rate of 0 is no proof that it is the best: validate on more images.")
    return (*sentences, *certainty(results))


def certainty(results: StudyResults) -> tuple[str, ...]:
    """How certain the chosen student's miss rate is, and what trainings with other seeds say of the search."""
    uncertainty, front, confirmation = results.uncertainty, results.front, results.confirmation
    chosen, metric = results.recommendation.trial_id, front.miss_rate.name
    sentences = []
    interval = uncertainty.intervals.get(chosen, {}).get(metric)
    if interval is not None and interval.low is not None:
        probability = uncertainty.front_probability.get(chosen)
        on_front = "" if probability is None else f"; it is on the front in {100 * probability:.0f} % of the resamples"
        miss_rate = f"The {front.miss_rate.noun} of {label(front.student(chosen))}"
        if front.basis != "search":
            own = results.searched.student(chosen).values[metric]
            miss_rate += f" in the search, {front.miss_rate.shown(own)} %,"
        sentences.append(
            f"{miss_rate} has a {100 * uncertainty.confidence:.0f} % interval from "
            f"{front.miss_rate.shown(interval.low)} to {front.miss_rate.shown(interval.high)} % over "
            f"{uncertainty.num_images:,} validation images{on_front}."
        )
    sentences += [_trained_again(results, again) for again in confirmation.repeated if again.trial_id == chosen]
    optimism, on_test = confirmation.mean_optimism, confirmation.mean_test_minus_validation
    if optimism is not None:
        number = len(confirmation.repeated)
        students = "1 student is" if number == 1 else f"{number} students is on average"
        text = f"Optimism of the search: with other seeds, the miss rate of {students} {_compared(optimism)} "
        text += "on the validation images than in the search"
        if on_test is not None:
            tested = confirmation.num_tested
            of = "" if tested == number else f", on which {tested} of them {'was' if tested == 1 else 'were'} evaluated"
            text += f", and {_compared(on_test)} on the test images{of}"
        sentences.append(f"{text}.")
    return tuple(sentences)


def _compared(difference: float) -> str:
    return f"{100 * abs(difference):.1f} points {'higher' if difference >= 0 else 'lower'}"


def _trained_again(results: StudyResults, again: Repeated) -> str:
    """The chosen student's mean over other seeds, and whether it is still on the front with that."""
    seeds = "1 other seed" if again.num_seeds == 1 else f"{again.num_seeds} other seeds"
    text = f"{again.trial_id} trained again with {seeds}: a miss rate of {_mean_and_spread(again.mean, again.spread)}"
    if again.test_mean is not None and on_test(results) is None:
        text += f", and {_mean_and_spread(again.test_mean, again.test_spread)} on the test images"
    on_front = "is on" if again.is_on_front else "is not on"
    others = len(results.confirmation.repeated) - 1
    return text + (f"; it {on_front} the front of the means." if others else ".")


def _mean_and_spread(mean: float, spread: float | None) -> str:
    return f"{100 * mean:.1f}" + ("" if spread is None else f" \N{PLUS-MINUS SIGN} {100 * spread:.1f}") + " %"


def _seeds(front: Front, student: Student) -> str:
    """After a miss rate that is a mean."""
    if front.basis == "search":
        return ""
    number = round(student.measured[names.CONFIRMED_SEEDS])
    mean = "one training with another seed" if number == 1 else f"mean of {number} other seeds"
    return f" ({mean}, validation images)"


def advice(results: StudyResults) -> tuple[str, ...]:
    """What to do, and what was found about the teacher and distillation; the headline has the first finding."""
    is_headline = results.recommendation.verdict != "over budget"
    return tuple(
        each.remedy if each.kind == "nothing ready" and is_headline else each.text for each in results.findings
    )


def counts(results: StudyResults) -> str:
    """How many trials have which status."""
    by_status = results.count_by_status
    listed = ", ".join(f"{by_status[status]} {status}" for status in sorted(by_status))
    total = sum(by_status.values())
    return f"{total} {'trial or baseline' if total == 1 else 'trials and baselines'}: {listed}"


def unfinished(records: StudyRecords) -> str | None:
    """What a study still misses; None if all planned trials ended."""
    running = sum(trial.status == names.STATUS_RUNNING for trial in records.trials)
    planned = records.tags.get(names.TAG_NUM_TRIALS, "")
    started = sum(trial.role == names.ROLE_TRIAL for trial in records.trials)
    # A tag that others may have written.
    missing = int(planned) - started if planned.isdecimal() and len(planned) < 10 else 0
    found = []
    if running:
        found.append(
            f"{running} trials are running, or were interrupted"
            if running > 1
            else "1 trial is running, or was interrupted"
        )
    if missing > 0:
        found.append(f"{missing} of {planned} planned trials have not started")
    return f"The study is unfinished: {' and '.join(found)}." if found else None


def knees(results: StudyResults) -> str:
    """The knee of each pair's front."""
    found = [
        f"{listed_nouns((pair.miss_rate, pair.cost))}: "
        + (f"{pair.knee.trial_id}, {pair.knee.distance:.3f} from the line" if pair.knee else "none")
        for pair in results.front.pairs
    ]
    return f"Knee of {'; '.join(found)}." if found else "The objectives have no cost, so there is no knee."


def _budget(results: StudyResults) -> str:
    limits = results.recommendation.limits
    shown = [
        f"{objective.shown(limits[name])} {objective.phrase_unit}" + ("" if objective.is_cost else f" {objective.noun}")
        for name, objective in _limited(results)
    ]
    return " and ".join(shown)


def _excess(results: StudyResults) -> str:
    """By how much the student is over the budget."""
    student, found = results.front.student(results.recommendation.trial_id), results.recommendation
    texts = []
    for name, objective in _limited(results):
        if name in found.exceeded and name in student.values:
            limit = f"{objective.shown(found.limits[name])} {objective.unit_symbol}"
            texts.append(f"{objective.in_sentence(student.values[name])}, {found.exceeded[name]:.2f}x the {limit}")
        elif name in found.exceeded:
            texts.append(f"its {objective.noun} is not measured")
    return "; ".join(texts)


def _once_within(results: StudyResults) -> str:
    """The students that were trained once and meet the budget: of a latency, say, by which none was trained again."""
    limits = results.recommendation.limits
    within = [
        label(student)
        for student in results.front.once
        if all(student.values.get(name, math.inf) <= limit for name, limit in limits.items())
    ]
    shown = ", ".join(within[:_MOST_NAMED]) + (
        f" and {len(within) - _MOST_NAMED} more" if len(within) > _MOST_NAMED else ""
    )
    return f" Trained once, and within it by the search: {shown}." if within else ""


def _limited(results: StudyResults) -> list[tuple[str, Objective]]:
    return [(name, OBJECTIVES[name]) for name in results.recommendation.limits]


def _no_difference(results: StudyResults, larger: Difference) -> str:
    """The student is the smaller of two that cannot be distinguished."""
    front = results.front
    other, cost = front.student(larger.second), front.costs[0]
    confidence = 100 * results.uncertainty.confidence
    return (
        f"{label(other)}, with {cost.in_sentence(other.values[cost.name])} and a "
        f"{front.miss_rate.in_sentence(other.values[front.miss_rate.name])}, cannot be distinguished from it on "
        f"{results.uncertainty.num_images:,} validation images ({confidence:.0f} % interval of "
        f"the difference: {in_points(larger.low)} to {in_points(larger.high)} points), so the smaller is the choice."
    )


def _costs(front: Front, student: Student) -> str:
    first, *others = front.costs
    text = first.in_sentence(student.values[first.name])
    if front.teacher and first.name in student.times_fewer:
        of_teacher = f"{first.shown(front.teacher.values[first.name])} {first.unit_symbol}"
        text += f", {first.compared(student.times_fewer[first.name])} the teacher's {of_teacher}" + (
            "," if others else ""
        )
    for cost in others:
        text += f" and {cost.in_sentence(student.values[cost.name])}"
        if cost.name in student.times_fewer:
            text += f" ({cost.compared(student.times_fewer[cost.name])} the teacher's)"
    return text


def _miss_rates(front: Front, student: Student) -> str:
    return ", and ".join(_miss_rate(front, student, objective) for objective in miss_rates(front.objectives))


def _miss_rate(front: Front, student: Student, objective: Objective) -> str:
    text = f"a {objective.in_sentence(student.values[objective.name])}"
    if front.teacher and objective.name in student.gaps:
        text += f", {_beside_teacher(objective, student.gaps[objective.name], front.teacher.values[objective.name])}"
    return text


def _beside_teacher(objective: Objective, difference: float, of_teacher: float) -> str:
    gap = round(100 * difference, 1)
    side = f"{abs(gap):.1f} points {'worse' if gap > 0 else 'better'} than" if gap else "the same as"
    return f"{side} the teacher's {objective.shown(of_teacher)} %"
