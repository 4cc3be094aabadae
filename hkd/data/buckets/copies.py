"""The copy of a data set in a bucket: a folder of ``cache_dir`` for each version that was listed.

::

    data_sets/<name and hash of the URI>/<version>/annotations/...  the annotations, of an annotated set
                                                  /listing.json     names, sizes and times of change of the images
                                                  /images/...       the images, once they were fetched
                                                  /complete         written after all of them

The version is a hash of the annotations and of the listing. What a process fetched before it was killed remains.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from hkd.bounded_files import LARGEST_FILE_BYTES
from hkd.bucket_uri import folder_name, joined, place_of, version_of, without_version
from hkd.coco.annotations import parse_annotations
from hkd.coco.categories import CategoryNames
from hkd.coco.parsing.errors import AnnotationError
from hkd.coco.parsing.reading import parse_json
from hkd.data.buckets.listing import (
    BucketDataError,
    ListedImage,
    Listing,
    Waiting,
    change_time,
    is_safe_name,
    list_all,
    list_named,
    requested,
)
from hkd.files import read_record, write_atomically
from hkd.own_folders import create_own_folder

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

FOLDER = "data_sets"
_LISTING_FILE = "listing.json"
_COMPLETE_FILE = "complete"


@dataclass(frozen=True)
class DataCopy:
    """The copy of one version of a data set."""

    uri: str
    """Of the annotations, or of the folder of images without annotations; without version."""
    folder: Path
    listing: Listing

    @property
    def version(self) -> str:
        """16 hex digits."""
        return self.folder.name

    @property
    def annotations(self) -> Path:
        """The file of annotations; absent for images without annotations."""
        return self.folder / "annotations" / PurePosixPath(urlsplit(self.uri).path).name

    @property
    def images(self) -> Path:
        """The folder of the images."""
        return self.folder / "images"

    def missing(self) -> list[ListedImage]:
        """Images that were not fetched yet."""
        return [image for image in self.listing.images if not _has_size(self.images / image.name, image.size)]

    def is_complete(self) -> bool:
        """Whether all images are here, and the bucket had not changed when the last one was fetched."""
        return (self.folder / _COMPLETE_FILE).is_file() and not self.missing()

    def mark_complete(self) -> None:
        """Remember that the images are those of the listing."""
        write_atomically(self.folder / _COMPLETE_FILE, "")

    def listed_again(self) -> Listing:
        """The same images as the bucket has them now."""
        if not self.annotations.is_file():
            return list_all(self.listing.folder)
        return list_named(self.listing.folder, [image.name for image in self.listing.images], place_of(self.uri))


def known_copy(uri: str, image_root: str | None, cache_dir: Path) -> DataCopy | None:
    """The copy of the version that a URI names, if this machine has listed it; no request is made.

    Args:
        image_root: URI of the images' folder, if one is configured beside the annotations.
    """
    version = version_of(uri)
    return None if version is None else _read_copy(without_version(uri), _parent(uri, image_root, cache_dir) / version)


def annotated_copy(
    uri: str, image_root: str | None, cache_dir: Path, *, named: CategoryNames | None = None
) -> DataCopy:
    """The copy of annotations and of the images that these name, which are listed, and not fetched.

    Args:
        uri: Of the annotations; if it names a version, the bucket must have this one, and is waited for while it is
            away.
        image_root: URI of the images' folder; None: as stated in the annotations, relative to these.
        named: The categories that the user names.

    Raises:
        AnnotationError: listing what is wrong with the annotations.
        BucketDataError: the bucket cannot be read, lacks images, or has another version.
        SharedFolderError: if every user of the machine can write to ``cache_dir``.
    """
    known = known_copy(uri, image_root, cache_dir)
    if known is not None:
        return known
    content = _read_object(uri)
    source = place_of(uri)
    folder, names = _images_of(content, without_version(uri), image_root, named)
    listing = list_named(folder, names, source, seconds=_patience(uri))
    version = hashlib.sha256(hashlib.sha256(content).digest() + listing.hash.encode()).hexdigest()[:16]
    return _new_copy(uri, version, listing, _parent(uri, image_root, cache_dir), cache_dir, content)


def images_copy(uri: str, cache_dir: Path) -> DataCopy:
    """The copy of a folder of images without annotations, which are listed, and not fetched.

    Raises:
        BucketDataError: the bucket cannot be read, has no images there, or has another version.
        SharedFolderError: if every user of the machine can write to ``cache_dir``.
    """
    known = known_copy(uri, None, cache_dir)
    if known is not None:
        return known
    listing = list_all(without_version(uri), seconds=_patience(uri))
    return _new_copy(uri, listing.hash, listing, _parent(uri, None, cache_dir), cache_dir, None)


def _new_copy(
    uri: str, version: str, listing: Listing, parent: Path, cache_dir: Path, annotations: bytes | None
) -> DataCopy:
    expected = version_of(uri)
    if expected not in (None, version):
        newest = max(listing.images, key=lambda image: image.changed_at)
        problem = (
            f"has changed: it is version {version}, and no more {expected}, which was listed before "
            f"(last change of an image: '{newest.name}', {change_time(newest)}). Restore what it had, or start again "
            "with the new data: a new study, or a URI without version"
        )
        raise BucketDataError([problem], place_of(uri))
    copy = DataCopy(without_version(uri), parent / version, listing)
    try:
        create_own_folder(cache_dir, "data.cache_dir")
        if annotations is not None:
            write_atomically(copy.annotations, annotations)
        rows = [[image.name, image.size, image.changed_at] for image in listing.images]
        # Last: it marks the version as known.
        write_atomically(copy.folder / _LISTING_FILE, json.dumps({"folder": listing.folder, "images": rows}))
    except OSError as error:
        raise unwritable(copy, error) from error
    return copy


def unwritable(copy: DataCopy, error: OSError) -> BucketDataError:
    """An error on this machine's disk."""
    problem = (
        f"cannot be copied to '{copy.folder}' ({error.strerror or error}); free some space, or name another folder "
        "(data.cache_dir)"
    )
    return BucketDataError([problem], place_of(copy.uri))


