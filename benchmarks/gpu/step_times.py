"""Time of a training step beside torchvision's own loop."""

from __future__ import annotations

from benchmarks.gpu.records import Measurement
from benchmarks.gpu.sections import Settings
from benchmarks.step.contenders import BASELINE_BF16, BASELINE_FP32, LABELS, OURS, OURS_ALONE, Contenders, time_steps
from benchmarks.step.report import step_rows, step_table
from benchmarks.step.timing import Spread, ratios
from benchmarks.step.workload import Workload


def measure_step_times(workload: Workload, settings: Settings) -> Measurement:
    """The table of ``python -m benchmarks.step --only step``."""
    contenders = Contenders(workload)
    milliseconds = time_steps({name: contenders.make(name) for name in LABELS}, settings.rounds, workload.device)
    rows = step_rows(milliseconds, list(LABELS), workload.batch_size)
    ours = milliseconds[OURS]
    over_fp32, over_bf16 = (ratios(milliseconds[name], ours).median for name in (BASELINE_FP32, BASELINE_BF16))
    cost = ratios(ours, milliseconds[OURS_ALONE]).median
    meaning = (
        f"A distilled step takes {Spread.of(ours).median:.1f} ms: {over_fp32:.2f} times the speed of torchvision's "
        f"loop in fp32 and {over_bf16:.2f} times in bf16, and {cost:.2f} times the time of a step without a teacher."
    )
    return Measurement(step_table(rows, settings.rounds), meaning, {"milliseconds_by_round": milliseconds})
