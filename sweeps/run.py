"""Runs a study: ``python sweeps/run.py --help``."""

from __future__ import annotations

import argparse
import shlex
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

if not __package__:
    # Started as a file from a checkout that need not be installed: the packages are one folder up.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hkd.redaction import redacted_text
from sweeps.folder import StudyFolder, display_path
from sweeps.settings.study import DEMO, StudyConfig, load_study

EXIT_BAD_INPUT = 2
OWN_PACKAGES = ("hkd", "sweeps")
"""A ValueError from here is about what the user gave; one from elsewhere is a defect and shows its traceback."""

DESCRIPTION = """\
Run a study: train a teacher once, then many light students that learn from it,
and find out what accuracy each size of student costs. Ray Tune runs the trials,
Optuna proposes them, MLflow records them.

Without --config this is the demo: generated street scenes, a few minutes on two
cores."""

EXAMPLES = """\
examples:
  the demo:
    python sweeps/run.py
  a study of your own; first only check it and its files, and show its sizes:
    python sweeps/run.py --config my.yaml --dry-run
    python sweeps/run.py --config my.yaml
  go on after Ctrl-C, a crash, or with more trials:
    python sweeps/run.py --config my.yaml --resume --set search.num_trials=40
  other settings; those of a trial stand below base:
    python sweeps/run.py --name wide --set base.training.total_epochs=2 \\
        --set space.student.width_multiplier.high=1.0

A study lives in <storage_path>/<name> and in the MLflow experiment of that name.
It uses the Ray cluster that RAY_ADDRESS names or that `ray start` began on this
machine, and else this machine alone.

Exit code: 0 finished, 1 no trial came to its end, 2 something given is wrong,
130 interrupted."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    study: StudyConfig | None = None
    try:
        study = load_study(options.config, options.set, name=options.name)
        return _run(study, options, given)
    except ValueError as error:
        if type(error).__module__.partition(".")[0] not in OWN_PACKAGES:
            raise
        print(f"error: {redacted_text(str(error))}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print(_what_is_left(study, options, given), file=sys.stderr)
        return 130


def _run(study: StudyConfig, options: argparse.Namespace, given: Sequence[str]) -> int:
    # Ray, torch and MLflow take seconds to import, which --help and a mistyped key should not cost.
    _ignore_others_warnings()
    from rich.console import Console

    console = Console()
    console.print(f"Study {study.name}, of {options.config}", markup=False, highlight=False, soft_wrap=True)
    if options.dry_run:
        from sweeps.plan import print_plan

        print_plan(study, console)
        return 0
    from sweeps.study import run_study

    return run_study(study, is_resumed=options.resume, console=console, resume_command=_resume_command(options, given))


def _what_is_left(study: StudyConfig | None, options: argparse.Namespace, given: Sequence[str]) -> str:
    """What to tell whoever interrupted at a moment when the study itself could not."""
    if study is not None and StudyFolder(study).study_exists:
        return f"Interrupted. What was trained is kept. Go on with:  {_resume_command(options, given)}"
    message = "Interrupted before this session began a trial; the teacher's finished epochs and the data are kept."
    return f"{message} Go on by giving the same command again."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python sweeps/run.py",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", type=Path, default=DEMO, metavar="FILE", help="the study as YAML (default: the demo study)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one setting by its dotted name, as often as needed; the value is read as YAML",
    )
    parser.add_argument("--name", help="give the study another name than the file does")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the study of this name if it was begun before: trials that ended are not run again, "
        "interrupted ones go on from their last epoch",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="check the study, print it as resolved, the sizes of its detectors and what would be started; then stop",
    )
    return parser


def _resume_command(options: argparse.Namespace, given: Sequence[str]) -> str:
    shown = [redacted_text(argument) for argument in given]
    return shlex.join(["python", str(display_path(Path(__file__))), *shown, *(() if options.resume else ("--resume",))])


def _ignore_others_warnings() -> None:
    """What the libraries have to say to programmers is of no use to who waits for a study."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


if __name__ == "__main__":
    sys.exit(main())
