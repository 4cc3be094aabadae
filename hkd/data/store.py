"""Images decoded and fitted to the network's input once per node, in a memory-mapped file that all trials share."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from hkd.coco.annotations import Annotations
from hkd.coco.parsing.errors import AnnotationError
from hkd.files import open_replacement, read_record, remove_leftovers
from hkd.image_files.fitting import fitted_sizes, resized
from hkd.image_files.headers import DEFAULT_MAX_MEGAPIXELS, ImageFileError
from hkd.image_files.pixels import LARGEST_OF_16_BITS, read_rgb
from hkd.own_folders import create_own_folder

_FORMAT = 2
"""Part of every store's name: increment it when a change of the code stores the same images differently."""

_WHITE_12_BITS = 4095
_DECODE_THREADS = 2
_IMAGES_AT_A_TIME = 64
"""Decoded images that may wait to be written: bounds the memory of a build."""

_Picture = npt.NDArray[np.uint8] | str
"""A decoded image, or a sentence that describes the error."""

_verified: dict[Path, tuple[int, int]] = {}
"""Stores whose checksum this process has verified, with the (mtime_ns, size) at which it did."""


class StoreError(ValueError):
    """The store's folder cannot be written."""


@dataclass(frozen=True)
class ImageStore:
    """``N`` images at one size, in the order of their annotations. A pixel of the original at (x, y) is at (x * scale,
    y * scale) in the store; boxes in the store divided by ``scales`` are in pixels of the original.
    """

    images: npt.NDArray[np.uint8]
    """(N, H, W, 3) RGB, read-only; each picture at the top left, zeros at its bottom and right."""
    scales: npt.NDArray[np.float64]
    """(N,) pixels of the store per pixel of the original, the same for both axes."""
    valid_sizes: npt.NDArray[np.int64]
    """(N, 2) height and width of the picture in its H x W."""
    image_ids: npt.NDArray[np.int64]
    """(N,) ids of the images in their annotations."""
    checksum: str = ""
    """SHA-256 of all pixels: identifies an image set independently of its path."""


def open_store(
    annotations: Annotations,
    image_height: int,
    image_width: int,
    cache_dir: Path,
    progress: bool = True,
    *,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
) -> ImageStore:
    """Open the store of these images at this size; build it if it is absent or damaged.

    The file's name is a hash of what determines it: the images' names, ids, sizes and modification times, and the
    target size. One process builds, under a lock, while others wait; a file is complete or absent. The checksum of its
    pixels is verified once per process.

    Args:
        annotations: images and their order.
        image_height: H, pixels.
        image_width: W, pixels.
        cache_dir: folder of the stores; created if missing.
        progress: show a progress bar on stderr.
        max_megapixels: largest number of pixels of an image, in millions.

    Raises:
        AnnotationError: naming every image that is missing, does not decode or is not of its stated size.
        StoreError: if ``cache_dir`` cannot be written.
        SharedFolderError: if every user of the machine can write to ``cache_dir``.
    """
    sizes = np.array([(image.height, image.width) for image in annotations.images], dtype=np.int64)
    scales, valid_sizes = fitted_sizes(sizes, image_height, image_width)
    shape = (len(sizes), image_height, image_width, 3)
    path = cache_dir / f"images-{_key(annotations)}-{image_height}x{image_width}.npy"
    try:
        create_own_folder(cache_dir, "data.cache_dir")
        images, found = _open_verified(path, shape)
        if images is None:
            with FileLock(f"{path}.lock"):
                images, found = _open_verified(path, shape)  # another process may have built it meanwhile
                if images is None:
                    if found:
                        warnings.warn(f"the image store '{path}' {found}: rebuilding it", stacklevel=2)
                    _require_space(cache_dir, int(np.prod(shape, dtype=np.float64)))
                    _build(path, annotations, scales, valid_sizes, shape, progress, max_megapixels)
                    images, found = _open_verified(path, shape)
    except OSError as error:
        mebibytes = np.prod(shape, dtype=np.float64) / 2**20
        raise StoreError(
            f"cannot write the image store '{path}' ({error}); it needs {mebibytes:.0f} MiB:"
            " free some space, or name another folder (data.cache_dir)"
        ) from error
    if images is None:
        raise StoreError(f"the image store '{path}' {found} just after it was written; is its disk faulty?")
    image_ids = np.array([image.image_id for image in annotations.images], dtype=np.int64)
    return ImageStore(images, scales, valid_sizes, image_ids, checksum=found)


def _key(annotations: Annotations) -> str:
    """Hash of the images and their files. Boxes are excluded: correcting one must not decode the images again."""
    described: list[object] = [_FORMAT, str(annotations.image_root.resolve())]
    problems = []
    for image in annotations.images:
        path = annotations.image_root / image.file_name
        try:
            state = path.stat()
        except OSError as error:
            problems.append(f"image {image.image_id} '{path}' cannot be read ({error.strerror})")
        else:
            described.append(
                (image.image_id, image.file_name, image.height, image.width, state.st_size, state.st_mtime_ns)
            )
    if problems:
        raise AnnotationError(problems, str(annotations.path))
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]


