r"""Compare samplers and schedulers on recorded trainings.

`record` trains 96 configurations of benchmarks/sweep_policies/task.yaml with three seeds, and writes a table of their
miss rates after each epoch to benchmarks/sweep_policies/curves.csv. It may be ended and repeated: finished trainings
are stored in --out. Run twice at once on the same folder, it shares the work.

    python -m benchmarks.sweep_policies record --list         # what is missing, and for how long
    python -m benchmarks.sweep_policies record --workers 2
    python -m benchmarks.sweep_policies record --report       # the table of what is finished

`describe` prints what the recorded curves are like: the spread of seeds, what early epochs predict, how much settings
matter within one size, and how far the simulation prefers the recorded configurations.

`simulate` runs studies of all policies in virtual time, with the project's samplers, ledger and schedulers, on curves
that are predicted from the recorded ones (benchmarks/sweep_policies/landscape.py states how, and with which bias). It
prints a Markdown table of the compute that each policy needs to reach shares of the best hypervolume, and writes it and
a plot to --out. Policies are tuned on `--part tuning`; `held-back` are the configurations that no policy was tuned on.

    python -m benchmarks.sweep_policies simulate --list
    python -m benchmarks.sweep_policies simulate --policies "front + FIFO" "TPE + FIFO" --workers 8
    python -m benchmarks.sweep_policies simulate --part held-back --report

`proposals` measures how long samplers take to propose a trial, in studies of up to thousands of trials.

    python -m benchmarks.sweep_policies proposals --samplers front tpe
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

from benchmarks.options import add_out, add_schedule
from benchmarks.sweep_policies.curves import CURVES, by_configuration, write_curves
from benchmarks.sweep_policies.recording import listing, record_all, recordings
from benchmarks.sweep_policies.task import CONFIGURATIONS, SEEDS, configurations, load_task
from hkd.commands.parsing import positive_integer, positive_number
from hkd.files import write_atomically

if TYPE_CHECKING:
    from benchmarks.sweep_policies.runs import Result


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


def _simulate(options: argparse.Namespace) -> int:
    # Ray and Optuna take seconds to import, and recording needs neither.
    from benchmarks.sweep_policies.plots import draw
    from benchmarks.sweep_policies.policies import POLICIES
    from benchmarks.sweep_policies.report import report
    from benchmarks.sweep_policies.runs import Run, quality, run_all

    known = [policy.name for policy in POLICIES]
    if unknown := [name for name in options.policies or () if name not in known]:
        raise ValueError(f"--policies: no policy {', '.join(unknown)}; available: {', '.join(known)}")
    todo = [
        Run(name, workers, seed, options.table, options.part, options.trainings, options.out)
        for workers in options.workers
        for seed in range(options.seeds)
        for name in known
        if options.policies is None or name in options.policies
    ]
    if options.list:
        done = sum(each.path.is_file() for each in todo)
        print(f"{done} of {len(todo)} studies are simulated")
        return 0
    if not options.report:
        run_all(todo, processes=options.processes)
    results: dict[tuple[str, int], list[Result]] = {}
    for each in sorted(todo, key=lambda run: (options.workers.index(run.workers), known.index(run.policy))):
        if (result := each.result()) is not None:
            results.setdefault((each.policy, each.workers), []).append(result)
    if not results:
        raise ValueError(f"no study is simulated in {options.out}; run the command without --report")
    text = f"{quality(options.table, options.part)}\n\n{report(results, options.trainings)}"
    print(text)
    write_atomically(options.out / f"{options.part}.md", text + "\n")
    write_atomically(options.out / f"{options.part}.png", draw(results, options.trainings))
    print(f"plot: {options.out / options.part}.png", file=sys.stderr)
    return 0


def _describe(options: argparse.Namespace) -> int:
    from benchmarks.sweep_policies.curves import read_curves
    from benchmarks.sweep_policies.runs import fitted_landscape
    from benchmarks.sweep_policies.statistics import describe
    from sweeps.search.encoding import Space
    from sweeps.settings.space import distributions

    space = Space(distributions(load_task().space), {})
    for line in describe(read_curves(options.table), fitted_landscape(options.table, "all").landscape, space):
        print(line)
    return 0


def _proposals(options: argparse.Namespace) -> int:
    from benchmarks.sweep_policies.proposals import table

    print("CPU seconds of a proposal by the number of finished trials, median (largest)\n")
    print(table(options.samplers, options.finished, options.repetitions))
    return 0


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
    add_out(record, "runs/sweep_policies")
    record.add_argument("--table", type=Path, default=CURVES, metavar="FILE", help="table (default: %(default)s)")
    add_schedule(record)
    instead = record.add_mutually_exclusive_group()
    instead.add_argument("--list", action="store_true", help="print what is finished, what is missing and for how long")
    instead.add_argument("--report", action="store_true", help="write the table of what is finished")
    describe = commands.add_parser("describe", help="print what the recorded curves are like")
    describe.set_defaults(run=_describe)
    describe.add_argument("--table", type=Path, default=CURVES, metavar="FILE", help="table (default: %(default)s)")
    _add_simulate(commands)
    proposals = commands.add_parser("proposals", help="measure the CPU time of proposals")
    proposals.set_defaults(run=_proposals)
    proposals.add_argument("--samplers", nargs="+", default=["front", "tpe"], help="of studies (default: front tpe)")
    proposals.add_argument("--finished", type=positive_integer, nargs="+", default=[100, 400, 1000, 3000], metavar="N")
    proposals.add_argument("--repetitions", type=positive_integer, default=5, metavar="N")
    return parser


def _add_simulate(commands: Any) -> None:
    simulate = commands.add_parser("simulate", help="simulate studies of all policies on the recorded curves")
    simulate.set_defaults(run=_simulate)
    simulate.add_argument("--policies", nargs="+", metavar="POLICY", help="only these")
    simulate.add_argument(
        "--workers", type=positive_integer, nargs="+", default=[1, 8, 64], help="trials at once (default: 1 8 64)"
    )
    simulate.add_argument(
        "--seeds", type=positive_integer, default=20, metavar="N", help="studies of each policy (default: %(default)s)"
    )
    simulate.add_argument(
        "--part", choices=("all", "tuning", "held-back"), default="all",
        help="recorded configurations that curves are predicted from (default: %(default)s)",
    )  # fmt: skip
    simulate.add_argument(
        "--trainings", type=positive_number, default=60.0, metavar="N",
        help="compute at which a study ends, in full trainings (default: %(default)g)",
    )  # fmt: skip
    simulate.add_argument(
        "--table", type=Path, default=CURVES, metavar="FILE", help="recorded curves (default: %(default)s)"
    )
    add_out(simulate, "runs/sweep_policies/simulated")
    simulate.add_argument(
        "--processes", type=positive_integer, default=os.cpu_count() or 1,
        help="studies at once (default: number of cores)",
    )  # fmt: skip
    instead = simulate.add_mutually_exclusive_group()
    instead.add_argument("--list", action="store_true", help="print how many studies are simulated")
    instead.add_argument("--report", action="store_true", help="print the table of what is simulated")


if __name__ == "__main__":
    raise SystemExit(main())
