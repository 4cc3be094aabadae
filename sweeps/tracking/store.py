"""The MLflow store that a study writes to: found, checked, and told what is wrong with it before anything is begun."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import requests
import sqlalchemy.exc
from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException, RestException
from mlflow.tracking import MlflowClient

from hkd.redaction import is_redacted, redacted_text, redacted_uri

CONNECT_SECONDS = 5.0
_REMEDY = "Start the server, or name another store: --set tracking.uri=sqlite:///mlflow.db"
_HTTP_SERVER_ERROR = 500
_HTTP_TOO_MANY_REQUESTS = 429


class TrackingError(ValueError):
    """MLflow cannot be used as asked for."""


def connect(uri: str) -> MlflowClient:
    """Connect to an MLflow store, making an SQLite file that is not there yet.

    Raises:
        TrackingError: the store is unreachable, of an unknown kind, or no MLflow store.
    """
    _configure_mlflow()
    _check_uri(uri)
    with raising_tracking_errors(uri):
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)
    return client


def find_experiment(client: MlflowClient, uri: str, study: str, *, study_exists: bool) -> Experiment | None:
    """The study's experiment, None where there is none yet.

    Raises:
        TrackingError: the name is taken by a deleted experiment, or by runs of a study that is not this one.
    """
    shown = redacted_uri(uri)
    with raising_tracking_errors(uri):
        experiment = client.get_experiment_by_name(study)
        if experiment is None:
            return None
        is_used = bool(client.search_runs([experiment.experiment_id], max_results=1))
    if experiment.lifecycle_stage == "deleted":
        raise TrackingError(
            f'the MLflow store {shown} has a deleted experiment "{study}", which keeps its name taken; '
            f"bring it back (mlflow experiments restore --experiment-id {experiment.experiment_id}), remove it for "
            "good (mlflow gc), or choose another name (--name NAME)"
        )
    if is_used and not study_exists:
        raise TrackingError(
            f'the MLflow store {shown} already has results of a study "{study}", whose folder is not here; '
            "choose another name (--name NAME) or storage_path. The results are untouched."
        )
    return experiment


@contextmanager
def raising_tracking_errors(uri: str) -> Iterator[None]:
    """Tell what keeps a store from being used.

    Raises:
        TrackingError: whatever MLflow, its database or its server object to.
    """
    try:
        yield
    except (MlflowException, sqlalchemy.exc.SQLAlchemyError, ImportError, OSError, ValueError) as error:
        raise TrackingError(
            f"cannot use the MLflow store {redacted_uri(uri)} (tracking.uri): {short_message(error, uri)}. {_REMEDY}"
        ) from error


def is_transient(error: Exception) -> bool:
    """Whether what failed may succeed later: the store was away, overloaded or broken, and did not refuse."""
    if isinstance(error, MlflowException):
        if error.error_code == "INTERNAL_ERROR" and not isinstance(error, RestException):
            # What MlflowException says of itself where it says nothing: a missing plugin, or a request that got lost.
            return str(error).startswith("API request")
        status = int(error.get_http_status_code())  # type: ignore[no-untyped-call]
        return status >= _HTTP_SERVER_ERROR or status == _HTTP_TOO_MANY_REQUESTS
    if isinstance(error, requests.HTTPError):
        return error.response is None or error.response.status_code >= _HTTP_SERVER_ERROR
    passing = (
        requests.ConnectionError,
        requests.Timeout,
        ConnectionError,
        TimeoutError,
        socket.gaierror,
        sqlalchemy.exc.OperationalError,
        sqlalchemy.exc.InterfaceError,
        sqlalchemy.exc.TimeoutError,
    )
    return isinstance(error, passing)


def short_message(error: Exception, uri: str) -> str:
    """What an error says, in short and without passwords: MLflow's and SQLAlchemy's messages go on for pages."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return redacted_text(line, uri)


def artifact_location(uri: str, study: str) -> str | None:
    """Beside an SQLite file; where a server keeps artifacts is the server's affair."""
    if urlsplit(uri).scheme.partition("+")[0] != "sqlite":
        return None
    database = _sqlite_path(uri)
    assert database is not None
    return (database.absolute().parent / "mlartifacts" / study).as_uri()


def _configure_mlflow() -> None:
    """Else MLflow waits minutes for a server that is away, and tells of every table it makes and every run it ends."""
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _check_uri(uri: str) -> None:
    """Find out quickly what MLflow would take long to find out, or make silently in a mistyped place."""
    if is_redacted(uri):
        raise TrackingError(
            f"tracking.uri {uri} was copied from where its password is hidden; give it whole: --set tracking.uri=..."
        )
    scheme = uri.partition("://")[0].lower()
    if scheme in ("http", "https"):
        _check_server(uri, 443 if scheme == "https" else 80)
    elif scheme.partition("+")[0] == "sqlite":
        _check_file(uri)


def _check_server(uri: str, default_port: int) -> None:
    shown = redacted_uri(uri)
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port or default_port
        if not host:
            raise ValueError("it names no host")
        socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise TrackingError(
            f"the MLflow server {shown} (tracking.uri) cannot be reached: {error}. Start it, or name another "
            "store: --set tracking.uri=sqlite:///mlflow.db"
        ) from error
    except ValueError as error:
        # The message may quote a part of the password, where that holds a slash.
        reason = "write /, : and @ in a user or password as %2F, %3A and %40" if "@" in uri else str(error)
        raise TrackingError(
            f"tracking.uri {shown} is no address of a server: {reason}; allowed: http(s)://HOST:PORT"
        ) from error


def _check_file(uri: str) -> None:
    shown, database = redacted_uri(uri), _sqlite_path(uri)
    if database is None or not database.absolute().parent.is_dir():
        folder = "" if database is None else f"; there is no folder {database.absolute().parent}"
        raise TrackingError(f"tracking.uri {shown} names no place for a file{folder}; allowed: sqlite:///PATH")
    problem = None
    if database.is_dir():
        problem = "is a folder"
    elif not os.access(database if database.exists() else database.absolute().parent, os.R_OK | os.W_OK):
        problem = "cannot be read and written by you"
    if problem is not None:
        raise TrackingError(f"tracking.uri {shown}: {database} {problem}; name a file: sqlite:///PATH")


def _sqlite_path(uri: str) -> Path | None:
    path = uri.partition("://")[2].removeprefix("/").partition("?")[0]
    return Path(path) if path else None
