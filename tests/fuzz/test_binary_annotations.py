"""``hkd data`` on broken binary files: Caltech's .vbb and .seq, CityPersons' .mat; held to a plain reader."""

from __future__ import annotations

import io
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from hypothesis import strategies as st
from PIL import Image

from tests.data.sources.caltech_writers import compressed_seq, encoded, video_object, write_vbb
from tests.fuzz.breaking import broken_bytes, replaced_words
from tests.fuzz.plain_binary_readers import plain_mat, plain_vbb
from tests.fuzz.running import Outcome, assert_refused, check_conversion, fuzz, remove, run_hkd

pytestmark = pytest.mark.thorough

STRANGE = (float("nan"), float("inf"), -float("inf"), 1e308, 1e9 + 1, -1.0, 0.0, 0.5, 1.0, 3.0, 7.0, 30.0)
LINDAU = "lindau_000000_000019_leftImg8bit.png"
ROWS = [[1, 100, 20, 41, 100, 24000, 100, 20, 41, 50], [2, 300, 20, 41, 100, 25000, 300, 20, 41, 100]]


def _vbb(path: Path, numbers: list[float]) -> bytes:
    """One video of 60 frames; of the numbers the first four are a box, then id, occl and four of the visible part."""
    first = video_object(1, numbers[:4])
    second = {"id": numbers[4], "pos": [10, 20, 30, 60], "occl": numbers[5], "lock": 0, "posv": numbers[6:]}
    frames: list[list[Any]] = [[] for _ in range(60)]
    frames[29], frames[59] = [first, second], [video_object(2, (200, 20, 30, 60))]
    write_vbb(path, ["person", "people"], frames)
    return path.read_bytes()


VALID = [100.0, 20.0, 30.5, 60.0, 1.0, 1.0, 10.0, 20.0, 30.0, 30.0]


def _with_one(numbers: list[float]) -> st.SearchStrategy[list[float]]:
    place = st.tuples(st.integers(0, len(numbers) - 1), st.sampled_from(STRANGE))
    return place.map(lambda p: [*numbers[: p[0]], p[1], *numbers[p[0] + 1 :]])


def _replaced_sizes(content: bytes) -> list[st.SearchStrategy[bytes]]:
    """A size of an array replaced, where the file is not compressed; three times, to be chosen as often."""
    # Two sizes of four bytes follow the head of an element of 8 bytes of type 5.
    heads = [found.end() for found in re.finditer(rb"\x05\0\0\0\x08\0\0\0", content)]
    place = st.tuples(st.sampled_from([*heads, *(end + 4 for end in heads)]), st.sampled_from((0, 0, 1, 2, 3, 1 << 20)))
    sizes = place.map(lambda p: content[: p[0]] + struct.pack("<I", p[1]) + content[p[0] + 4 :])
    return [sizes] * 3 if heads else []


@pytest.mark.parametrize("is_compressed", [True, False])
def test_mutated_vbb(tmp_path: Path, is_compressed: bool) -> None:
    root = tmp_path / "caltech"
    file = root / "set06" / "V000.vbb"
    written = tmp_path / "written.vbb"
    _vbb(file, VALID)
    if is_compressed:
        scipy.io.savemat(file, _loaded(file), appendmat=False, do_compression=True)

    def check(content: bytes) -> Outcome:
        command = ("caltech", "--annotations-only")
        return check_conversion(root, file, content, command, plain_vbb, "", "V000.vbb")

    words = [replaced_words(file.read_bytes()), *_replaced_sizes(file.read_bytes())]
    strange = _with_one(VALID).map(lambda numbers: _vbb(written, numbers))
    tally = fuzz(st.one_of(broken_bytes(file.read_bytes()), *words, strange, strange), check, 150)
    assert tally.refused > len(tally.contents) // 3
    assert tally.read >= 3


def _loaded(file: Path) -> dict[str, Any]:
    return {key: value for key, value in scipy.io.loadmat(file, appendmat=False).items() if not key.startswith("__")}


def _mat(rows: Any, *, is_compressed: bool) -> bytes:
    cells = np.empty((1, 2), dtype=object)
    for number, name in enumerate((LINDAU, "lindau_2.png")):
        one = np.empty((1, 1), dtype=[("cityname", object), ("im_name", object), ("bbs", object)])
        one[0, 0] = ("lindau", name, np.array(rows, dtype=float))
        cells[0, number] = one
    packed = io.BytesIO()
    scipy.io.savemat(packed, {"anno_val_aligned": cells}, do_compression=is_compressed)
    return packed.getvalue()


@pytest.mark.parametrize("is_compressed", [True, False])
def test_mutated_mat_file(tmp_path: Path, is_compressed: bool) -> None:
    root = tmp_path / "citypersons"
    root.mkdir()
    file = root / "anno_val.mat"
    file.write_bytes(_mat(ROWS, is_compressed=is_compressed))

    def check(content: bytes) -> Outcome:
        command = ("citypersons", "--annotations-only")
        return check_conversion(root, file, content, command, plain_mat, "", "anno_val.mat")

    words = [replaced_words(file.read_bytes()), *_replaced_sizes(file.read_bytes())]
    rows = _with_one([float(number) for row in ROWS for number in row])
    strange = rows.map(lambda numbers: _mat(np.array(numbers).reshape(2, 10), is_compressed=is_compressed))
    columns = st.integers(8, 12).map(lambda count: _mat(np.ones((2, count)), is_compressed=is_compressed))
    tally = fuzz(st.one_of(broken_bytes(file.read_bytes()), *words, strange, strange, columns), check, 150)
    assert tally.refused > len(tally.contents) // 3
    assert tally.read >= 3


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_mutated_seq(tmp_path: Path, kind: str) -> None:
    """Frames are copied unchanged, or the video is rejected; pixels inside an image are not checked."""
    root, out = tmp_path / "caltech", tmp_path / "out"
    file = root / "set06" / "V000.seq"
    _vbb(root / "set06" / "V000.vbb", VALID)
    pictures = [encoded(np.full((480, 640), 3 * number, dtype=np.uint8), kind) for number in range(60)]
    valid = compressed_seq(pictures, (640, 480), 102 if kind == "JPEG" else 1)

    def check(content: bytes) -> Outcome:
        file.write_bytes(content)
        outcome = run_hkd("data", "caltech", "--root", root, "--out", out)
        try:
            if outcome.code != 0:
                # Frames may have been brought together before one is found damaged.
                assert_refused(outcome, "data", "V000", "", out / "test.json")
                return outcome
            for path, frame in zip(sorted((out / "images").iterdir()), (29, 59), strict=True):
                written = path.read_bytes()
                assert path.stem == f"set06_V000_I{frame:05d}"
                assert written in content
                with Image.open(path) as image:
                    assert image.size == (640, 480)
                # The frame at its place: unless it was hit itself, the one that was put in.
                assert written == pictures[frame] or written not in pictures
        finally:
            remove(out)
        return outcome

    head = st.tuples(st.integers(548, 584), st.integers(0, 255)).map(
        lambda p: valid[: p[0]] + bytes([p[1]]) + valid[p[0] + 1 :]
    )
    tally = fuzz(
        st.one_of(broken_bytes(valid), head, broken_bytes(valid[:2000]).map(lambda b: b + valid[2000:])), check, 40
    )
    assert tally.refused >= 10
    assert tally.read >= 3
