from __future__ import annotations

from analysis.report.comparison import sentences
from analysis.results import StudyResults, compute_results
from analysis.studies import compare_studies
from tests.analysis.studies import TEACHER, record, records


def one_student(study: str, miss_rate: float) -> StudyResults:
    return compute_results(records([record("t0", miss_rate, 3e6, 5e9)], TEACHER, study=study))


def test_study_of_largest_hypervolume_is_named() -> None:
    # Of the teacher's 6 M parameters and 10 GFLOPs: (1 - 0.3) x 0.5 x 0.5 = 0.175, and (1 - 0.4) x 0.25 = 0.15.
    said = sentences(compare_studies([one_student("weak", 0.4), one_student("good", 0.3)]))[0]
    assert said.startswith("good has")
    assert said.endswith("0.1750 (others: weak 0.1500).")


def test_studies_of_equal_hypervolume_are_both_named() -> None:
    said = sentences(compare_studies([one_student("a", 0.3), one_student("b", 0.3), one_student("c", 0.4)]))[0]
    assert said.startswith("a, b equally have")
    assert said.endswith("0.1750 (others: c 0.1500).")
    assert sentences(compare_studies([one_student("a", 0.3), one_student("b", 0.3)]))[0].endswith("0.1750.")
