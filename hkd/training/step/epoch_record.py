"""The named scalars of an epoch's steps, and the error where one of them is not finite."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

# On a GPU, reading a number is a device-to-host synchronization, which makes Python wait for all queued kernels.
_STEPS_BETWEEN_SYNCS_ON_GPU = 20
_REMEDY = (
    "the training was stopped. Lower training.learning_rate, raise training.warmup_fraction, or set "
    "training.gradient_clip_norm; if the error persists, try training.precision=fp32"
)


class NonFiniteLossError(ValueError):
    """A loss, the gradient or a weight became infinite or NaN."""


class EpochRecord:
    """The named scalars of an epoch's steps, kept on the device and copied to the host at intervals."""

    def __init__(self, epoch: int, steps: int, device: torch.device, steps_between_syncs: int) -> None:
        self.latest: dict[str, float] = {}
        """The scalars of the last step that was copied to the host."""
        self._epoch = epoch
        self._steps = steps
        self._device = device
        self._steps_between_syncs = steps_between_syncs
        self._names: tuple[str, ...] = ()
        self._numbers = torch.empty(0)
        self._num_synchronized = 0

    def add(self, step: int, parts: Mapping[str, Tensor]) -> None:
        """Record a step's scalars.

        Raises:
            NonFiniteLossError: naming the first recorded step with scalars that are not finite, and these scalars.
        """
        if step == 0:
            self._names = tuple(parts)
            self._numbers = torch.zeros(self._steps, len(parts), device=self._device)
        self._numbers[step] = torch.stack([part.detach().float() for part in parts.values()])
        added = step + 1
        if added % self._steps_between_syncs == 0 or added == self._steps:
            self._synchronize(added)

    def means(self) -> dict[str, float]:
        """Mean of each scalar over the steps."""
        return dict(zip(self._names, self._numbers.double().mean(dim=0).tolist(), strict=True))

    def _synchronize(self, added: int) -> None:
        rows = self._numbers[self._num_synchronized : added].tolist()
        for step, row in enumerate(rows, start=self._num_synchronized):
            bad = [
                f"{name} = {value}" for name, value in zip(self._names, row, strict=True) if not math.isfinite(value)
            ]
            if bad:
                raise NonFiniteLossError(
                    f"epoch {self._epoch + 1}, step {step + 1} of {self._steps}: {', '.join(bad)}; {_REMEDY}"
                )
        self.latest = dict(zip(self._names, rows[-1], strict=True))
        self._num_synchronized = added


def require_finite(detector: nn.Module, epoch: int) -> None:
    """Check a detector's weights after an epoch: its last step may have made them infinite, which no loss shows.

    Raises:
        NonFiniteLossError: naming the epoch.
    """
    finite = [tensor.isfinite().all() for tensor in detector.state_dict().values() if tensor.is_floating_point()]
    if not bool(torch.stack(finite).all()):
        raise NonFiniteLossError(f"epoch {epoch + 1}: its last step made weights infinite or NaN; {_REMEDY}")


def steps_between_syncs_on(device: torch.device) -> int:
    """Number of steps after which a training copies its scalars to the host."""
    return 1 if device.type == "cpu" else _STEPS_BETWEEN_SYNCS_ON_GPU
