"""Memory that a training needs on its device, and the largest batch that fits where its own does not.

All steps have the same shapes whatever their images show, so one trial step is representative.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from hkd.config import TrialConfig
from hkd.metric_names import PEAK_MEMORY_BYTES
from hkd.runtime.allocator import release_memory
from hkd.runtime.memory import available_bytes, format_bytes, machine_bytes, peak_resident_bytes
from hkd.runtime.out_of_memory import allocation_failure, describe_device
from hkd.runtime.usage import UsageMeter
from hkd.training.trainer import Trainer

CUDA_CONTEXT_BYTES = 768 * 2**20
"""Memory of a GPU that each process uses in addition to torch's allocations: the context and the libraries' kernels."""
FEW_IMAGES = 4
"""Batch size from which, together with 1, the memory of larger batches is predicted."""
MIN_BYTES_PER_PIXEL = 220
"""Memory of a step per pixel, of the narrowest student without a teacher in fp32; measured at 192 x 256."""
MIN_EVALUATION_BYTES_PER_PIXEL = 12
"""Memory of an evaluation per pixel, of the images alone: three channels of four bytes."""
SEARCH_RESOLUTION = 16
"""The largest batch that fits is found to a sixteenth of one that does not."""


class BatchTooLargeError(ValueError):
    """A step of a training, or a batch of its evaluation, does not fit the device's memory."""


@dataclass(frozen=True)
class MemoryNeed:
    """Memory of one training on its device."""

    peak_bytes: int
    """On a GPU: torch's reserved memory and the CUDA context; on a CPU: the process' resident memory."""
    device_bytes: int
    """Total memory of the device."""
    device_type: str
    """``cuda`` or ``cpu``."""


def check_plausible_batch(config: TrialConfig, device: torch.device) -> None:
    """Check that the smallest possible step of this batch is smaller than the machine's memory.

    On a CPU, the system kills a process that uses more memory than there is: what cannot fit must not be tried.

    Raises:
        BatchTooLargeError: it is larger.
    """
    if device.type != "cpu":
        return
    height, width = config.data.image_height, config.data.image_width
    for name, batch_size, bytes_per_pixel in (
        ("training.batch_size", config.training.batch_size, MIN_BYTES_PER_PIXEL),
        ("evaluation.batch_size", config.evaluation.batch_size, MIN_EVALUATION_BYTES_PER_PIXEL),
    ):
        need = batch_size * height * width * bytes_per_pixel
        if need > machine_bytes():
            raise BatchTooLargeError(
                f"{name} {batch_size} at {height} x {width} needs at least {format_bytes(need)} and does not fit "
                f"{describe_device(device)}; set it lower, or choose smaller images (data.image_height, "
                "data.image_width)"
            )


def measure_need(trainer: Trainer) -> MemoryNeed:
    """Memory of the fit of first weights where there is one, of two steps and of one batch of the evaluation.

    The trainer cannot be used afterwards.

    Raises:
        BatchTooLargeError: the batch of the training or of its evaluation does not fit.
        FirstWeightsMemoryError: the fit does not.
    """
    device = trainer.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    trainer.try_first_weights()
    reason = allocation_failure(lambda: trainer.try_batch(trainer.config.training.batch_size))
    if reason is not None:
        raise batch_too_large(trainer, reason)
    # Together with the training's state, a large evaluation batch may need more memory than a step.
    reason = allocation_failure(trainer.try_evaluation)
    if reason is not None:
        config = trainer.config
        raise BatchTooLargeError(
            f"evaluation.batch_size {config.evaluation.batch_size} at {config.data.image_height} x "
            f"{config.data.image_width} does not fit {describe_device(device)}; set it lower ({reason})"
        )
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        return MemoryNeed(torch.cuda.max_memory_reserved(device) + CUDA_CONTEXT_BYTES, total, device.type)
    return MemoryNeed(peak_resident_bytes(), machine_bytes(), device.type)