def _open_verified(path: Path, shape: tuple[int, ...]) -> tuple[npt.NDArray[np.uint8] | None, str]:
    """The mapped images and their checksum; or None and a description of the damage, empty if there is no store."""
    if not path.is_file():  # reading a pipe would block
        return None, ""
    try:
        expected = read_record(_checksum_path(path))["sha256"]
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        return None, f"cannot be read ({error})"
    if images.shape != shape or images.dtype != np.uint8:
        return None, f"holds {images.dtype} {images.shape} instead of uint8 {shape}"
    state = path.stat()
    if _verified.get(path) != (state.st_mtime_ns, state.st_size):
        if hashlib.sha256(images.reshape(-1)).hexdigest() != expected:
            return None, "does not have the checksum it was written with"
        _verified[path] = (state.st_mtime_ns, state.st_size)
    return images, expected


def _require_space(folder: Path, num_bytes: int) -> None:
    """Raise OSError if a file of so many bytes does not fit: writing it would first fill the disk."""
    if num_bytes > shutil.disk_usage(folder).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _build(
    path: Path,
    annotations: Annotations,
    scales: npt.NDArray[np.float64],
    valid_sizes: npt.NDArray[np.int64],
    shape: tuple[int, ...],
    progress: bool,
    max_megapixels: float,
) -> None:
    """Write the store, and its checksum next to it, each atomically."""
    checksum = hashlib.sha256()
    problems: list[str] = []
    dark: list[str] = []
    decoded = _decoded(annotations, scales, valid_sizes, max_megapixels, dark)
    remove_leftovers(path)  # the caller holds the lock of all builds
    # Written, not mapped: a full disk is then an error and not a bus error.
    with open_replacement(path) as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        canvas = np.zeros(shape[1:], dtype=np.uint8)
        for picture in _with_bar(decoded, len(scales)) if progress else decoded:
            if isinstance(picture, str):
                problems.append(picture)
                continue
            canvas[:] = 0
            canvas[: picture.shape[0], : picture.shape[1]] = picture
            pixels = canvas.tobytes()
            file.write(pixels)
            checksum.update(pixels)
        if problems:
            raise AnnotationError(problems, str(annotations.path))
    if dark:
        warnings.warn(
            f"{len(dark)} of {len(scales)} images have 16 bits and no value above {_WHITE_12_BITS}, perhaps of a camera"
            f" of 12 bits: they are read almost black (first: '{min(dark)}'); scale their values to 16 bits",
            stacklevel=2,
        )
    with open_replacement(_checksum_path(path)) as file:
        file.write(json.dumps({"sha256": checksum.hexdigest(), "shape": shape}).encode())


def _with_bar(decoded: Iterator[_Picture], count: int) -> Iterable[_Picture]:
    # Here, so that the speed benchmark runs on a GPU machine that has torch but not rich.
    from rich.console import Console
    from rich.progress import track

    return track(decoded, "Decoding images", count, console=Console(stderr=True))


def _checksum_path(path: Path) -> Path:
    return path.with_suffix(".json")


def _decoded(
    annotations: Annotations,
    scales: npt.NDArray[np.float64],
    valid_sizes: npt.NDArray[np.int64],
    max_megapixels: float,
    dark: list[str],
) -> Iterator[npt.NDArray[np.uint8] | str]:
    """Each image in turn, at its size in the store, or a sentence that describes the error.

    ``dark`` gets the paths of images of 16 bits that use 12 of them at most.
    """

    def decode(index: int) -> npt.NDArray[np.uint8] | str:
        record = annotations.images[index]
        path = annotations.image_root / record.file_name
        height, width = valid_sizes[index].tolist()
        try:
            picture = read_rgb(path, max_megapixels)
        except FileNotFoundError:
            return f"image {record.image_id} '{path}': there is no such file; add it, or remove it"
        except ImageFileError as error:
            return f"image {record.image_id} '{path}' {error}, or remove it"
        if picture.info.get(LARGEST_OF_16_BITS, _WHITE_12_BITS + 1) <= _WHITE_12_BITS:
            dark.append(str(path))
        if picture.size != (record.width, record.height):
            found = f"{picture.width} x {picture.height}"
            return (
                f"image {record.image_id} '{path}' is {found} pixels, not {record.width} x {record.height};"
                " correct the annotation"
            )
        return resized(picture, float(scales[index]), height, width)

    with ThreadPoolExecutor(_DECODE_THREADS) as threads:
        for first in range(0, len(scales), _IMAGES_AT_A_TIME):
            yield from threads.map(decode, range(first, min(first + _IMAGES_AT_A_TIME, len(scales))))
