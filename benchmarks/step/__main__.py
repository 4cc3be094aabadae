"""How fast is a distillation step? torchvision's as a practitioner writes it, against ``hkd``'s, in one run.

Prints Markdown for the README on stdout, and how far it is on stderr:

    python -m benchmarks.step                                  # all of it: some ten minutes on two cores
    python -m benchmarks.step --only step --rounds 5           # the table of steps
    python -m benchmarks.step --only step breakdown --contenders baseline_fp32 ours
    python -m benchmarks.step --json step.json                 # every round's milliseconds as well

Runs on the GPU where there is one, else on the CPU; to be called in the root of a checkout. Of what ``hkd`` depends on
it needs torch, torchvision, numpy, pyyaml and pydantic, with what these bring along.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.step import report
from benchmarks.step.breakdown import break_down
from benchmarks.step.contenders import (
    BASELINE_BF16,
    BASELINE_FP32,
    LABELS,
    OURS,
    OURS_ALONE,
    Contender,
    Contenders,
    prepare_process,
)
from benchmarks.step.epoch import measure_from_files
from benchmarks.step.limit import measure_limit
from benchmarks.step.ours import OursTrainer
from benchmarks.step.process import measure_processes
from benchmarks.step.timing import Spread, ratios, take_turns
from benchmarks.step.workload import Workload, default_workload

SECTIONS = ("step", "breakdown", "limit", "epoch", "evaluation", "first_step", "memory")
_CPU_THREADS = 2
_FILE_IMAGES = {"cpu": 80, "cuda": 1600}
"""Photographs; on a CPU what four passes of three contenders get through in some two minutes."""
_LIMIT_CONTENDERS = (BASELINE_FP32, BASELINE_BF16, OURS)
_PROCESS_CONTENDERS = (BASELINE_FP32, BASELINE_BF16, OURS, OURS_ALONE)


class Benchmark:
    """The sections of one run, which share contenders; each returns Markdown and keeps its result for ``--json``."""

    def __init__(self, arguments: argparse.Namespace, workload: Workload) -> None:
        self.results: dict[str, Any] = {}
        self._arguments = arguments
        self._workload = workload
        self._device = workload.device
        self._contenders = Contenders(workload)
        self._made: dict[str, Contender] = {}
        self._taken: dict[str, list[float]] = {}
        """Milliseconds a student of each contender's step in each round."""

    def step(self) -> str:
        """All contenders in turn."""
        names = self._arguments.contenders
        self._time_steps(names)
        rows = [self._step_row(name) for name in names]
        self.results["step"] = {
            "rows": [asdict(row) for row in rows],
            "milliseconds_by_round": {name: self._taken[name] for name in names},
        }
        return report.step_table(rows, self._arguments.rounds)

    def breakdown(self) -> str:
        """Our step's parts."""
        trainer = self._contender(OURS).trainer
        assert isinstance(trainer, OursTrainer)
        breakdown = break_down(trainer, self._arguments.rounds, self._device)
        self.results["breakdown"] = asdict(breakdown)
        return report.breakdown_table(breakdown)

    def limit(self) -> str:
        """Operations over the peak."""
        names = [name for name in _LIMIT_CONTENDERS if name in self._arguments.contenders]
        missing = [name for name in names if name not in self._taken]
        if missing:
            self._time_steps(missing)
        milliseconds = {name: Spread.of(self._taken[name]).median for name in names}
        limit = measure_limit({name: self._contender(name) for name in names}, milliseconds, self._device)
        self.results["limit"] = asdict(limit)
        return report.limit_tables(limit)

    def from_files(self) -> str:
        """Epoch and evaluation, which read the same files."""
        images = self._arguments.file_images or _FILE_IMAGES[self._device.type]
        with tempfile.TemporaryDirectory(prefix="hkd-benchmark-") as folder:
            result = measure_from_files(
                self._contenders,
                Path(folder),
                names=self._arguments.contenders,
                images=max(images, self._workload.batch_size),
                passes=self._arguments.passes,
                sections=self._arguments.only,
            )
        self.results["from_files"] = asdict(result)
        return report.from_files_tables(result)

    def processes(self) -> str:
        """First step and memory, which take fresh processes."""
        names = [name for name in _PROCESS_CONTENDERS if name in self._arguments.contenders]
        figures = measure_processes(names, self._workload, torch.get_num_threads(), self._arguments.passes)
        self.results["processes"] = [asdict(row) for row in figures]
        tables = []
        if "first_step" in self._arguments.only:
            tables.append(report.first_step_table(figures))
        if "memory" in self._arguments.only:
            tables.append(report.memory_table(figures, self._device))
        return "\n\n".join(tables)

    def forget_contenders(self) -> None:
        """Gives their memory back."""
        self._made.clear()

    def _contender(self, name: str) -> Contender:
        if name not in self._made:
            self._made[name] = self._contenders.make(name)
        return self._made[name]

    def _time_steps(self, names: Sequence[str]) -> None:
        contenders = {name: self._contender(name) for name in names}
        calls = {name: contender.step for name, contender in contenders.items()}
        # The first step builds the optimiser's state and, on a GPU, lets cuDNN search.
        taken = take_turns(calls, self._arguments.rounds, 2, self._device, "step")
        for name, values in taken.items():
            self._taken[name] = [value / contenders[name].students for value in values]

    def _step_row(self, name: str) -> report.StepRow:
        own = self._taken[name]
        spread = Spread.of(own)
        baseline, alone = self._taken.get(BASELINE_FP32), self._taken.get(OURS_ALONE)
        return report.StepRow(
            LABELS[name],
            spread,
            spread.inverse(1e3 * self._workload.batch_size),
            None if baseline is None else ratios(baseline, own),
            None if alone is None else ratios(own, alone),
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print the tables."""
    arguments = _parser().parse_args(argv)
    name = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cpu":
        torch.set_num_threads(arguments.threads)
    prepare_process(OURS, device)
    workload = default_workload(device, arguments.batch_size, arguments.height, arguments.width)
    benchmark = Benchmark(arguments, workload)
    machine = report.machine_line(device, torch.get_num_threads())
    print(f"{machine}.\n\n{report.work_line(workload)}.", flush=True)
    only = set(arguments.only)
    for section, wanted in (
        (benchmark.step, {"step"}),
        (benchmark.breakdown, {"breakdown"}),
        (benchmark.limit, {"limit"}),
        (benchmark.from_files, {"epoch", "evaluation"}),
        (benchmark.processes, {"first_step", "memory"}),
    ):
        if only & wanted:
            print(f"\n{section()}", flush=True)
        if section == benchmark.limit:
            benchmark.forget_contenders()
    if arguments.json is not None:
        _write(arguments, machine, workload, benchmark.results)
    return 0


def _write(arguments: argparse.Namespace, machine: str, workload: Workload, results: Mapping[str, Any]) -> None:
    document = {
        "machine": machine,
        "workload": report.work_line(workload),
        "rounds": arguments.rounds,
        "passes": arguments.passes,
        **results,
    }
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(document, indent=1), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="sections (default: all)")
    parser.add_argument("--contenders", nargs="+", choices=LABELS, default=list(LABELS), help="(default: all)")
    parser.add_argument("--rounds", type=_positive, default=15, help="of single steps (default: %(default)s)")
    parser.add_argument(
        "--passes", type=_positive, default=3, help="over the files, and fresh processes (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all figures to this file")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="(default: a GPU where there is one)")
    parser.add_argument("--threads", type=_positive, default=_CPU_THREADS, help="on a CPU (default: %(default)s)")
    parser.add_argument("--batch-size", type=_positive, help="(default: 8 on a CPU, 16 on a GPU)")
    parser.add_argument("--height", type=_positive, help="of the networks' input, pixels (default: 192, or 480)")
    parser.add_argument("--width", type=_positive, help="likewise (default: 256, or 640)")
    parser.add_argument("--file-images", type=_positive, help="photographs to write (default: 80, or 1600 on a GPU)")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


if __name__ == "__main__":
    raise SystemExit(main())
