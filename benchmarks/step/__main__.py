"""Measure distillation with hkd and with a torchvision training loop on the same work, in one run.

Sections (--only):
  step        time of one training step of each contender
  breakdown   time of each part of hkd's distilled step
  limit       floating-point operations of a step over the machine's measured peak
  epoch       images per second over an epoch of JPEG files
  evaluation  images per second of detection on the same files
  first_step  time from starting a process to the end of its first step
  memory      peak memory of a process that trains

Prints Markdown tables to stdout and progress to stderr. Run it in the root of a checkout:

    python -m benchmarks.step                                  # all sections: about ten minutes on two cores
    python -m benchmarks.step --only step --rounds 5           # the table of steps
    python -m benchmarks.step --only step breakdown --contenders baseline_fp32 ours
    python -m benchmarks.step --json step.json                 # also the milliseconds of every round

Of hkd's dependencies it needs only torch, torchvision, numpy, pyyaml and pydantic.
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

from benchmarks.options import add_workload
from benchmarks.step import report
from benchmarks.step.breakdown import measure_breakdown
from benchmarks.step.contenders import (
    BASELINE_BF16,
    BASELINE_FP32,
    LABELS,
    OURS,
    OURS_ALONE,
    Contender,
    Contenders,
    prepare_process,
    time_steps,
)
from benchmarks.step.fresh_process import measure_processes
from benchmarks.step.hkd_trainer import HkdTrainer
from benchmarks.step.peak import measure_peaks
from benchmarks.step.throughput import measure_from_files
from benchmarks.step.timing import Spread
from benchmarks.step.workload import Workload, default_workload
from hkd.commands.parsing import positive_integer

SECTIONS = ("step", "breakdown", "limit", "epoch", "evaluation", "first_step", "memory")
_CPU_THREADS = 2
_FILE_IMAGES = {"cpu": 80, "cuda": 1600}
"""JPEG files; on a CPU, four passes of three contenders over them take about two minutes."""
_LIMIT_CONTENDERS = (BASELINE_FP32, BASELINE_BF16, OURS)
_PROCESS_CONTENDERS = (BASELINE_FP32, BASELINE_BF16, OURS, OURS_ALONE)


class Benchmark:
    """The sections of one run, which share contenders; each returns Markdown and stores its result for ``--json``."""

    def __init__(self, arguments: argparse.Namespace, workload: Workload) -> None:
        self.results: dict[str, Any] = {}
        self._arguments = arguments
        self._workload = workload
        self._device = workload.device
        self._contenders = Contenders(workload)
        self._built: dict[str, Contender] = {}
        self._milliseconds: dict[str, list[float]] = {}
        """Contender -> milliseconds per student of its step in each round."""

    def step(self) -> str:
        """Time of one step of each contender."""
        names = self._arguments.contenders
        self._time_steps(names)
        rows = report.step_rows(self._milliseconds, names, self._workload.batch_size)
        self.results["step"] = {
            "rows": [asdict(row) for row in rows],
            "milliseconds_by_round": {name: self._milliseconds[name] for name in names},
        }
        return report.step_table(rows, self._arguments.rounds)

    def breakdown(self) -> str:
        """Time of each part of hkd's distilled step."""
        trainer = self._contender(OURS).trainer
        assert isinstance(trainer, HkdTrainer)
        breakdown = measure_breakdown(trainer, self._arguments.rounds, self._device)
        self.results["breakdown"] = asdict(breakdown)
        return report.breakdown_table(breakdown)

    def limit(self) -> str:
        """Operations of a step over the measured peak."""
        names = [name for name in _LIMIT_CONTENDERS if name in self._arguments.contenders]
        missing = [name for name in names if name not in self._milliseconds]
        if missing:
            self._time_steps(missing)
        milliseconds = {name: Spread.of(self._milliseconds[name]).median for name in names}
        limit = measure_peaks({name: self._contender(name) for name in names}, milliseconds, self._device)
        self.results["limit"] = asdict(limit)
        return report.limit_tables(limit)

    def from_files(self) -> str:
        """Throughput of an epoch and of an evaluation on the same files."""
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
        """Time to the first step and peak memory, in fresh processes."""
        names = [name for name in _PROCESS_CONTENDERS if name in self._arguments.contenders]
        figures = measure_processes(names, self._workload, torch.get_num_threads(), self._arguments.passes)
        self.results["processes"] = [asdict(row) for row in figures]
        tables = []
        if "first_step" in self._arguments.only:
            tables.append(report.first_step_table(figures))
        if "memory" in self._arguments.only:
            tables.append(report.memory_table(figures, self._device))
        return "\n\n".join(tables)

    def release_contenders(self) -> None:
        """Release the memory of the contenders."""
        self._built.clear()

    def _contender(self, name: str) -> Contender:
        if name not in self._built:
            self._built[name] = self._contenders.make(name)
        return self._built[name]

    def _time_steps(self, names: Sequence[str]) -> None:
        contenders = {name: self._contender(name) for name in names}
        self._milliseconds |= time_steps(contenders, self._arguments.rounds, self._device)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the chosen sections, and print their tables."""
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
            benchmark.release_contenders()
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
    parser.add_argument(
        "--contenders", nargs="+", choices=LABELS, default=list(LABELS), help="implementations to run (default: all)"
    )
    parser.add_argument(
        "--rounds",
        type=positive_integer,
        default=15,
        help="rounds of one step of each contender (default: %(default)s)",
    )
    parser.add_argument(
        "--passes",
        type=positive_integer,
        default=3,
        help="passes over the files, and fresh processes of each contender (default: %(default)s)",
    )
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all results to this file")
    add_workload(parser)
    parser.add_argument(
        "--threads", type=positive_integer, default=_CPU_THREADS, help="CPU threads (default: %(default)s)"
    )
    parser.add_argument(
        "--file-images", type=positive_integer, help="JPEG files to write (default: 80 on a CPU, 1600 on a GPU)"
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
