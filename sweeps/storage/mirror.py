"""The record of a study in object storage: a mirror of the driver's files, from which another machine can resume it.

The driver appends to the journal on its own disk; a thread uploads the record after it changed, and only then removes
the checkpoints that the uploaded record no longer names. If the machine is lost, so are the last seconds of the record,
but no checkpoint that the mirror names.
"""

from __future__ import annotations

import json
import logging
import secrets
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from hkd.buckets import StorageAwayError, StorageError, patiently, reason_of
from hkd.files import write_atomically
from hkd.text.escaping import printable
from sweeps.storage.objects import ObjectStorage

SECONDS_BETWEEN_UPLOADS = 10.0
SECONDS_BETWEEN_HEARTBEATS = 60.0
OWNER_LOST_SECONDS = 180.0
"""Without a heartbeat, after which another machine may resume the study."""
LAST_SECONDS = 60.0
"""For the last upload of a session."""
OWNER = "owner.json"


class StudyMirror:
    """Context in which this process owns a study in object storage, and mirrors its record there.

    Args:
        folder: The study's folder on this machine.
        config: Name of the file that marks the folder as a study.
        journal: Name of the file to which the study appends.
        others: Names of its other files.
    """

    def __init__(
        self, storage: ObjectStorage, folder: Path, *, config: str, journal: str, others: Sequence[str]
    ) -> None:
        self._storage, self._folder = storage, folder
        self._config, self._journal = folder / config, folder / journal
        # The study exists once its configuration does: last.
        self._record = [self._journal, *(folder / name for name in others), self._config]
        self._uploaded: dict[Path, tuple[int, int]] = {}
        """Stamp of each file of the record when it was uploaded."""
        self._to_keep: dict[tuple[Path, ...], frozenset[str]] = {}
        """Attempts' folders of a trial -> the checkpoints that stay, as ``<attempt>/<checkpoint>``."""
        self._changed = threading.Condition()
        self._is_ending = False
        self._lost_to: str | None = None
        self._heartbeat_time = 0.0

    def __enter__(self) -> StudyMirror:
        """Check the storage, become the study's owner and fetch its record, if it is newer than that of this machine.

        Raises:
            StorageError: the storage cannot be used, another process runs the study, or both records have changed.
        """
        now = self._storage.check()
        try:
            self._become_owner(now)
            try:
                self._fetch_record()
            except StorageError:
                self._storage.remove(self._folder / OWNER)
                raise
        except OSError as error:
            raise StorageError(f"{self._storage}/{self._folder.name}: cannot be read: {reason_of(error)}") from error
        self._thread = threading.Thread(target=self._work, name="study-mirror", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()
        self._thread.join()
        if self._lost_to is not None:
            return
        try:
            if not patiently(self._synchronize, LAST_SECONDS):
                _log().warning(
                    "%s lacks the last records of the study: another process resumed it meanwhile (%s); they are in %s",
                    self._storage, self._lost_to, self._folder,
                )  # fmt: skip
                return
            patiently(lambda: self._storage.remove(self._folder / OWNER), LAST_SECONDS)
            (self._folder / OWNER).unlink(missing_ok=True)
        except (OSError, StorageAwayError) as error:
            _log().warning(
                "%s lacks the last records of the study (%s); they are in %s: resume it on this machine",
                self._storage, reason_of(error), self._folder,
            )  # fmt: skip

    def raise_if_lost(self) -> None:
        """Raise an error if another machine has resumed the study meanwhile.

        Raises:
            StorageError: naming it.
        """
        if self._lost_to is not None:
            raise StorageError(
                f"{self._storage}/{self._folder.name}: another process resumed this study ({self._lost_to}), after "
                f"this one did not reach the storage for {OWNER_LOST_SECONDS:.0f} s; this one ends"
            )

    def remove_checkpoints(self, attempts: Sequence[Path], keep: Sequence[Path]) -> None:
        """Remove a trial's checkpoints, once a record that does not name them is in the storage.

        Args:
            attempts: Folders of the trial's attempts.
            keep: Checkpoints that stay, relative to the study's folder.
        """
        with self._changed:
            self._to_keep[tuple(attempts)] = frozenset(path.as_posix() for path in keep)

    def _become_owner(self, now: float) -> None:
        path = self._folder / OWNER
        heartbeat, written_at = self._storage.read(path), self._storage.modified_at(path)
        # A process of this machine has ended: the lock of its folder is ours.
        is_own = path.is_file() and heartbeat is not None and _id_of(path.read_bytes()) == _id_of(heartbeat)
        if heartbeat is not None and written_at is not None and not is_own and now - written_at < OWNER_LOST_SECONDS:
            raise StorageError(
                f"{self._storage}/{self._folder.name}: another process runs this study ({_host_of(heartbeat)}; its "
                f"last heartbeat is {max(0.0, now - written_at):.0f} s old); wait for it to end or, if it was killed, "
                f"until that is {OWNER_LOST_SECONDS:.0f} s old"
            )
        self._heartbeat = json.dumps({"id": secrets.token_hex(8), "host": socket.gethostname()}).encode()
        write_atomically(path, self._heartbeat)
        self._write_heartbeat()

    def _write_heartbeat(self) -> None:
        self._storage.write(self._folder / OWNER, self._heartbeat)
        self._heartbeat_time = time.monotonic()

    def _fetch_record(self) -> None:
        storage = self._storage
        config = storage.read(self._config)
        if config is None:
            return
        there = _whole_records(storage.read(self._journal) or b"")
        here = _whole_records(self._journal.read_bytes()) if self._journal.is_file() else b""
        if self._config.is_file() and here.startswith(there):
            return
        if not there.startswith(here):
            raise StorageError(
                f"{storage}/{self._folder.name}: another machine has resumed this study after the last upload of this "
                f"one, whose own record is {self._folder}; to resume that of the storage, move this folder away"
            )
        for path in self._record:
            content = there if path == self._journal else storage.read(path)
            if content is not None:
                write_atomically(path, content, durable=True)

    def _work(self) -> None:
        is_away = False
        while self._lost_to is None:
            with self._changed:
                self._changed.wait_for(lambda: self._is_ending, SECONDS_BETWEEN_UPLOADS)
                if self._is_ending:
                    return
            is_due = self._to_keep or time.monotonic() - self._heartbeat_time > SECONDS_BETWEEN_HEARTBEATS
            try:
                if not is_due and self._is_uploaded():
                    continue
                self._synchronize()
            # Without this thread, another machine would take the study over.
            except Exception as error:  # noqa: BLE001
                if not is_away:
                    _log().warning("%s cannot be used (%s); it is tried again", self._storage, reason_of(error))
                is_away = True
            else:
                if is_away:
                    _log().warning("%s can be used again", self._storage)
                is_away = False

    def _synchronize(self) -> bool:
        """Upload what changed; returns whether this process still owns the study."""
        heartbeat = self._storage.read(self._folder / OWNER)
        if heartbeat != self._heartbeat and (heartbeat is not None or self._is_record_of_another()):
            self._lost_to = "which has ended" if heartbeat is None else _host_of(heartbeat)
            return False
        self._write_heartbeat()
        with self._changed:
            to_keep = dict(self._to_keep)
        self._upload_record()
        for attempts, keep in to_keep.items():
            self._remove_others(attempts, keep)
            with self._changed:
                if self._to_keep.get(attempts) == keep:
                    del self._to_keep[attempts]
        return True

    def _is_record_of_another(self) -> bool:
        """Whether the storage has records that this process did not write, of one that has ended since."""
        there = _whole_records(self._storage.read(self._journal) or b"")
        return not (self._journal.read_bytes() if self._journal.is_file() else b"").startswith(there)

    def _is_uploaded(self) -> bool:
        """Whether the storage has the record as it is now."""
        return all(self._uploaded.get(path) == _stamp(path) for path in self._record)

    def _upload_record(self) -> None:
        for path in self._record:
            stamp = _stamp(path)
            if stamp is not None and self._uploaded.get(path) != stamp:
                self._storage.write(path, path.read_bytes())
                self._uploaded[path] = stamp

    def _remove_others(self, attempts: Sequence[Path], keep: frozenset[str]) -> None:
        for attempt in attempts:
            kept = {path.partition("/")[2] for path in keep if path.startswith(f"{attempt.name}/")}
            for name in self._storage.names(attempt):
                # A worker may be writing a newer one to the last attempt, or have written it since.
                is_newer = attempt == attempts[-1] and name > max(kept, default="")
                if name not in kept and not is_newer:
                    self._storage.remove_folder(attempt / name)


def _stamp(path: Path) -> tuple[int, int] | None:
    """Differs after a change of a file; None without it."""
    state = path.stat() if path.is_file() else None
    return None if state is None else (state.st_mtime_ns, state.st_size)


def _whole_records(content: bytes) -> bytes:
    """Without a partial last one, of a process that was killed."""
    return content[: content.rfind(b"\n") + 1]


def _id_of(heartbeat: bytes) -> object:
    return _parsed(heartbeat).get("id")


def _host_of(heartbeat: bytes) -> str:
    return printable(str(_parsed(heartbeat).get("host", "another machine"))[:100])


def _parsed(heartbeat: bytes) -> dict[str, object]:
    try:
        content = json.loads(heartbeat[:10_000])
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _log() -> logging.Logger:
    return logging.getLogger(__name__)
