"""Memory of a training: the search for the largest batch, and trainings whose memory runs out at a set batch size."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hkd.data.prepare import PreparedData
from hkd.inference import store_detection as inference
from hkd.models.build import build_detector
from hkd.models.detector import Detector
from hkd.models.reconstruction import reconstruct
from hkd.runtime.memory import machine_bytes
from hkd.runtime.out_of_memory import is_out_of_memory
from hkd.structures import Detections
from hkd.training import first_weights, memory
from hkd.training.first_weights import FirstWeightsMemoryError
from hkd.training.fit import fit
from hkd.training.memory import (
    BatchTooLargeError,
    largest_that_fits,
    measure_need,
    predicted_batch_size,
)
from hkd.training.progress import TrainingProgress
from hkd.training.teacher.prepare import prepare_teacher
from hkd.training.trainer import Trainer
from tests.training.limited import OUT_OF_MEMORY, limited_teacher
from tests.training.tiny import TEACHER_SHAPE, trial_config

pytestmark = pytest.mark.thorough


@pytest.mark.parametrize(
    ("too_large", "limit", "expected", "tried"),
    [
        # Halving: 32 does not fit, 16 does. Sixteenths of 32 are steps of 2: 24 (12 x 2), 28 (14 x 2), 26 (13 x 2).
        (64, 27, (26, 2), [32, 16, 24, 28, 26]),
        (64, 24, (24, 2), [32, 16, 24, 28, 26]),
        # 32 fits, 64 does not: steps of 4. 48, 56, 60 fit; 64 is known not to.
        (64, 63, (60, 4), [32, 48, 56, 60]),
        # Below 32 to the image.
        (10, 7, (7, 1), [5, 7, 8]),
        (7, 2, (2, 1), [3, 1, 2]),
        # 35 fits and is no multiple of 4: a smaller multiple (32) is not preferred to it.
        (70, 35, (35, 4), [35, 52, 40, 36]),
        (2, 1, (1, 1), [1]),
        (8, 0, (0, 1), [4, 2, 1]),
        (1, 0, (0, 1), []),
    ],
)
def test_search_for_largest_that_fits(too_large: int, limit: int, expected: tuple[int, int], tried: list[int]) -> None:
    sizes: list[int] = []

    def fits(size: int) -> bool:
        sizes.append(size)
        return size <= limit

    assert largest_that_fits(too_large, fits) == expected
    assert sizes == tried


@given(st.integers(1, 5000).flatmap(lambda large: st.tuples(st.just(large), st.integers(0, large - 1))))
def test_result_of_search_fits_and_next_size_does_not(case: tuple[int, int]) -> None:
    too_large, limit = case
    found, step = largest_that_fits(too_large, lambda size: size <= limit)
    assert found <= limit < found + step
    assert step == 1 or step <= found / 8


def test_out_of_memory_errors_are_recognised() -> None:
    with pytest.raises(RuntimeError) as of_torch:
        torch.empty(2**50)
    assert type(of_torch.value) is RuntimeError
    assert is_out_of_memory(of_torch.value)
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    assert is_out_of_memory(RuntimeError("could not create a primitive"))
    assert not is_out_of_memory(RuntimeError("shape '[2, 3]' is invalid for input of size 5"))
    assert not is_out_of_memory(ValueError("DefaultCPUAllocator: can't allocate memory"))


@pytest.mark.parametrize(
    "error",
    [
        OUT_OF_MEMORY,
        MemoryError,
        partial(RuntimeError, "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you"),
    ],
)
def test_largest_fitting_batch_is_named_when_memory_runs_out(
    scenes_dir: Path, data: PreparedData, error: Callable[[], BaseException]
) -> None:
    trainer = Trainer(trial_config(scenes_dir, training__batch_size=7), data, limited_teacher(2, error), device="cpu")
    with pytest.raises(BatchTooLargeError) as caught:
        next(fit(trainer))
    # One line: a study shows the last line of an error.
    assert re.fullmatch(
        r"training.batch_size 7 at 64 x 96 does not fit this machine's memory \([\d.]+ GiB\); the largest that does is "
        r"2: set training.batch_size=2 or less, or choose smaller images \(data.image_height, data.image_width\) or a "
        r"narrower student \((CUDA out of memory|MemoryError|.*can't allocate memory).*\)",
        str(caught.value),
    )
    # The allocator's error, which keeps the step's tensors alive, is not chained.
    assert caught.value.__context__ is None


def test_memory_of_large_batches_is_predicted() -> None:
    # (7 - 1) GB / 3 more images = 2 GB per image: 10 images fill 20 GB.
    assert predicted_batch_size(1e9, 7e9, free_bytes=20e9, pixels=1000) == 10
    # No measured growth: 220 bytes per pixel, 0.22 MB per image.
    assert predicted_batch_size(1e9, 0.9e9, free_bytes=22e6, pixels=1000) == 100
    # Four did fit, whatever is predicted.
    assert predicted_batch_size(1e9, 7e9, free_bytes=0, pixels=1000) == 4


def test_batches_above_available_memory_are_not_tried(
    scenes_dir: Path, data: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 0)
    trainer = Trainer(trial_config(scenes_dir, training__batch_size=7), data, limited_teacher(6))
    with pytest.raises(BatchTooLargeError, match="the largest that does is 4: set"):
        next(fit(trainer))


def test_memory_that_runs_out_in_later_step_is_reported(scenes_dir: Path, data: PreparedData) -> None:
    trainer = Trainer(trial_config(scenes_dir), data, limited_teacher(2))

    def on_progress(moment: TrainingProgress) -> None:
        if moment.step == 4:
            raise MemoryError

    epochs = fit(trainer, progress=on_progress)
    next(epochs)
    # Only smaller batches are tried: another process may have taken the memory in which 2 did fit.
    with pytest.raises(BatchTooLargeError, match=r"batch_size 2 at .* the largest that does is 1: set"):
        next(epochs)


def test_not_even_one_image_fits(scenes_dir: Path, data: PreparedData) -> None:
    trainer = Trainer(trial_config(scenes_dir), data, limited_teacher(0))
    message = r"GiB\), and neither does a batch of 1: choose smaller images .* \(CUDA out of memory. Tried to .* MiB\)$"
    with pytest.raises(BatchTooLargeError, match=message):
        next(fit(trainer))


def test_other_errors_are_raised_unchanged(scenes_dir: Path, data: PreparedData) -> None:
    trainer = Trainer(trial_config(scenes_dir), data, limited_teacher(1, partial(RuntimeError, "a defect")))
    with pytest.raises(RuntimeError, match="^a defect$"):
        next(fit(trainer))


def test_memory_need_is_measured_with_configured_batch(scenes_dir: Path, data: PreparedData) -> None:
    config = trial_config(scenes_dir, training__batch_size=4)
    trainer = Trainer(config, data, limited_teacher(4))
    weights = sum(parameter.nbytes for parameter in trainer.student.parameters())
    need = measure_need(trainer)
    assert (need.device_type, need.device_bytes) == ("cpu", machine_bytes())
    # AdamW keeps a gradient and two moments beside each weight.
    assert 4 * weights < need.peak_bytes < need.device_bytes
    with pytest.raises(BatchTooLargeError, match=r"batch_size 4 at .* the largest that does is 3"):
        measure_need(Trainer(config, data, limited_teacher(3)))


def test_memory_need_includes_batch_of_evaluation(
    scenes_dir: Path, data: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    detect_batch = inference._detect_batch

    def watch(detector: Detector, images: Tensor, *rest: Any) -> Detections:
        seen.append(len(images))
        return detect_batch(detector, images, *rest)

    monkeypatch.setattr(inference, "_detect_batch", watch)
    config = trial_config(scenes_dir, evaluation__batch_size=3)
    measure_need(Trainer(config, data, limited_teacher(2)))
    assert seen == [3]

    def fail(*_: object) -> Detections:
        raise OUT_OF_MEMORY()

    monkeypatch.setattr(inference, "_detect_batch", fail)
    message = r"^evaluation.batch_size 3 at 64 x 96 does not fit this machine's .*; set it lower \(CUDA out of memory"
    with pytest.raises(BatchTooLargeError, match=message):
        measure_need(Trainer(config, data, limited_teacher(2)))


@pytest.mark.parametrize("compute", [lambda trainer: next(fit(trainer)), measure_need])
def test_memory_that_runs_out_in_the_fit_of_first_weights_is_not_attributed_to_the_batch(
    scenes_dir: Path, data: PreparedData, monkeypatch: pytest.MonkeyPatch, compute: Callable[[Trainer], object]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OUT_OF_MEMORY()

    monkeypatch.setattr(first_weights, "reconstruct", fail)
    config = trial_config(scenes_dir, student__init_from="teacher", student__reconstruction_images=3)
    with pytest.raises(FirstWeightsMemoryError) as caught:
        compute(Trainer(config, data, limited_teacher(2)))
    facts = (
        "3 of student.reconstruction_images 3 at 64 x 96",
        "this machine's memory",
        "below 3",
        "CUDA out of memory",
    )
    assert [fact for fact in facts if fact not in str(caught.value)] == []
    assert "batch_size" not in str(caught.value)
    # The allocator's error, which keeps the fit's tensors alive, is not chained.
    assert caught.value.__context__ is None


def test_memory_need_includes_the_fit_of_first_weights(
    scenes_dir: Path, data: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[int] = []

    def watch(student: Detector, teacher: Detector, batches: Any, **rest: Any) -> Any:
        fitted.append(sum(len(batch.images) for batch in batches))
        return reconstruct(student, teacher, batches, **rest)

    monkeypatch.setattr(first_weights, "reconstruct", watch)
    selected = {"student__init_from": "teacher", "student__reconstruction_images": 4}
    teacher = build_detector(TEACHER_SHAPE)
    measure_need(Trainer(trial_config(scenes_dir, **selected), data, teacher))
    assert fitted == [4]
    measure_need(Trainer(trial_config(scenes_dir), data, teacher))
    assert fitted == [4]


def test_teachers_batch_too_large_is_attributed_to_teacher(
    scenes_dir: Path, data: PreparedData, tmp_path: Path
) -> None:
    def on_progress(_: object) -> None:
        raise MemoryError

    with pytest.raises(BatchTooLargeError, match=r"^training of the teacher.*teacher: training.batch_size 2 at"):
        prepare_teacher(trial_config(scenes_dir), data, tmp_path, on_progress)
