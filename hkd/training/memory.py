"""Whether a training fits its device: what a step takes, and where it does not fit the largest batch that does.

A step has the same shapes whatever is in its images, so that one trial tells of all.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import torch

from hkd.config import TrialConfig
from hkd.metric_names import PEAK_MEMORY_BYTES
from hkd.runtime.allocator import release_memory
from hkd.runtime.memory import available_bytes, format_bytes, machine_bytes, peak_resident_bytes
from hkd.runtime.usage import UsageMeter

CUDA_CONTEXT_BYTES = 768 * 2**20
"""Taken on a GPU by each process beside torch's allocations: the context and the libraries' kernels."""
FEW_IMAGES = 4
"""A batch from which, and from one image, the need of larger ones is foretold."""
LEAST_BYTES_PER_PIXEL = 220
"""Of a step of the narrowest student alone, in fp32; measured at 192 x 256."""
BATCHES_TOLD_APART = 16
"""The largest batch that fits is found to a sixteenth of one that does not."""

# Of errors that torch has no type of its own for: of its CPU allocator, and of libraries that allocate past torch.
_OUT_OF_MEMORY_TEXTS = (
    "DefaultCPUAllocator: can't allocate memory",
    # oneDNN, which says no more when it gets no memory.
    "could not create a primitive",
    "could not create a memory object",
    "could not execute a primitive",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


class BatchTooLargeError(ValueError):
    """A step of a training does not fit its device's memory."""


class TriesBatches(Protocol):
    """The part of :class:`hkd.training.loop.Trainer` that is asked for here."""

    config: TrialConfig
    device: torch.device

    def try_batch(self, batch_size: int) -> None:
        """Compute whole steps with a batch of this size."""

    def try_evaluation(self) -> None:
        """Detect in one batch of the evaluation's size."""


AnyTrainer = TypeVar("AnyTrainer", bound=TriesBatches)
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


