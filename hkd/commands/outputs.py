"""Checks of the files that commands write: never over what they read."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path


def place_problems(written: Mapping[str, Path | None], read: Collection[Path]) -> list[str]:
    """A sentence for every option whose file cannot be written where it says.

    It may be a file that is read, or lie in a folder that is; be a folder, or the file of another option; or nobody
    may write there.

    Args:
        written: Path by option; None where the option was not given.
        read: Files and folders that the command reads.
    """
    sources = {path.resolve() for path in read}
    folders = {path for path in sources if path.is_dir()}
    places: dict[Path, str] = {}
    problems = []
    for option, path in written.items():
        if path is None:
            continue
        place = path.resolve()
        if place in sources:
            problems.append(f"{path}: is read, and would be overwritten; name another file with {option}")
        elif folders & set(place.parents):
            problems.append(f"{path}: lies in a folder that is read; name a file elsewhere with {option}")
        elif path.is_dir():
            problems.append(f"{path}: is a folder; name a file in it with {option}")
        elif place in places:
            problems.append(f"{path}: is named by {places[place]} already; name another file with {option}")
        elif (reason := _why_not_writable(place)) is not None:
            problems.append(f"{path}: cannot be written ({reason}); name another file with {option}")
        places[place] = option
    return problems


def _why_not_writable(place: Path) -> str | None:
    """What keeps a file from being written, in words; None where nothing is known to."""
    # What is not there yet will be made in the first folder that is.
    above = next(folder for folder in place.parents if folder.exists())
    try:
        # Permissions do not say everything: a disk may be full, a file system refuse files.
        with tempfile.TemporaryFile(dir=above):
            return None
    except OSError as error:
        return f"{above}: {error.strerror or type(error).__name__}"
