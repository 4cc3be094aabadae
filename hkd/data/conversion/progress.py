"""Progress bar of a conversion."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import track

from hkd.text.escaping import printable

ItemT = TypeVar("ItemT")


def track_progress(
    items: Iterable[ItemT], description: str, *, total: int | None = None, shown: bool = True
) -> Iterator[ItemT]:
    """Iterate over items with a progress bar on stderr; ``total`` is the length of an iterable without one.

    The description may quote names of files: it is text, not markup.
    """
    is_empty = isinstance(items, Sized) and len(items) == 0
    yield from track(
        items, escape(printable(description)), total=total, console=Console(stderr=True), disable=is_empty or not shown
    )
