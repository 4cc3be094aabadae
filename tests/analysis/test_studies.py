from __future__ import annotations

from collections.abc import Mapping

import pytest

from analysis.records.study_records import TrialRecord
from analysis.results import StudyResults, compute_results
from analysis.studies import StudiesError, compare_studies
from hkd.evaluation.formats.stored_detections import StoredDetections
from tests.analysis.studies import TEACHER, found_in, record, records

OBJECTIVES = ("mr2_reasonable", "num_params")


def study(
    name: str,
    *trials: TrialRecord,
    stored: Mapping[str, StoredDetections] | None = None,
    teacher: TrialRecord = TEACHER,
) -> StudyResults:
    by_run = {f"run-of-{trial_id}": each for trial_id, each in (stored or {}).items()}
    read = records(trials, teacher, study=name, objectives=OBJECTIVES)
    return compute_results(read, read_detections=lambda _: by_run)


A = study("a", record("small", 0.5, 1e6, 1e9), record("large", 0.3, 4e6, 1e9))
B = study(
    "b",
    record("small", 0.4, 1e6, 1e9),
    record("large", 0.35, 3e6, 1e9),
    teacher=record("teacher", 0.2, 8e6, 9e9, role="teacher"),
)


def test_hypervolumes_have_one_reference_point() -> None:
    found = compare_studies([A, B])
    assert found.reference_point == (1.0, 8e6)
    # a: 0.5 x 3/8 (from 1e6 to 4e6) + 0.7 x 4/8; b: 0.6 x 2/8 + 0.65 x 5/8.
    assert [each.hypervolumes[0].value for each in found.studies] == pytest.approx([0.5375, 0.55625])
    assert {each.hypervolumes[0].reference_point for each in found.studies} == {(1.0, 8e6)}
    # Alone, a's reference point is its own teacher.
    assert A.front.hypervolumes[0].reference_point == (1.0, 6e6)


def test_who_is_better_at_which_cost() -> None:
    (pair,) = compare_studies([A, B]).pairs
    assert [(each.low, each.high, each.best, each.miss_rates) for each in pair.segments] == [
        (1e6, 3e6, "b", (0.5, 0.4)),
        (3e6, 4e6, "b", (0.5, 0.35)),
        (4e6, None, "a", (0.3, 0.35)),
    ]
    assert {each.probability for each in pair.segments} == {None}


def test_coverage_and_joint_front() -> None:
    found = compare_studies([A, B])
    # b's small one dominates a's; a's large one dominates none of b's, which costs less.
    assert {(each.study, each.of): each.share for each in found.coverage} == {("a", "b"): 0.0, ("b", "a"): 0.5}
    assert [each.joint_members for each in found.studies] == [("large",), ("large", "small")]


def test_probabilities_are_of_the_same_images() -> None:
    # Equal costs; b finds one person more of 100: b is better where that image is drawn, else both are equal.
    def finding(number: int) -> list[bool]:
        return [index < number for index in range(100)]

    teacher = record("teacher", 0.2, 2e6, 1e9, role="teacher")
    one = study("a", record("x", 0.5, 1e6, 1e9), stored={"x": found_in(finding(50))}, teacher=teacher)
    other = study("b", record("y", 0.49, 1e6, 1e9), stored={"y": found_in(finding(51))}, teacher=teacher)
    found = compare_studies([one, other])
    ((segment,),) = [pair.segments for pair in found.pairs]
    assert segment.best == "b"
    assert segment.probability == pytest.approx(1 - 0.366 / 2, abs=0.03)
    shares = [each.hypervolume_probability for each in found.studies]
    assert shares == [pytest.approx(0.366 / 2, abs=0.03), pytest.approx(1 - 0.366 / 2, abs=0.03)]
    assert found.notes == ()


def test_studies_on_other_images_have_no_probabilities() -> None:
    one = study("a", record("x", 0.5, 1e6, 1e9), stored={"x": found_in([True, False] * 50)})
    other = study("b", record("y", 0.5, 1e6, 1e9), stored={"y": found_in([True, False] * 40)})
    found = compare_studies([one, other])
    assert [each.hypervolume_probability for each in found.studies] == [None, None]
    assert any("images" in note for note in found.notes)


def test_studies_without_common_miss_rate_or_of_one_name_are_refused() -> None:
    small = records([record("t", 0.5, 1e6, 1e9, metrics={"mr2_small": 0.5})], TEACHER, "c", ("mr2_small", "num_params"))
    with pytest.raises(StudiesError, match=r"mr2_reasonable.*mr2_small"):
        compare_studies([A, compute_results(small)])
    with pytest.raises(StudiesError, match="once"):
        compare_studies([A, A])


def test_objectives_that_one_study_lacks_are_named() -> None:
    three = records([record("t", 0.5, 1e6, 1e9)], TEACHER, "c")
    found = compare_studies([A, compute_results(three)])
    assert [objective.name for objective in found.objectives] == ["mr2_reasonable", "num_params"]
    assert any("flops" in note for note in found.notes)
