"""MAT-files: equal to scipy's result, and rejected if damaged."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hkd.data.conversion.file_formats import mat_file
from hkd.data.conversion.file_formats.mat_file import MatArray, MatFileError, read_mat

_HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
_CELL, _STRUCT, _CHAR, _DOUBLE = 1, 2, 4, 6


def _element(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def _matrix(class_id: int, shape: tuple[int, ...], content: bytes, flags: int = 0) -> bytes:
    head = _element(6, bytes([class_id, flags, 0, 0, 0, 0, 0, 0])) + _element(5, struct.pack(f"<{len(shape)}i", *shape))
    return _element(14, head + _element(1, b"v") + content)


def _python(array: MatArray) -> Any:
    """All of an array, descending into it."""
    if array.class_id == 1:
        return [_python(cell) for cell in array.cells()]
    if array.class_id == 2:
        return [{name: _python(value) for name, value in found.items()} for found in array.structs()]
    return array.text() if array.class_id == 4 else array.numbers().tolist()


def _python_of_scipy(array: Any) -> Any:
    """The same of what scipy read."""
    if array.dtype.names is not None:
        found = array.ravel(order="F")
        return [{name: _python_of_scipy(one[name]) for name in array.dtype.names} for one in found]
    if array.dtype == object:
        return [_python_of_scipy(cell) for cell in array.ravel(order="F")]
    if array.dtype.kind == "U":
        return str(array[0]) if array.size else ""
    return array.astype(float).tolist()


@pytest.mark.parametrize("do_compression", [False, True])
def test_files_of_scipy_are_read(tmp_path: Path, do_compression: bool) -> None:
    cells = np.empty((1, 3), dtype=object)
    cells[0] = [np.arange(6, dtype=np.int16).reshape(2, 3), "person?", np.zeros((0, 0))]
    structs = np.zeros((2, 1), dtype=[("id", object), ("pos", object)])
    structs[0, 0] = (np.array([[1]], dtype=np.uint8), np.array([[1.5, -2.0, 3.25, 1e300]]))
    structs[1, 0] = (np.array([[2]], dtype=np.uint8), np.array([[np.inf, 0, 0, 0]], dtype=np.float32))
    written = {"cells": cells, "structs": structs, "long_name_of_a_variable": np.array([[2**40]]), "flag": True}
    scipy.io.savemat(tmp_path / "a.mat", written, do_compression=do_compression)
    read = {name: _python(array) for name, array in read_mat(tmp_path / "a.mat").items()}
    assert read == {
        "cells": [[[0, 1, 2], [3, 4, 5]], "person?", []],
        "structs": [{"id": [[1]], "pos": [[1.5, -2.0, 3.25, 1e300]]}, {"id": [[2]], "pos": [[np.inf, 0, 0, 0]]}],
        "long_name_of_a_variable": [[2**40]],
        "flag": [[1]],
    }


@pytest.mark.parametrize("name", ["caltech/annotations/set07/V004.vbb", "citypersons/anno_val.mat"])
def test_real_files_equal_scipy(shared_data: Path, name: str) -> None:
    path = shared_data / name
    if not path.is_file():
        pytest.skip(f"no {path}")
    theirs = scipy.io.loadmat(path)
    ours = read_mat(path)
    assert set(ours) == {key for key in theirs if not key.startswith("__")}
    for key, array in ours.items():
        assert _python(array) == _python_of_scipy(theirs[key])


def _nested_cells(depth: int) -> bytes:
    """A cell in a cell in a cell; each level's size must be written before the next, so from the outside in."""
    inner = _matrix(_DOUBLE, (1, 1), _element(9, struct.pack("<d", 7.0)))
    head = _matrix(_CELL, (1, 1), b"")[8:]
    levels = [
        struct.pack("<II", 14, len(inner) + number * (len(head) + 8) + len(head)) + head for number in range(depth)
    ]
    return b"".join(reversed(levels)) + inner


def test_deep_nesting_does_not_recurse(tmp_path: Path) -> None:
    # scipy.io.loadmat overflows the stack on this file, which ends the process.
    (tmp_path / "a.mat").write_bytes(_HEADER + _nested_cells(depth=100_000))
    array = read_mat(tmp_path / "a.mat")["v"]
    for _ in range(3):
        (array,) = array.cells()
    assert array.class_id == _CELL


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "no MAT-file of level 5"),
        (b"MATLAB 7.3 MAT-file, HDF5".ljust(124) + b"\x00\x02IM", "no MAT-file of level 5"),
        (_HEADER + b"\x0e\x00\x00\x00\xff", "ends too early"),
        (_HEADER + struct.pack("<II", 14, 1 << 30), "announces 1073741824 bytes, more than there are"),
        (_HEADER + _element(9, bytes(8)), "unknown type 9"),
        (_HEADER + _matrix(_DOUBLE, (0, 0), b"") * 2, "the variable 'v' occurs twice"),
        (_HEADER + _element(14, _element(6, bytes(4))), "ends too early"),
        (_HEADER + _matrix(_DOUBLE, (1 << 30, 4), bytes(8)), "1073741824 x 4 elements holds only"),
        (_HEADER + _matrix(_DOUBLE, (-1, -1), bytes(8)), "-1 x -1 elements holds only"),
        (_HEADER + _matrix(_DOUBLE, (1,) * 33, bytes(8)), "head of an array is damaged"),
        (_HEADER + _matrix(_DOUBLE, (1, 1), bytes(16), flags=0x08), "complex"),
        (_HEADER + struct.pack("<II", 15, 4) + b"abcd", "compressed variable is damaged"),
        (_HEADER + struct.pack("<II", 15, 9) + zlib.compress(bytes(50))[:9], "ends too early; the file is truncated"),
    ],
)
def test_damaged_file_is_reported(tmp_path: Path, data: bytes, problem: str) -> None:
    (tmp_path / "a.mat").write_bytes(data)
    with pytest.raises(MatFileError, match=problem):
        read_mat(tmp_path / "a.mat")


