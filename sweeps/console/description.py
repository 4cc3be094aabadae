"""The description of a study's run in MLflow, in Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hkd import metric_names as names
from sweeps.console.metric_format import cell, heading
from sweeps.settings.study import StudyConfig
from sweeps.trials.front import front
from sweeps.trials.records.trial import LedgerTrial

_MOST_SHOWN = 30


def describe_study(study: StudyConfig, trials: Sequence[LedgerTrial]) -> str:
    """What the study searches, how its trials ended, and its front, as of now.

    The first line is the same at every time: by it, the tracker recognises its own descriptions.
    """
    objectives = ", ".join(heading(name) for name in study.objectives)
    settings = ", ".join(f"`{key}`" for key in study.space) or "nothing"
    counts = Counter(trial.status for trial in trials)
    by_status = ", ".join(f"{count} {status}" for status, count in sorted(counts.items())) or "none so far"
    lines = [
        f"**Study {study.name}**: which light pedestrian detector costs how much accuracy?",
        "",
        f"- Minimised: {objectives}",
        f"- Searched by {study.search.sampler}: {settings}",
        f"- Trials and baselines: {by_status}",
    ]
    best = front(trials, study.objectives)
    if best:
        lines += ["", *_table(best, study.objectives)]
    return "\n".join(lines) + "\n"


def _table(best: Sequence[LedgerTrial], objectives: Sequence[str]) -> list[str]:
    rows = [[trial.trial_id, *(cell(name, trial.metrics) for name in objectives)] for trial in best[:_MOST_SHOWN]]
    header = ["front", *(heading(name) for name in objectives)]
    table = [header, ["---", *("---:" for _ in objectives)], *rows]
    more = [] if len(best) <= _MOST_SHOWN else ["", f"{len(best) - _MOST_SHOWN} more: tag `{names.TAG_ON_FRONT}`"]
    return [*(f"| {' | '.join(row)} |" for row in table), *more]
