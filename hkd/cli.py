"""The ``hkd`` command: data sets, one training, one evaluation, pictures; sweeps have ``sweeps/run.py``."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence

import hkd
from hkd.commands import data, detect, evaluate, train
from hkd.terminal_text import printable

# Each command imports what it needs when it runs: torch alone takes seconds, which `hkd --help` must not.

USER_ERROR = 2
INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Without the program's name; those of the process unless given.

    Returns:
        Exit code: 0, 2 for what the user can mend (told in one message on stderr), 130 when interrupted.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # As stderr does: rather an escape than a traceback where a terminal or file cannot take a name's letters.
        sys.stdout.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except KeyboardInterrupt:
        print(f"\nhkd {options.command}: interrupted. {options.after_interrupt}", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, OSError) as error:
        if not _is_for_the_user(error):
            raise
        print(printable(f"hkd {options.command}: {_message(error)}", keep="\n"), file=sys.stderr)
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
    data.add_to(commands)
    train.add_to(commands)
    evaluate.add_to(commands)
    detect.add_to(commands)
    return parser
