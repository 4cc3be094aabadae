"""The results of a study as plain values for ``summary.json``."""

from __future__ import annotations

import importlib.metadata
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import hkd
from analysis.certainty.uncertainty import Difference, Uncertainty
from analysis.choice import Recommendation
from analysis.explain.progress import HypervolumeStep
from analysis.front import KNEE_RULE, REFERENCE_RULE, Front, Student
from analysis.objectives import miss_rates
from analysis.records.study_records import StudyRecords
from analysis.report.sentences import headline
from analysis.results import StudyResults
from hkd import metric_names as names
from hkd.findings import READINESS_RULE

SUMMARY_SCHEMA_VERSION = 4
_LIBRARIES = ("mlflow", "optuna", "numpy", "pandas", "matplotlib")


def summary(records: StudyRecords, results: StudyResults) -> dict[str, Any]:
    """Plain values; equal records give equal summaries.

    Miss rates and gaps are fractions, FLOPs are single operations; unknown values are None.
    """
    front = results.front
    return {
        "schema_version": SUMMARY_SCHEMA_VERSION,
        "study": results.study,
        "tracking_uri": records.tracking_uri,
        "objectives": [objective.name for objective in front.objectives],
        "basis": front.basis,
        "headline": headline(results),
        "recommendation": _recommendation(results.recommendation),
        "findings": [asdict(finding) for finding in results.findings],
        "teacher": {"run_id": front.teacher.run_id, **_values(front, front.teacher.values)} if front.teacher else None,
        "front": [_student(front, student) for student in front.members],
        "searched": [_student(results.searched, student) for student in results.searched.members],
        **{f"{pair.key}_front": [student.trial_id for student in pair.students] for pair in front.pairs},
        "knee": {"rule": KNEE_RULE} | {pair.key: asdict(pair.knee) if pair.knee else None for pair in front.pairs},
        "hypervolume": {
            "reference_rule": REFERENCE_RULE,
            "fronts": [
                {
                    "objectives": [objective.name for objective in each.objectives],
                    "value": each.value if each.is_defined else None,
                    "reference_point": {
                        objective.name: value
                        for objective, value in zip(each.objectives, each.reference_point, strict=True)
                    },
                    "beyond_reference": each.beyond_reference,
                    "num_students": each.num_students,
                }
                for each in front.hypervolumes
            ],
        },
        "baselines": [
            {**_student(front, front.student(each.trial_id)), "comparison": asdict(each)} for each in results.baselines
        ],
        "importances": asdict(results.importances),
        "importances_by_target": [
            {"target": each.target, "method": each.method, **asdict(each.found)} for each in results.all_importances
        ],
        "ablations": [asdict(each) for each in results.ablations],
        "compute": asdict(results.progress.compute) | {"saved_share": results.progress.compute.saved_share},
        "hypervolume_over_trials": _changes(results.progress.hypervolume),
        "uncertainty": _uncertainty(results.uncertainty),
        "confirmation": {
            "missing": list(results.confirmation.missing),
            "teacher_on_test": results.confirmation.teacher_on_test,
            "repeated": [
                asdict(each) | {"optimism": each.optimism, "test_minus_validation": each.test_minus_validation}
                for each in results.confirmation.repeated
            ],
        },
        "variants": [asdict(each) for each in results.variants],
        "count_by_status": dict(sorted(results.count_by_status.items())),
        "not_counted": [
            {"trial_id": trial.trial_id, "status": trial.status, "because": trial.not_counted_because}
            for trial in records.not_counted
        ],
        "notes": list(records.notes),
        "versions": versions(),
    }


def _changes(steps: Sequence[HypervolumeStep]) -> list[dict[str, Any]]:
    """The trials that enlarged the hypervolume."""
    before = [0.0, *(step.value for step in steps)]
    return [asdict(step) for step, value in zip(steps, before, strict=False) if step.value > value]


def _recommendation(found: Recommendation) -> dict[str, Any]:
    # JSON has no infinity, by which a student without a measured latency exceeds a limit.
    exceeded = {name: ratio if math.isfinite(ratio) else None for name, ratio in found.exceeded.items()}
    return asdict(found) | {"verdict": found.verdict, "exceeded": exceeded, "readiness_rule": READINESS_RULE}


def _uncertainty(uncertainty: Uncertainty) -> dict[str, Any]:
    def differences(each: Sequence[Difference]) -> list[dict[str, Any]]:
        return [asdict(one) | {"is_distinguishable": one.is_distinguishable} for one in each]

    return {
        "absent_because": uncertainty.absent_because,
        "notes": list(uncertainty.notes),
        "num_images": uncertainty.num_images,
        "resamples": uncertainty.resamples,
        "confidence": uncertainty.confidence,
        "intervals": {
            trial_id: {metric: [interval.low, interval.high] for metric, interval in of_trial.items()}
            for trial_id, of_trial in uncertainty.intervals.items()
        },
        "front_probability": dict(uncertainty.front_probability),
        "neighbours": differences(uncertainty.neighbours),
        "against_undistilled": differences(uncertainty.against_undistilled),
        "against_teacher": differences(uncertainty.against_teacher),
    }


def versions() -> dict[str, str]:
    """Versions of the libraries that computed the report."""
    found = {"python": platform.python_version(), "hkd": hkd.__version__}
    return found | {library: importlib.metadata.version(library) for library in _LIBRARIES}


def _student(front: Front, student: Student) -> dict[str, Any]:
    first, *other_miss_rates = miss_rates(front.objectives)
    gaps = {"gap_to_teacher": student.gaps.get(first.name)}
    gaps |= {f"gap_to_teacher_{each.key}": student.gaps.get(each.name) for each in other_miss_rates}
    return {
        "trial_id": student.trial_id,
        "run_id": student.run_id,
        "role": student.role,
        "baseline": student.baseline,
        "is_distilled": student.is_distilled,
        **_values(front, student.values),
        **gaps,
        **{f"times_fewer_{cost.key}": student.times_fewer.get(cost.name) for cost in front.costs},
        "settings": dict(student.settings),
        "rank": student.rank,
        **{f"on_{pair.key}_front": student in pair.students for pair in front.pairs},
    }


def _values(front: Front, values: Mapping[str, float]) -> dict[str, float | None]:
    """The objectives, then the other costs; a latency where it was measured."""
    costs = [name for name in names.COSTS if name != names.LATENCY_MS or name in values]
    keys = dict.fromkeys([*(objective.name for objective in front.objectives), *costs])
    return {key: values.get(key) for key in keys}
