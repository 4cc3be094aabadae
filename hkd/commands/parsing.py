"""What the commands' parsers share."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from contextlib import contextmanager

Commands = argparse._SubParsersAction  # argparse has no public name for it


class CommandError(ValueError):
    """A command cannot do what its arguments ask for."""


def add_command(
    commands: Commands[argparse.ArgumentParser], name: str, summary: str, description: str, examples: str
) -> argparse.ArgumentParser:
    """Add a command whose help shows what it does and how it is used."""
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


def count(text: str) -> int:
    """An integer of at least 1."""
    return number_from(1, text)


def whole_number(text: str) -> int:
    """An integer of at least 0."""
    return number_from(0, text)


def number_from(smallest: int, text: str) -> int:
    """An integer of at least ``smallest``.

    Raises:
        argparse.ArgumentTypeError: it is something else.
    """
    # Python would take 1_0 for ten, and digits of other scripts; beyond 100 digits it may refuse.
    value = int(text) if re.fullmatch("[+-]?[0-9]{1,100}", text) else smallest - 1
    if value < smallest:
        raise argparse.ArgumentTypeError(f'found "{text}"; allowed: integer >= {smallest}')
    return value


def number(text: str) -> float | None:
    """A number in plain digits; None if the text is none."""
    try:
        return float(text) if text.isascii() and "_" not in text else None
    except ValueError:
        return None


def share(text: str) -> float:
    """A number in [0, 1)."""
    value = number(text)
    if value is None or not 0.0 <= value < 1.0:
        raise argparse.ArgumentTypeError(f'found "{text}"; allowed: number >= 0 and < 1')
    return value


@contextmanager
def refusals() -> Iterator[None]:
    """For functions that refuse their arguments by a plain ValueError."""
    try:
        yield
    except ValueError as error:
        raise CommandError(str(error)) from error
