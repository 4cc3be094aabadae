"""The file of one pyramid: round trips of bits and strides, and errors for damaged files."""

from __future__ import annotations

import json
import os
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hkd.models.components.regions import region_table
from hkd.structures import TabledPyramid
from hkd.training.pyramid_cache.entry_file import (
    _PREFIX,
    PAGE_BYTES,
    PyramidFileError,
    checksum,
    file_bytes,
    read_pyramid,
    write_pyramid,
)


def make_pyramid() -> dict[str, Tensor]:
    """Channels last, channels first, of one cell, and of other types; sizes that fill no whole page but one."""
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    return {
        "p2": noise(2, 16, 16, 16).bfloat16().contiguous(memory_format=torch.channels_last),  # 16,384 bytes: four pages
        "p3": noise(2, 16, 3, 5),
        "p4": noise(2, 16, 1, 1).half(),
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "0.pyramid"


def write(path: Path, pyramid: dict[str, Tensor], identity: str = "step 0") -> None:
    write_pyramid(path, pyramid, identity)


@pytest.mark.parametrize("identity", ["step 0", None])
def test_bits_types_and_strides_round_trip(path: Path, identity: str | None) -> None:
    written = make_pyramid()
    write(path, written)
    read = read_pyramid(path, identity)
    assert list(read) == list(written)
    for name, level in written.items():
        assert read[name].dtype == level.dtype
        assert read[name].stride() == level.stride(), name
        assert torch.equal(read[name], level)
    assert [entry.name for entry in path.parent.iterdir()] == ["0.pyramid"], "something was left beside it"


def test_file_size_is_predicted(path: Path) -> None:
    pyramid = make_pyramid()
    write(path, pyramid)
    # A page of header; 2 * 16 * 16 * 16 * 2 bytes are four pages; 2 * 16 * 15 * 4 = 1,920 and 2 * 16 * 2 = 64 start one
    # each.
    assert path.stat().st_size == (1 + 4 + 1 + 1) * 4096
    assert file_bytes({"p2": 16384, "p3": 1920, "p4": 64}) == path.stat().st_size


def test_tensor_with_gaps_is_written_contiguously(path: Path) -> None:
    whole = torch.arange(48.0).view(1, 2, 4, 6)
    write(path, {"p2": whole[..., :3], "p3": whole[:, :1].expand(2, 2, 4, 6)})
    read = read_pyramid(path, "step 0")
    assert torch.equal(read["p2"], whole[..., :3])
    assert torch.equal(read["p3"], whole[:, :1].expand(2, 2, 4, 6))


@pytest.mark.parametrize(("images", "is_table"), [(8, True), (1, False)])
def test_levels_that_fill_pages_are_read_as_one_table(path: Path, images: int, is_table: bool) -> None:
    # 256 channels of 2 bytes: a cell of eight images fills a page, of one image an eighth of it.
    generator = torch.Generator().manual_seed(0)
    written = {
        name: torch.randn(images, 256, *grid, generator=generator)
        .bfloat16()
        .contiguous(memory_format=torch.channels_last)
        for name, grid in {"p2": (4, 6), "p3": (2, 3), "p4": (1, 2)}.items()
    }
    write(path, written)
    read = read_pyramid(path, "step 0")
    assert isinstance(read, TabledPyramid) == is_table
    assert list(read) == list(written)
    for name, level in written.items():
        assert torch.equal(read[name], level)
        assert read[name].stride() == level.stride()
    if isinstance(read, TabledPyramid):
        assert torch.equal(read.table, region_table(list(written.values())))
        assert read.to(torch.device("cpu")) is read
        moved = read.to(torch.device("meta"))
        assert [(name, level.shape, level.stride()) for name, level in moved.items()] == [
            (name, level.shape, level.stride()) for name, level in read.items()
        ]


@pytest.mark.parametrize(
    "other", [torch.zeros(8, 256, 2, 3), torch.zeros(8, 256, 2, 3).half().contiguous(memory_format=torch.channels_last)]
)
def test_levels_of_other_layout_or_type_are_not_a_table(path: Path, other: Tensor) -> None:
    # All fill pages; what the table would hold of the other level is not what was written.
    first = torch.ones(8, 256, 4, 6).contiguous(memory_format=torch.channels_last)
    for written in ({"p2": first, "p3": other}, {"p2": first, "p3": torch.zeros(1024)}, {}):
        write(path, written)
        read = read_pyramid(path, "step 0")
        assert not isinstance(read, TabledPyramid)
        assert all(torch.equal(read[name], level) for name, level in written.items())


def test_changing_read_pyramid_does_not_change_file(path: Path) -> None:
    written = make_pyramid()
    write(path, written)
    read_pyramid(path, None)["p2"].zero_()
    assert torch.equal(read_pyramid(path, "step 0")["p2"], written["p2"])


def test_read_pyramid_outlives_its_file(path: Path) -> None:
    written = make_pyramid()
    write(path, written)
    read = read_pyramid(path, None)
    path.unlink()
    assert torch.equal(read["p2"], written["p2"])


def flip_bit(place: int) -> Callable[[bytearray], None]:
    def flip(content: bytearray) -> None:
        content[place] ^= 0x10

    return flip


def swap_pages(content: bytearray) -> None:
    first, second = slice(PAGE_BYTES, 2 * PAGE_BYTES), slice(2 * PAGE_BYTES, 3 * PAGE_BYTES)
    content[first], content[second] = content[second], content[first]


def swap_words(content: bytearray) -> None:
    first, second = slice(PAGE_BYTES, PAGE_BYTES + 8), slice(PAGE_BYTES + 8, PAGE_BYTES + 16)
    content[first], content[second] = content[second], content[first]


def zero_page(content: bytearray) -> None:
    content[3 * PAGE_BYTES : 4 * PAGE_BYTES] = bytes(PAGE_BYTES)


def cut_end(content: bytearray) -> None:
    del content[-1:]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip_bit(0), "header is damaged"),  # the magic
        (flip_bit(40), "header is damaged"),  # the text
        (flip_bit(PAGE_BYTES), "checksum"),  # the first byte of p2
        (flip_bit(5 * PAGE_BYTES - 1), "checksum"),  # its last
        (flip_bit(5 * PAGE_BYTES + 7), "checksum"),  # p3, less than a page
        (flip_bit(6 * PAGE_BYTES + 63), "checksum"),  # the last byte of p4
        (swap_pages, "checksum"),
        (swap_words, "checksum"),
        (zero_page, "checksum"),
        (cut_end, "has 28671 bytes, not 28672"),
        (bytearray.clear, "header is damaged"),
    ],
)
def test_damage_is_detected(path: Path, damage: Callable[[bytearray], None], message: str) -> None:
    write(path, make_pyramid())
    content = bytearray(path.read_bytes())
    damage(content)
    path.write_bytes(content)
    with pytest.raises(PyramidFileError, match=message):
        read_pyramid(path, "step 0")


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header.clear(),
        lambda header: header.pop("levels"),
        lambda header: header.update(levels=7),
        lambda header: header["levels"][0].pop("dtype"),
        lambda header: header["levels"][0].update(dtype="object"),
        lambda header: header["levels"][0].update(shape=[10**9] * 4),
        lambda header: header["levels"][0].update(shape=[-1]),
        lambda header: header["levels"][0].update(stride=[10**18, 1, 1, 1]),
        lambda header: header["levels"][0].update(offset=10**30),
        lambda header: header["levels"][0].update(offset="0"),
    ],
)
@pytest.mark.parametrize("identity", ["step 0", None])
def test_header_written_by_someone_else_is_refused(
    path: Path, change: Callable[[dict[str, Any]], object], identity: str | None
) -> None:
    write(path, make_pyramid())
    content = bytearray(path.read_bytes())
    magic, length, _ = _PREFIX.unpack_from(content)
    header = json.loads(content[_PREFIX.size : _PREFIX.size + length])
    change(header)
    text = json.dumps(header).encode()
    content[: _PREFIX.size + len(text)] = _PREFIX.pack(magic, len(text), zlib.crc32(text)) + text
    path.write_bytes(content)
    with pytest.raises(PyramidFileError, match=str(path)):
        read_pyramid(path, identity)


