"""The sections that compute training steps, on a CPU at a tiny size; what needs CUDA is replaced or not run."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.gpu import compiled as compiled_step
from benchmarks.gpu.cuda_graph import measure_cuda_graph
from benchmarks.gpu.out_of_memory import measure_out_of_memory
from benchmarks.gpu.section import run_section
from benchmarks.gpu.sections import SECTIONS, Settings
from benchmarks.gpu.static_step import StaticStep, equal_trainer
from benchmarks.gpu.synchronization import first_synchronization
from benchmarks.step.contenders import LABELS, OURS_ALONE, Contenders
from benchmarks.step.workload import STUDENT, TEACHER, Workload
from hkd.training.trainer import Trainer

pytestmark = pytest.mark.thorough

CPU = torch.device("cpu")
# Narrow versions of the benchmark's detectors.
TINY = Workload(
    2,
    64,
    96,
    CPU,
    student=STUDENT.model_copy(update={"width_multiplier": 0.125, "pyramid_channels": 8, "head_channels": 16}),
    teacher=TEACHER.model_copy(update={"width_multiplier": 0.125, "pyramid_channels": 16, "head_channels": 32}),
)
ONE_ROUND = Settings(device="cpu", rounds=1)
MIB = 2**20


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small are slower with two threads, which synchronize at every layer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.gpu.section._CPU_THREADS", 1)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(threads)


@pytest.mark.parametrize("name", [name for name, section in SECTIONS.items() if section.cuda_reason])
def test_section_for_cuda_states_why_it_was_not_run(name: str) -> None:
    record = run_section(SECTIONS[name], TINY, ONE_ROUND)
    assert record.status == "not run"
    assert "the device is cpu" in record.reason
    assert SECTIONS[name].cuda_reason in record.reason


def test_section_without_its_packages_names_them() -> None:
    section = replace(SECTIONS["memory"], packages={"no_such_module": "no-such-package>=1", "torch": "torch"})
    record = run_section(section, TINY, ONE_ROUND)
    assert (record.status, record.reason) == ("not run", "these packages are not installed: no-such-package>=1")


def test_failed_section_has_its_error_in_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_out_of_memory(*_: object) -> dict[str, list[float]]:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB\nmore lines")

    monkeypatch.setattr("benchmarks.gpu.step_times.time_steps", run_out_of_memory)
    record = run_section(SECTIONS["step"], TINY, ONE_ROUND)
    assert record.status == "failed"
    assert "Tried to allocate 20 MiB; choose smaller images or a smaller batch (--batch-size" in record.reason


def test_step_section_has_a_row_of_every_contender() -> None:
    record = run_section(SECTIONS["step"], TINY, ONE_ROUND)
    assert record.status == "measured", record.reason
    assert all(f"| {label} |" in record.tables for label in LABELS.values())
    assert record.figures["milliseconds_by_round"].keys() == LABELS.keys()


class NoReading(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Raises as CUDA's debug mode does where the host reads a number of a tensor."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("called a synchronizing CUDA operation (Triggered internally at CUDAFunctions.cpp)")
        return function(*args, **(kwargs or {}))


@contextmanager
def no_reading() -> Iterator[None]:
    with NoReading():  # type: ignore[no-untyped-call]
        yield


def test_first_synchronization_is_the_stack_of_the_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = equal_trainer(Contenders(TINY), OURS_ALONE)
    assert first_synchronization(trainer, CPU, nullcontext) is None
    update = trainer.update

    def update_and_read(learner: Any) -> Tensor:
        norm = update(learner)
        norm.item()
        return norm

    monkeypatch.setattr(trainer, "update", update_and_read)
    stack = first_synchronization(trainer, CPU, no_reading)
    assert stack is not None
    # Paths start at the checkout; the last line is torch's message.
    assert 'File "' in stack
    assert str(Path(__file__).parents[3]) not in stack
    assert "called a synchronizing CUDA operation" in stack.splitlines()[-1]


def test_other_errors_of_the_step_are_not_synchronizations() -> None:
    trainer = equal_trainer(Contenders(TINY), OURS_ALONE)

    def broken() -> AbstractContextManager[None]:
        raise RuntimeError("another error")

    with pytest.raises(RuntimeError, match="another error"):
        first_synchronization(trainer, CPU, broken)


def test_static_step_is_bit_identical_to_the_trainers_step() -> None:
    contenders = Contenders(TINY)
    trainer, step = equal_trainer(contenders), StaticStep(equal_trainer(contenders))
    trainer.draw_keys(trainer.next_batch())  # the inputs with which the static step allocated its memory
    for _ in range(2):
        step.load()
        assert float(step.compute()) == float(trainer.step())


def test_graph_section_compares_losses_of_eager_and_captured_steps() -> None:
    def capture(step: StaticStep) -> Callable[[], Tensor]:
        step.warm_up()
        return step.compute

    def capture_without_updates(step: StaticStep) -> Callable[[], Tensor]:
        step.warm_up()
        return lambda: torch.tensor(1e3)

    same = measure_cuda_graph(TINY, ONE_ROUND, capture)
    assert same.figures["loss_difference"] == 0
    assert "must not be used" not in same.meaning
    assert len(same.figures["milliseconds_by_round"]) == 4
    assert "must not be used" in measure_cuda_graph(TINY, ONE_ROUND, capture_without_updates).meaning


def test_compiled_code_is_kept_in_a_new_folder_of_this_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/before")
    monkeypatch.delenv("TRITON_CACHE_DIR", raising=False)
    with compiled_step.private_caches():
        folders = [Path(os.environ[name]).parent for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")]
        assert folders[0] == folders[1]
        assert stat.S_IMODE(folders[0].stat().st_mode) == 0o700
        assert list(folders[0].iterdir()) == []
    assert not folders[0].exists()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/before"
    assert "TRITON_CACHE_DIR" not in os.environ


def test_compile_section_compares_losses_of_eager_and_compiled_steps() -> None:
    record = run_section(SECTIONS["compile"], TINY, ONE_ROUND)
    assert record.status == "measured", record.reason
    # The backend "eager" runs the same kernels; only NMS is computed another way.
    assert record.figures["loss_difference"] < 1e-4
    assert "compiled, backend eager" in record.tables


def test_memory_section_has_the_share_of_auto() -> None:
    record = run_section(SECTIONS["memory"], TINY, ONE_ROUND)
    assert record.status == "measured", record.reason
    assert record.figures.keys() == {"hkd, student alone", "hkd, distilled"}
    for figures in record.figures.values():
        # A trial on a machine without a GPU that asks for one reserves a whole one.
        assert figures["share"] == 1
        assert 0 < figures["peak_bytes"] < figures["device_bytes"]


class FakeMemory:
    """A device on which a training needs 10 MiB, and each image of a batch 40 MiB more."""

    def __init__(self) -> None:
        self.limit_bytes: int | None = None
        self.limits: list[int | None] = []

    def limit(self, limit_bytes: int | None) -> None:
        self.limit_bytes = limit_bytes
        self.limits.append(limit_bytes)

    def reserved_bytes(self) -> int:
        return 10 * MIB

    def peak_bytes(self, _: Trainer, batch_size: int) -> int:
        return (10 + 40 * batch_size) * MIB

    def allocate(self, batch_size: int) -> None:
        if self.limit_bytes is not None and (10 + 40 * batch_size) * MIB > self.limit_bytes:
            raise torch.OutOfMemoryError("CUDA out of memory")


def test_each_way_to_run_out_of_memory_gives_the_message_of_hkd(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = FakeMemory()
    monkeypatch.setattr(Trainer, "try_batch", lambda _, batch_size: memory.allocate(batch_size))
    monkeypatch.setattr(Trainer, "try_evaluation", lambda own: memory.allocate(own.config.evaluation.batch_size))
    # A batch of 4 needs 170 MiB. Of 60 % of that, 102 MiB, 2 images need 90 and 3 need 130.
    found = measure_out_of_memory(replace(TINY, batch_size=4), ONE_ROUND, memory)
    step, evaluation, single = (case["message"] for case in found.figures["cases"])
    assert "training.batch_size 4" in step
    assert "set training.batch_size=2" in step
    assert found.figures["is_named_batch_fitting"] is True
    # One image needs 50 MiB and fits 60; the evaluation's 64 do not.
    assert "evaluation.batch_size 64" in evaluation
    # 10 + 8 MiB.
    assert "neither does a batch of 1" in single
    assert memory.limits[-1] is None
    assert "3 of 3" in found.meaning


def test_missing_errors_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "try_batch", lambda *_: None)
    monkeypatch.setattr(Trainer, "try_evaluation", lambda _: None)
    found = measure_out_of_memory(TINY, ONE_ROUND, FakeMemory())
    assert "0 of 3" in found.meaning
    assert found.tables.count("no error: it fits") == 3