def batch_too_large(trainer: Trainer, reason: str) -> BatchTooLargeError:
    """Find the largest batch that fits by computing steps, and describe it; the trainer cannot be used afterwards.

    Call it outside the ``except`` clause of the failed step: the error's traceback keeps the step's tensors alive.

    Args:
        reason: The allocator's message, which is quoted, because the cause may be another one.
    """
    config, device = trainer.config, trainer.device
    release_memory(device)
    place = describe_device(device)

    def fits(batch_size: int) -> bool:
        is_fitting = allocation_failure(lambda: trainer.try_batch(batch_size)) is None
        release_memory(device)
        return is_fitting

    configured = config.training.batch_size
    limit = math.inf
    if device.type == "cpu" and configured > FEW_IMAGES:
        # Most systems promise more memory than they have and kill a process that uses it: never try what cannot fit.
        limit = _predicted_limit(trainer, fits)
    largest, step = largest_that_fits(configured, lambda batch_size: batch_size <= limit and fits(batch_size))
    size = f"{config.data.image_height} x {config.data.image_width}"
    problem = f"training.batch_size {configured} at {size} does not fit {place}"
    others = "smaller images (data.image_height, data.image_width) or a narrower student"
    if largest == 0:
        return BatchTooLargeError(f"{problem}, and neither does a batch of 1: choose {others} ({reason})")
    found = "the largest that does" if step == 1 else f"of the multiples of {step} the largest that does"
    return BatchTooLargeError(
        f"{problem}; {found} is {largest}: set training.batch_size={largest} or less, or choose {others} ({reason})"
    )


def largest_that_fits(too_large: int, fits: Callable[[int], bool]) -> tuple[int, int]:
    """The largest batch size that fits, below one that does not.

    Halves until one fits, then bisects between it and the last that did not, on multiples of a power of two that is at
    most a sixteenth of the latter: below 32 the result is exact.

    Args:
        too_large: A batch size that does not fit, 1 or more.
        fits: Tries one; must be monotonic: a batch that is smaller than a fitting one fits.

    Returns:
        The batch size, 0 if not even 1 fits; and the step between the sizes that were compared.
    """
    largest, smallest_not = too_large // 2, too_large
    while largest and not fits(largest):
        largest, smallest_not = largest // 2, largest
    step = 1
    while 2 * step * SEARCH_RESOLUTION <= smallest_not:
        step *= 2
    # Multiples of the step: the last that is known to fit, and the first that is known not to.
    low, high = largest // step, -(-smallest_not // step)
    while largest and high - low > 1:
        middle = (low + high) // 2
        if fits(middle * step):
            low = middle
        else:
            high = middle
    return max(largest, low * step), step


def predicted_batch_size(peak_of_one: float, peak_of_few: float, *, free_bytes: float, pixels: int) -> int:
    """The batch that fills the free memory, if memory grows linearly with the images.

    Args:
        peak_of_one: Peak bytes of a step with one image.
        peak_of_few: Peak bytes of a step with FEW_IMAGES, which fit.
        free_bytes: Memory that is available in addition to what the process holds between steps.
        pixels: Of an image. A measured growth below the minimum for so many pixels is noise, and replaced by it.
    """
    growth = (peak_of_few - peak_of_one) / (FEW_IMAGES - 1)
    return max(FEW_IMAGES, int(free_bytes / max(growth, MIN_BYTES_PER_PIXEL * pixels)))


def _predicted_limit(trainer: Trainer, fits: Callable[[int], bool]) -> float:
    """A batch size above which nothing is tried; infinite if not even a small batch fits."""
    with UsageMeter(trainer.device) as one:
        fits(1)
    with UsageMeter(trainer.device) as few:
        is_fitting = fits(FEW_IMAGES)
    if not is_fitting:
        return math.inf
    peaks = [meter.read()[PEAK_MEMORY_BYTES] for meter in (one, few)]
    data = trainer.config.data
    return predicted_batch_size(*peaks, free_bytes=available_bytes(), pixels=data.image_height * data.image_width)
