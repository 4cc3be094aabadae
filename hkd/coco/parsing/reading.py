"""Reading of users' files of annotations and detections: JSON in which no object repeats a key."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from hkd.bounded_files import read_bounded
from hkd.coco.parsing.errors import AnnotationError

_BINARY_FORMATS = {
    b"\x1f\x8b": "is compressed with gzip; decompress it (a shell's <(zcat FILE) works, too)",
    b"PK\x03\x04": "is a ZIP archive; extract it",
    b"\x80": "is perhaps a Python pickle, which is never read, because it could run code; save its content as JSON",
    b"\x89HDF": "is an HDF5 file; save its content as JSON",
    b"\x93NUMPY": "is a NumPy array; save its content as JSON",
}


class RepeatedKeyError(ValueError):
    """An object in a JSON file repeats a key; Python's reader would silently keep the last value."""


def read_input(path: Path, remedy: str = "name a file that can be read") -> bytes:
    """The bytes of a file that a user named.

    Raises:
        AnnotationError: it cannot be read or is too large.
    """
    try:
        return read_bounded(path)
    except MemoryError:
        problem = "reading it takes more memory than available; name a smaller file"
    except OSError as error:
        problem = f"cannot be read ({error.strerror or type(error).__name__}); {remedy}"
    raise AnnotationError([problem], str(path))


def read_json(path: Path, remedy: str = "name a file that can be read") -> object:
    """The document in a JSON file.

    Raises:
        AnnotationError: the file cannot be read, is too large or is not JSON.
    """
    return parse_json(read_input(path, remedy), str(path))


def parse_json(content: bytes, source: str) -> object:
    """The document in the bytes of ``source``.

    Raises:
        AnnotationError: they are not JSON, or an object has a key twice.
    """
    if binary := next((what for start, what in _BINARY_FORMATS.items() if content.startswith(start)), None):
        raise AnnotationError([f"must be JSON, but {binary}"], source)
    try:
        return load_json(content)
    except RepeatedKeyError as error:
        problem = f"{error}; keep one of the two"
    except json.JSONDecodeError as error:
        problem = f"line {error.lineno}, column {error.colno}: not valid JSON ({error.msg}); {_remedy(error)}"
    except MemoryError:
        problem = "reading it takes more memory than available; name a smaller file"
    except (ValueError, RecursionError) as error:
        # Bytes that are not text, integers of thousands of digits, brackets nested too deeply.
        problem = f"not valid JSON ({type(error).__name__}: {error}); the file must be JSON in UTF-8"
    raise AnnotationError([problem], source)


def _remedy(error: json.JSONDecodeError) -> str:
    """What to do about text that is no JSON, from what it is instead."""
    if not error.doc.strip():
        return "the file is empty; write or copy it again"
    if not error.doc[error.pos :].strip() or error.msg.startswith("Unterminated string"):
        return "it ends before its last bracket is closed, perhaps because it was not written or copied completely"
    if error.msg == "Extra data":
        try:
            first = json.loads(error.doc[: error.pos])
        except (ValueError, RecursionError):
            first = None
        if isinstance(first, dict):
            return _remedy_of_lines(first)
    return "correct it there"


def _remedy_of_lines(first: dict[str, Any]) -> str:
    """What to do about a file of several JSON objects, from the first one."""
    remedies = {
        "gtboxes": "CrowdHuman's annotations, which `hkd data crowdhuman` converts",
        "dtboxes": "CrowdDet's detections, which `hkd evaluate --detections` reads",
    }
    found = next((f"; these are {remedy}" for key, remedy in remedies.items() if key in first), "")
    return f"the file holds several objects (JSON lines), and must be one{found}"


def load_json(content: bytes) -> object:
    """The document in these bytes.

    Raises:
        json.JSONDecodeError: they are not JSON, or truncated.
        RepeatedKeyError: naming the key and the start of the object.
        ValueError: they are not text, or hold a number of thousands of digits.
        RecursionError: brackets are nested too deeply.
    """
    return json.loads(content, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        repeated = next(key for key in record if counts[key] > 1)
        start = ", ".join(f"{json.dumps(key[:60])}: {_shortened(value)}" for key, value in pairs[:6])
        raise RepeatedKeyError(f"the key {json.dumps(repeated[:60])} is repeated in the object {{{start}}}")
    return record


def _shortened(value: object) -> str:
    if isinstance(value, dict | list) and len(value) > 4:
        return "{...}" if isinstance(value, dict) else "[...]"
    text = ascii(value[:60] if isinstance(value, str) else value)
    return text if len(text) <= 40 else f"{text[:37]}..."
