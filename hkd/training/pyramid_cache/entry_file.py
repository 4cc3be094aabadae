"""A file with the feature pyramid of one batch, written atomically and read by mapping it into memory.

Layout: a header of one page (4,096 bytes: magic, length and CRC-32 of a JSON text, the text), then the levels, each at
the start of a page, with their bytes as in memory: a tensor that is read has the strides of the one that was written,
so that sums over it run in the same order and have the same bits.
"""

from __future__ import annotations

import errno
import json
import math
import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hkd.files import open_replacement
from hkd.structures import TabledPyramid

PAGE_BYTES = 4096

_MAGIC = b"HKDPYR01"
_PREFIX = struct.Struct("<8sII")
_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


class PyramidFileError(ValueError):
    """A file is damaged, or holds another pyramid than the requested one."""


@dataclass(frozen=True)
class _Level:
    """Position and format of a level in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    checksum: int


def file_bytes(levels: Mapping[str, int]) -> int:
    """Size of the file for levels of these sizes in bytes."""
    return PAGE_BYTES + sum(_whole_pages(size) for size in levels.values())


def write_pyramid(path: Path, pyramid: Mapping[str, Tensor], identity: str) -> None:
    """Write a pyramid atomically.

    Not flushed to the disk: the checksum detects what a power failure leaves incomplete.

    Args:
        pyramid: Level -> floating tensor of any strides, which are kept if the tensor is dense.
        identity: Identifies the pyramid's content; see :func:`read_pyramid`.

    Raises:
        OSError: the file cannot be written.
    """
    tensors = {name: _dense(level.detach().cpu()) for name, level in pyramid.items()}
    levels, offset = [], PAGE_BYTES
    for name, tensor in tensors.items():
        dtype = str(tensor.dtype).removeprefix("torch.")
        levels.append(_Level(name, dtype, tuple(tensor.shape), tensor.stride(), offset, checksum(tensor)))
        offset += _whole_pages(tensor.nbytes)
    header = {"identity": identity, "file_bytes": offset, "levels": [vars(level) for level in levels]}
    text = json.dumps(header).encode()
    assert len(text) <= PAGE_BYTES - _PREFIX.size, "the header is longer than a page"
    with open_replacement(path) as file:
        file.write(_PREFIX.pack(_MAGIC, len(text), zlib.crc32(text)) + text)
        for level, tensor in zip(levels, tensors.values(), strict=True):
            file.seek(level.offset)
            file.write(_bytes_of(tensor).numpy().data)
        file.truncate(offset)


def read_pyramid(path: Path, identity: str | None) -> dict[str, Tensor]:
    """Map a file's pyramid: its pages are read on first use, and stay valid if the file is removed.

    Args:
        identity: Compared with that of :func:`write_pyramid`, and the content with its checksum; None compares neither,
            for a file that this process has verified before.

    Returns:
        Level -> tensor on the CPU; a :class:`TabledPyramid` if the levels in the file form its table. Changing it does
        not change the file.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be read or mapped, or was removed in the meantime.
        PyramidFileError: it is damaged, or has another identity.
    """
    if not path.is_file():  # opening a pipe would block
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    with path.open("rb") as file:
        header = _parse_header(path, file.read(PAGE_BYTES))
        size = file.seek(0, 2)
    if size != header.get("file_bytes"):
        raise PyramidFileError(f"{path}: has {size} bytes, not {header.get('file_bytes')}")
    if identity not in (None, header.get("identity")):
        raise PyramidFileError(f"{path}: is of {header.get('identity')}, not of {identity}")
    try:
        content = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)
    except RuntimeError as error:  # torch's error for one of the system
        raise OSError(str(error)) from error
    try:
        levels = [
            _Level(**{**level, "shape": tuple(level["shape"]), "stride": tuple(level["stride"])})
            for level in header["levels"]
        ]
        pyramid = {level.name: _mapped(content, level) for level in levels}
    except (KeyError, TypeError, ValueError, RuntimeError) as error:  # the latter of torch, for impossible shapes
        raise PyramidFileError(f"{path}: its levels do not fit the file") from error
    if identity is not None and any(checksum(pyramid[level.name]) != level.checksum for level in levels):
        raise PyramidFileError(f"{path}: does not have the checksum it was written with")
    return _as_table(content, levels, pyramid) or pyramid


def checksum(tensor: Tensor) -> int:
    """CRC-32 of the sums of a dense tensor's 64-bit words, by rows and by columns of a table of whole pages.

    Limited by memory bandwidth, ten times as fast as a CRC of all bytes. With a probability of 1 - 2^-32 it detects
    damage within one page, damage to one word of several pages, pages that were zeroed, exchanged or copied from
    another file, and random damage. It does not protect against deliberate manipulation.
    """
    data = _bytes_of(tensor)
    aligned = len(data) - len(data) % PAGE_BYTES
    words = data[:aligned].view(torch.int64).view(-1, PAGE_BYTES // 8)
    # Integers wrap around: the sums do not depend on the order of addition.
    sums = torch.cat([words.sum(0), words.sum(1)]).cpu().numpy()
    return zlib.crc32(data[aligned:].cpu().numpy().data, zlib.crc32(sums.data))


def _parse_header(path: Path, page: bytes) -> dict[str, Any]:
    if len(page) == PAGE_BYTES:
        magic, length, crc = _PREFIX.unpack_from(page)
        text = page[_PREFIX.size : _PREFIX.size + length]
        if magic == _MAGIC and zlib.crc32(text) == crc:
            header: Any = json.loads(text)
            if isinstance(header, dict):
                return header
    raise PyramidFileError(f"{path}: its header is damaged, or it is another kind of file")


def _mapped(content: Tensor, level: _Level) -> Tensor:
    dtype = _DTYPES[level.dtype]
    size = math.prod(level.shape) * dtype.itemsize
    if not 0 <= level.offset <= level.offset + size <= len(content):
        raise ValueError("a level outside the file")
    numbers = content[level.offset : level.offset + size].view(dtype)
    return numbers.as_strided(level.shape, level.stride)


def _as_table(content: Tensor, levels: list[_Level], pyramid: dict[str, Tensor]) -> TabledPyramid | None:
    """The levels as views of one table, if they are contiguous in its order, which they are if each fills pages."""
    if not levels or any(len(level.shape) != 4 for level in levels):
        return None
    first = levels[0]
    ends = [level.offset + pyramid[level.name].nbytes for level in levels]
    is_gapless = all(end == level.offset for end, level in zip(ends, levels[1:], strict=False))
    if not is_gapless or len({(level.dtype, level.shape[1]) for level in levels}) > 1:
        return None
    table = content[first.offset : ends[-1]].view(_DTYPES[first.dtype]).view(-1, first.shape[1])
    grids = {level.name: (level.shape[0], level.shape[2], level.shape[3]) for level in levels}
    tabled = TabledPyramid(table, grids)
    return tabled if all(tabled[level.name].stride() == level.stride for level in levels) else None


def _bytes_of(tensor: Tensor) -> Tensor:
    """The bytes of a dense tensor in memory order."""
    return tensor.as_strided((tensor.numel(),), (1,)).view(torch.uint8)


def _dense(tensor: Tensor) -> Tensor:
    """The tensor itself if its elements fill memory without gaps, in any order; else a contiguous copy."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1:
            if stride != expected:
                return tensor.clone(memory_format=torch.contiguous_format)
            expected *= size
    return tensor


def _whole_pages(size: int) -> int:
    return -(-size // PAGE_BYTES) * PAGE_BYTES
