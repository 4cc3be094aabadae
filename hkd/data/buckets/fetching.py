"""Fetching of a data set's images from a bucket: once per node, several at a time."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING

from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from hkd.bucket_uri import place_of
from hkd.data.buckets.copies import DataCopy, unwritable
from hkd.data.buckets.listing import CONNECTIONS, BucketDataError, ListedImage, Waiting, differences, requested
from hkd.data.copies import some
from hkd.files import open_replacement

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

_CHUNK_BYTES = 2**22


def fetch(copy: DataCopy, *, progress: bool = True) -> None:
    """Fetch the images that are not here yet; one process of a node does, under a lock, while others wait.

    Afterwards the images are listed again, so that none of another version is among them.

    Args:
        progress: Show a progress bar on stderr.

    Raises:
        BucketDataError: the bucket changed meanwhile, cannot be read, or the disk is full.
    """
    if copy.is_complete():
        return
    try:
        with FileLock(copy.folder.parent / "lock"):
            if copy.is_complete():
                return
            _remove_others(copy)
            _link_from_other_versions(copy)
            missing = copy.missing()
            _require_space(copy, missing)
            _download(copy, missing, progress)
            _require_unchanged(copy)
            _require_distinct(copy)
            copy.mark_complete()
    except OSError as error:
        raise unwritable(copy, error) from error


def _remove_others(copy: DataCopy) -> None:
    """Remove what a killed process left beside the images."""
    names = {image.name for image in copy.listing.images}
    for path in copy.images.rglob("*"):
        if not path.is_dir() and path.relative_to(copy.images).as_posix() not in names:
            path.unlink()


def _link_from_other_versions(copy: DataCopy) -> None:
    """Use the files of other versions whose objects did not change; copies are never written to."""
    others = [folder / "images" for folder in copy.folder.parent.iterdir() if folder != copy.folder]
    for image in copy.missing():
        for other in others:
            try:
                state = (other / image.name).lstat()
                if (state.st_size, state.st_mtime_ns) == (image.size, image.changed_at):
                    target = copy.images / image.name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    os.link(other / image.name, target)
                    break
            except OSError:  # it is not there, or the file system has no links: it is fetched
                continue


def _require_space(copy: DataCopy, missing: Sequence[ListedImage]) -> None:
    needed, free = sum(image.size for image in missing), shutil.disk_usage(copy.folder).free
    if needed > free:
        problem = (
            f"needs {needed / 2**20:,.0f} MiB in '{copy.folder}', which has {free / 2**20:,.0f} MiB left; free some "
            "space, or name another folder (data.cache_dir)"
        )
        raise BucketDataError([problem], place_of(copy.uri))


def _download(copy: DataCopy, missing: Sequence[ListedImage], progress: bool) -> None:
    if not missing:
        return
    waiting = Waiting(copy.listing.folder)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(True), TransferSpeedColumn())
    bar = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), disable=not progress)
    threads = ThreadPoolExecutor(CONNECTIONS)
    with bar:
        task = bar.add_task("Fetching images", total=sum(image.size for image in missing))
        try:
            jobs = {threads.submit(_download_image, copy, image, waiting): image for image in missing}
            for job in as_completed(jobs):
                job.result()
                bar.advance(task, jobs[job].size)
        finally:
            waiting.stop()
            threads.shutdown(cancel_futures=True)


def _download_image(copy: DataCopy, image: ListedImage, waiting: Waiting) -> None:
    target = copy.images / image.name

    def download(files: FileSystem, folder: str) -> None:
        with files.open_input_stream(f"{folder}/{image.name}") as stream, open_replacement(target) as file:
            while content := stream.read(_CHUNK_BYTES):
                file.write(content)

    try:
        requested(copy.listing.folder, download, waiting)
    except FileNotFoundError:
        raise _changed_error(copy, {image.name: "removed"}) from None
    # Of the object, so that another version finds the same file.
    os.utime(target, ns=(image.changed_at, image.changed_at))


def _require_unchanged(copy: DataCopy) -> None:
    changed = differences(copy.listing, copy.listed_again())
    changed |= {image.name: "fetched with another size" for image in copy.missing() if image.name not in changed}
    if changed:
        for name in changed:
            (copy.images / name).unlink(missing_ok=True)
        raise _changed_error(copy, changed)


def _changed_error(copy: DataCopy, changed: Mapping[str, str]) -> BucketDataError:
    described = "; ".join(some([f"'{name}' ({change})" for name, change in changed.items()]))
    problem = (
        f"has changed since it was listed: {described}. Restore these objects, or start again with the new data: a new "
        "study, or a URI without version"
    )
    return BucketDataError([problem], place_of(copy.uri))


def _require_distinct(copy: DataCopy) -> None:
    """Refuse names that are one file where the disk ignores case."""
    by_name: dict[str, str] = {}
    for image in copy.listing.images:
        other = by_name.setdefault(image.name.casefold(), image.name)
        if other != image.name and (copy.images / other).samefile(copy.images / image.name):
            problem = (
                f"'{other}' and '{image.name}' are one file in '{copy.images}', which ignores case; rename one of "
                "them, or name another folder (data.cache_dir)"
            )
            raise BucketDataError([problem], place_of(copy.uri))
