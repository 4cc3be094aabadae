"""What the trials of a study show about its teacher and about distillation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hkd import metric_names as names
from hkd.findings import Finding, Measured, study_findings, teacher_passed
from sweeps.settings.space import trial_config
from sweeps.settings.study import StudyConfig
from sweeps.trials.records.trial import LedgerTrial


def find(study: StudyConfig, trials: Sequence[LedgerTrial], teacher: Mapping[str, float] | None) -> tuple[Finding, ...]:
    """The findings of a study, as its report has them.

    Args:
        teacher: Metrics of the teacher; None without one.
    """
    measured = [student for trial in trials if (student := _measured(study, trial)) is not None]
    return study_findings(study.main_miss_rate, measured, (teacher or {}).get(study.main_miss_rate))


class PassedTeacher:
    """Reports the first distilled trial, and the first one without distillation, that passes the teacher.

    Args:
        teacher: Metrics of the teacher; None without one.
        ended: Trials that ended in earlier sessions, which have been reported.
    """

    def __init__(self, study: StudyConfig, teacher: Mapping[str, float] | None, ended: Sequence[LedgerTrial]) -> None:
        self._study = study
        self._teacher = (teacher or {}).get(study.main_miss_rate)
        self._reported: set[bool] = set()
        for trial in ended:
            self.warning(trial)

    def warning(self, trial: LedgerTrial) -> str | None:
        """A warning if the trial passes the teacher and is the first of its kind to do so."""
        student = _measured(self._study, trial)
        if student is None or self._teacher is None or student.is_distilled in self._reported:
            return None
        finding = teacher_passed(self._study.main_miss_rate, [student], self._teacher)
        if finding is None:
            return None
        self._reported.add(student.is_distilled)
        return finding.text


def _measured(study: StudyConfig, trial: LedgerTrial) -> Measured | None:
    """The result of a trial; None where it was not trained to its end, or is a confirmation of another."""
    miss_rate = trial.metrics.get(study.main_miss_rate)
    if trial.confirms is not None or trial.status != names.STATUS_FINISHED or miss_rate is None:
        return None
    cost = next((name for name in study.objectives if name in names.COSTS), None)
    is_distilled = trial_config(study.base, trial.params).is_distilled
    return Measured(
        name=trial.trial_id,
        miss_rate=miss_rate,
        cost=None if cost is None else trial.metrics.get(cost),
        is_distilled=is_distilled,
        is_undistilled_baseline=trial.baseline == names.BASELINE_UNDISTILLED and not is_distilled,
    )
