from __future__ import annotations

from analysis.choice import Recommendation
from analysis.results import compute_results
from tests.analysis.studies import TEACHER, record, records


def test_results_count_trials_by_status() -> None:
    trials = [
        record("stopped", 0.01, 1e3, 1e6, status="stopped", not_counted_because="stopped after 50 %"),
        record("incomplete", 0.01, 1e3, 1e6, not_counted_because="num_params is missing"),
        record("good", 0.3, 1e6, 1e9),
    ]
    results = compute_results(records(trials, TEACHER))
    assert results.count_by_status == {"stopped": 1, "incomplete": 1, "finished": 1}
    assert results.recommendation == Recommendation("good", "only", "with loss")
    assert results.baselines == ()
    assert results.importances.values == {}
