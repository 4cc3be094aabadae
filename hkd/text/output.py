"""Everything that the programs print: names and messages from files, servers and libraries may contain anything.

Control characters are escaped in every line. Credentials are removed from errors and warnings, which quote settings and
answers of servers. ruff allows ``print`` here only.
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn

from hkd.text.escaping import LinesError, printable
from hkd.text.redaction import redacted_text

if TYPE_CHECKING:
    from rich.console import Console

LONGEST_LINE = 6_000
"""Letters; names in messages, which come from files, may have millions. A path of the largest length, 4095, fits."""
_LONGEST_REDACTED_LINE = 200_000

# torch falls back to the CPU where it cannot use a GPU: the reason is only in its warning.
_SHOWN_LIBRARY_MODULES = ("torch.cuda",)


def print_line(text: str) -> None:
    """Print one line; line breaks in the text are escaped."""
    print(_bounded(printable(text)))


def print_lines(text: str) -> None:
    """Print lines that are composed already: their line breaks stay."""
    print(_bounded(printable(text, keep="\n")))


def print_error(text: str, *known_uris: str) -> None:
    """Print an error on stderr, without credentials.

    Args:
        text: Line breaks stay; errors escape those of the names that they quote.
        known_uris: See :func:`hkd.text.redaction.redacted_text`.
    """
    # Searching for credentials takes seconds for each megabyte; the ends contain far more than is printed.
    text = _bounded(text, _LONGEST_REDACTED_LINE)
    print(_bounded(printable(redacted_text(text, *known_uris), keep="\n")), file=sys.stderr)


def _bounded(text: str, longest: int = LONGEST_LINE) -> str:
    """The text with each line of more than ``longest`` letters without its middle."""
    if len(text) <= longest:
        return text
    half = longest // 2
    return "\n".join(
        line if len(line) <= longest else f"{line[:half]} ... {len(line) - longest} letters ... {line[-half:]}"
        for line in text.split("\n")
    )


def error_text(error: Exception) -> str:
    """The message of an error; only errors that escape each of their lines may have several."""
    return str(error) if isinstance(error, LinesError) else printable(str(error))


def print_on(console: Console, text: str) -> None:
    """Print one line on a console: no markup, which names may contain, and not wrapped, so that grep finds paths."""
    console.print(printable(text), markup=False, highlight=False, soft_wrap=True)


class ArgumentParser(argparse.ArgumentParser):
    """A parser whose errors, which quote arguments, are printed as other errors are."""

    def error(self, message: str) -> NoReturn:
        """Print usage and message, and exit with code 2."""
        super().error(printable(redacted_text(message)))


@contextmanager
def tamed_libraries(own_packages: Sequence[str]) -> Iterator[None]:
    """Print warnings of our packages in one line each, hide those of libraries, escape what libraries log.

    A warning belongs to the module at its ``stacklevel``, as in Python's own filters: one of ours that points to a
    library's frame is hidden, and a library's that points to our call is shown, unless it is a DeprecationWarning.
    -W and PYTHONWARNINGS show all warnings as Python does.

    A traceback that ends the process is printed without credentials.
    """
    sys.excepthook = _print_traceback
    last_resort, logging.lastResort = logging.lastResort, _LogHandler()
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:
                _show_warnings_of(own_packages)
            yield
    finally:
        logging.lastResort = last_resort


def log_as_we_do(*loggers: str) -> None:
    """Print the errors of libraries' loggers as ours, instead of by their own handlers. Call it after their import."""
    for name in loggers:
        logger = logging.getLogger(name)
        logger.setLevel(logging.ERROR)
        logger.handlers.clear()
        logger.propagate = True


class _LogHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Prints the records of loggers that have no handler."""

    def __init__(self) -> None:
        super().__init__()
        self.setLevel(logging.WARNING)

    def format(self, record: logging.LogRecord) -> str:
        return printable(redacted_text(super().format(record)), keep="\n")


def _show_warnings_of(own_packages: Sequence[str]) -> None:
    warnings.simplefilter("ignore")
    shown = "|".join(re.escape(name) for name in (*own_packages, *_SHOWN_LIBRARY_MODULES))
    warnings.filterwarnings("default", module=rf"({shown})(\.|$)")
    for category in (DeprecationWarning, PendingDeprecationWarning):
        warnings.simplefilter("ignore", category)
    warnings.showwarning = _print_warning


def _print_warning(message: Warning | str, *_: object, **__: object) -> None:
    text = " ".join(str(message).split())
    print(f"warning: {printable(redacted_text(text))}", file=sys.stderr)


def _print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    text = "".join(traceback.format_exception(kind, error, trace))
    print(printable(redacted_text(text), keep="\n"), end="", file=sys.stderr)
