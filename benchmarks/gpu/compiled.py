"""``torch.compile`` of the losses of the distilled step."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from benchmarks.gpu.records import Measurement
from benchmarks.gpu.sections import Settings
from benchmarks.gpu.static_step import LossFunction, StaticStep, equal_trainer, largest_difference, with_loading
from benchmarks.step.contenders import LABELS, OURS, OURS_ALONE, Contenders
from benchmarks.step.report import interval, markdown_table
from benchmarks.step.timing import Spread, print_progress, ratios, time_interleaved
from benchmarks.step.workload import Workload
from hkd.runtime.out_of_memory import first_line

_COMPARED_STEPS = 4
_CACHE_FOLDERS = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton"}
BACKENDS = {"cuda": "inductor", "cpu": "eager"}
"""On a CPU the step is traced only, because its compilation takes minutes."""
_CONTENDERS = {"cuda": OURS, "cpu": OURS_ALONE}
"""On a CPU the teacher calls oneDNN's fused convolutions, which cannot be traced."""


def measure_compiled(workload: Workload, settings: Settings) -> Measurement:
    """Time of the step with its losses compiled as one graph, and of a CUDA graph of that step."""
    with private_caches():
        return _measure(workload, settings)


@contextmanager
def private_caches() -> Iterator[None]:
    """Keep compiled code in a new folder of this user: by default it is in /tmp, where others can place code first.

    The folder is empty, so that the time of the compilation is measured.
    """
    before = {name: os.environ.get(name) for name in _CACHE_FOLDERS}
    with tempfile.TemporaryDirectory(prefix="hkd-benchmark-") as folder:
        os.environ.update({name: str(Path(folder) / own) for name, own in _CACHE_FOLDERS.items()})
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def _measure(workload: Workload, settings: Settings) -> Measurement:
    contenders, device = Contenders(workload), workload.device
    backend = BACKENDS[device.type]

    def compile_loss(loss: LossFunction) -> LossFunction:
        compiled: LossFunction = torch.compile(loss, fullgraph=True, dynamic=False, backend=backend)
        return compiled

    contender = _CONTENDERS[device.type]
    eager = StaticStep(equal_trainer(contenders, contender))
    compiled = StaticStep(equal_trainer(contenders, contender), compile_loss)
    print_progress(f"compile: compiling with {backend}")
    started = time.perf_counter()
    float(compiled.compute())  # synchronizes a GPU
    compile_seconds = time.perf_counter() - started
    eager.compute()
    difference = largest_difference((eager, eager.compute), (compiled, compiled.compute), _COMPARED_STEPS)
    name = f"compiled, backend {backend}"
    calls = {"eager": with_loading(eager, eager.compute), name: with_loading(compiled, compiled.compute)}
    milliseconds = time_interleaved(calls, settings.rounds, 2, device, "compile")
    rows = [_row("eager", milliseconds["eager"], None), _row(name, milliseconds[name], milliseconds["eager"])]
    note = ""
    if device.type == "cuda":
        graph_name = f"{name}, in a CUDA graph"
        try:
            calls = {"eager": calls["eager"], graph_name: with_loading(compiled, compiled.capture())}
            of_graph = time_interleaved(calls, settings.rounds, 1, device, "compile, CUDA graph")
        except RuntimeError as error:
            note = f" The compiled step could not be captured as a CUDA graph: {first_line(error)}"
        else:
            rows.append(_row(graph_name, of_graph[graph_name], of_graph["eager"]))
            milliseconds[graph_name] = of_graph[graph_name]
    table = markdown_table([LABELS[contender], "ms, median (quartiles)", "speed over eager"], rows)
    speedup = ratios(milliseconds["eager"], milliseconds[name]).median
    meaning = (
        f"The losses compile as one graph; with the backend {backend} a step is {speedup:.2f} times as fast, after "
        f"{compile_seconds:.0f} s for the first one. Over {_COMPARED_STEPS} steps from equal weights its losses differ "
        f"from those of eager steps by at most {100 * difference:.2g} %.{note}"
    )
    figures = {
        "milliseconds_by_round": milliseconds,
        "first_step_seconds": compile_seconds,
        "loss_difference": difference,
    }
    return Measurement(table, meaning, figures)


def _row(name: str, milliseconds: Sequence[float], eager: Sequence[float] | None) -> list[str]:
    speed = "" if eager is None else f"{ratios(eager, milliseconds).median:.2f}x"
    return [name, interval(Spread.of(milliseconds), "{:.1f}"), speed]
