"""Entry point of the ``hkd`` command; sweeps are run by ``sweeps/run.py``."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

import hkd
from hkd.commands import benchmark, detect, draw, evaluate, export, init, label, train
from hkd.commands.data import command as data
from hkd.commands.parsing import examples_section, wrapped_paragraphs
from hkd.text.escaping import printable
from hkd.text.output import ArgumentParser, error_text, print_error, tamed_libraries

# Commands import torch and others when they run, because `hkd --help` must be fast.

USER_ERROR = 2
BROKEN_PIPE = 141
"""128 + SIGPIPE."""
INTERRUPTED = 130
"""128 + SIGINT, the convention of shells."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Arguments after the program's name (default: ``sys.argv[1:]``).

    Returns:
        Exit code: 0; 2 after an error of the user, with one message on stderr; 130 after an interruption.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # As on stderr: characters that the terminal cannot encode are escaped instead of raising.
        sys.stdout.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(arguments)
    try:
        with tamed_libraries([hkd.__name__]):
            options.run(options)
    except KeyboardInterrupt:
        print_error(f"\nhkd {options.command}: interrupted. {options.after_interrupt}")
        return INTERRUPTED
    except BrokenPipeError:
        return _after_broken_pipe()
    except (ValueError, OSError) as error:
        if not _is_for_the_user(error):
            raise
        print_error(f"hkd {options.command}: {_message(error)}")
        return USER_ERROR
    except (MemoryError, RuntimeError) as error:
        message = _resource_message(error)
        if message is None:
            raise
        print_error(f"hkd {options.command}: {message}")
        return USER_ERROR
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return _after_broken_pipe()
    return 0


def _after_broken_pipe() -> int:
    """End as programs do whose reader has read enough, as ``head`` does."""
    # Python would report at exit that it cannot write the rest.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return BROKEN_PIPE


def _resource_message(error: MemoryError | RuntimeError) -> str | None:
    """The message for exhausted memory, and for a path that has no end; None for a defect."""
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
    if first_line.startswith("Symlink loop from "):  # of Path.resolve, before Python 3.13
        return f"{first_line.removeprefix('Symlink loop from ')}: is a symbolic link that leads to itself"
    if not _is_out_of_memory(error):
        return None
    return (
        f"not enough memory ({first_line}); use smaller images (data.image_height, data.image_width), a smaller "
        "batch_size, a smaller detector or fewer images"
    )


def _is_out_of_memory(error: MemoryError | RuntimeError) -> bool:
    if isinstance(error, MemoryError):
        return True
    from hkd.runtime.out_of_memory import is_out_of_memory

    return is_out_of_memory(error)


def _is_for_the_user(error: ValueError | OSError) -> bool:
    """Whether the user can correct the error; a ValueError of a library or of Python is a bug of hkd."""
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] == hkd.__name__


def _message(error: ValueError | OSError) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return printable(f"{error.filename}: {error.strerror}")
    return error_text(error)


def _parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = ArgumentParser(
        prog="hkd",
        description=wrapped_paragraphs(
            """\
            Distil a strong pedestrian detector into a light one: start from your own annotations or convert a data set,
            train a student (with or without a teacher), evaluate its detections, and detect pedestrians in images. `hkd
            COMMAND --help` describes each command. To search over many students, run `python sweeps/run.py --help`."""
        ),
        epilog=examples_section(
            """\
            hkd init --annotations mine.json --images photos
            hkd data pennfudan --root downloads/PennFudanPed --out data/pennfudan
            hkd train examples/student_alone.yaml --out runs/student
            hkd detect street.jpg --weights runs/student/student.safetensors --out drawn
            hkd export --weights runs/student/student.safetensors --out student.onnx
            hkd evaluate --ground-truth val_gt.json --detections val_dt.json"""
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"hkd {hkd.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    init.add_to(commands)
    data.add_to(commands)
    train.add_to(commands)
    evaluate.add_to(commands)
    detect.add_to(commands)
    export.add_to(commands)
    benchmark.add_to(commands)
    draw.add_to(commands)
    label.add_to(commands)
    return parser
