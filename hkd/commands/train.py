"""``hkd train``: train one detector, or distil one, outside any sweep."""

from __future__ import annotations

import argparse
from pathlib import Path

from hkd.commands.parsing import Commands, add_command


def add_to(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command to those of ``hkd``."""
    train = add_command(
        commands,
        "train",
        "train one detector, or distil one, outside any sweep",
        """\
        Train the student that CONFIG describes: distilled where it has a teacher and distillation weights, alone
        otherwise. The teacher is trained first, once, and kept in data.cache_dir. DIR gets the results
        (student.safetensors, metrics.json, detections.json, miss_rate_curve.json, epochs.json, config.yaml) and the
        state to go on from.""",
        """\
        hkd train student.yaml
        hkd train student.yaml --set student.width_multiplier=0.25 --set training.learning_rate=1e-3 --out runs/narrow
        hkd train student.yaml --set teacher=null            # the student alone
        hkd train student.yaml --out runs/narrow --resume    # go on after an interruption""",
    )
    train.add_argument("config", type=Path, metavar="CONFIG", help="YAML file; what it leaves out has its default")
    train.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="change one setting; may be given many times",
    )
    train.add_argument("--out", type=Path, metavar="DIR", help="folder for the results (default: runs/train/<CONFIG>)")
    train.add_argument("--resume", action="store_true", help="go on with the training that DIR holds")
    train.set_defaults(
        run=_run_train, after_interrupt="Finished epochs are kept: the same command with --resume goes on from there."
    )


def _run_train(options: argparse.Namespace) -> None:
    from hkd.config_io import load_config
    from hkd.evaluation.reporting.report_text import format_result

    config = load_config(options.config, options.overrides)
    # Only now, so that mistakes in the configuration are told at once.
    from hkd.training.run import train_command

    out = options.out or Path("runs/train") / options.config.stem
    summary = train_command(config, out, resume=options.resume)
    print(format_result(summary.evaluation))
    print(f"student: {summary.cost.num_params / 1e6:.3f}M parameters, {summary.cost.gmacs:.3f} GMACs an image")
    print(f"results: {summary.folder}")
