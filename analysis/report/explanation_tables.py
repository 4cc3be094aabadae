"""What a study's numbers depend on, as tables and sentences."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from analysis.explain.effects import StageAblation
from analysis.explain.importances import HYPERVOLUME
from analysis.objectives import ABSENT, OBJECTIVES
from analysis.report.tables import Column, Table, in_points, make_table
from analysis.results import StudyResults


def importances_table(results: StudyResults) -> Table | None:
    """A row for each setting, a column for each target and method; None where nothing is computed."""
    found = [each for each in results.all_importances if each.found.absent_because is None]
    if not found:
        return None
    settings = dict.fromkeys(setting for each in found for setting in each.found.values)
    columns: list[Column[str]] = [Column("setting", str)]
    for each in found:
        noun = HYPERVOLUME if each.target == HYPERVOLUME else OBJECTIVES[each.target].noun
        columns.append(Column(f"{noun}, {each.method}", partial(_share, each.found.values), is_number=True))
    return make_table(columns, settings)


def _share(shares: Mapping[str, float], setting: str) -> str:
    return f"{shares[setting]:.2f}" if setting in shares else ABSENT


def ablations_table(results: StudyResults) -> Table | None:
    """Students with each distillation stage and without; None where all students use the same stages."""
    miss_rate = results.front.miss_rate
    columns: list[Column[StageAblation]] = [
        Column("stage", lambda each: each.stage),
        Column("students with", lambda each: str(each.num_with), is_number=True),
        Column("median %", lambda each: miss_rate.shown(each.median_with), is_number=True),
        Column("without", lambda each: str(each.num_without), is_number=True),
        Column("median without %", lambda each: miss_rate.shown(each.median_without), is_number=True),
        Column("pairs equal in all else", lambda each: str(len(each.matched)), is_number=True),
        Column("mean difference of these", _mean_difference, is_number=True),
    ]
    return make_table(columns, results.ablations) if results.ablations else None


def compute_sentence(results: StudyResults) -> str:
    """What was trained, and what stopping trials early saved."""
    compute = results.progress.compute
    text = f"Trained: {compute.epochs:,} epochs in {compute.seconds / 3600:.1f} hours, summed over workers."
    if compute.num_stopped:
        rungs = ", ".join(f"{number} after epoch {epoch}" for epoch, number in compute.stops)
        text += (
            f" Stopped before their last epoch: {compute.num_stopped} trials ({rungs}), which saved "
            f"{compute.saved_epochs:,} epochs ({100 * compute.saved_share:.0f} %), about "
            f"{compute.saved_seconds / 3600:.1f} hours."
        )
    return text


def _mean_difference(each: StageAblation) -> str:
    differences = [difference for _, _, difference in each.matched]
    return in_points(sum(differences) / len(differences)) if differences else ABSENT
