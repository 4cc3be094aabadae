from __future__ import annotations

from analysis.explain.effects import ablations_of, slices_of, stage_weights
from analysis.records.study_records import ParameterValue, TrialRecord
from tests.analysis.studies import record, records


def trial(name: str, mr2: float, **params: ParameterValue) -> TrialRecord:
    dotted = {key.replace("__", "."): value for key, value in params.items()}
    return record(name, mr2, 1e6, 1e9, params=dotted)


def test_slices_are_in_the_order_of_values() -> None:
    study = records(
        [
            trial("a", 0.3, student__width=0.5, rate=1e-2, backbone="resnet50"),
            trial("b", 0.4, student__width=0.25, rate=1e-4, backbone="resnet18"),
            record("f", 0.5, 1e6, 1e9, params={"student.width": 1.0}, not_counted_because="failed", status="failed"),
        ]
    )
    backbone, rate, width = slices_of(study)
    assert [(point.trial_id, point.value, point.miss_rate) for point in width.points] == [
        ("b", 0.25, 0.4),
        ("a", 0.5, 0.3),
    ]
    assert (width.setting, width.is_numeric, width.is_logarithmic) == ("student.width", True, False)
    assert (rate.setting, rate.is_numeric, rate.is_logarithmic) == ("rate", True, True)
    assert (backbone.is_numeric, [point.value for point in backbone.points]) == (False, ["resnet18", "resnet50"])


def test_setting_that_some_trials_lack_is_not_numeric() -> None:
    study = records([trial("a", 0.3, decay=0.9), trial("b", 0.4, decay=None), trial("c", 0.4, decay=True)])
    (decay,) = slices_of(study)
    assert not decay.is_numeric
    assert len(decay.points) == 3


def test_stage_is_compared_between_students_that_are_equal_otherwise() -> None:
    study = records(
        [
            trial("with", 0.30, distillation__logits__weight=1.0, student__width=0.5),
            trial("without", 0.34, distillation__logits__weight=0.0, student__width=0.5),
            trial("large", 0.20, distillation__logits__weight=2.0, student__width=1.0),
        ]
    )
    (logits,) = ablations_of(study)
    assert (logits.stage, logits.num_with, logits.num_without) == ("logits", 2, 1)
    assert (logits.median_with, logits.median_without) == (0.25, 0.34)
    ((one, other, difference),) = logits.matched
    assert (one, other, round(difference, 12)) == ("with", "without", -0.04)


def test_stages_of_a_trial_without_teacher_have_no_weight() -> None:
    alone = trial("alone", 0.3, teacher=None, distillation__logits__weight=1.0)
    assert set(stage_weights(alone).values()) == {0.0}
    assert stage_weights(trial("unknown", 0.3)) == {}
    assert stage_weights(trial("one", 0.3, distillation__pyramid__weight=0.5))["pyramid"] == 0.5
