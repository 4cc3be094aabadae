"""What a section measured, and the file that holds it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hkd.files import read_record, write_json

NOT_MEASURED_YET = "not measured yet"


@dataclass(frozen=True)
class Measurement:
    """Figures of one section."""

    tables: str
    """Markdown."""
    meaning: str
    """One sentence on what the figures mean."""
    figures: dict[str, Any] = field(default_factory=dict)
    """The numbers, without infinities and NaN."""


class NotRunError(Exception):
    """A section cannot be measured here; the message states why."""


@dataclass(frozen=True)
class Record:
    """The outcome of one section."""

    section: str
    settings: dict[str, Any]
    """Of :class:`benchmarks.gpu.sections.Settings`, and ``torch``, the version."""
    status: Literal["measured", "not run", "failed"]
    reason: str = ""
    """Why it was not run, or failed."""
    seconds: float = 0.0
    machine: str = ""
    workload: str = ""
    tables: str = ""
    meaning: str = ""
    figures: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write it to ``<section>.json``."""
        write_json(record_path(folder, self.section), self)


class RecordError(ValueError):
    """A file of the folder is not one that this benchmark wrote."""


def record_path(folder: Path, section: str) -> Path:
    """The file of a section."""
    return folder / f"{section}.json"


def read_result(folder: Path, section: str) -> Record | None:
    """Read what :meth:`Record.write` wrote; None if there is no file.

    Raises:
        RecordError: the file has other content.
    """
    path = record_path(folder, section)
    if not path.exists():
        return None
    try:
        return Record(**read_record(path))
    except (OSError, ValueError, TypeError) as error:
        raise RecordError(
            f"{path} is no result of this benchmark ({error}); choose another --out, or delete the file"
        ) from None


def section_text(title: str, record: Record | None) -> str:
    """A section as Markdown: title, tables and one sentence, or why there are none."""
    heading = f"## {title}"
    if record is None:
        return f"{heading}\n\n{NOT_MEASURED_YET.capitalize()}."
    if record.status != "measured":
        return f"{heading}\n\n{record.status.capitalize()}: {record.reason}."
    return f"{heading}\n\n{record.tables}\n\n{record.meaning}"
