"""The file of the ledger: one JSON record per line, as Optuna's journal storage writes it.

Optuna's own file backend (5.0) reads the file again for each record and writes each one separately, appends to a
partial record, and raises a bare ``JSONDecodeError`` for a damaged one. A study is locked, so that one process reads
the file once and is then its only writer.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend

from hkd.text.escaping import printable

DAMAGE = (ValueError, LookupError, TypeError, AttributeError, AssertionError, RecursionError)
"""What Optuna raises for damaged records, which it does not check: whatever their use raises."""
REMEDY = "restore it from a backup, or give the study another name (--name NAME)"
_LONGEST_EXCERPT = 60


class LedgerError(ValueError):
    """The journal of a study cannot be read or written."""


class Journal(BaseJournalBackend):
    """Opens the file, or creates it. A partial last record, of a process that was killed, is removed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._line: int | None = None
        """Number of the line that is being read; None afterwards."""
        self._end = _remove_partial_record(path)
        """Size of the file up to its last complete record."""
        self._is_read = False
        self._recent: list[dict[str, Any]] = []
        """Records that were written and not read back."""
        self._num_before = 0
        """Number of records before these."""
        self._batch: list[dict[str, Any]] | None = None
        self._failure: str | None = None

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Records from a number on: those of the file once, then those that this process wrote.

        Raises:
            LedgerError: a line is not a record.
        """
        if not self._is_read:
            assert log_number_from == 0
            self._is_read = True
            yield from self._file_records()
            return
        assert log_number_from >= self._num_before
        del self._recent[: log_number_from - self._num_before]
        self._num_before = log_number_from
        yield from tuple(self._recent)

    def append_logs(self, logs: Sequence[dict[str, Any]]) -> None:
        """Append records, and flush them to the disk unless a batch is open.

        Raises:
            LedgerError: they cannot be written. The file keeps its complete records, and nothing is appended later.
        """
        self.raise_earlier_failure()
        self._recent += logs
        if self._batch is not None:
            self._batch += logs
        else:
            self._write(logs)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Write the records of a context together, at its end: a flush to the disk takes milliseconds."""
        if self._batch is not None:
            yield
            return
        self._batch = []
        try:
            yield
        finally:
            records, self._batch = self._batch, None
            if records:
                self._write(records)

    def raise_earlier_failure(self) -> None:
        """Raise the error of an earlier append that failed, if there was one."""
        if self._failure is not None:
            raise LedgerError(
                f"{self._path}: cannot write to the journal of the study ({self._failure}); its earlier records are "
                "complete. Free space on the disk or restore access to it, then resume the study (--resume)"
            )

    @contextmanager
    def damage_located(self) -> Iterator[None]:
        """Report a damaged record with its line, and how to resume from the records before it.

        Raises:
            LedgerError: naming both.
        """
        try:
            yield
        except DAMAGE as error:
            reason = str(error) if isinstance(error, LedgerError) else f"{type(error).__name__}: {str(error)[:200]}"
            if self._line is None:
                raise LedgerError(f"{self._path}: the journal of the study is damaged ({reason}); {REMEDY}") from error
            source, copy = shlex.quote(str(self._path)), shlex.quote(f"{self._path}.damaged")
            raise LedgerError(
                f"{self._path}, line {self._line}: the journal of the study is damaged: {reason}; {REMEDY}, or resume "
                f"from the records before this line: cp {source} {copy} && head -n {self._line - 1} {copy} > {source}"
            ) from error

    def _file_records(self) -> Iterator[dict[str, Any]]:
        with self._path.open("rb") as file:
            for number, content in enumerate(file, start=1):
                self._line = self._num_before = number
                try:
                    record = json.loads(content)
                except (ValueError, RecursionError):
                    record = None
                if not isinstance(record, dict):
                    shown = printable(content[:_LONGEST_EXCERPT].decode("utf-8", errors="replace").strip())
                    raise LedgerError(f"is not a record of the study, but: {shown}")
                yield record
        self._line = None

    def _write(self, records: Sequence[dict[str, Any]]) -> None:
        self.raise_earlier_failure()
        content = "".join(json.dumps(record, separators=(",", ":")) + "\n" for record in records).encode()
        try:
            with self._path.open("r+b") as file:
                if file.seek(0, os.SEEK_END) != self._end:
                    raise OSError("another process wrote to it")
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            # Whatever was written is removed, and nothing follows: a record after a lost one would be misread.
            self._failure = error.strerror or str(error)
            if error.errno is not None:
                with suppress(OSError):  # where this fails, the next process removes a partial record
                    os.truncate(self._path, self._end)
            self.raise_earlier_failure()
        self._end += len(content)


def _remove_partial_record(path: Path) -> int:
    """Create the file if it is missing, or remove its partial last record; returns its size."""
    with path.open("a+b") as file:
        size = end = file.tell()
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:
            file.truncate(end)
        return end
