"""Simulated studies of all policies, numbers of workers and seeds: one file for each."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from benchmarks.sweep_policies.curves import Curve, read_curves
from benchmarks.sweep_policies.landscape import Landscape, cross_validated_r2
from benchmarks.sweep_policies.policies import POLICIES, simulate
from benchmarks.sweep_policies.simulation import History
from benchmarks.sweep_policies.task import configurations, exact_costs, load_task
from hkd.config_files.parsing import config_hash
from hkd.files import file_hash, read_record, write_json
from hkd.metric_names import FLOPS, NUM_PARAMS
from hkd.models.cost import config_cost
from sweeps.search.encoding import Space
from sweeps.settings.space import distributions
from sweeps.settings.study import StudyConfig

RECIPE = 4
"""Part of the key of every result: increment it when samplers, schedulers or the simulator change."""
SHARES = (0.90, 0.95, 0.99)
"""Of the best hypervolume."""


@dataclass(frozen=True)
class Run:
    """One simulated study."""

    policy: str
    workers: int
    seed: int
    table: Path
    """Recorded curves."""
    part: str
    """Which configurations the landscape is fitted to: ``all``, ``tuning`` or ``held-back``."""
    trainings: float
    """Compute at which the study ends, in full trainings of the mean duration."""
    out: Path

    @property
    def path(self) -> Path:
        """The file of its result."""
        key = config_hash(RECIPE, file_hash(self.table), self.part, self.trainings)[:8]
        name = "".join(letter if letter.isalnum() else "_" for letter in self.policy)
        return self.out / f"{name}-{self.workers}-{self.seed}-{key}.json"

    def result(self) -> Result | None:
        """What :meth:`run` wrote; None where it is missing."""
        return Result(**read_record(self.path)) if self.path.is_file() else None

    def run(self) -> Result:
        """Simulate the study, and write its result."""
        fitted = fitted_landscape(self.table, self.part)
        policy = next(each for each in POLICIES if each.name == self.policy)
        history = simulate(
            policy,
            fitted.landscape,
            workers=self.workers,
            seed=self.seed,
            max_compute=self.trainings * fitted.seconds_per_training,
            enough=SHARES[-1] * fitted.best,
        )
        result = Result.of(history, fitted)
        write_json(self.path, asdict(result), indent=None)
        return result


@dataclass(frozen=True)
class Result:
    """What a study had reached after each of its finished trials."""

    trainings: list[float]
    """Compute in full trainings of the mean duration."""
    time: list[float]
    """Virtual time in that unit."""
    share: list[float]
    """Hypervolume over that of the best front."""
    finished: int
    stopped: int

    @classmethod
    def of(cls, history: History, fitted: FittedLandscape) -> Result:
        """In units of the landscape."""
        return cls(
            [round(value / fitted.seconds_per_training, 4) for value in history.compute],
            [round(value / fitted.seconds_per_training, 4) for value in history.seconds],
            [round(value / fitted.best, 6) for value in history.hypervolume],
            history.finished,
            history.stopped,
        )

    def to_reach(self, share: float) -> float:
        """Compute to reach a share of the best hypervolume; inf where the study ended before."""
        reached = [trainings for trainings, value in zip(self.trainings, self.share, strict=True) if value >= share]
        return reached[0] if reached else float("inf")


@dataclass(frozen=True)
class FittedLandscape:
    """A landscape with its best hypervolume and its unit of compute."""

    landscape: Landscape
    best: float
    seconds_per_training: float


@cache
def fitted_landscape(table: Path, part: str) -> FittedLandscape:
    """The landscape of a part of the recorded configurations."""
    task = load_task()
    curves = part_of(read_curves(table), task, part)
    landscape = Landscape(curves, Space(distributions(task.space), {}), exact_costs(task), reference_of(task))
    best = landscape.hypervolume(landscape.points(landscape.front))
    seconds = [landscape.seconds_per_epoch(each.params) for each in configurations(task)]
    return FittedLandscape(landscape, best, landscape.num_epochs * sum(seconds) / len(seconds))


def quality(table: Path, part: str) -> str:
    """What the curves are predicted from, and how well, as a sentence."""
    task = load_task()
    curves = part_of(read_curves(table), task, part)
    count = len({curve.configuration for curve in curves})
    first, last = cross_validated_r2(curves, Space(distributions(task.space), {}))
    return (
        f"Curves are predicted from {count} recorded configurations ({part}). Cross-validated, this explains "
        f"{100 * first:.0f} % of the variance between configurations after the first epoch, and {100 * last:.0f} % "
        "after the last."
    )


def part_of(curves: Sequence[Curve], task: StudyConfig, part: str) -> list[Curve]:
    """Curves of all configurations, of those for tuning, or of those that are held back from it."""
    held_back = {each.number for each in configurations(task) if each.is_held_back}
    return [curve for curve in curves if part == "all" or (curve.configuration in held_back) == (part == "held-back")]


def reference_of(task: StudyConfig) -> tuple[float, float, float]:
    """Reference point of the hypervolume, as in the report of a study: a miss rate of 1, and the teacher's costs."""
    base = task.base
    assert base.teacher is not None
    cost = config_cost(base.teacher, base.data.image_height, base.data.image_width).as_metrics()
    return 1.0, cost[NUM_PARAMS], cost[FLOPS]


def run_all(todo: Sequence[Run], *, processes: int) -> None:
    """Simulate the studies whose results are missing; an interrupted call is resumed by another."""
    waiting = [each for each in todo if not each.path.is_file()]
    if not waiting:
        return
    todo[0].out.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context) as pool:
        futures = {pool.submit(each.run): each for each in waiting}
        try:
            for number, future in enumerate(as_completed(futures), start=1):
                run, result = futures[future], future.result()
                last = result.share[-1] if result.share else 0.0
                print(
                    f"[{number}/{len(waiting)}] {run.policy}, {run.workers} workers, seed {run.seed}: "
                    f"{100 * last:.1f} % of the hypervolume, {result.finished} trials finished, "
                    f"{result.stopped} stopped",
                    file=sys.stderr,
                    flush=True,
                )
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
