"""Simple readers of MAT-files and of Caltech's .vbb, the reference for the content of broken files."""

from __future__ import annotations

import math
import struct
import zlib

from tests.fuzz.plain_readers import Box, Found, _share
from tests.fuzz.running import MalformedError

Element = tuple[int, bytes]
"""Type and content."""


def _elements(data: bytes) -> list[Element]:
    """The elements of a MAT-file of level 5, or of an array in it, one after the other."""
    found = []
    while data:
        if len(data) < 8:
            raise MalformedError("an element is truncated")
        kind, size = struct.unpack("<II", data[:8])
        if kind >> 16:
            found.append((kind & 0xFFFF, data[4 : 4 + (kind >> 16)]))
            is_complete, data = kind >> 16 <= 4, data[8:]
        else:
            found.append((kind, data[8 : 8 + size]))
            is_complete, data = len(data) >= 8 + size, data[8 + size + (0 if kind == 15 else -size % 8) :]
        if not is_complete:
            raise MalformedError("an element is truncated")
    return found


def _array(element: Element) -> tuple[int, int, list[Element]]:
    """Class, number of elements and content of an array; nested arrays are not read."""
    if not element[1]:
        return 6, 0, []
    flags, dimensions, _, *rest = _elements(element[1])
    shape = struct.unpack(f"<{len(dimensions[1]) // 4}i", dimensions[1])
    if element[0] != 14 or min(shape) < 0:
        raise MalformedError("it is no array")
    return flags[1][0], math.prod(shape), rest


def _cells(element: Element) -> list[Element]:
    kind, size, rest = _array(element)
    if (size and kind != 1) or (kind == 1 and len(rest) != size):
        raise MalformedError(f"{len(rest)} arrays are no cell array of {size}")
    return rest if size else []


def _structs(element: Element) -> list[dict[str, Element]]:
    kind, size, rest = _array(element)
    if kind != 2:
        if size or any(content for _, content in rest):
            raise MalformedError("it is no struct")
        return []
    length, packed, *values = rest
    step = struct.unpack("<i", length[1])[0]
    names = [packed[1][i : i + step].split(b"\0")[0].decode() for i in range(0, len(packed[1]), step)]
    if len(values) != size * len(names):
        raise MalformedError(f"{len(values)} values are not those of {size} structs")
    return [dict(zip(names, values[i : i + len(names)], strict=True)) for i in range(0, len(values), len(names))]


def _numbers(element: Element) -> list[float]:
    _, size, rest = _array(element)
    ((kind, content), *_) = rest or [(9, b"")]
    letter = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 9: "d", 12: "q", 13: "Q"}[kind]
    if len(content) != size * struct.calcsize(f"<{letter}"):
        raise MalformedError(f"{len(content)} bytes are not {size} numbers")
    return [float(number) for number in struct.unpack(f"<{size}{letter}", content)]


def _text(element: Element) -> str:
    _, size, rest = _array(element)
    ((kind, content), *_) = rest or [(16, b"")]
    text = content.decode({1: "latin-1", 2: "latin-1", 4: "utf-16-le", 16: "utf-8", 17: "utf-16-le"}[kind])
    if bool(text) != bool(size):
        raise MalformedError(f"{text!r} is no text of {size}")
    return text


def _variables(content: bytes) -> list[Element]:
    variables = [_elements(zlib.decompress(c))[0] if kind == 15 else (kind, c) for kind, c in _elements(content[128:])]
    if len({_elements(c)[2][1] for _, c in variables}) < len(variables):
        raise MalformedError("duplicate variable")
    return variables


def plain_vbb(content: bytes) -> Found:
    """The frames 29 and 59 of the video ``set06/V000``."""
    named = {_elements(element[1])[2][1]: element for element in _variables(content)}
    (annotation,) = _structs(named[b"A"])
    labels = [_text(cell) for cell in _cells(annotation["objLbl"])]
    frames = _cells(annotation["objLists"])
    images = []
    boxes: list[Box] = []
    for number in range(29, len(frames), 30):
        name = f"set06_V000_I{number:05d}.jpg"
        images.append((name, 640, 480))
        for one in _structs(frames[number]):
            label = labels[int(_numbers(one["id"])[0]) - 1]
            box, visible = _numbers(one["pos"]), _numbers(one["posv"])
            visible = [0.0] * 4 if visible == [0.0] else visible
            is_measured = _numbers(one["occl"]) == [1.0] and visible[2] * visible[3] > 0
            boxes.append((name, box, int(label != "person"), _share(visible, box) if is_measured else 1.0, label))
    return images, boxes


def plain_mat(content: bytes) -> Found:
    """Images and rows of CityPersons' ``anno_val.mat``."""
    (variable,) = _variables(content)
    labels = {0: "ignore region", 1: "", 2: "rider", 3: "sitting person", 4: "other person", 5: "people group"}
    images = []
    boxes: list[Box] = []
    for cell in _cells(variable):
        (one,) = _structs(cell)
        name = f"val/{_text(one['cityname'])}/{_text(one['im_name'])}"
        images.append((name, 2048, 1024))
        numbers = _numbers(one["bbs"])
        count = len(numbers) // 10
        for row in (numbers[i::count] for i in range(count)):
            share = float(f"{_share(row[6:], row[1:5]):.12g}")
            boxes.append((name, row[1:5], int(row[0] != 1), share, labels[int(row[0])]))
    return images, boxes