@dataclass(frozen=True)
class MemoryNeed:
    """What one training takes of its device's memory."""

    peak_bytes: int
    """On a GPU: torch's reserved memory and the CUDA context; on a CPU: the process' resident memory."""
    device_bytes: int
    """All that the device has."""
    device_type: str
    """``cuda`` or ``cpu``."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be had, on a GPU or on a CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY_TEXTS)


def tells_largest_batch(
    train: Callable[Concatenate[AnyTrainer, Parameters], Result],
) -> Callable[Concatenate[AnyTrainer, Parameters], Result]:
    """Let a function of a trainer, where its memory runs out, say which batch would fit.

    The function then raises :class:`BatchTooLargeError` in place of the allocator's error, after real steps with
    smaller batches. The trainer must not be used any more.
    """

    @functools.wraps(train)
    def guarded(trainer: AnyTrainer, /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        try:
            return train(trainer, *args, **kwargs)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = _reason(error)
        # Not inside the clause above: the error's traceback holds on to the tensors of the step that failed.
        raise _too_large(trainer, reason)

    return guarded


@tells_largest_batch
def measure_need(trainer: TriesBatches) -> MemoryNeed:
    """What a training takes, by two of its steps and a batch of its evaluation; the trainer must not be used any more.

    Raises:
        BatchTooLargeError: its batch does not fit, or that of its evaluation.
    """
    device = trainer.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    trainer.try_batch(trainer.config.training.batch_size)
    _try_evaluation(trainer)
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        return MemoryNeed(torch.cuda.max_memory_reserved(device) + CUDA_CONTEXT_BYTES, total, device.type)
    return MemoryNeed(peak_resident_bytes(), machine_bytes(), device.type)


def largest_that_fits(too_large: int, fits: Callable[[int], bool]) -> tuple[int, int]:
    """The largest batch size that fits, below one that does not.

    Halves until one fits, then bisects between that and the last that did not, on multiples of a power of two that is
    at most a sixteenth of the latter: below 32 to the image.

    Args:
        too_large: A batch size that does not fit, 1 or more.
        fits: Tries one; of two that it is asked for, the smaller must fit if the larger does.

    Returns:
        The batch size, 0 if not even 1 fits; and the step in which sizes were told apart.
    """
    largest, smallest_not = too_large // 2, too_large
    while largest and not fits(largest):
        largest, smallest_not = largest // 2, largest
    step = 1
    while 2 * step * BATCHES_TOLD_APART <= smallest_not:
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


def images_with_room(peak_of_one: float, peak_of_few: float, *, free_bytes: float, pixels: int) -> int:
    """The batch for which there is memory, if the need grows from image to image as it does from 1 to FEW_IMAGES.

    Args:
        peak_of_one: Bytes at the peak of a step with one image; ``peak_of_few``: with FEW_IMAGES, which fit.
        free_bytes: Beside what the process holds between steps.
        pixels: Of an image; where the growth is less than any step takes for so many, it is chance and not believed.
    """
    growth = (peak_of_few - peak_of_one) / (FEW_IMAGES - 1)
    return max(FEW_IMAGES, int(free_bytes / max(growth, LEAST_BYTES_PER_PIXEL * pixels)))


def _too_large(trainer: TriesBatches, reason: str) -> BatchTooLargeError:
    """Find out what fits, and say so.

    Args:
        reason: The allocator's own words, which are told as well: there may be another cause.
    """
    config, device = trainer.config, trainer.device
    release_memory(device)
    place = _describe_device(device)
    room = math.inf

    def fits(batch_size: int) -> bool:
        if batch_size > room:
            return False
        try:
            trainer.try_batch(batch_size)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            is_fitting = False
        else:
            is_fitting = True
        release_memory(device)
        return is_fitting

    asked = config.training.batch_size
    if device.type == "cpu" and asked > FEW_IMAGES:
        # Most systems promise more memory than they have, and kill who uses it, without a word on what would fit.
        with UsageMeter(device) as one:
            fits(1)
        with UsageMeter(device) as few:
            is_foretold = fits(FEW_IMAGES)
        if is_foretold:
            peaks = [meter.read()[PEAK_MEMORY_BYTES] for meter in (one, few)]
            pixels = config.data.image_height * config.data.image_width
            room = images_with_room(*peaks, free_bytes=available_bytes(), pixels=pixels)
    largest, step = largest_that_fits(asked, fits)
    size = f"{config.data.image_height} x {config.data.image_width}"
    beginning = f"training.batch_size {asked} at {size} does not fit {place}"
    others = "smaller images (data.image_height, data.image_width) or a narrower student"
    if largest == 0:
        return BatchTooLargeError(f"{beginning}, and neither does a batch of 1: choose {others} ({reason})")
    found = "the largest that does" if step == 1 else f"of the multiples of {step} the largest that does"
    return BatchTooLargeError(
        f"{beginning}; {found} is {largest}: set training.batch_size={largest} or less, or choose {others} ({reason})"
    )


def _try_evaluation(trainer: TriesBatches) -> None:
    """Beside what a training holds on to at the end of an epoch; with a large batch it takes more than a step."""
    try:
        trainer.try_evaluation()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        reason = _reason(error)
    else:
        return
    config = trainer.config
    raise BatchTooLargeError(
        f"evaluation.batch_size {config.evaluation.batch_size} at {config.data.image_height} x "
        f"{config.data.image_width} does not fit {_describe_device(trainer.device)}; set it lower ({reason})"
    )


def _reason(error: BaseException) -> str:
    """The first line of what an allocator said."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _describe_device(device: torch.device) -> str:
    if device.type != "cuda":
        return f"this machine's memory ({format_bytes(machine_bytes())})"
    properties = torch.cuda.get_device_properties(device)
    free, total = torch.cuda.mem_get_info(device)
    index = torch.cuda.current_device() if str(device) == "cuda" else device.index
    return f"GPU {index} ({properties.name}, {format_bytes(total)}, of which {format_bytes(free)} are free for a step)"
