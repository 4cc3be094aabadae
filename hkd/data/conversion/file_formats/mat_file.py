"""Reader of MATLAB's level 5 MAT-files (MathWorks, "MAT-File Format"), on demand and with every size checked.

scipy.io.loadmat reads a whole file at once and recurses into nested cells without a limit, so that a crafted file ends
the process. This reader reads only the requested arrays, and limits the size of files and arrays.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hkd.bounded_files import read_bounded

LARGEST_FILE_BYTES = 1 << 26
"""Annotation files have a few megabytes."""
LARGEST_UNPACKED_BYTES = 1 << 26
"""Of all compressed variables of a file."""
LARGEST_ARRAY = 100_000
"""Elements of one array. A video has a few thousand frames; an array needs far more memory here than in its file."""

_HEADER_BYTES = 128
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8", 12: "<i8", 13: "<u8"}
"""Element types of numbers, as NumPy dtypes."""
_ENCODINGS = {1: "latin-1", 2: "latin-1", 4: "utf-16-le", 16: "utf-8", 17: "utf-16-le"}
"""Element types of text."""
_CELL, _STRUCT, _CHAR = 1, 2, 4
_NUMERIC = range(6, 16)
_KINDS = {_CELL: "a cell array", _STRUCT: "a struct", _CHAR: "text"} | dict.fromkeys(_NUMERIC, "numbers")
_COMPLEX_FLAG = 0x08
_MOST_DIMENSIONS = 32


class MatFileError(ValueError):
    """A MAT-file is damaged, or has other contents than requested."""


@dataclass(frozen=True)
class MatArray:
    """One array of a MAT-file; its content is read on demand."""

    class_id: int
    shape: tuple[int, ...]
    _content: memoryview

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def cells(self) -> list[MatArray]:
        """The arrays in a cell array, column by column.

        Raises:
            MatFileError: it is not a cell array, or damaged.
        """
        if self.size == 0:
            self._require_empty()
            return []  # an empty array of any class: MATLAB's []
        self._require(_CELL)
        return _matrices(self._content, self.size)

    def structs(self) -> list[dict[str, MatArray]]:
        """The elements of a struct array as dicts by field name.

        Raises:
            MatFileError: it is not a struct array, or damaged.
        """
        if self.size == 0:
            self._require_empty()
            return []
        self._require(_STRUCT)
        _, length, rest = _element(self._content)
        _, packed, rest = _element(rest)
        (name_bytes,) = struct.unpack("<i", length) if len(length) == 4 else (0,)
        if name_bytes < 1 or len(packed) % name_bytes:
            raise MatFileError("the names of a struct's fields are damaged")
        if len(packed) // name_bytes * self.size > LARGEST_ARRAY:
            raise MatFileError(f"structs of more than {LARGEST_ARRAY} fields, which no annotation has")
        names = [
            _text(packed[start : start + name_bytes], "latin-1").split("\0")[0]
            for start in range(0, len(packed), name_bytes)
        ]
        values = iter(_matrices(rest, self.size * len(names)))
        return [{name: next(values) for name in names} for _ in range(self.size)]

    def numbers(self) -> npt.NDArray[np.float64]:
        """The numbers of a numeric array, in its shape; an empty array has the shape (0, 0).

        Raises:
            MatFileError: it is not numeric, or damaged.
        """
        if self.size == 0:
            self._require_empty()
            return np.zeros((0, 0))
        self._require(*_NUMERIC)
        element_type, data, _ = _element(self._content)
        if element_type not in _NUMBERS:
            raise MatFileError(f"an array of numbers holds elements of the unknown type {element_type}")
        dtype = np.dtype(_NUMBERS[element_type])
        if len(data) != self.size * dtype.itemsize:
            raise MatFileError(f"an array of {self.size} numbers holds {len(data)} bytes, damaged or truncated")
        return np.frombuffer(data, dtype).astype(np.float64).reshape(self.shape, order="F")

    def text(self) -> str:
        """The text of a char array of one row.

        Raises:
            MatFileError: it is not text, or damaged.
        """
        if self.size == 0:
            self._require_empty()
            return ""
        self._require(_CHAR)
        element_type, data, _ = _element(self._content)
        if element_type not in _ENCODINGS:
            raise MatFileError(f"a text holds elements of the unknown type {element_type}")
        return _text(data, _ENCODINGS[element_type])

    def _require_empty(self) -> None:
        """Check that an empty array has no content: otherwise its size is damaged, and boxes would be lost."""
        rest = self._content
        if self.class_id == _STRUCT:
            _, _, rest = _element(rest)
            _, _, rest = _element(rest)
        elif self.class_id != _CELL and len(rest):
            _, rest, _ = _element(rest)
        if len(rest):
            raise MatFileError(f"an array without elements holds {len(rest)} bytes; the file is damaged")

    def _require(self, *classes: int) -> None:
        if self.class_id not in classes:
            found = _KINDS.get(self.class_id, f"an array of class {self.class_id}")
            raise MatFileError(f"expected {_KINDS[classes[0]]}, found {found}")


def read_mat(path: Path) -> dict[str, MatArray]:
    """Read the variables of a MAT-file, by name.

    Raises:
        MatFileError: the file is not a level 5 MAT-file, is damaged or truncated, or decompresses to too many bytes.
        OSError: the file cannot be read, or is too large.
    """
    data = memoryview(read_bounded(path, LARGEST_FILE_BYTES))
    if bytes(data[124:128]) != b"\x00\x01IM":
        raise MatFileError(
            "it is no MAT-file of level 5, little-endian; load it in MATLAB and save it again with the option -v7"
        )
    variables: dict[str, MatArray] = {}
    rest = data[_HEADER_BYTES:]
    budget = LARGEST_UNPACKED_BYTES
    while len(rest):
        element_type, content, rest = _element(rest)
        if element_type == _COMPRESSED:
            unpacked = _unpacked(content, budget)
            budget -= len(unpacked)
            element_type, content, _ = _element(memoryview(unpacked))
        if element_type != _MATRIX:
            raise MatFileError(f"a variable is of the unknown type {element_type}, damaged")
        name, array = _matrix(content)
        if len(variables) == LARGEST_ARRAY:
            raise MatFileError(f"it holds more than {LARGEST_ARRAY} variables")
        if name in variables:
            raise MatFileError(f"the variable {name!r} occurs twice")
        variables[name] = array
    return variables


def _unpacked(content: memoryview, largest_bytes: int) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(content, largest_bytes + 1)
    except zlib.error as error:
        raise MatFileError(f"a compressed variable is damaged ({error})") from error
    if len(data) > largest_bytes:
        raise MatFileError(
            f"its compressed variables unpack to more than {LARGEST_UNPACKED_BYTES} bytes, which no annotation takes"
        )
    if not unpacker.eof:
        raise MatFileError("a compressed variable ends too early; the file is truncated")
    return data


def _element(data: memoryview) -> tuple[int, memoryview, memoryview]:
    """Type and content of the first element, and what follows it."""
    if len(data) < 8:
        raise MatFileError("an element ends too early; the file is damaged or truncated")
    element_type, size = struct.unpack_from("<II", data)
    if element_type >> 16:  # small element: size, type and up to four bytes of data in eight bytes
        element_type, size, start, end = element_type & 0xFFFF, element_type >> 16, 4, 8
    else:
        start, end = 8, 8 + size
        if element_type != _COMPRESSED:
            end += -size % 8
    if start + size > min(end, len(data)):
        raise MatFileError(f"an element announces {size} bytes, more than there are; the file is damaged or truncated")
    return element_type, data[start : start + size], data[end:]


def _matrix(content: memoryview) -> tuple[str, MatArray]:
    """Name and array of a matrix element."""
    if not len(content):
        return "", MatArray(_NUMERIC[0], (0, 0), content)
    _, flags, rest = _element(content)
    _, dimensions, rest = _element(rest)
    _, name, rest = _element(rest)
    if len(flags) != 8 or len(dimensions) % 4 or not 2 <= len(dimensions) // 4 <= _MOST_DIMENSIONS:
        raise MatFileError("the head of an array is damaged")
    shape = tuple(number for (number,) in struct.iter_unpack("<i", dimensions))
    if min(shape) < 0 or math.prod(shape) > len(content):  # an element has at least one byte
        raise MatFileError(f"an array of {' x '.join(map(str, shape))} elements holds only {len(content)} bytes")
    if math.prod(shape) > LARGEST_ARRAY:
        raise MatFileError(
            f"an array of {' x '.join(map(str, shape))} elements is more than annotations have ({LARGEST_ARRAY})"
        )
    if flags[1] & _COMPLEX_FLAG:
        raise MatFileError("an array holds complex numbers, which annotations do not")
    return _text(name, "latin-1"), MatArray(flags[0], shape, rest)


def _matrices(content: memoryview, count: int) -> list[MatArray]:
    arrays = []
    for _ in range(count):
        element_type, matrix, content = _element(content)
        if element_type != _MATRIX:
            raise MatFileError(f"an array was expected, found an element of type {element_type}; the file is damaged")
        arrays.append(_matrix(matrix)[1])
    if len(content):
        raise MatFileError(f"{len(content)} bytes follow the last of {count} arrays; the file is damaged")
    return arrays


def _text(data: memoryview, encoding: str) -> str:
    try:
        return bytes(data).decode(encoding)
    except UnicodeDecodeError as error:
        raise MatFileError(f"a text is not {encoding} ({error.reason}); the file is damaged") from error
