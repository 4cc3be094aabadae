"""The images of a data set in a bucket, as listed: their names, sizes and times of change."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, TypeVar

from hkd.bucket_uri import place_of, without_version
from hkd.buckets import StorageAwayError, is_refused, opened, patiently, reason_of, remedy_of
from hkd.coco.notes import counted
from hkd.coco.parsing.errors import InputError
from hkd.data.copies import some
from hkd.image_files.listing import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, FileSystem

CONNECTIONS = 16
"""Requests at a time."""
_SETTING = "the setting of data that names it"

T = TypeVar("T")


class BucketDataError(InputError):
    """A data set in a bucket cannot be used."""


@dataclass(frozen=True, order=True)
class ListedImage:
    """An object of a bucket."""

    name: str
    """Relative to the folder of the images."""
    size: int
    """Bytes."""
    changed_at: int
    """Nanoseconds since 1970 of the bucket's clock."""


@dataclass(frozen=True)
class Listing:
    """Images of a folder in a bucket, sorted by name."""

    folder: str
    """Its URI."""
    images: tuple[ListedImage, ...]

    @property
    def hash(self) -> str:
        """16 hex digits that change with any image."""
        rows = [place_of(self.folder), [(image.name, image.size, image.changed_at) for image in self.images]]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def list_named(folder: str, names: Iterable[str], source: str, *, seconds: float | None = None) -> Listing:
    """The images that annotations name. Only folders that have some of them are listed.

    Args:
        folder: URI of the images' folder.
        names: Relative to it.
        source: The annotations, for messages.
        seconds: How long to wait for a bucket that is away; by default ten minutes.

    Raises:
        BucketDataError: naming images that are not there, or the bucket cannot be read.
    """
    wanted = {PurePosixPath(name).as_posix() for name in names}
    parents = sorted({str(PurePosixPath(name).parent) for name in wanted})
    found: dict[str, ListedImage] = {}
    waiting = Waiting(folder)
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        try:
            for images in threads.map(partial(_listed, folder, seconds=seconds, waiting=waiting), parents):
                found |= {image.name: image for image in images if image.name in wanted}
        finally:
            waiting.stop()
    missing = [f"'{name}'" for name in sorted(wanted - found.keys())]
    if missing:
        problem = (
            f"{len(missing):,} of {counted(len(wanted), 'image')} are not in {place_of(folder)}: "
            f"{'; '.join(some(missing))}; upload them, remove them from the annotations, or name another folder "
            "(data.image_root)"
        )
        raise BucketDataError([problem], source)
    return _checked(Listing(folder, tuple(sorted(found.values()))))


def list_all(folder: str, *, seconds: float | None = None) -> Listing:
    """The image files of a folder, at any depth.

    Raises:
        BucketDataError: it has none, or the bucket cannot be read.
    """
    images = [
        image
        for image in _listed(folder, ".", recursive=True, seconds=seconds, waiting=Waiting(folder))
        if PurePosixPath(image.name).suffix.lower() in IMAGE_SUFFIXES
    ]
    if not images:
        endings = ", ".join(sorted(IMAGE_SUFFIXES))
        problem = f"has no image files, or does not exist; name a folder of images ({endings}), at any depth"
        raise BucketDataError([problem], place_of(folder))
    return _checked(Listing(folder, tuple(sorted(images))))


def differences(before: Listing, now: Listing) -> dict[str, str]:
    """Names of the images that are in one listing and not equally in the other, and what happened to each."""
    old, new = ({image.name: image for image in listing.images} for listing in (before, now))
    names = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    return {name: f"changed {change_time(new[name])}" if name in new else "removed" for name in names}


def change_time(image: ListedImage) -> str:
    """When an image was changed, in words."""
    return f"{datetime.fromtimestamp(image.changed_at // 10**9, UTC):%Y-%m-%d %H:%M:%S} UTC"


class Waiting:
    """Logs once that a bucket is away, and ends the waiting once it is stopped; threads may share one."""

    def __init__(self, uri: str) -> None:
        self._place = place_of(uri)
        self._is_logged = self._is_stopped = False

    def __call__(self, reason: str) -> None:
        """Called before each pause."""
        if self._is_stopped:
            raise CancelledError
        if not self._is_logged:
            self._is_logged = True
            logging.getLogger(__name__).warning("%s cannot be read (%s); it is tried again", self._place, reason)

    def stop(self) -> None:
        """Let no thread wait any longer."""
        self._is_stopped = True


def requested(uri: str, action: Callable[[FileSystem, str], T], waiting: Waiting, *, seconds: float | None = None) -> T:
    """The result of requests to the bucket of a URI, tried again while it is away.

    Args:
        action: Called with the file system, and the URI's path in it.
        seconds: How long; by default ten minutes.

    Raises:
        BucketDataError: with the remedy.
        OSError: of this machine, or FileNotFoundError: there is no such object.
    """
    from pyarrow import ArrowInvalid

    def attempt() -> T:
        try:
            return action(*opened(without_version(uri)))
        except OSError as error:
            if error.errno is None and is_refused(error):
                raise _failure(uri, error) from error
            raise
        except ArrowInvalid as error:  # of a URI
            raise _failure(uri, error) from error

    try:
        return patiently(attempt, seconds, waiting)
    except StorageAwayError as error:
        cause = error.__cause__
        assert isinstance(cause, Exception)
        raise _failure(uri, cause) from error


def _failure(uri: str, error: Exception) -> BucketDataError:
    remedy = remedy_of(uri, error, _SETTING, "list and read")
    return BucketDataError([f"{reason_of(error)}; {remedy}"], place_of(uri))


def _listed(
    folder: str, below: str, *, recursive: bool = False, seconds: float | None, waiting: Waiting
) -> list[ListedImage]:
    from pyarrow.fs import FileSelector

    def listed(files: FileSystem, root: str) -> list[ListedImage]:
        start = root if below == "." else f"{root}/{below}"
        found: Sequence[FileInfo] = files.get_file_info(FileSelector(start, allow_not_found=True, recursive=recursive))
        names = [each.path.removeprefix(f"{root}/") for each in found]
        return [
            ListedImage(name, each.size, each.mtime_ns or 0)
            for name, each in zip(names, found, strict=True)
            if each.is_file
        ]

    try:
        return requested(folder, listed, waiting, seconds=seconds)
    except OSError as error:
        raise BucketDataError([f"cannot be listed ({error.strerror or error})"], place_of(folder)) from error


def is_safe_name(name: str) -> bool:
    """Whether an object can be copied to a file of this name inside a folder."""
    return "\0" not in name and all(part not in ("", ".", "..") for part in name.split("/"))


def _checked(listing: Listing) -> Listing:
    names = {image.name for image in listing.images}
    unsafe = [f"'{name}'" for name in names if not is_safe_name(name)]
    if unsafe:
        problem = f"objects whose names are no paths of files: {'; '.join(some(unsafe))}; rename or remove them"
        raise BucketDataError([problem], place_of(listing.folder))
    both = [f"'{name}'" for name in names if not names.isdisjoint(map(str, PurePosixPath(name).parents))]
    if both:
        problem = f"objects in folders with the name of another object: {'; '.join(some(both))}; rename them"
        raise BucketDataError([problem], place_of(listing.folder))
    return listing
