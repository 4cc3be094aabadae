"""A teacher in object storage: its folder is fetched to a node, and uploaded from the one that trained it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hkd.buckets import patiently
from hkd.training.fit import LOG_FILE, STATE_FILE
from hkd.training.teacher.prepare import SUMMARY_FILE
from sweeps.storage.objects import ObjectStorage

_STATE = (LOG_FILE, STATE_FILE)
"""Of a training that is not finished."""


@dataclass
class SharedTeacher:
    """The folder of a teacher, with its labels of images.

    Two studies that need a new teacher at the same time train it both: a bucket has no locks. Their results are equal.
    """

    storage: ObjectStorage
    folder: Path
    """On this node."""
    _uploaded_epoch: int = 1

    def fetch(self, *, is_to_be_trained: bool) -> None:
        """Fetch the files of a complete teacher that this node lacks.

        Args:
            is_to_be_trained: Whether to fetch those of an interrupted training, where the teacher is not complete.
        """

        def fetch() -> None:
            if SUMMARY_FILE in self.storage.names(self.folder):
                self.storage.fetch_folder(self.folder, last=SUMMARY_FILE)
            elif is_to_be_trained and not (self.folder / SUMMARY_FILE).is_file():
                self._fetch_state()

        patiently(fetch)

    def _fetch_state(self) -> None:
        """Fetch the state of an interrupted training, unless this node has one of as many epochs."""
        there = self.storage.read(self.folder / LOG_FILE)
        here = self.folder / LOG_FILE
        is_here = here.is_file() and (self.folder / STATE_FILE).is_file()
        # The log grows with each epoch.
        if there is not None and not (is_here and here.stat().st_size >= len(there)):
            self.storage.download(self.folder, self.folder, _STATE)

    def upload_state(self, epoch: int) -> None:
        """Upload the state of a training that is in its ``epoch``-th epoch, once for each finished epoch."""
        if epoch > self._uploaded_epoch:
            for file in (self.folder / name for name in _STATE):
                if file.is_file():
                    patiently(partial(self.storage.upload_file, file))
            self._uploaded_epoch = epoch

    def upload(self) -> None:
        """Upload what the bucket lacks of a complete teacher, and remove the state of its training there."""

        def upload() -> None:
            there = self.storage.names(self.folder)
            files = [file for file in self.folder.iterdir() if file.suffix in (".json", ".safetensors")]
            for file in sorted(files, key=lambda file: file.name == SUMMARY_FILE):
                if file.name not in (*there, *_STATE):
                    self.storage.upload_file(file)
            for name in set(there) & set(_STATE):
                self.storage.remove(self.folder / name)

        patiently(upload)
