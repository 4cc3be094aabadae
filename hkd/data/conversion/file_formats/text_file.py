"""Small text files of data sets: lists of images, label files, names of classes."""

from __future__ import annotations

import codecs
from pathlib import Path

from hkd.bounded_files import read_bounded

LARGEST_TEXT_BYTES = 1 << 26
"""A list of half a million images, or the boxes of a long video."""
PROBLEMS_PER_FILE = 1000
"""How many malformed lines of one file are reported; the rest of the file is not read then."""
_UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_lines(path: Path, name: str, problems: list[str]) -> list[str]:
    """The lines of a text file, without their ends; none, with an entry in ``problems``, if it cannot be read.

    A byte-order mark is removed, and decides between UTF-8 and UTF-16. Bytes that are not text are replaced, so that
    the checks of a line quote them.
    """
    try:
        content = read_bounded(path, LARGEST_TEXT_BYTES)
    except OSError as error:
        problems.append(f"{name}: cannot be read ({error.strerror})")
        return []
    encoding = "utf-16" if content.startswith(_UTF_16_MARKS) else "utf-8-sig"
    return content.decode(encoding, "replace").replace("\r\n", "\n").split("\n")
