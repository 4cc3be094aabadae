"""Time of each part of hkd's step, and floating-point operations of any step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any
from unittest import mock

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.step.hkd_trainer import HkdTrainer
from benchmarks.step.timing import Spread, milliseconds_of, print_progress
from hkd.models import detector as detector_module
from hkd.training.step import loss as step_module

DATA = "data: gathering and augmentation"
TEACHER = "teacher: pyramid, regions and box head"
STUDENT_DENSE = "student's dense part: backbone, pyramid, RPN head"
PROPOSALS = "proposals"
MATCHING = "matching and sampling"
ROI = "RoIAlign and box head"
LOSSES = "losses"
BACKWARD = "backward"
OPTIMISER = "clipping and optimiser"
REST = "rest"


@dataclass(frozen=True)
class Part:
    """One part of the step."""

    name: str
    milliseconds: Spread
    share: float
    """Median time over the median time of the step, in [0, 1]."""


@dataclass(frozen=True)
class Breakdown:
    """Times of a step and its parts."""

    parts: tuple[Part, ...]
    step_milliseconds: Spread
    """The step with all parts timed; on a GPU it is slower than usual, as every part is synchronized."""


def measure_breakdown(trainer: HkdTrainer, rounds: int, device: torch.device) -> Breakdown:
    """Time the parts of ``rounds`` steps of a trainer with one student and a teacher."""
    places = _places(trainer)
    names = [*dict.fromkeys(name for name, _, _ in places), REST]
    milliseconds: dict[str, list[float]] = {name: [] for name in names}
    step_milliseconds = []
    trainer.step()
    for number in range(rounds):
        print_progress(f"breakdown: step {number + 1} of {rounds}")
        spent = dict.fromkeys(names, 0.0)
        with _timed_places(places, spent, device):
            step_milliseconds.append(milliseconds_of(trainer.step, device))
        spent[REST] = step_milliseconds[-1] - sum(spent.values())
        for name in names:
            milliseconds[name].append(spent[name])
    step = Spread.of(step_milliseconds)
    spreads = {name: Spread.of(values) for name, values in milliseconds.items()}
    parts = tuple(Part(name, spread, spread.median / step.median) for name, spread in spreads.items())
    return Breakdown(parts, step)


def step_flops(step: Callable[[], object]) -> int:
    """Floating-point operations of a call's convolutions and matrix products, with backward, 2 per multiply-add."""
    with FlopCounterMode(display=False, custom_mapping=_fused_convolutions()) as counter:
        step()
    return int(counter.get_total_flops())


def _fused_convolutions() -> dict[Any, Callable[..., int]]:
    """Operation counts of oneDNN's fused convolutions, which FlopCounterMode does not support."""
    packet = getattr(torch.ops.mkldnn, "_convolution_pointwise", None)
    if packet is None:
        return {}

    def count(_: Sequence[int], second: Sequence[int], third: Sequence[int] | None, *__: Any, **named: Any) -> int:
        # (features, weight, bias, ...), or (features, added, weight, bias, ...) with an addition.
        weight = third if third is not None and len(third) == 4 else second
        outputs: Sequence[int] = named["out_shape"]
        return 2 * math.prod(outputs) * math.prod(weight[1:])

    return {packet: count}


def _places(trainer: HkdTrainer) -> list[tuple[str, Any, str]]:
    """(part, owner, attribute) of the calls to time; none calls another."""
    (learner,) = trainer.learners
    student, teacher = learner.detector, trainer.teacher
    assert teacher is not None
    return [
        (DATA, trainer, "next_batch"),
        (DATA, student, "draw_sampling_keys"),
        (TEACHER, teacher, "forward_pyramid"),
        (TEACHER, teacher, "forward_regions"),
        (STUDENT_DENSE, student, "forward_pyramid"),
        (STUDENT_DENSE, student.rpn, "forward"),
        (PROPOSALS, detector_module, "select_proposals"),
        (MATCHING, detector_module, "match_anchors"),
        (MATCHING, detector_module, "sample_anchors"),
        (MATCHING, detector_module, "append_ground_truth"),
        (MATCHING, detector_module, "sample_regions"),
        (ROI, student, "region_taps"),
        (ROI, student, "forward_regions"),
        (LOSSES, detector_module, "rpn_losses"),
        (LOSSES, detector_module, "region_losses"),
        (LOSSES, learner.objective, "forward"),
        (LOSSES, step_module, "total_loss"),
        (BACKWARD, trainer, "backward"),
        (OPTIMISER, trainer, "update"),
    ]


@contextmanager
def _timed_places(places: list[tuple[str, Any, str]], spent: dict[str, float], device: torch.device) -> Iterator[None]:
    with ExitStack() as stack:
        for name, owner, attribute in places:
            call = _timed(getattr(owner, attribute), name, spent, device)
            stack.enter_context(mock.patch.object(owner, attribute, call))
        yield


def _timed(
    call: Callable[..., object], name: str, spent: dict[str, float], device: torch.device
) -> Callable[..., object]:
    @wraps(call)
    def timed(*arguments: Any, **named: Any) -> object:
        results: list[object] = []
        spent[name] += milliseconds_of(lambda: results.append(call(*arguments, **named)), device)
        return results[0]

    return timed
