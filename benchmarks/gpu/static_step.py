"""A training step on fixed memory, which a CUDA graph can replay and ``torch.compile`` can trace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.step.contenders import OURS, OURS_ALONE, Contenders
from benchmarks.step.hkd_trainer import HkdTrainer
from hkd.structures import Batch, Targets

WARM_UP_STEPS = 3
"""Before a capture: torch's documentation recommends three on a side stream; the first allocates momentum."""

LossFunction = Callable[[Batch, tuple[Tensor, Tensor]], Tensor]
"""The total loss (), with its graph, of a batch and the keys by which anchors and regions are sampled."""


@dataclass(frozen=True)
class _Inputs:
    """What changes from step to step."""

    batch: Batch
    keys: tuple[Tensor, Tensor]

    def tensors(self) -> list[Tensor]:
        """All tensors, in a fixed order."""
        targets = self.batch.targets
        boxes = [targets.boxes_xyxy, targets.valid, targets.ignore]
        return [self.batch.images, self.batch.valid_sizes, *boxes, *self.keys]

    def clone(self) -> _Inputs:
        """Copies in memory of their own."""
        images, valid_sizes, boxes_xyxy, valid, ignore, *keys = (tensor.clone() for tensor in self.tensors())
        return _Inputs(Batch(images, valid_sizes, Targets(boxes_xyxy, valid, ignore)), (keys[0], keys[1]))


class StaticStep:
    """The training step of the only student, whose inputs are always in the same memory.

    Args:
        trainer: Its weights and optimiser.
        compile_loss: Returns a compiled form of the function that computes the loss; None leaves it as it is.
    """

    def __init__(self, trainer: HkdTrainer, compile_loss: Callable[[LossFunction], LossFunction] | None = None) -> None:
        (self._learner,) = trainer.learners
        self._trainer = trainer
        self._inputs = self._next_inputs().clone()
        self._loss: LossFunction = self._eager_loss if compile_loss is None else compile_loss(self._eager_loss)

    def load(self) -> None:
        """Copy the next batch and the keys of its step into the fixed memory."""
        for fixed, current in zip(self._inputs.tensors(), self._next_inputs().tensors(), strict=True):
            fixed.copy_(current, non_blocking=True)

    def compute(self) -> Tensor:
        """Losses, backward and optimiser on the inputs in the fixed memory; returns the loss ()."""
        self._learner.optimizer.zero_grad(set_to_none=True)
        loss = self._loss(self._inputs.batch, self._inputs.keys)
        torch.autograd.backward(loss)
        self._trainer.update(self._learner)
        return loss.detach()

    def warm_up(self) -> None:
        """Compute :data:`WARM_UP_STEPS` steps on the same inputs."""
        for _ in range(WARM_UP_STEPS):
            self.compute()

    def capture(self) -> Callable[[], Tensor]:
        """Warm up, and capture :meth:`compute` as a CUDA graph; returns the function that replays it."""
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            self.warm_up()
        torch.cuda.current_stream().wait_stream(side)
        # The gradients of the graph are allocated in its own memory.
        self._learner.optimizer.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            loss = self.compute()

        def replay() -> Tensor:
            graph.replay()
            return loss

        return replay

    def _eager_loss(self, batch: Batch, keys: tuple[Tensor, Tensor]) -> Tensor:
        return self._trainer.loss(self._learner, batch, None, keys).total

    def _next_inputs(self) -> _Inputs:
        batch = self._trainer.next_batch()
        return _Inputs(batch, self._trainer.draw_keys(batch))


def with_loading(step: StaticStep, compute: Callable[[], Tensor]) -> Callable[[], None]:
    """A whole step: the next batch is loaded, then computed on."""

    def run() -> None:
        step.load()
        compute()

    return run


def equal_trainer(contenders: Contenders, name: str = OURS) -> HkdTrainer:
    """A trainer of one student; all trainers of a name have equal weights, batches and keys."""
    if name != OURS_ALONE:
        _ = contenders.teacher  # built once: not between the seed and the first student
    torch.manual_seed(0)
    trainer = contenders.make(name).trainer
    assert isinstance(trainer, HkdTrainer)
    return trainer


def largest_difference(
    one: tuple[StaticStep, Callable[[], Tensor]], other: tuple[StaticStep, Callable[[], Tensor]], steps: int
) -> float:
    """The largest relative difference of the losses of two implementations over the next steps.

    Both have equal weights and batches before. On a GPU sums in atomic operations differ in their order from run to
    run, and weights that were trained on them differ more with each step.
    """
    difference = 0.0
    for _ in range(steps):
        losses = []
        for step, compute in (one, other):
            step.load()
            losses.append(float(compute()))
        difference = max(difference, abs(losses[0] - losses[1]) / abs(losses[0]))
    return difference
