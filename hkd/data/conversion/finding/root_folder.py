"""What is wrong with a data set's folder in which nothing was found."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from hkd.image_files.listing import is_hidden

_MOST_FOLDERS = 1000
_DEEPEST = 2


def nothing_found(root: Path, what: str, patterns: Sequence[str], remedy: str) -> str:
    """A sentence that the folder holds none of ``what``, and where it may be instead.

    Args:
        root: the folder that the user named.
        what: the missing files, for the sentence.
        patterns: of the missing files, looked for in folders below ``root``.
        remedy: what to do if they are not below it either.
    """
    if root.is_file():
        return "is a file; name the folder of the data set, and extract archives first"
    if not root.is_dir():
        return "there is no such folder; name the folder of the data set"
    for depth in range(1, _DEEPEST + 1):
        folders = islice(root.glob("/".join("*" * depth)), _MOST_FOLDERS)
        for folder in sorted(path for path in folders if path.is_dir() and not is_hidden(path.relative_to(root))):
            if any(next(folder.glob(pattern), None) is not None for pattern in patterns):
                place = folder.relative_to(root).as_posix()
                return f"found no {what}, but '{place}' below it has; name that folder (--root)"
    return f"found no {what}; {remedy}"
