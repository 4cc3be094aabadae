"""Runs a study: ``python sweeps/run.py --help``."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

if not __package__:
    # Run as a script, from a checkout that is not installed: the packages are one folder up.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hkd.text.output import ArgumentParser, error_text, print_error, print_on, tamed_libraries
from hkd.text.redaction import redacted_text
from sweeps.command_options import add_arguments, settings_of
from sweeps.folder import StudyFolder, display_path
from sweeps.settings.enqueued import read_enqueued
from sweeps.settings.study import DEMO, StudyConfig, load_study

EXIT_BAD_INPUT = 2
OWN_PACKAGES = ("hkd", "sweeps")
"""A ValueError class of these packages is an input error; any other is a defect and shows its traceback."""

DESCRIPTION = """\
Run a study: train a teacher once, then distill it into many light students, to
find out how much accuracy each size of student costs. Optuna proposes the
students, Ray Tune trains them, MLflow records them.

Without --config, run the demo study: generated street scenes, about five
minutes on two CPU cores with AMX."""

EXAMPLES = """\
examples:
  run the demo study:
    python sweeps/run.py
  check your own study and show the sizes of its detectors, then run it:
    python sweeps/run.py --config my.yaml --dry-run
    python sweeps/run.py --config my.yaml
  resume it after Ctrl-C or a crash, or with more trials:
    python sweeps/run.py --config my.yaml --resume --num-trials 40
  run it for at most a night, two trials at a time, your own settings first:
    python sweeps/run.py --config my.yaml --time-budget 8h \\
        --max-concurrent 2 --enqueue first.yaml
  confirm its winners with other seeds, on images that the search did not see:
    python sweeps/run.py --config my.yaml --confirm \\
        --set base.data.test_annotations=data/mine/test.json
  change settings; those of a trial start with base:
    python sweeps/run.py --name wide --set base.training.total_epochs=2 \\
        --set space.student.width_multiplier.high=1.0

  search with exact costs, below a number of parameters:
    python sweeps/run.py --config my.yaml --set search.sampler=front \\
        --set search.max_params=1500000

results of the study NAME:
  the Pareto front, printed when the study ends
  <storage_path>/NAME (default: runs/NAME): weights and metrics of every trial
  MLflow experiment NAME in tracking.uri (default: MLFLOW_TRACKING_URI, else
    sqlite:///mlflow.db)
  report: python analysis/pareto.py --study NAME

The study runs on the Ray cluster at RAY_ADDRESS, or on the one that you started
on this machine (ray start), else on this machine alone.

exit code: 0 finished or time budget used up, 1 no trial finished,
  2 invalid input, 3 the Ray cluster was lost, 130 interrupted"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    study: StudyConfig | None = None
    try:
        with tamed_libraries(OWN_PACKAGES):
            study = load_study(options.config, [*options.set, *settings_of(options)], name=options.name)
            if options.confirm:
                study = study.with_confirmation()
            return _run(study, options, given)
    except ValueError as error:
        if type(error).__module__.partition(".")[0] not in OWN_PACKAGES:
            raise
        print_error(f"error: {error_text(error)}")
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print_error(_interruption_message(study, options, given))
        return 130


def _run(study: StudyConfig, options: argparse.Namespace, given: Sequence[str]) -> int:
    # Imports of Ray, torch and MLflow take seconds: not for --help or a mistyped key.
    from rich.console import Console

    enqueued = () if options.enqueue is None else read_enqueued(options.enqueue, study)
    console = Console()
    print_on(console, f"Study {study.name} ({options.config})")
    if options.export_students is not None:
        from sweeps.ready_latency import export_students

        export_students(study, options.export_students, partial(print_on, console))
        return 0
    if options.dry_run:
        from sweeps.plan import print_plan

        print_plan(study, console)
        return 0
    from sweeps.study import run_study

    return run_study(
        study,
        is_resumed=options.resume or options.confirm,
        console=console,
        resume_command=_resume_command(options, given),
        time_budget_seconds=options.time_budget,
        enqueued=enqueued,
    )


def _interruption_message(study: StudyConfig | None, options: argparse.Namespace, given: Sequence[str]) -> str:
    if study is not None and StudyFolder(study).study_exists:
        return f"Interrupted. Finished epochs are saved. Resume with:  {_resume_command(options, given)}"
    return (
        "Interrupted before the first trial. Prepared data and finished epochs of the teacher are saved. "
        "Run the same command again to continue."
    )


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog="python sweeps/run.py",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", type=Path, default=DEMO, metavar="FILE", help="study configuration, YAML (default: the demo study)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override one setting by its dotted name; repeatable. The value is YAML",
    )
    parser.add_argument("--name", help="name of the study, instead of the one in FILE")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="if the study exists, resume it: interrupted trials continue from their last finished epoch, trials that "
        "ended are not run again",
    )
    add_arguments(parser)
    parser.add_argument(
        "--enqueue",
        type=Path,
        metavar="FILE",
        help="YAML list of settings that are tried before those of the sampler, such as  "
        "- {student.head_channels: 64}; what an entry does not name is proposed by the sampler",
    )
    parser.add_argument(
        "--confirm",
        action="store_true",
        help="like --resume; then train the front and the baselines again with other seeds (search.confirm_seeds, if "
        "that is 0 or not set: 2), and evaluate them on base.data.test_annotations, if given",
    )
    parser.add_argument(
        "--export-students",
        type=Path,
        metavar="DIR",
        help="write untrained students of the space, the baselines and the teacher to a new folder, as ONNX files "
        "whose latency hkd benchmark measures on your device (docs/latency.md); run nothing",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="check the study and its files, print the resolved configuration, detector sizes and planned work; run "
        "nothing",
    )
    return parser


def _resume_command(options: argparse.Namespace, given: Sequence[str]) -> str:
    shown = [redacted_text(argument) for argument in given]
    return shlex.join(
        [
            "python",
            str(display_path(Path(__file__))),
            *shown,
            *(() if options.resume or options.confirm else ("--resume",)),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
