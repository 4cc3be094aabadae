"""Reads the stored detections of runs from MLflow's artifacts, which others may have written."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from analysis.records.store import reading_store
from hkd import metric_names as names
from hkd.evaluation.formats.stored_detections import (
    LARGEST_BYTES,
    StoredDetections,
    StoredDetectionsError,
    read_stored_detections,
)
from hkd.text.redaction import redacted_text

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_MOST_FAILURES = 3


class DetectionsReader:
    """Reads stored detections by run id, and keeps what could not be read for the report's notes.

    Args:
        tracking_uri: Of the study.
    """

    def __init__(self, tracking_uri: str) -> None:
        self._tracking_uri = tracking_uri
        self.notes: list[str] = []
        self.found: dict[str, StoredDetections] = {}
        """What was read so far, by run id."""

    def __call__(self, run_ids: Sequence[str]) -> dict[str, StoredDetections]:
        """Stored detections of the runs that have any.

        An artifact store that cannot be reached, or a damaged file, is noted: the report has no intervals then.
        """
        found: dict[str, StoredDetections] = {}
        problems: list[str] = []
        with reading_store(self._tracking_uri) as client, tempfile.TemporaryDirectory() as folder:
            for index, run_id in enumerate(run_ids):
                try:
                    stored = _read(client, run_id, Path(folder, str(index)))
                # Artifact stores are plug-ins and can raise anything, ImportError included.
                except Exception as error:  # noqa: BLE001
                    lines = str(error).strip().splitlines() or [type(error).__name__]
                    problems.append(f"run {run_id}: {redacted_text(lines[0], self._tracking_uri)[:200]}")
                    if len(problems) >= _MOST_FAILURES and not found:
                        break  # an artifact store that does not answer takes minutes for each run
                    continue
                if stored is not None:
                    found[run_id] = stored
            absent = None if found or problems else _absent_folder(client, run_ids)
        if problems:
            more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
            self.notes.append(f"Stored detections of runs cannot be read ({problems[0]}{more}).")
        if absent is not None:
            self.notes.append(
                f"The artifacts of the runs are not on this machine: there is no folder {absent}. Make the report "
                "where the study ran, or move the artifacts there."
            )
        self.found |= found
        return found


def _absent_folder(client: MlflowClient, run_ids: Sequence[str]) -> Path | None:
    """The first run's folder of artifacts, if the artifacts are local files and no run has such a folder.

    MLflow lists no artifacts then, as of a run that has none; runs of studies have at least their configuration.
    """
    folders = []
    for run_id in run_ids:
        location = urlsplit(client.get_run(run_id).info.artifact_uri or "")
        if location.scheme not in ("", "file"):
            return None
        folders.append(Path(url2pathname(location.path)))
        if folders[-1].exists():
            return None
    return folders[0] if folders else None


def _read(client: MlflowClient, run_id: str, folder: Path) -> StoredDetections | None:
    entries = {entry.path: entry for entry in client.list_artifacts(run_id)}
    entry = entries.get(names.ARTIFACT_DETECTIONS)
    if entry is None or entry.is_dir:
        return None
    if (entry.file_size or 0) > LARGEST_BYTES:
        raise StoredDetectionsError(f"{entry.path} is larger than {LARGEST_BYTES >> 20} MiB")
    folder.mkdir()
    return read_stored_detections(Path(client.download_artifacts(run_id, entry.path, str(folder))))
