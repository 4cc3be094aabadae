"""Whether and when a study stops trials early."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Annotated, Literal

from pydantic import Field

from hkd.config import Section
from hkd.config.section import Epochs
from hkd.metric_names import PARAM_TOTAL_EPOCHS
from sweeps.scheduling.rungs import rung_epochs

FIFO = "fifo"
LEAST_RUNGS = 2


class SchedulerConfig(Section):
    """Whether trials are stopped early."""

    type: Literal["fifo", "front"] = "fifo"
    """``fifo``: never; trials run in the order of their proposal. ``front``: where trials that cost no more have a
    lower miss rate at a rung, by more than the noise of seeds (docs/early_stopping.md). Baselines are never stopped."""
    rungs: Annotated[tuple[Epochs, ...], Field(min_length=1, max_length=100)] | None = None
    """Epochs after which trials are evaluated and compared; two or more, below ``base.training.total_epochs``. null:
    ``first_rung``, and that times ``reduction_factor``, its square, and so on."""
    first_rung: Epochs = 1
    reduction_factor: Annotated[float, Field(gt=1.0, le=100.0)] = 3.0
    min_dominators: Annotated[int, Field(ge=1, le=1000)] = 2
    """How many trials must be better than one that is stopped."""
    noise_multiple: Annotated[float, Field(ge=0.0, le=100.0)] = 1.0
    """By how many standard deviations over seeds they must be better, of the difference of two results."""

    def rungs_below(self, total_epochs: int) -> tuple[int, ...]:
        """The rungs of trials with this many epochs, rising; none if trials are never stopped."""
        if self.type == FIFO:
            return ()
        if self.rungs is None:
            return rung_epochs(total_epochs, self.first_rung, self.reduction_factor)
        return tuple(sorted({epoch for epoch in self.rungs if epoch < total_epochs}))


def scheduler_problems(scheduler: SchedulerConfig, total_epochs: int, searched: Collection[str]) -> list[str]:
    """Why a scheduler cannot stop trials of this many epochs, as sentences.

    Args:
        searched: Names of the searched settings.
    """
    return [] if scheduler.type == FIFO else list(_problems(scheduler, total_epochs, searched))


def _problems(scheduler: SchedulerConfig, total_epochs: int, searched: Collection[str]) -> Iterator[str]:
    if PARAM_TOTAL_EPOCHS in searched:
        yield (
            f"space.{PARAM_TOTAL_EPOCHS}: cannot be searched with scheduler.type {scheduler.type}: a rung compares "
            "trials with the same schedule; remove this, or set scheduler.type to fifo"
        )
        return
    if scheduler.rungs is not None:
        yield from _explicit_problems(scheduler, scheduler.rungs, total_epochs)
        return
    rungs = scheduler.rungs_below(total_epochs)
    if len(rungs) < LEAST_RUNGS:
        found = f"{len(rungs)} rung{'' if len(rungs) == 1 else 's'} (first_rung {scheduler.first_rung}"
        yield (
            f"scheduler: found {found}, reduction_factor {scheduler.reduction_factor:g}) below "
            f"base.{PARAM_TOTAL_EPOCHS} = {total_epochs}; allowed: {LEAST_RUNGS} or more. Lower them, raise "
            f"base.{PARAM_TOTAL_EPOCHS}, or set scheduler.type to fifo"
        )


def _explicit_problems(scheduler: SchedulerConfig, rungs: tuple[int, ...], total_epochs: int) -> Iterator[str]:
    shown = ", ".join(map(str, rungs))
    for name in ("first_rung", "reduction_factor"):
        if (
            name in scheduler.model_fields_set
            and getattr(scheduler, name) != SchedulerConfig.model_fields[name].default
        ):
            yield f"scheduler.{name}: has no effect, as scheduler.rungs lists the rungs; remove one of them"
    if len(set(rungs)) != len(rungs):
        yield f"scheduler.rungs: found {shown}; allowed: each epoch once"
    if beyond := [epoch for epoch in rungs if epoch >= total_epochs]:
        yield (
            f"scheduler.rungs: found {', '.join(map(str, beyond))}; allowed: epochs below "
            f"base.{PARAM_TOTAL_EPOCHS} = {total_epochs}, after which trials end"
        )
    elif len(set(rungs)) < LEAST_RUNGS:
        yield f"scheduler.rungs: found {shown}; allowed: {LEAST_RUNGS} or more; or set scheduler.type to fifo"
