"""``hkd benchmark``: latency, memory and size of detectors on this machine."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from hkd.commands.outputs import output_problems
from hkd.commands.parsing import CommandError, Commands, add_command, integer_between
from hkd.text.output import print_line, print_lines

RUNTIMES = ("onnxruntime", "openvino", "torch")
FEWEST_RUNS = 100
MOST_RUNS = 100_000
MOST_THREADS = 1024


def add_to(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command to those of ``hkd``."""
    benchmark = add_command(
        commands,
        "benchmark",
        "measure latency, memory and size of detectors on this machine",
        """\
        Time detectors on this machine's CPU, one picture at a time: the network alone, and the whole pipeline from an
        image file to boxes. All files run in turn, and ratios to the first one are of calls of the same round, so that
        other load affects them little. Peak memory is that of a new process.""",
        """\
        hkd benchmark student.onnx student-int8.onnx
        hkd benchmark student.safetensors student.onnx --runtime torch \\
            --runtime onnxruntime --runtime openvino --json latency.json""",
    )
    benchmark.add_argument(
        "files", type=Path, nargs="+", metavar="FILE", help=".onnx of hkd export, or .safetensors, which torch runs"
    )
    benchmark.add_argument(
        "--runtime",
        action="append",
        default=[],
        choices=RUNTIMES,
        help="repeatable; each file is run by those of them that can (default: onnxruntime; torch for .safetensors)",
    )
    benchmark.add_argument(
        "--threads",
        type=partial(integer_between, 1, MOST_THREADS),
        default=1,
        metavar="T",
        help="CPU threads of a runtime (default: 1)",
    )
    benchmark.add_argument(
        "--runs",
        type=partial(integer_between, FEWEST_RUNS, MOST_RUNS),
        default=200,
        metavar="R",
        help=f"timed calls of each file, at least {FEWEST_RUNS} (default: 200), after 10 that are not timed",
    )
    benchmark.add_argument(
        "--image", type=Path, metavar="IMAGE", help="image file of the pipeline (default: a generated scene, 640 x 480)"
    )
    benchmark.add_argument(
        "--network-only",
        action="store_true",
        help="omit the whole pipeline and peak memory: less than half of the time",
    )
    benchmark.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    benchmark.set_defaults(run=_run_benchmark, after_interrupt="Nothing was written.")


def _run_benchmark(options: argparse.Namespace) -> None:
    inputs = [*options.files, *([] if options.image is None else [options.image])]
    problems = output_problems({"--json": options.json}, inputs)
    if problems:
        raise CommandError(*problems)
    from hkd.export.latency import format_latency, measure_latency
    from hkd.files import write_json

    report = measure_latency(
        options.files,
        runtimes=options.runtime,
        num_threads=options.threads,
        rounds=options.runs,
        picture=options.image,
        network_only=options.network_only,
    )
    print_lines(format_latency(report))
    if options.json is not None:
        write_json(options.json, report)
        print_line(f"-> {options.json}")
