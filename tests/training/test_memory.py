"""What fits: the search for the largest batch, and real trainings whose memory runs out at a set batch size."""

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
from hkd.models.detector import Detector
from hkd.runtime.memory import machine_bytes
from hkd.structures import Detections
from hkd.training import memory
from hkd.training.loop import Trainer
from hkd.training.memory import (
    BatchTooLargeError,
    images_with_room,
    is_out_of_memory,
    largest_that_fits,
    measure_need,
)
from hkd.training.teacher import prepare_teacher
from tests.training.limited import OUT_OF_MEMORY, limited_teacher
from tests.training.tiny import trial_config

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
def test_the_largest_that_fits(too_large: int, limit: int, expected: tuple[int, int], tried: list[int]) -> None:
    sizes: list[int] = []

    def fits(size: int) -> bool:
        sizes.append(size)
        return size <= limit

    assert largest_that_fits(too_large, fits) == expected
    assert sizes == tried


@given(st.integers(1, 5000).flatmap(lambda large: st.tuples(st.just(large), st.integers(0, large - 1))))
def test_what_is_found_fits_and_a_step_more_does_not(case: tuple[int, int]) -> None:
    too_large, limit = case
    found, step = largest_that_fits(too_large, lambda size: size <= limit)
    assert found <= limit < found + step
    assert step == 1 or step <= found / 8


def test_errors_that_tell_of_memory() -> None:
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
def test_a_batch_that_does_not_fit_is_told_with_the_largest_that_does(
    scenes_dir: Path, data: PreparedData, error: Callable[[], BaseException]
) -> None:
    trainer = Trainer(trial_config(scenes_dir, training__batch_size=7), data, limited_teacher(2, error), device="cpu")
    with pytest.raises(BatchTooLargeError) as caught:
        trainer.train_epoch()
    # One line: a study shows the last line of what went wrong.
    assert re.fullmatch(
        r"training.batch_size 7 at 64 x 96 does not fit this machine's memory \([\d.]+ GiB\); the largest that does is "
        r"2: set training.batch_size=2 or less, or choose smaller images \(data.image_height, data.image_width\) or a "
        r"narrower student \((CUDA out of memory|MemoryError|.*can't allocate memory).*\)",
        str(caught.value),
    )
    # The allocator's own error, and with it the step's tensors, is gone.
    assert caught.value.__context__ is None


def test_the_need_of_large_batches_is_foretold() -> None:
    # (7 - 1) GB / 3 images more = 2 GB an image: 20 GB have room for 10.
    assert images_with_room(1e9, 7e9, free_bytes=20e9, pixels=1000) == 10
    # No growth to be seen: 220 bytes a pixel, 0.22 MB an image.
    assert images_with_room(1e9, 0.9e9, free_bytes=22e6, pixels=1000) == 100
    # Four did fit, whatever is foretold.
    assert images_with_room(1e9, 7e9, free_bytes=0, pixels=1000) == 4


def test_no_batch_is_tried_that_the_machine_has_no_room_for(
    scenes_dir: Path, data: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 0)
    trainer = Trainer(trial_config(scenes_dir, training__batch_size=7), data, limited_teacher(6))
    with pytest.raises(BatchTooLargeError, match="the largest that does is 4: set"):
        trainer.train_epoch()


def test_memory_that_runs_out_in_a_later_step_is_told_as_well(scenes_dir: Path, data: PreparedData) -> None:
    trainer = Trainer(trial_config(scenes_dir), data, limited_teacher(2))

    def on_step(step: int, *_: object) -> None:
        if step == 2:
            raise MemoryError

    trainer.train_epoch()
    # Batches of 1 fit; that 2 did is forgotten, for what ran out may be held by someone else by now.
    with pytest.raises(BatchTooLargeError, match=r"batch_size 2 at .* the largest that does is 1: set"):
        trainer.train_epoch(on_step)


def test_where_not_even_one_image_fits(scenes_dir: Path, data: PreparedData) -> None:
    trainer = Trainer(trial_config(scenes_dir), data, limited_teacher(0))
    told = r"GiB\), and neither does a batch of 1: choose smaller images .* \(CUDA out of memory. Tried to .* MiB\)$"
    with pytest.raises(BatchTooLargeError, match=told):
        trainer.train_epoch()


def test_other_errors_pass_unchanged(scenes_dir: Path, data: PreparedData) -> None:
    trainer = Trainer(trial_config(scenes_dir), data, limited_teacher(1, partial(RuntimeError, "a defect")))
    with pytest.raises(RuntimeError, match="^a defect$"):
        trainer.train_epoch()


def test_the_need_of_a_training_is_measured_on_its_own_batch(scenes_dir: Path, data: PreparedData) -> None:
    config = trial_config(scenes_dir, training__batch_size=4)
    trainer = Trainer(config, data, limited_teacher(4))
    weights = sum(parameter.nbytes for parameter in trainer.student.parameters())
    need = measure_need(trainer)
    assert (need.device_type, need.device_bytes) == ("cpu", machine_bytes())
    # AdamW keeps a gradient and two moments beside each weight.
    assert 4 * weights < need.peak_bytes < need.device_bytes
    with pytest.raises(BatchTooLargeError, match=r"batch_size 4 at .* the largest that does is 3"):
        measure_need(Trainer(config, data, limited_teacher(3)))


def test_a_batch_of_the_evaluation_is_measured_as_well(
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
    told = r"^evaluation.batch_size 3 at 64 x 96 does not fit this machine's .*; set it lower \(CUDA out of memory"
    with pytest.raises(BatchTooLargeError, match=told):
        measure_need(Trainer(config, data, limited_teacher(2)))


def test_a_teachers_own_batch_is_named_as_its(scenes_dir: Path, data: PreparedData, tmp_path: Path) -> None:
    def on_progress(_: object) -> None:
        raise MemoryError

    with pytest.raises(
        BatchTooLargeError, match=r"^of the teacher, whose settings stand below teacher: training.batch"
    ):
        prepare_teacher(trial_config(scenes_dir), data, tmp_path, on_progress)
