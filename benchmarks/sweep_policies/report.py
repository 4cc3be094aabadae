"""Tables of simulated studies: the compute that each policy needs for a share of the best hypervolume."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.sweep_policies.runs import SHARES, Result

Floats = NDArray[np.float64]
Key = tuple[str, int]
"""A policy and a number of workers."""

RANDOM, ASHA, GP = "random + FIFO", "TPE + ASHA on the miss rate", "GP + FIFO"
OURS = "front + front rule"


@dataclass(frozen=True)
class Goal:
    """A comparison at 95 % of the best hypervolume, with one number of workers."""

    other: str
    workers: int
    ratio: float
    """Median compute of ours over that of the other; NaN where one median is not reached."""
    allowed: float


def quantiles_to_reach(results: Sequence[Result], share: float) -> tuple[float, float, float]:
    """Median and quartiles over studies of the compute to reach a share; inf for a study that did not reach it."""
    values = np.sort([result.to_reach(share) for result in results])
    # Of order statistics: between a number and inf there is nothing to interpolate.
    low, middle, high = (float(values[math.ceil(quantile * len(values)) - 1]) for quantile in (0.25, 0.5, 0.75))
    return middle, low, high


def shares_at(results: Sequence[Result], compute: Floats) -> Floats:
    """Share of the best hypervolume (R, N) of each study at N amounts of compute.

    A study that ended because it had reached the last of ``SHARES`` stays at its last share.
    """
    table = np.zeros((len(results), len(compute)))
    for row, result in enumerate(results):
        index = np.searchsorted(np.array(result.trainings), compute, side="right")
        table[row] = np.concatenate([[0.0], result.share])[index]
    return table


def goals(results: Mapping[Key, Sequence[Result]]) -> list[Goal]:
    """The comparisons that the project promises, where both policies were simulated."""
    found = []
    for other, allowed in ((ASHA, 1 / 3), (GP, 1 / 2)):
        for policy, workers in results:
            if policy == OURS and (other, workers) in results:
                ours, theirs = (quantiles_to_reach(results[each, workers], SHARES[1])[0] for each in (OURS, other))
                is_known = math.isfinite(ours) and math.isfinite(theirs)
                found.append(Goal(other, workers, ours / theirs if is_known else math.nan, allowed))
    return found


def largest_deficit(
    results: Mapping[Key, Sequence[Result]], workers: int, trainings: float
) -> tuple[float, float] | None:
    """By how much our median share is below that of random search at most, and at which compute."""
    if (OURS, workers) not in results or (RANDOM, workers) not in results:
        return None
    compute = np.linspace(0.0, trainings, 400)
    ours, random = (np.median(shares_at(results[policy, workers], compute), axis=0) for policy in (OURS, RANDOM))
    worst = int(np.argmax(random - ours))
    return float((random - ours)[worst]), float(compute[worst])


def report(results: Mapping[Key, Sequence[Result]], trainings: float) -> str:
    """Markdown.

    Args:
        trainings: Compute at which studies end.
    """
    shares = " | ".join(f"{100 * share:.0f} %" for share in SHARES)
    lines = [
        "Compute, in full trainings, to reach a share of the best hypervolume: median over studies [quartiles].",
        "",
        f"| policy | workers | studies | {shares} | finished | stopped |",
        f"| --- | ---: | ---: | {'---: | ' * len(SHARES)}---: | ---: |",
    ]
    for (policy, workers), same in results.items():
        cells = [_cell(same, share, trainings) for share in SHARES]
        finished = np.median([result.finished for result in same])
        stopped = np.median([result.stopped for result in same])
        lines.append(f"| {policy} | {workers} | {len(same)} | {' | '.join(cells)} | {finished:.0f} | {stopped:.0f} |")
    lines.append("")
    lines += [_goal_sentence(goal) for goal in goals(results)]
    for workers in dict.fromkeys(workers for _, workers in results):
        deficit = largest_deficit(results, workers, trainings)
        if deficit is not None and deficit[0] > 0:
            lines.append(
                f"- {OURS}, {workers} workers: up to {100 * deficit[0]:.1f} points below {RANDOM}, at {deficit[1]:.0f} "
                "trainings"
            )
        elif deficit is not None:
            lines.append(f"- {OURS}, {workers} workers: never below {RANDOM}")
    return "\n".join(lines)


def _goal_sentence(goal: Goal) -> str:
    start = f"- {OURS} against {goal.other}, {goal.workers} workers, compute to reach {100 * SHARES[1]:.0f} %: "
    found = "one of the medians was not reached" if math.isnan(goal.ratio) else f"{goal.ratio:.2f} times"
    return f"{start}{found} (goal: at most {goal.allowed:.2f})"


def _cell(results: Sequence[Result], share: float, trainings: float) -> str:
    values = [
        f"{value:.1f}" if math.isfinite(value) else f"> {trainings:g}" for value in quantiles_to_reach(results, share)
    ]
    return f"{values[0]} [{values[1]}, {values[2]}]"
