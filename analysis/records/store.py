"""Reads the runs of one study from an MLflow store, which it neither creates nor changes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from hkd.text.redaction import redacted_text, redacted_uri

if TYPE_CHECKING:
    from mlflow.entities import Experiment, Run
    from mlflow.tracking import MlflowClient

_RUNS_PER_PAGE = 500


class RecordsError(ValueError):
    """A study that cannot be read; the message names the store or study, the cause and the remedy."""


def check_local_store(tracking_uri: str) -> None:
    """Check that a local store exists: MLflow would create it, or add its tables to another program's database.

    Raises:
        RecordsError: there is no such file or folder, or it is not an MLflow store.
    """
    scheme, _, rest = tracking_uri.partition(":")
    shown = redacted_uri(tracking_uri)
    if scheme.partition("+")[0] == "sqlite":
        path = Path(rest.removeprefix("///").partition("?")[0])
        if not path.name:
            raise RecordsError(f"tracking URI {shown!r} names no file; write sqlite:///PATH (sqlite:///mlflow.db).")
        _check_sqlite_file(path)
    elif "://" not in tracking_uri and scheme != "databricks":
        path = Path(rest if scheme == "file" else tracking_uri)
        if path.is_file():
            raise RecordsError(f"tracking URI {shown!r} is a file; for an SQLite store write sqlite:///PATH.")
        if not path.is_dir():
            raise RecordsError(
                f"tracking URI {shown!r}: there is no such folder; allowed are sqlite:///PATH, "
                "http(s)://HOST:PORT and other tracking URIs of MLflow."
            )


def _check_sqlite_file(path: Path) -> None:
    if not path.is_file():
        raise RecordsError(
            f"there is no MLflow store at {path} (folder searched: {path.resolve().parent}); "
            "run a study first (python sweeps/run.py), or name the store with --tracking-uri."
        )
    try:
        connection = sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True)
        try:
            tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise RecordsError(f"{path} cannot be read as an SQLite database: {error}.") from error
    if not {"experiments", "runs"} <= tables:
        raise RecordsError(f"{path} is an SQLite database but not an MLflow store; name one with --tracking-uri.")


History = tuple[tuple[int, float], ...]
"""(epoch, value) of every time that a metric was logged, oldest first."""


def fetch_runs(study: str, tracking_uri: str) -> list[Run]:
    """All runs of the study that are not deleted, oldest first.

    Raises:
        RecordsError: the store cannot be read or reached, or holds no such study.
    """
    with reading_store(tracking_uri) as client:
        return _all_runs(client, _find_experiment(client, study, redacted_uri(tracking_uri)))


def fetch_histories(runs: Sequence[Run], metric: str, tracking_uri: str) -> dict[str, History]:
    """The history of a metric by run id; empty for runs without the metric.

    Raises:
        RecordsError: the store cannot be read or reached.
    """
    with reading_store(tracking_uri) as client:
        return {run.info.run_id: _history(client, run, metric) for run in runs}


@contextmanager
def reading_store(tracking_uri: str) -> Iterator[MlflowClient]:
    """Yield a client of a store; what it raises becomes a RecordsError."""
    # Imported here: it takes seconds, which a wrong option or path should not cost.
    import sqlalchemy.exc
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    try:
        yield MlflowClient(tracking_uri)
    except RecordsError:
        raise
    except (MlflowException, sqlalchemy.exc.SQLAlchemyError, ImportError, OSError, ValueError) as error:
        # Messages of MLflow and SQLAlchemy have many lines; the first one states the cause.
        first_line = redacted_text((str(error).strip() or type(error).__name__).splitlines()[0], tracking_uri)
        raise RecordsError(
            f"the MLflow store {redacted_uri(tracking_uri)} cannot be read: {first_line.rstrip('.')}. "
            "Check --tracking-uri, and that a server named there runs and can be reached from here."
        ) from error


def _find_experiment(client: MlflowClient, study: str, shown_uri: str) -> Experiment:
    experiment = client.get_experiment_by_name(study)
    if experiment is None:
        present = sorted(each.name for each in client.search_experiments() if each.name != "Default")
        listed = ", ".join(present) if present else "none"
        raise RecordsError(f"there is no study {study!r} in {shown_uri}; its studies: {listed}.")
    if experiment.lifecycle_stage == "deleted":
        raise RecordsError(
            f"study {study!r} in {shown_uri} was deleted; "
            f"`mlflow experiments restore --experiment-id {experiment.experiment_id}` restores it."
        )
    return experiment


def _all_runs(client: MlflowClient, experiment: Experiment) -> list[Run]:
    runs: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs(
            [experiment.experiment_id],
            max_results=_RUNS_PER_PAGE,
            order_by=["attributes.start_time ASC"],
            page_token=token,
        )
        runs.extend(page)
        token = page.token
        if not token:
            return runs


def _history(client: MlflowClient, run: Run, metric: str) -> History:
    if metric not in run.data.metrics:
        return ()
    points = client.get_metric_history(run.info.run_id, metric)
    # Of a step that was logged twice (an epoch repeated after an interruption), the last value counts.
    points.sort(key=lambda point: (point.step, point.timestamp))
    return tuple({point.step: point.value for point in points}.items())
