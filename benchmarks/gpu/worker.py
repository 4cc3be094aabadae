"""One of several processes that train on one device: ``python -m benchmarks.gpu.worker SETTINGS``.

It builds a distilled training and prints one line of JSON: ``{"ready": true}``, or ``{"error": ...}`` if it does not
fit. Then, for each line with a number of seconds on stdin, it trains for that time and prints its steps and seconds.
"""

from __future__ import annotations

import json
import sys
import time

import torch

from benchmarks.gpu.sections import Settings
from benchmarks.gpu.work import workload_of
from benchmarks.step.contenders import OURS, Contenders, prepare_process
from hkd.runtime.out_of_memory import first_line, is_out_of_memory

_WARM_UP_STEPS = 3


def main() -> int:
    """Train on request until stdin ends."""
    torch.set_num_threads(1)
    workload = workload_of(Settings(**json.loads(sys.argv[1])))
    prepare_process(OURS, workload.device)
    try:
        contender = Contenders(workload).make(OURS)
        for _ in range(_WARM_UP_STEPS):
            float(contender.step())
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        _print({"error": first_line(error)})
        return 0
    _print({"ready": True})
    for line in sys.stdin:
        seconds, steps, started = float(line), 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            float(contender.step())  # waits for the GPU: queued steps would not count as done
            steps += 1
        _print({"steps": steps, "seconds": time.perf_counter() - started})
    return 0


def _print(content: object) -> None:
    print(json.dumps(content), flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
