"""Errors that list everything wrong with the files that a user gave."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from hkd.text.escaping import LinesError, printable

T = TypeVar("T")

PROBLEMS_LISTED = 20


class InputError(LinesError):
    """Files that a user gave cannot be used; ``problems`` holds every sentence, ``str()`` the first 20."""

    def __init__(self, problems: Sequence[str], source: str = "") -> None:
        """``source``: the file of all problems; empty if each problem names its own."""
        # Both are args, so that the error can be pickled by a worker process.
        super().__init__(tuple(problems), source)
        self.problems = tuple(problems)
        self.source = source

    @property
    def located_problems(self) -> tuple[str, ...]:
        """Every problem with its source in front."""
        return tuple(f"{self.source}: {problem}" if self.source else problem for problem in self.problems)

    def __str__(self) -> str:
        if not self.source or len(self.problems) == 1:
            lines = [printable(problem) for problem in self.located_problems[:PROBLEMS_LISTED]]
        else:
            lines = [printable(f"{self.source}: {len(self.problems)} problems:")]
            lines += [printable(f"- {problem}") for problem in self.problems[:PROBLEMS_LISTED]]
        if len(self.problems) > PROBLEMS_LISTED:
            lines.append(f"- and {len(self.problems) - PROBLEMS_LISTED} more")
        return "\n".join(lines)


class AnnotationError(InputError):
    """Annotations, their images or detections cannot be used."""


class Collector:
    """Calls functions that may raise :class:`InputError`, and keeps the problems."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def __call__(self, read: Callable[[], T]) -> T | None:
        """The result of ``read``; None where it found problems."""
        try:
            return read()
        except InputError as error:
            self.problems.extend(error.located_problems)
            return None


@contextmanager
def collected_problems(error_class: type[InputError] = AnnotationError) -> Iterator[Collector]:
    """Read several inputs even if one of them is wrong, and report the problems of all at the end.

    Raises:
        InputError: of ``error_class``, at the end of the block, with the problems of every call in it.
    """
    collect = Collector()
    yield collect
    if collect.problems:
        raise error_class(collect.problems)
