"""Reads the curves of miss rate against FPPI from MLflow's artifacts, which others may have written."""

from __future__ import annotations

import itertools
import json
import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from analysis.records.store import reading_store
from hkd import metric_names as names
from hkd.bounded_files import read_bounded

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

LARGEST_BYTES: Final = 4 << 20
"""Of a file that is read; a stored curve has some hundred points."""
MOST_POINTS: Final = 60
"""Of a curve, after thinning."""
Curve = tuple[tuple[float, float], ...]
"""(false positives per image, miss rate), FPPI ascending."""


def read_curves(tracking_uri: str, run_ids: Iterable[str], subset: str) -> Mapping[str, Curve]:
    """Run id -> curve of the subset, of the runs that have one that can be read.

    A curve is an addition to a report: a run without one, or with a damaged one, is left out.
    """
    found: dict[str, Curve] = {}
    with reading_store(tracking_uri) as client, tempfile.TemporaryDirectory() as folder:
        for index, run_id in enumerate(run_ids):
            try:
                curve = _read(client, run_id, Path(folder, str(index)), subset)
            # Artifact stores are plug-ins and can raise anything, ImportError included.
            except Exception:  # noqa: BLE001
                curve = ()
            if curve:
                found[run_id] = curve
    return found


def parse_curve(content: bytes, subset: str) -> Curve:
    """The curve of one subset, thinned; empty if the file has none.

    Raises:
        ValueError: the content is not such a file.
    """
    try:
        document: Any = json.loads(content)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    curve = document.get(subset) if isinstance(document, dict) else None
    if not isinstance(curve, dict):
        return ()
    fppi, rates = curve.get("fppi"), curve.get("miss_rate")
    if not (isinstance(fppi, list) and isinstance(rates, list) and len(fppi) == len(rates)):
        raise ValueError("fppi and miss_rate must be lists of one length")
    points = [
        (float(x), float(y))
        for x, y in zip(fppi, rates, strict=True)
        if isinstance(x, int | float) and isinstance(y, int | float) and math.isfinite(x) and x > 0 and 0 <= y <= 1
    ]
    return _thinned(sorted(points))


def _thinned(points: Sequence[tuple[float, float]]) -> Curve:
    """The last point of each of ``MOST_POINTS`` equal ranges of the logarithm of the FPPI, and both ends."""
    if len(points) <= MOST_POINTS:
        return tuple(points)
    low, high = math.log(points[0][0]), math.log(points[-1][0])
    width = (high - low) / (MOST_POINTS - 1) or 1.0
    groups = itertools.groupby(points[1:], key=lambda point: int((math.log(point[0]) - low) / width))
    return (points[0], *(list(group)[-1] for _, group in groups))


def _read(client: MlflowClient, run_id: str, folder: Path, subset: str) -> Curve:
    entries = {entry.path: entry for entry in client.list_artifacts(run_id)}
    entry = entries.get(names.ARTIFACT_CURVE)
    if entry is None or entry.is_dir or (entry.file_size or 0) > LARGEST_BYTES:
        return ()
    folder.mkdir()
    path = Path(client.download_artifacts(run_id, entry.path, str(folder)))
    return parse_curve(read_bounded(path, LARGEST_BYTES), subset)
