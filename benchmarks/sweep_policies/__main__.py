r"""Compare samplers and schedulers on recorded trainings.

`record` trains 96 configurations of benchmarks/sweep_policies/task.yaml with three seeds, and writes a table of their
miss rates after each epoch to benchmarks/sweep_policies/curves.csv. It may be ended and repeated: finished trainings
are stored in --out. Run twice at once on the same folder, it shares the work.

    python -m benchmarks.sweep_policies record --list         # what is missing, and for how long
    python -m benchmarks.sweep_policies record --workers 2
    python -m benchmarks.sweep_policies record --report       # the table of what is finished
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, pstdev

from benchmarks.sweep_policies.curves import CURVES, by_configuration, write_curves
from benchmarks.sweep_policies.recording import listing, record_all, recordings
from benchmarks.sweep_policies.task import CONFIGURATIONS, SEEDS, configurations, load_task
from hkd.commands.parsing import positive_integer


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 0 if nothing is missing."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        code: int = options.run(options)
    except ValueError as error:
        parser.exit(2, f"{error}\n")
    return code


def _record(options: argparse.Namespace) -> int:
    task = load_task()
    chosen = configurations(task)[: options.configurations]
    todo = recordings(task, chosen, options.seeds, options.out.absolute())
    if options.list:
        print(listing(todo, options.workers))
        return 0
    is_complete = True
    if not options.report:
        is_complete = record_all(todo, workers=options.workers, max_hours=options.max_hours)
    curves = [curve for each in todo if (curve := each.curve()) is not None]
    write_curves(curves, options.table)
    print(f"{len(curves)} of {len(todo)} trainings are in {options.table}", file=sys.stderr)
    for number, same in by_configuration(curves).items():
        ends = [100 * curve.miss_rates[-1] for curve in same]
        starts = [100 * curve.miss_rates[0] for curve in same]
        print(
            f"{number:3}  {same[0].num_params:9,} parameters {same[0].flops / 1e6:6,.0f} MFLOPs  first epoch "
            f"{fmean(starts):5.1f} %, last {fmean(ends):5.1f} ± {pstdev(ends):4.1f} %"
        )
    return 0 if is_complete else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sweep_policies",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    record = commands.add_parser("record", help="train the configurations and write the table of their curves")
    record.set_defaults(run=_record)
    record.add_argument(
        "--configurations", type=positive_integer, default=CONFIGURATIONS, metavar="N",
        help="only the first N configurations (default: %(default)s)",
    )  # fmt: skip
    record.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="only these seeds (default: all)")
    record.add_argument(
        "--out", type=Path, default=Path("runs/sweep_policies"), help="folder of all files (default: %(default)s)"
    )
    record.add_argument("--table", type=Path, default=CURVES, metavar="FILE", help="table (default: %(default)s)")
    record.add_argument(
        "--workers", type=positive_integer, default=max(1, os.cpu_count() or 1),
        help="trainings at once, of one thread each (default: number of cores)",
    )  # fmt: skip
    record.add_argument("--max-hours", type=float, help="start no training later than this")
    instead = record.add_mutually_exclusive_group()
    instead.add_argument("--list", action="store_true", help="print what is finished, what is missing and for how long")
    instead.add_argument("--report", action="store_true", help="write the table of what is finished")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
