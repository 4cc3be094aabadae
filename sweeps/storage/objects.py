"""Objects of a study in a bucket.

A file of a study has the same relative path in the bucket and in the folder of copies, which every node has for itself.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from filelock import FileLock

from hkd.bucket_uri import folder_name, place_of
from hkd.buckets import StorageError, opened, reason_of, remedy_of
from hkd.files import open_replacement
from hkd.text.redaction import redacted_text

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem


@dataclass(frozen=True)
class ObjectStorage:
    """A folder of a bucket."""

    uri: str
    """``s3://BUCKET/PATH`` or ``gs://BUCKET/PATH``, with pyarrow's options, without credentials."""
    copies: Path
    """Folder of copies, absolute: the same path on every node."""

    def key(self, path: Path) -> str:
        """The path in pyarrow's file system of a file whose copy has this path."""
        return f"{opened(self.uri)[1]}/{path.relative_to(self.copies).as_posix()}"

    def holds(self, path: Path) -> bool:
        """Whether a path is one of a copy."""
        return path.is_relative_to(self.copies)

    def read(self, path: Path) -> bytes | None:
        """The object's content; None where there is none."""
        try:
            with self._files.open_input_stream(self.key(path)) as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            return None

    def write(self, path: Path, content: bytes) -> None:
        """Create or replace an object."""
        with self._files.open_output_stream(self.key(path)) as stream:
            stream.write(content)

    def modified_at(self, path: Path) -> float | None:
        """When an object was written, in seconds since 1970 of the storage's clock; None where there is none."""
        info = self._files.get_file_info(self.key(path))
        return info.mtime_ns / 1e9 if info.is_file and info.mtime_ns is not None else None

    def names(self, folder: Path) -> list[str]:
        """Names of the files and folders in a folder; empty without it."""
        from pyarrow.fs import FileSelector

        return [each.base_name for each in self._files.get_file_info(FileSelector(self.key(folder), True))]

    def upload(self, path: Path, source: Path | None = None, *, last: str | None = None) -> None:
        """Upload the files of a folder, which has no sub-folders.

        Args:
            path: Of its copy.
            source: The folder; by default ``path``.
            last: Name of a file that is uploaded after the others, because it marks them as complete.
        """
        files = [file for file in (source or path).iterdir() if file.is_file()]
        for file in sorted(files, key=lambda file: file.name == last):
            self.upload_file(path / file.name, file)

    def upload_file(self, path: Path, source: Path | None = None) -> None:
        """Upload a file; an object is replaced at once, never in part, and removed if the upload is interrupted."""
        with (source or path).open("rb") as file:
            try:
                with self._files.open_output_stream(self.key(path)) as stream:
                    while content := file.read(2**23):
                        stream.write(content)
            except BaseException as error:
                # pyarrow closes the stream, which completes the object with what was written, unless a request failed.
                if not isinstance(error, OSError) or error.errno is not None:
                    with suppress(OSError):
                        self.remove(path)
                raise

    def download(self, path: Path, target: Path, names: Iterable[str] | None = None) -> None:
        """Copy the files of a folder to ``target``.

        Args:
            names: The files to copy, as far as they exist; by default all.

        Raises:
            FileNotFoundError: there is none of these files.
        """
        there = self.names(path)
        wanted = there if names is None else [name for name in names if name in there]
        if not wanted:
            raise FileNotFoundError(2, "no such folder in the storage", f"{self}: {self.key(path)}")
        for name in wanted:
            self._fetch(path / name, target / name)

    def fetch(self, path: Path) -> Path:
        """Make the copy of a file, unless there is one; processes of a node share it.

        Raises:
            FileNotFoundError: there is neither a copy nor an object.
        """
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{path}.lock"):
                if not path.is_file():
                    self._fetch(path, path)
        return path

    def fetch_folder(self, path: Path, names: Sequence[str] | None = None, *, last: str | None = None) -> None:
        """Make the copies of a folder's files that are missing here; without a folder in the bucket, none."""
        there = [name for name in self.names(path) if names is None or name in names]
        for name in sorted(there, key=lambda name: name == last):
            self.fetch(path / name)

    def remove_folder(self, path: Path) -> None:
        """Remove a folder, if there is one."""
        if self.names(path):
            self._files.delete_dir(self.key(path))

    def remove(self, path: Path) -> None:
        """Remove an object, if there is one."""
        if self.modified_at(path) is not None:
            self._files.delete_file(self.key(path))

    def check(self) -> float:
        """Write, read and remove an object.

        Returns:
            Its time, in seconds since 1970 of the storage's clock.

        Raises:
            StorageError: the bucket is missing, does not accept the credentials, or cannot be reached.
        """
        path, content = self.copies / f".check-{secrets.token_hex(8)}", secrets.token_bytes(16)
        try:
            self.write(path, content)
            time_written = self.modified_at(path)
            is_same = self.read(path) == content
            self.remove(path)
        except (OSError, ValueError) as error:
            remedy = remedy_of(self.uri, error, "--set storage_path=...", "list, read, write and delete")
            raise StorageError(f"{self} (storage_path): {reason_of(error)}; {remedy}") from error
        if not is_same or time_written is None:
            raise StorageError(f"{self} (storage_path): an object that was written was read with another content")
        return time_written

    def _fetch(self, path: Path, target: Path) -> None:
        with self._files.open_input_stream(self.key(path)) as stream, open_replacement(target) as file:
            while content := stream.read(2**23):
                file.write(content)

    @property
    def _files(self) -> FileSystem:
        return opened(self.uri)[0]

    def __str__(self) -> str:
        return redacted_text(place_of(self.uri))


def storage_of(uri: str, cache_dir: Path) -> ObjectStorage:
    """The storage of a URI, with its folder of copies in the cache of a node."""
    return ObjectStorage(uri, cache_dir.absolute() / "storage" / folder_name(uri))


def scratch_folder() -> TemporaryDirectory[str]:
    """A folder for files on their way to or from the storage."""
    return TemporaryDirectory(prefix="hkd-", ignore_cleanup_errors=True)