def _compressed(*variables: bytes) -> bytes:
    packed = [zlib.compress(variable) for variable in variables]
    return _HEADER + b"".join(struct.pack("<II", 15, len(data)) + data for data in packed)


def test_decompression_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variable = _matrix(_DOUBLE, (1, 1), _element(9, bytes(8)))
    second = variable.replace(_element(1, b"v"), _element(1, b"w"))
    (tmp_path / "a.mat").write_bytes(_compressed(variable, second))
    monkeypatch.setattr(mat_file, "LARGEST_UNPACKED_BYTES", 2 * len(variable))
    assert set(read_mat(tmp_path / "a.mat")) == {"v", "w"}
    # Each of the two is small enough, but not both together.
    monkeypatch.setattr(mat_file, "LARGEST_UNPACKED_BYTES", 2 * len(variable) - 1)
    with pytest.raises(MatFileError, match="its compressed variables unpack to more than"):
        read_mat(tmp_path / "a.mat")
    monkeypatch.setattr(mat_file, "LARGEST_FILE_BYTES", 100)
    with pytest.raises(OSError, match="it is larger than 100 bytes"):
        read_mat(tmp_path / "a.mat")


def test_too_large_array_is_rejected(tmp_path: Path) -> None:
    # An empty cell takes eight bytes, which compress to nearly none, but a separate object when it is read.
    empty = struct.pack("<II", 14, 0)
    for cells, is_read in ((mat_file.LARGEST_ARRAY, True), (mat_file.LARGEST_ARRAY + 1, False)):
        (tmp_path / "a.mat").write_bytes(_compressed(_matrix(_CELL, (1, cells), empty * cells)))
        if is_read:
            assert len(read_mat(tmp_path / "a.mat")["v"].cells()) == cells
        else:
            with pytest.raises(MatFileError, match="1 x 100001 elements is more than annotations have"):
                read_mat(tmp_path / "a.mat")


def test_too_large_struct_is_rejected(tmp_path: Path) -> None:
    names = _element(5, struct.pack("<i", 1)) + _element(1, b"x" * (mat_file.LARGEST_ARRAY + 1))
    (tmp_path / "a.mat").write_bytes(_HEADER + _matrix(_STRUCT, (1, 1), names))
    with pytest.raises(MatFileError, match="structs of more than 100000 fields"):
        read_mat(tmp_path / "a.mat")["v"].structs()


@pytest.mark.parametrize(
    ("matrix", "ask", "problem"),
    [
        (_matrix(_DOUBLE, (1, 1), _element(9, bytes(8))), "cells", "expected a cell array, found numbers"),
        (_matrix(_DOUBLE, (1, 1), _element(9, bytes(8))), "structs", "expected a struct, found numbers"),
        (_matrix(_DOUBLE, (1, 1), _element(9, bytes(8))), "text", "expected text, found numbers"),
        (_matrix(_CELL, (1, 1), bytes(64)), "numbers", "expected numbers, found a cell array"),
        (_matrix(5, (1, 1), bytes(64)), "numbers", "found an array of class 5"),
        (_matrix(_DOUBLE, (1, 2), _element(9, bytes(8))), "numbers", "2 numbers holds 8 bytes"),
        (_matrix(_DOUBLE, (1, 1), _element(8, bytes(8))), "numbers", "unknown type 8"),
        (_matrix(_CHAR, (1, 1), _element(9, bytes(8))), "text", "unknown type 9"),
        (_matrix(_CHAR, (1, 1), _element(16, b"\xff")), "text", "a text is not utf-8"),
        (_matrix(_CELL, (1, 2), _matrix(_CELL, (0, 0), b"")), "cells", "ends too early"),
        (_matrix(_CELL, (1, 1), _element(9, bytes(8))), "cells", "found an element of type 9"),
        # A damaged size: existing boxes must not be read as none.
        (_matrix(_DOUBLE, (0, 1), _element(9, bytes(8))), "numbers", "an array without elements holds 8 bytes"),
        (_matrix(_CELL, (0, 1), _matrix(_CELL, (0, 0), b"")), "cells", "an array without elements holds"),
        (
            _matrix(
                _STRUCT,
                (0, 1),
                _element(5, struct.pack("<i", 4)) + _element(1, b"id\0\0") + _matrix(_CELL, (0, 0), b""),
            ),
            "structs",
            "an array without elements",
        ),
        (_matrix(_CELL, (1, 1), _matrix(_CELL, (0, 0), b"") * 2), "cells", "bytes follow the last of 1 arrays"),
        (_matrix(2, (1, 1), _element(5, bytes(4)) + _element(1, b"id")), "structs", "names of a struct's fields"),
    ],
)
def test_damaged_array_is_reported(tmp_path: Path, matrix: bytes, ask: str, problem: str) -> None:
    (tmp_path / "a.mat").write_bytes(_HEADER + matrix)
    array = read_mat(tmp_path / "a.mat")["v"]
    with pytest.raises(MatFileError, match=problem):
        getattr(array, ask)()


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_raises_mat_file_error_or_reads_within_file(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "a.mat"
    cells = np.empty((1, 2), dtype=object)
    cells[0] = [np.array([(1, "a")], dtype=[("id", object), ("label", object)]), np.ones((2, 3))]
    scipy.io.savemat(path, {"cells": cells}, do_compression=data.draw(st.booleans()))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        read = [_python(array) for array in read_mat(path).values()]
    except MatFileError:
        return
    # Six numbers, a text and an identity are there; damage may change them, not multiply them.
    assert len(repr(read)) < 1_000