def test_pipe_is_not_read(path: Path) -> None:
    os.mkfifo(path)  # opening it would block
    with pytest.raises(FileNotFoundError):
        read_pyramid(path, "step 0")


def test_other_identity_is_refused(path: Path) -> None:
    write(path, make_pyramid(), "step 1")
    with pytest.raises(PyramidFileError, match="is of step 1, not of step 0"):
        read_pyramid(path, "step 0")
    with pytest.raises(FileNotFoundError):
        read_pyramid(path.with_name("1.pyramid"), "step 1")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Path.unlink, "No such file"),
        (lambda path: os.truncate(path, PAGE_BYTES), "smaller than the required"),
    ],
)
def test_file_removed_before_mapping_raises_os_error(
    path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None], message: str
) -> None:
    # torch raises RuntimeError, which a training takes for a defect and ends.
    write(path, make_pyramid())
    map_file = torch.from_file

    def change_first(name: str, **arguments: Any) -> Tensor:
        change(Path(name))
        return map_file(name, **arguments)

    monkeypatch.setattr(torch, "from_file", change_first)
    with pytest.raises(OSError, match=message):
        read_pyramid(path, "step 0")


def test_checksum_does_not_depend_on_order_of_sums() -> None:
    level = make_pyramid()["p2"]
    threads = torch.get_num_threads()
    expected = checksum(level)
    torch.set_num_threads(2)
    try:
        assert checksum(level) == expected
    finally:
        torch.set_num_threads(threads)
    # The same numbers in another order are other bytes.
    assert checksum(level.contiguous()) != expected
    # Two pages of words 1 and a byte 7: 512 columns that sum to 2, two rows that sum to 512, and the byte as it is.
    words = torch.ones(1024, dtype=torch.int64)
    content = torch.cat([words.view(torch.uint8), torch.tensor([7], dtype=torch.uint8)])
    sums = 512 * (2).to_bytes(8, sys.byteorder) + 2 * (512).to_bytes(8, sys.byteorder)
    assert checksum(content) == zlib.crc32(sums + bytes([7]))
