"""The ``hkd`` command: data sets, one training, one evaluation, pictures; sweeps have ``sweeps/run.py``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import hkd

# Each command imports what it needs when it runs: torch alone takes seconds, which `hkd --help` must not.

USER_ERROR = 2
INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""


class CommandError(ValueError):
    """A command cannot do what its arguments ask for."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Without the program's name; those of the process unless given.

    Returns:
        Exit code: 0, 2 for what the user can mend (told in one message on stderr), 130 when interrupted.
    """
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except KeyboardInterrupt:
        print(f"\nhkd {options.command}: interrupted. {options.after_interrupt}", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, OSError) as error:
        if not _is_for_the_user(error):
            raise
        print(f"hkd {options.command}: {_message(error)}", file=sys.stderr)
        return USER_ERROR
    return 0


def _is_for_the_user(error: ValueError | OSError) -> bool:
    """Files that are absent or in the way, and what our own checks refuse; a library's ValueError is a bug of ours."""
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] == hkd.__name__


def _message(error: ValueError | OSError) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hkd",
        description="Distil a strong pedestrian detector into a light one.",
        epilog="hkd COMMAND --help shows examples. Searches over many students: python sweeps/run.py --help.",
    )
    parser.add_argument("--version", action="version", version=f"hkd {hkd.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_data(commands)
    _add_train(commands)
    _add_evaluate(commands)
    _add_detect(commands)
    return parser


_Commands = argparse._SubParsersAction  # argparse has no public name for it


def _add_data(commands: _Commands[argparse.ArgumentParser]) -> None:
    data = _add(
        commands,
        "data",
        "bring a data set into the one format that hkd reads",
        """\
        Everything in hkd reads COCO-style JSON: images (id, file_name, height, width) and annotations with bbox
        [x, y, width, height] of the full body in pixels, and where known vis_bbox, vis_ratio, height, ignore (0/1),
        iscrowd. A data set of your own in that format needs no conversion: name it in data.train_annotations and
        data.validation_annotations.""",
        """\
        hkd data pennfudan --root downloads/PennFudanPed --out data/pennfudan
        hkd data synthetic --out data/scenes --train-images 200 --validation-images 50""",
    )
    sources = data.add_subparsers(dest="source", metavar="SOURCE", required=True)

    pennfudan = _add(
        sources,
        "pennfudan",
        "the 170 photographs of Penn-Fudan",
        "Convert the Penn-Fudan database and split it, always in the same way, into training and validation images.",
        "hkd data pennfudan --root downloads/PennFudanPed --out data/pennfudan",
    )
    pennfudan.add_argument(
        "--root", type=Path, required=True, metavar="DIR", help="folder that holds PNGImages and Annotation"
    )
    pennfudan.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    pennfudan.add_argument("--seed", type=_whole_number, default=0, help="of the split (default: 0)")
    pennfudan.add_argument(
        "--train-images", type=_count, default=120, metavar="N", help="the rest is for validation (default: 120)"
    )
    pennfudan.set_defaults(run=_run_pennfudan)

    synthetic = _add(
        sources,
        "synthetic",
        "generated street scenes",
        "Draw street scenes; each is a function of the seed and its number alone.",
        "hkd data synthetic --out data/scenes --train-images 200 --validation-images 50",
    )
    synthetic.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    synthetic.add_argument("--train-images", type=_count, default=480, metavar="N", help="(default: 480)")
    synthetic.add_argument("--validation-images", type=_count, default=160, metavar="N", help="(default: 160)")
    synthetic.add_argument("--height", type=_scene_side, default=288, metavar="PIXELS", help="(default: 288)")
    synthetic.add_argument("--width", type=_scene_side, default=384, metavar="PIXELS", help="(default: 384)")
    synthetic.add_argument("--seed", type=_whole_number, default=0, help="(default: 0)")
    synthetic.set_defaults(run=_run_synthetic)


def _add_train(commands: _Commands[argparse.ArgumentParser]) -> None:
    train = _add(
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


def _add_evaluate(commands: _Commands[argparse.ArgumentParser]) -> None:
    evaluate = _add(
        commands,
        "evaluate",
        "log-average miss rates and AP of a file of detections",
        """\
        Judge detections by a protocol's subsets: MR^-2, the log-average miss rate over 0.01 to 1 false positives an
        image, in per cent, lower is better; and COCO AP.""",
        "hkd evaluate --ground-truth val_gt.json --detections val_dt.json --protocol citypersons --json result.json",
    )
    evaluate.add_argument("--ground-truth", type=Path, required=True, metavar="GT", help="COCO-style JSON")
    evaluate.add_argument(
        "--detections",
        type=Path,
        required=True,
        metavar="DT",
        help="COCO results: a JSON list of image_id, category_id, bbox [x, y, width, height], score",
    )
    evaluate.add_argument("--protocol", default="citypersons", help="(default: citypersons)")
    evaluate.add_argument("--json", type=Path, metavar="OUT", help="also write all numbers and curves to this file")
    evaluate.set_defaults(run=_run_evaluate)


def _add_detect(commands: _Commands[argparse.ArgumentParser]) -> None:
    detect = _add(
        commands,
        "detect",
        "draw the pedestrians that a detector finds in pictures",
        "Write each picture with its pedestrians' boxes and scores (per cent) to DIR, and all to detections.json.",
        """\
        hkd detect street.jpg --weights runs/train/student/student.safetensors --out drawn
        hkd detect *.png --weights student.safetensors --out drawn --score-threshold 0.3""",
    )
    detect.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="picture file")
    detect.add_argument(
        "--weights", type=Path, required=True, metavar="W", help="student.safetensors of a training or a trial"
    )
    detect.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    detect.add_argument(
        "--score-threshold", type=_share, default=0.5, metavar="S", help="leave out boxes below this (default: 0.5)"
    )
    detect.add_argument(
        "--config", type=Path, help="the training's configuration, for weights that do not say it themselves"
    )
    detect.set_defaults(run=_run_detect)


def _add(
    commands: _Commands[argparse.ArgumentParser], name: str, summary: str, description: str, examples: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=summary,
        description=_flush_left(description),
        epilog=f"examples:\n{_flush_left(examples, indent='  ')}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(after_interrupt="Nothing was finished.")
    return parser


def _flush_left(text: str, indent: str = "") -> str:
    return "\n".join(indent + line.strip() for line in text.splitlines())


def _count(text: str) -> int:
    return _number_from(1, text)


def _whole_number(text: str) -> int:
    return _number_from(0, text)


def _scene_side(text: str) -> int:
    return _number_from(64, text)


def _number_from(smallest: int, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = smallest - 1
    if value < smallest:
        raise argparse.ArgumentTypeError(f'found "{text}"; allowed: integer >= {smallest}')
    return value


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value < 1.0:
        raise argparse.ArgumentTypeError(f'found "{text}"; allowed: number >= 0 and < 1')
    return value


def _run_pennfudan(options: argparse.Namespace) -> None:
    from hkd.data.sources.pennfudan import convert

    with _refusals():
        print(convert(options.root, options.out, seed=options.seed, train_images=options.train_images))


def _run_synthetic(options: argparse.Namespace) -> None:
    from hkd.data.sources.synthetic import write_scenes

    with _refusals():
        paths = write_scenes(
            options.out,
            train_images=options.train_images,
            validation_images=options.validation_images,
            height=options.height,
            width=options.width,
            seed=options.seed,
        )
    print(f"wrote {paths[0]}\nwrote {paths[1]}")


@contextmanager
def _refusals() -> Iterator[None]:
    """For functions that refuse their arguments by a plain ValueError."""
    try:
        yield
    except ValueError as error:
        raise CommandError(str(error)) from error


def _run_train(options: argparse.Namespace) -> None:
    from hkd.config_io import load_config
    from hkd.evaluation.evaluator import format_result

    config = load_config(options.config, options.overrides)
    # Only now, so that mistakes in the configuration are told at once.
    from hkd.training.run import train_command

    out = options.out or Path("runs/train") / options.config.stem
    summary = train_command(config, out, resume=options.resume)
    print(format_result(summary.evaluation))
    print(f"student: {summary.cost.num_params / 1e6:.3f}M parameters, {summary.cost.gmacs:.3f} GMACs an image")
    print(f"results: {summary.folder}")


def _run_evaluate(options: argparse.Namespace) -> None:
    from hkd.evaluation.evaluator import evaluate_files, format_result

    if options.json is not None and options.json.resolve() in (
        options.ground_truth.resolve(),
        options.detections.resolve(),
    ):
        raise CommandError(f"{options.json}: is read, and would be overwritten; name another file with --json")
    result = evaluate_files(options.ground_truth, options.detections, options.protocol)
    print(format_result(result))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(result.to_json() + "\n", encoding="utf-8")


def _run_detect(options: argparse.Namespace) -> None:
    from hkd.config_io import load_config

    config = None if options.config is None else load_config(options.config)
    from hkd.training.detect import detect_command

    found = detect_command(
        options.images, options.weights, options.out, score_threshold=options.score_threshold, config=config
    )
    for picture in found:
        count = len(picture.pedestrians)
        print(f"{picture.image}: {count} pedestrian{'' if count == 1 else 's'} -> {picture.drawn}")
