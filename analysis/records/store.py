"""Reads the runs of one study from an MLflow store, which it neither creates nor changes."""

from __future__ import annotations

import difflib
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from analysis.records.runs import History, StoredRun, absolute_uri, read_histories, read_runs, sqlite_path
from hkd.text.redaction import redacted_text, redacted_uri
from hkd.tracking_uri import connect_once, database_remedy

if TYPE_CHECKING:
    from mlflow.entities import Experiment
    from mlflow.tracking import MlflowClient

_NEAREST_SHOWN = 3
_STUDIES_SHOWN = 20


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


def fetch_runs(study: str, tracking_uri: str) -> list[StoredRun]:
    """All runs of the study that are not deleted, oldest first.

    Raises:
        RecordsError: the store cannot be read or reached, or holds no such study.
    """
    with reading_store(tracking_uri) as client:
        experiment = _find_experiment(client, study, redacted_uri(tracking_uri))
        return read_runs(client, experiment.experiment_id, sqlite_path(tracking_uri))


def fetch_histories(study: str, runs: Sequence[StoredRun], metric: str, tracking_uri: str) -> dict[str, History]:
    """The history of a metric by run id; empty for runs without the metric.

    Raises:
        RecordsError: the store cannot be read or reached.
    """
    with reading_store(tracking_uri) as client:
        experiment = _find_experiment(client, study, redacted_uri(tracking_uri))
        return read_histories(client, experiment.experiment_id, runs, metric, sqlite_path(tracking_uri))


@contextmanager
def reading_store(tracking_uri: str, *, what: str = "read") -> Iterator[MlflowClient]:
    """Yield a client of a store; what it raises becomes a RecordsError, by which the store cannot be ``what``."""
    # Imported here: it takes seconds, which a wrong option or path should not cost.
    import sqlalchemy.exc
    from mlflow.exceptions import MlflowException
    from mlflow.store.db.utils import create_sqlalchemy_engine
    from mlflow.tracking import MlflowClient

    try:
        connect_once(tracking_uri, create_sqlalchemy_engine)
        yield MlflowClient(absolute_uri(tracking_uri))
    except RecordsError:
        raise
    except (
        MlflowException,
        sqlalchemy.exc.SQLAlchemyError,
        sqlite3.Error,
        ImportError,
        OSError,
        ValueError,
    ) as error:
        # Messages of MLflow and SQLAlchemy have many lines; the first one states the cause.
        first_line = redacted_text((str(error).strip() or type(error).__name__).splitlines()[0], tracking_uri)
        remedy = database_remedy(tracking_uri, error) or (
            "Check --tracking-uri, and that a server named there runs and can be reached from here"
        )
        raise RecordsError(
            f"the MLflow store {redacted_uri(tracking_uri)} cannot be {what}: {first_line.rstrip('.')}. {remedy}."
        ) from error


def _find_experiment(client: MlflowClient, study: str, shown_uri: str) -> Experiment:
    experiment = client.get_experiment_by_name(study)
    if experiment is None:
        present = sorted(each.name for each in client.search_experiments() if each.name != "Default")
        near = difflib.get_close_matches(study, present, n=_NEAREST_SHOWN, cutoff=0.6)
        nearest = f"; the nearest names: {', '.join(map(repr, near))}" if near else ""
        listed = ", ".join(present[:_STUDIES_SHOWN]) if present else "none"
        more = f" and {len(present) - _STUDIES_SHOWN} more" if len(present) > _STUDIES_SHOWN else ""
        raise RecordsError(f"there is no study {study!r} in {shown_uri}{nearest}; its studies: {listed}{more}.")
    if experiment.lifecycle_stage == "deleted":
        raise RecordsError(
            f"study {study!r} in {shown_uri} was deleted; "
            f"`mlflow experiments restore --experiment-id {experiment.experiment_id}` restores it."
        )
    return experiment
