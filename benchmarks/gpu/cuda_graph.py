"""A CUDA graph of the distilled step."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from benchmarks.gpu.records import Measurement
from benchmarks.gpu.sections import Settings
from benchmarks.gpu.static_step import StaticStep, equal_trainer, largest_difference, with_loading
from benchmarks.step.contenders import Contenders
from benchmarks.step.report import interval, markdown_table
from benchmarks.step.timing import Spread, ratios, time_interleaved
from benchmarks.step.workload import Workload

_COMPARED_STEPS = 4
_LARGEST_DIFFERENCE = 0.05

Capture = Callable[[StaticStep], Callable[[], Tensor]]


def measure_cuda_graph(workload: Workload, settings: Settings, capture: Capture = StaticStep.capture) -> Measurement:
    """Time of the step with and without its data, computed op by op and replayed from a graph."""
    contenders = Contenders(workload)
    eager, captured = (StaticStep(equal_trainer(contenders)) for _ in range(2))
    eager.warm_up()
    replay = capture(captured)
    difference = largest_difference((eager, eager.compute), (captured, replay), _COMPARED_STEPS)
    calls: dict[str, Callable[[], object]] = {
        "eager": with_loading(eager, eager.compute),
        "CUDA graph": with_loading(captured, replay),
        "eager, without loading the batch": eager.compute,
        "CUDA graph, without loading the batch": replay,
    }
    milliseconds = time_interleaved(calls, settings.rounds, 1, workload.device, "cuda_graph")
    rows = []
    for number, (name, own) in enumerate(milliseconds.items()):
        reference = list(milliseconds.values())[number // 2 * 2]
        rows.append([name, interval(Spread.of(own), "{:.1f}"), f"{ratios(reference, own).median:.2f}x"])
    whole, graph = (milliseconds[name] for name in ("eager", "CUDA graph"))
    table = markdown_table(["distilled step", "ms, median (quartiles)", "speed over eager"], rows)
    meaning = (
        f"A CUDA graph makes a step {ratios(whole, graph).median:.2f} times as fast; over {_COMPARED_STEPS} steps from "
        f"equal weights its losses differ from those of eager steps by at most {100 * difference:.2g} %"
    )
    if not difference <= _LARGEST_DIFFERENCE:
        meaning += ", which is too much for the same computation: the graph must not be used before the cause is known"
    return Measurement(table, f"{meaning}.", {"milliseconds_by_round": milliseconds, "loss_difference": difference})
