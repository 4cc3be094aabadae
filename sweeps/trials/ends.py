"""How the trials of a study ended, and what early stopping saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hkd.metric_names import BUDGET_FRACTION, EPOCH, STATUS_FINISHED, STATUS_STOPPED
from sweeps.trials.records.trial import LedgerTrial


@dataclass(frozen=True)
class EndGroup:
    """Trials that ended alike."""

    status: str
    epoch: int | None
    """After which they were stopped early; None for all others."""
    trial_ids: tuple[str, ...]
    trained_epochs: int
    planned_epochs: int


@dataclass(frozen=True)
class Ends:
    """How all trials ended."""

    groups: tuple[EndGroup, ...]
    """Finished trials, then those stopped early from the first epoch on, then others."""

    @property
    def num_stopped(self) -> int:
        """Trials that were stopped early."""
        return sum(len(group.trial_ids) for group in self.groups if group.status == STATUS_STOPPED)

    @property
    def saved_epochs(self) -> int:
        """Epochs that stopped trials did not train."""
        stopped = [group for group in self.groups if group.status == STATUS_STOPPED]
        return sum(group.planned_epochs - group.trained_epochs for group in stopped)

    @property
    def full_epochs(self) -> int:
        """Epochs that finished and stopped trials would have trained without early stopping."""
        ended = (STATUS_FINISHED, STATUS_STOPPED)
        return sum(group.planned_epochs for group in self.groups if group.status in ended)


def ends_of(trials: Sequence[LedgerTrial], planned_epochs: int) -> Ends:
    """Group trials by how they ended.

    Args:
        planned_epochs: Of trials that reported nothing.
    """
    found: dict[tuple[str, int | None], list[tuple[LedgerTrial, int, int]]] = {}
    for trial in trials:
        trained = int(trial.metrics.get(EPOCH, 0))
        planned = round(trained / trial.metrics[BUDGET_FRACTION]) if trained else planned_epochs
        epoch = trained if trial.status == STATUS_STOPPED else None
        found.setdefault((trial.status, epoch), []).append((trial, trained, planned))
    order = [STATUS_FINISHED, STATUS_STOPPED]

    def position(key: tuple[str, int | None]) -> tuple[int, str, int]:
        status, epoch = key
        return (order.index(status) if status in order else len(order)), status, epoch or 0

    groups = [
        EndGroup(
            status,
            epoch,
            tuple(trial.trial_id for trial, _, _ in group),
            sum(trained for _, trained, _ in group),
            sum(planned for _, _, planned in group),
        )
        for (status, epoch), group in sorted(found.items(), key=lambda item: position(item[0]))
    ]
    return Ends(tuple(groups))
