"""Argument types and help texts shared by the commands."""

from __future__ import annotations

import argparse
import math
import os
import re
import shutil
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

from hkd.text.escaping import LinesError

Commands = argparse._SubParsersAction  # argparse has no public name for it

MAX_HELP_COLUMNS = 100
MAX_FOUND_CHARACTERS = 60
LARGEST_INTEGER = 2**31 - 1
DEFAULT_MAX_MEGAPIXELS = 100.0
MOST_MEGAPIXELS = 10_000
"""Copies of the default and bound of ``data.max_megapixels``, whose import would slow ``hkd --help`` down."""


class CommandError(LinesError):
    """Arguments that are valid one by one, but not together."""


def add_command(
    commands: Commands[argparse.ArgumentParser], name: str, summary: str, description: str, examples: str
) -> argparse.ArgumentParser:
    """Add a command whose help ends with examples.

    Args:
        commands: Parent of the command.
        name: Name of the command.
        summary: One line for the parent's help.
        description: Paragraphs, wrapped to the width of the terminal.
        examples: Command lines, printed as they are; keep them below 80 columns.
    """
    parser = commands.add_parser(
        name,
        help=summary,
        description=wrapped_paragraphs(description),
        epilog=examples_section(examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(after_interrupt="Results are missing or incomplete; run the command again.")
    return parser


def wrapped_paragraphs(text: str) -> str:
    """Wrap paragraphs, separated by empty lines, to the width of the terminal."""
    width = min(shutil.get_terminal_size().columns, MAX_HELP_COLUMNS) - 2
    paragraphs = re.split(r"\n\s*\n", text)
    return "\n\n".join(
        textwrap.fill(" ".join(paragraph.split()), width, break_on_hyphens=False) for paragraph in paragraphs
    )


def examples_section(examples: str) -> str:
    """Format command lines for the end of a help text."""
    return f"examples:\n{textwrap.indent(textwrap.dedent(examples), '  ')}"


def positive_integer(text: str) -> int:
    """Parse an integer of at least 1 that 32 bits hold."""
    return integer_between(1, LARGEST_INTEGER, text)


def non_negative_integer(text: str) -> int:
    """Parse an integer of at least 0 that 32 bits hold."""
    return integer_between(0, LARGEST_INTEGER, text)


def integer_between(minimum: int, maximum: int, text: str) -> int:
    """Parse an integer.

    Raises:
        argparse.ArgumentTypeError: the text is not an integer from ``minimum`` to ``maximum``.
    """
    value = _parse_integer(text)
    if value is None or not minimum <= value <= maximum:
        found = text if len(text) <= MAX_FOUND_CHARACTERS else f"{text[:MAX_FOUND_CHARACTERS]}..."
        raise argparse.ArgumentTypeError(f'found "{found}"; allowed: integer from {minimum} to {maximum}')
    return value


def _parse_integer(text: str) -> int | None:
    # int() also accepts 1_0 and digits of other scripts, and raises on more than 4300 digits.
    return int(text) if re.fullmatch("[+-]?[0-9]{1,100}", text) else None


def parse_number(text: str) -> float | None:
    """Parse a number; ``None`` if the text is not a number in ASCII digits."""
    try:
        return float(text) if text.isascii() and "_" not in text else None
    except ValueError:
        return None


def named_paths(texts: Sequence[str], option: str, problems: list[str]) -> dict[str, Path]:
    """Paths by name, of arguments ``NAME=PATH`` or ``PATH``, which is named after its file.

    Args:
        texts: The arguments.
        option: That they were given to, for messages.
        problems: Gets a sentence for each name that is empty or used twice.
    """
    paths: dict[str, Path] = {}
    for text in texts:
        name, path = _name_and_path(text)
        if not name:
            problems.append(f'{option} "{text}": the name before "=" is empty')
        elif name in paths:
            problems.append(
                f'{option}: {paths[name]} and {path} have the same name "{name}"; give them names: NAME=PATH'
            )
        else:
            paths[name] = path
    return paths


def _name_and_path(text: str) -> tuple[str, Path]:
    name, separator, path = text.partition("=")
    # An existing file with "=" in its name is a path. Path.exists would raise on a name too long for a file.
    if separator and not os.path.exists(text):  # noqa: PTH110
        return name, Path(path)
    resolved = Path(text).resolve()
    return resolved.name if resolved.is_dir() else resolved.stem, Path(text)


def add_category_names(parser: argparse.ArgumentParser) -> None:
    """Add ``--person`` and ``--ignore-category``, the names of :class:`hkd.coco.categories.CategoryNames`."""
    parser.add_argument(
        "--person",
        action="append",
        default=[],
        metavar="NAME",
        help="name of a category of people in the annotations; repeatable (default: pedestrian or person)",
    )
    parser.add_argument(
        "--ignore-category",
        action="append",
        default=[],
        metavar="NAME",
        help="name of a category whose boxes are ignore regions; repeatable. Boxes of other categories are not read",
    )


def add_max_megapixels(parser: argparse.ArgumentParser, default: float | None) -> None:
    """Add ``--max-megapixels``; ``default`` None: as the configuration has it."""
    parser.add_argument(
        "--max-megapixels",
        type=_megapixels,
        default=default,
        metavar="M",
        help="refuse images of more than M million pixels; decoding takes 3 to 30 MB of memory per megapixel"
        " (default: 100)",
    )


def number_where(is_allowed: Callable[[float], bool], allowed: str, text: str) -> float:
    """Parse a number.

    Args:
        is_allowed: Whether a number is valid; false for NaN.
        allowed: The valid numbers in words, for messages.
        text: The argument.

    Raises:
        argparse.ArgumentTypeError: the text is not a valid number.
    """
    value = parse_number(text)
    if value is None or not is_allowed(value):
        raise argparse.ArgumentTypeError(f'found "{text}"; allowed: {allowed}')
    return value


def _megapixels(text: str) -> float:
    return number_where(lambda value: 0.0 < value <= MOST_MEGAPIXELS, f"number > 0, at most {MOST_MEGAPIXELS}", text)


def fraction_below_one(text: str) -> float:
    """Parse a number in [0, 1)."""
    return number_where(lambda value: 0.0 <= value < 1.0, "number >= 0 and < 1", text)


def positive_fraction(text: str) -> float:
    """Parse a number in (0, 1]."""
    return number_where(lambda value: 0.0 < value <= 1.0, "number > 0 and <= 1", text)


def open_fraction(text: str) -> float:
    """Parse a number in (0, 1)."""
    return number_where(lambda value: 0.0 < value < 1.0, "number > 0 and < 1", text)


def positive_number(text: str) -> float:
    """Parse a finite number above 0."""
    return number_where(lambda value: 0.0 < value < math.inf, "number > 0", text)
