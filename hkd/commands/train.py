"""``hkd train``: train or distil one detector."""

from __future__ import annotations

import argparse
from pathlib import Path

from hkd.commands.parsing import Commands, add_command
from hkd.text.output import print_line, print_lines


def add_to(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command to those of ``hkd``."""
    train = add_command(
        commands,
        "train",
        "train or distil one detector",
        """\
        Train the student that CONFIG describes. It is distilled if CONFIG has a teacher and a distillation weight
        above 0, and trained alone otherwise. The teacher is trained first, unless it has a checkpoint or a cached
        result in data.cache_dir. It labels the images in data.unlabelled_images, on which the student is then
        trained, too. DIR receives the results (student.safetensors, the weights of whatever is trained;
        weights_origin.txt, metrics.json, detections.json, miss_rate_curve.json, epochs.json, config.yaml) and the
        checkpoint of the training.""",
        """\
        hkd train examples/student_alone.yaml
        hkd train examples/student_alone.yaml --resume       # after an interruption
        hkd train examples/student_distilled.yaml --out runs/narrow \\
            --set student.width_multiplier=0.25 --set training.learning_rate=1e-3""",
    )
    train.add_argument("config", type=Path, metavar="CONFIG", help="YAML file; settings not in it have their defaults")
    train.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="override one setting; repeatable",
    )
    train.add_argument("--out", type=Path, metavar="DIR", help="folder for the results (default: runs/train/<CONFIG>)")
    train.add_argument("--resume", action="store_true", help="resume the training in DIR")
    train.set_defaults(
        run=_run_train, after_interrupt="To resume after the last finished epoch, repeat the command with --resume."
    )


def _run_train(options: argparse.Namespace) -> None:
    from hkd.config_files.parsing import load_config
    from hkd.evaluation.reporting.report_text import format_result

    config = load_config(options.config, options.overrides)
    # Imported after the configuration is read, so that its mistakes are reported without delay.
    from hkd.training.run import train_into_folder

    out = options.out or Path("runs/train") / options.config.stem
    summary = train_into_folder(config, out, resume=options.resume)
    print_lines(format_result(summary.evaluation))
    print_line(f"student: {summary.cost.num_params / 1e6:.3f}M parameters, {summary.cost.gmacs:.3f} GMACs an image")
    if config.evaluation.latency is not None:
        print_line("latency: evaluation.latency is of studies; measure this student with hkd export and hkd benchmark")
    print_line(f"results: {summary.folder}")
