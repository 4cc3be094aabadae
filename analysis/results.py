"""Everything that a report shows of a study, computed once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis.budgets import NO_BUDGETS, Budgets
from analysis.certainty.confirmation import Confirmation, confirmation_of, deciding_front, front_of_means
from analysis.certainty.uncertainty import ReadDetections, Uncertainty, uncertainty_of
from analysis.choice import (
    BaselineComparison,
    Recommendation,
    compare_baselines,
    find,
    recommend,
)
from analysis.explain.effects import Slice, StageAblation, ablations_of, slices_of
from analysis.explain.importances import Importances, TargetImportances, all_importances, first_miss_rate
from analysis.explain.progress import Progress, progress_of
from analysis.front import Front, find_front
from analysis.records.study_records import StudyRecords
from analysis.variants import Variant, variants_of
from hkd import metric_names as names
from hkd.findings import Finding
from hkd.inference.deployed.measurements import Measurements


@dataclass(frozen=True)
class StudyResults:
    """Everything that a report shows, as numbers."""

    study: str
    front: Front
    """By which students are ranked and chosen: of the means over other seeds, or of the search."""
    searched: Front
    """Of the search; the same where the search decides."""
    confirmation: Confirmation
    """Trainings with other seeds."""
    recommendation: Recommendation
    findings: tuple[Finding, ...]
    """What a user should act on, the most important first."""
    baselines: tuple[BaselineComparison, ...]
    importances: Importances
    all_importances: tuple[TargetImportances, ...]
    """For each objective and for the hypervolume, by two methods; empty where there are too few trials."""
    slices: tuple[Slice, ...]
    """The first miss rate over each searched setting."""
    ablations: tuple[StageAblation, ...]
    """Students with each distillation stage against those without."""
    progress: Progress
    """Learning curves, hypervolume over trials, compute and what early stopping saved."""
    uncertainty: Uncertainty
    """Intervals over images, and the front's probability, of the trainings in the search."""
    count_by_status: Mapping[str, int]
    """Of all trials and baselines; ``incomplete`` are finished ones that are not counted."""
    variants: tuple[Variant, ...] = ()
    """Exported files of trials, as measured on devices."""


def compute_results(
    records: StudyRecords,
    budgets: Budgets = NO_BUDGETS,
    read_detections: ReadDetections = lambda _: {},
    devices: Sequence[Measurements] = (),
) -> StudyResults:
    """Compute everything that a report shows.

    Args:
        records: Of one study.
        budgets: Limits on the student to ship.
        read_detections: Reads stored detections by run id, as
            :func:`analysis.records.detections.read_detections`; by default there are none.
        devices: Measurements of exported files, one of each device.

    Raises:
        BudgetError: no student has what a budget limits.
        ValueError: no trial was trained for all its epochs.
    """
    searched = find_front(records)
    means = front_of_means(records, searched)
    front = deciding_front(searched, means)
    uncertainty = uncertainty_of(searched, read_detections)
    # The course of the study is that of the search, whose trials are compared with each other.
    reference_point = searched.hypervolumes[-1].reference_point
    importances = all_importances(records, reference_point)
    return StudyResults(
        study=records.study,
        front=front,
        searched=searched,
        confirmation=confirmation_of(searched, means, records.teacher),
        recommendation=recommend(front, budgets, uncertainty),
        findings=find(front),
        baselines=compare_baselines(front),
        importances=first_miss_rate(records, importances),
        all_importances=importances,
        slices=slices_of(records),
        ablations=ablations_of(records),
        progress=progress_of(records, reference_point),
        uncertainty=uncertainty,
        count_by_status=Counter(
            "incomplete" if t.status == names.STATUS_FINISHED and not t.is_counted else t.status for t in records.trials
        ),
        variants=variants_of(searched, records.study, devices),
    )
