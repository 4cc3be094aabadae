"""Files that commands write: never over what they read, and whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path


def place_problems(written: Mapping[str, Path | None], read: Collection[Path]) -> list[str]:
    """A sentence for every option whose file cannot be written where it says.

    It may be a file that is read, a folder, or the file of another option.

    Args:
        written: Path by option; None where the option was not given.
        read: Files that the command reads.
    """
    sources = {path.resolve() for path in read}
    places: dict[Path, str] = {}
    problems = []
    for option, path in written.items():
        if path is None:
            continue
        place = path.resolve()
        if place in sources:
            problems.append(f"{path}: is read, and would be overwritten; name another file with {option}")
        elif path.is_dir():
            problems.append(f"{path}: is a folder; name a file in it with {option}")
        elif place in places:
            problems.append(f"{path}: is named by {places[place]} already; name another file with {option}")
        places[place] = option
    return problems


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, its folder too if there is none; a reader never meets half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