def _read_copy(uri: str, folder: Path) -> DataCopy | None:
    """The copy that was listed before; None where its listing is absent or damaged."""
    try:
        content = read_record(folder / _LISTING_FILE)
        images = tuple(ListedImage(str(name), int(size), int(changed)) for name, size, changed in content["images"])
        listing = Listing(str(content["folder"]), images)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    is_sound = images and all(is_safe_name(image.name) for image in images)
    return DataCopy(uri, folder, listing) if is_sound else None


def _parent(uri: str, image_root: str | None, cache_dir: Path) -> Path:
    return cache_dir / FOLDER / folder_name(place_of(uri), without_version(uri), image_root or "")


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.lstat().st_size == size
    except OSError:
        return False


def _patience(uri: str) -> float | None:
    """An unknown bucket must answer at once; one of a version has answered before."""
    return 0.0 if version_of(uri) is None else None


def _read_object(uri: str) -> bytes:
    """The content of annotations."""

    def read(files: FileSystem, key: str) -> bytes | None:
        with files.open_input_stream(key) as stream:
            content = bytes(stream.read(LARGEST_FILE_BYTES + 1))
        return None if len(content) > LARGEST_FILE_BYTES else content

    try:
        content = requested(uri, read, Waiting(uri), seconds=_patience(uri))
    except FileNotFoundError:
        bucket = urlsplit(uri).netloc
        no_bucket = f", or no bucket '{bucket}'" if bucket else ""
        problem = f"there is no such object{no_bucket}; upload it, or name another one"
        raise BucketDataError([problem], place_of(uri)) from None
    except OSError as error:
        raise BucketDataError([f"cannot be read ({error.strerror or error})"], place_of(uri)) from error
    if content is None:
        raise BucketDataError([f"is larger than {LARGEST_FILE_BYTES >> 20} MiB; name a smaller one"], place_of(uri))
    return content


def _images_of(content: bytes, uri: str, image_root: str | None, named: CategoryNames | None) -> tuple[str, list[str]]:
    """URI of the folder of the images that annotations name, and their names relative to it."""
    source, beside = place_of(uri), Path("annotations")
    document = parse_json(content, source)
    try:
        annotations = parse_annotations(document, beside / "file.json", named=named, check_images=False)
    except AnnotationError as error:
        raise AnnotationError(error.problems, source) from None
    names = [image.file_name for image in annotations.images]
    if image_root is not None:
        return image_root, names
    if not annotations.image_root.is_relative_to(beside):
        problem = (
            f"info.image_root is '{annotations.image_root}', a folder of another machine; upload the images, and name "
            "their folder in the bucket (data.image_root)"
        )
        raise AnnotationError([problem], source)
    return joined(uri, f"../{annotations.image_root.relative_to(beside).as_posix()}"), names
