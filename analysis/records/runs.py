"""Runs of one study as plain values, read through MLflow, or directly from an SQLite store.

MLflow takes 5 ms for each run and 2 ms for each history, a minute and more for 10,000 runs. An SQLite file whose tables
have the expected columns is therefore read with a few queries, which only read; other stores go through MLflow.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

History = tuple[tuple[int, float], ...]
"""(epoch, value) of every time that a metric was logged, oldest first."""

_RUNS_PER_PAGE = 500
_REQUESTS_AT_A_TIME = 8
_COLUMNS: Final = {
    "runs": {"run_uuid", "name", "status", "start_time", "end_time", "lifecycle_stage", "experiment_id"},
    "tags": {"run_uuid", "key", "value"},
    "params": {"run_uuid", "key", "value"},
    "latest_metrics": {"run_uuid", "key", "value", "is_nan"},
    "metrics": {"run_uuid", "key", "value", "step", "timestamp", "is_nan"},
}
"""What is read of each table."""


@dataclass(frozen=True)
class StoredRun:
    """One run as MLflow has it."""

    run_id: str
    name: str | None
    status: str
    """MLflow's."""
    start_ms: int
    end_ms: int | None
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    """Last value of each metric."""


def sqlite_path(tracking_uri: str) -> Path | None:
    """The file of an SQLite store; None for other stores."""
    scheme, _, rest = tracking_uri.partition(":")
    return Path(rest.removeprefix("///").partition("?")[0]) if scheme.partition("+")[0] == "sqlite" else None


def absolute_uri(tracking_uri: str) -> str:
    """The URI with the absolute path of an SQLite store; other stores as they are.

    MLflow keeps the connections of a URI for the life of the process, those of a relative path too.
    """
    path = sqlite_path(tracking_uri)
    if path is None:
        return tracking_uri
    scheme, _, rest = tracking_uri.partition(":")
    return f"{scheme}:///{path.absolute()}{''.join(rest.partition('?')[1:])}"


def read_runs(client: MlflowClient, experiment_id: str, database: Path | None) -> list[StoredRun]:
    """All runs of an experiment that are not deleted, oldest first."""
    if database is not None:
        with _opened(database) as connection:
            if _has_columns(connection):
                return _select_runs(connection, experiment_id)
    return [_stored(run) for run in _search_runs(client, experiment_id)]


def read_histories(
    client: MlflowClient, experiment_id: str, runs: Sequence[StoredRun], metric: str, database: Path | None
) -> dict[str, History]:
    """The history of a metric by run id; empty for runs without the metric."""
    if database is not None:
        with _opened(database) as connection:
            if _has_columns(connection):
                found = _select_histories(connection, experiment_id, metric)
                return {run.run_id: found.get(run.run_id, ()) for run in runs}
    # A server answers several requests at once.
    with ThreadPoolExecutor(_REQUESTS_AT_A_TIME) as pool:
        histories = pool.map(lambda run: _history(client, run, metric), runs)
        return {run.run_id: history for run, history in zip(runs, histories, strict=True)}


@contextmanager
def _opened(database: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(f"file:{quote(str(database.resolve()))}?mode=ro", uri=True)) as connection:
        # A store that a study writes to at this moment is locked for milliseconds.
        connection.execute("PRAGMA busy_timeout = 30000")
        # All queries see the same moment of a study that is running.
        connection.execute("BEGIN")
        yield connection


def _has_columns(connection: sqlite3.Connection) -> bool:
    found = {table: {row[1] for row in connection.execute(f"PRAGMA table_info({table})")} for table in _COLUMNS}
    return all(columns <= found[table] for table, columns in _COLUMNS.items())


def _select_runs(connection: sqlite3.Connection, experiment_id: str) -> list[StoredRun]:
    experiment = (int(experiment_id),)
    rows = connection.execute(
        "SELECT run_uuid, name, status, start_time, end_time FROM runs "
        "WHERE experiment_id = ? AND lifecycle_stage = 'active' ORDER BY start_time, run_uuid",
        experiment,
    )
    runs = {row[0]: StoredRun(row[0], row[1], row[2], row[3] or 0, row[4]) for row in rows}
    for run_id, key, value in connection.execute(
        "SELECT tags.run_uuid, key, value FROM tags JOIN runs USING (run_uuid) "
        "WHERE experiment_id = ? AND lifecycle_stage = 'active'",
        experiment,
    ):
        runs[run_id].tags[key] = value
    for run_id, key, value in connection.execute(
        "SELECT params.run_uuid, key, value FROM params JOIN runs USING (run_uuid) "
        "WHERE experiment_id = ? AND lifecycle_stage = 'active'",
        experiment,
    ):
        runs[run_id].params[key] = value
    for run_id, key, value, is_nan in connection.execute(
        "SELECT latest_metrics.run_uuid, key, value, is_nan FROM latest_metrics JOIN runs USING (run_uuid) "
        "WHERE experiment_id = ? AND lifecycle_stage = 'active'",
        experiment,
    ):
        runs[run_id].metrics[key] = math.nan if is_nan else value
    return list(runs.values())


def _select_histories(connection: sqlite3.Connection, experiment_id: str, metric: str) -> dict[str, History]:
    points: dict[str, dict[int, float]] = {}
    rows = connection.execute(
        "SELECT metrics.run_uuid, step, value, is_nan FROM metrics JOIN runs USING (run_uuid) "
        "WHERE experiment_id = ? AND lifecycle_stage = 'active' AND key = ? ORDER BY step, timestamp",
        (int(experiment_id), metric),
    )
    # Of a step that was logged twice (an epoch repeated after an interruption), the last value counts.
    for run_id, step, value, is_nan in rows:
        points.setdefault(run_id, {})[step] = math.nan if is_nan else value
    return {run_id: tuple(of_run.items()) for run_id, of_run in points.items()}


def _search_runs(client: MlflowClient, experiment_id: str) -> Iterator[Run]:
    token: str | None = None
    while True:
        page = client.search_runs(
            [experiment_id],
            max_results=_RUNS_PER_PAGE,
            order_by=["attributes.start_time ASC"],
            page_token=token,
        )
        yield from page
        token = page.token
        if not token:
            return


def _stored(run: Run) -> StoredRun:
    info, data = run.info, run.data
    return StoredRun(
        info.run_id,
        info.run_name,
        info.status,
        info.start_time,
        info.end_time,
        dict(data.tags),
        dict(data.params),
        dict(data.metrics),
    )


def _history(client: MlflowClient, run: StoredRun, metric: str) -> History:
    if metric not in run.metrics:
        return ()
    points = client.get_metric_history(run.run_id, metric)
    points.sort(key=lambda point: (point.step, point.timestamp))
    return tuple({point.step: point.value for point in points}.items())
