"""The named numbers of an epoch's steps, and the alarm where one of them is not finite."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

# A GPU runs ahead of Python; looking at its numbers makes Python wait, so it is done every so many steps.
_STEPS_BETWEEN_LOOKS_ON_GPU = 20


class NonFiniteLossError(ValueError):
    """A loss or the gradient became infinite or NaN."""


class EpochRecord:
    """The named numbers of an epoch's steps, kept on the device and looked at now and then."""

    def __init__(self, epoch: int, steps: int, device: torch.device, steps_between_looks: int) -> None:
        self.seen: dict[str, float] = {}
        """The numbers of the last step that was looked at."""
        self._epoch = epoch
        self._steps = steps
        self._device = device
        self._steps_between_looks = steps_between_looks
        self._names: tuple[str, ...] = ()
        self._numbers = torch.empty(0)
        self._looked_at = 0

    def add(self, step: int, parts: Mapping[str, Tensor]) -> None:
        """Take note of a step's scalars.

        Raises:
            NonFiniteLossError: naming the first step among those looked at that has bad numbers, and which.
        """
        if step == 0:
            self._names = tuple(parts)
            self._numbers = torch.zeros(self._steps, len(parts), device=self._device)
        self._numbers[step] = torch.stack([part.detach().float() for part in parts.values()])
        added = step + 1
        if added % self._steps_between_looks == 0 or added == self._steps:
            self._look(added)

    def means(self) -> dict[str, float]:
        """Mean of each number over the steps."""
        return dict(zip(self._names, self._numbers.double().mean(dim=0).tolist(), strict=True))

    def _look(self, added: int) -> None:
        rows = self._numbers[self._looked_at : added].tolist()
        for step, row in enumerate(rows, start=self._looked_at):
            bad = [
                f"{name} = {value}" for name, value in zip(self._names, row, strict=True) if not math.isfinite(value)
            ]
            if bad:
                raise NonFiniteLossError(
                    f"epoch {self._epoch + 1}, step {step + 1} of {self._steps}: {', '.join(bad)}; the training was "
                    "stopped. Lower training.learning_rate, raise training.warmup_fraction, or set "
                    "training.gradient_clip_norm; if it stays, try training.precision=fp32"
                )
        self.seen = dict(zip(self._names, rows[-1], strict=True))
        self._looked_at = added


def steps_between_looks_on(device: torch.device) -> int:
    """How often a training looks at its numbers."""
    return 1 if device.type == "cpu" else _STEPS_BETWEEN_LOOKS_ON_GPU
