"""Options that several benchmarks have; importing this module imports no other package."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from hkd.commands.parsing import positive_integer


def add_workload(parser: argparse.ArgumentParser) -> None:
    """Add the options of :func:`benchmarks.step.workload.default_workload`."""
    parser.add_argument("--device", choices=("cpu", "cuda"), help="(default: cuda if available)")
    parser.add_argument(
        "--batch-size", type=positive_integer, help="images per batch (default: 8 on a CPU, 16 on a GPU)"
    )
    parser.add_argument(
        "--height",
        type=positive_integer,
        help="height of the network's input, pixels (default: 192 on a CPU, 480 on a GPU)",
    )
    parser.add_argument(
        "--width",
        type=positive_integer,
        help="width of the network's input, pixels (default: 256 on a CPU, 640 on a GPU)",
    )


def add_out(parser: argparse._ActionsContainer, default: str) -> None:
    """Add ``--out``, the folder of a benchmark."""
    parser.add_argument("--out", type=Path, default=Path(default), help="folder of all files (default: %(default)s)")


def add_schedule(parser: argparse._ActionsContainer) -> None:
    """Add the options on how trainings are run."""
    parser.add_argument(
        "--workers", type=positive_integer, default=os.cpu_count() or 1,
        help="trainings at once, of one thread each (default: number of cores)",
    )  # fmt: skip
    parser.add_argument("--max-hours", type=float, help="start no training later than this")
