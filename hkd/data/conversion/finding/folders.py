"""Files of a data set's folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def files_below(root: Path, excluded: Path | None = None) -> Iterator[Path]:
    """All files, sorted by name; links to folders are followed, each folder once."""
    seen = {excluded} if excluded is not None else set()
    for folder, folders, files in os.walk(root, followlinks=True):
        resolved = Path(folder).resolve()
        if resolved in seen:
            folders.clear()
            continue
        seen.add(resolved)
        folders.sort()
        yield from (Path(folder) / name for name in sorted(files))
