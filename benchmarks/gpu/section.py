"""One section in a process of its own: ``python -m benchmarks.gpu.section NAME OUT SETTINGS``.

It writes the section's record, also where the section cannot be measured or fails. An own process keeps settings of
torch, CUDA graphs, memory and errors of one section from the others.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.gpu.packages import absent
from benchmarks.gpu.records import Measurement, NotRunError, Record
from benchmarks.gpu.sections import SECTIONS, Section, Settings
from benchmarks.gpu.work import workload_of
from benchmarks.step.contenders import OURS, prepare_process
from benchmarks.step.report import machine_line, work_line
from benchmarks.step.workload import Workload
from hkd.runtime.device import DeviceError
from hkd.runtime.out_of_memory import first_line, is_out_of_memory

_CPU_THREADS = 2


def main() -> int:
    """Measure one section and write its record; the exit status is 0 unless the record could not be written."""
    name, folder, settings = sys.argv[1], Path(sys.argv[2]), Settings(**json.loads(sys.argv[3]))
    try:
        workload = workload_of(settings)
    except DeviceError as error:
        Record(name, settings.recorded(), "not run", str(error)).write(folder)
    else:
        run_section(SECTIONS[name], workload, settings).write(folder)
    return 0


def run_section(section: Section, workload: Workload, settings: Settings) -> Record:
    """Measure a section on a workload; errors end up in the record."""
    device = workload.device
    if device.type == "cpu":
        torch.set_num_threads(_CPU_THREADS)
    prepare_process(OURS, device)
    started = time.perf_counter()
    machine, work = machine_line(device, torch.get_num_threads()), work_line(workload)
    record = Record(section.name, settings.recorded(), "failed", machine=machine, workload=work)
    try:
        _check(section, device)
        measured = _measure_function(section.name)(workload, settings)
    except NotRunError as error:
        return replace(record, status="not run", reason=str(error))
    except Exception as error:  # noqa: BLE001 (whatever fails must not end the other sections)
        traceback.print_exc()
        reason = f"{type(error).__name__}: {first_line(error).rstrip('.')}"
        if is_out_of_memory(error):
            reason += "; choose smaller images or a smaller batch (--batch-size, --height, --width)"
        return replace(record, reason=reason, seconds=time.perf_counter() - started)
    return replace(
        record,
        status="measured",
        seconds=time.perf_counter() - started,
        tables=measured.tables,
        meaning=measured.meaning,
        figures=measured.figures,
    )


def _check(section: Section, device: torch.device) -> None:
    missing = [section.packages[module] for module in absent(section.packages)]
    if missing:
        raise NotRunError(f"these packages are not installed: {', '.join(missing)}")
    if section.cuda_reason and device.type != "cuda":
        raise NotRunError(f"the device is {device.type}, and {section.cuda_reason}")


def _measure_function(name: str) -> Callable[[Workload, Settings], Measurement]:
    # Imported here: the sections need different packages.
    match name:
        case "step":
            from benchmarks.gpu.step_times import measure_step_times

            return measure_step_times
        case "synchronization":
            from benchmarks.gpu.synchronization import measure_synchronization

            return measure_synchronization
        case "cuda_graph":
            from benchmarks.gpu.cuda_graph import measure_cuda_graph

            return measure_cuda_graph
        case "memory":
            from benchmarks.gpu.memory import measure_memory

            return measure_memory
        case "out_of_memory":
            from benchmarks.gpu.out_of_memory import measure_out_of_memory

            return measure_out_of_memory
        case "processes":
            from benchmarks.gpu.processes import measure_processes

            return measure_processes
    assert name == "compile"
    from benchmarks.gpu.compiled import measure_compiled

    return measure_compiled


if __name__ == "__main__":
    raise SystemExit(main())
