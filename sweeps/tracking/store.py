"""Connects to the MLflow store of a study and checks it before the study starts."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import requests
import sqlalchemy
import sqlalchemy.exc
from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException, RestException
from mlflow.store.db.utils import create_sqlalchemy_engine
from mlflow.tracking import MlflowClient

from hkd.text.output import log_as_we_do
from hkd.text.redaction import is_redacted, redacted_text, redacted_uri
from hkd.tracking_uri import TRACKING_URI_VARIABLE, connect_once, database_remedy

CONNECT_SECONDS = 5.0
LOCKED_SECONDS = 5.0
"""For which an SQLite file may be locked when a study starts; the transactions of MLflow take milliseconds."""
_OTHER_STORE = "or use another store: --set tracking.uri=sqlite:///mlflow.db"
_HTTP_SERVER_ERROR = 500
_HTTP_TOO_MANY_REQUESTS = 429


class TrackingError(ValueError):
    """The MLflow store cannot be used."""


def connect(uri: str) -> MlflowClient:
    """Connect to an MLflow store; creates an SQLite file that does not exist.

    Raises:
        TrackingError: the URI is invalid or unsupported, or the store cannot be reached.
    """
    _configure_mlflow()
    _check_uri(uri)
    with raising_tracking_errors(uri), _sole_user_while_opening(uri):
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)
    return client


def find_experiment(client: MlflowClient, uri: str, study: str, *, study_exists: bool) -> Experiment | None:
    """The study's experiment; None if it does not exist.

    Args:
        study_exists: Whether the study's folder exists, so that runs in the experiment belong to it.

    Raises:
        TrackingError: the experiment is deleted, or has runs while the study does not exist.
    """
    shown = redacted_uri(uri)
    with raising_tracking_errors(uri):
        experiment = client.get_experiment_by_name(study)
        if experiment is None:
            return None
        is_used = bool(client.search_runs([experiment.experiment_id], max_results=1))
    if experiment.lifecycle_stage == "deleted":
        raise TrackingError(
            f'the MLflow store {shown} has a deleted experiment "{study}"; restore it (mlflow experiments restore '
            f"--experiment-id {experiment.experiment_id}), remove it permanently (mlflow gc), or choose another name "
            "(--name NAME)"
        )
    if is_used and not study_exists:
        raise TrackingError(
            f'the MLflow store {shown} has runs of a study "{study}", but there is no folder of that study; choose '
            "another name (--name NAME), or the folder that has it (--set storage_path=PATH)"
        )
    return experiment


@contextmanager
def raising_tracking_errors(uri: str) -> Iterator[None]:
    """Raise errors of MLflow, its database or its server as :class:`TrackingError`."""
    try:
        yield
    except TrackingError:
        raise
    except ImportError as error:
        remedy = database_remedy(uri, error)
        raise TrackingError(
            f"the MLflow store {redacted_uri(uri)} (tracking.uri) needs a package that is not installed: "
            f"{short_message(error, uri)}{'' if remedy is None else f'. {remedy}'}"
        ) from error
    except (MlflowException, sqlalchemy.exc.SQLAlchemyError, OSError, ValueError) as error:
        remedy = database_remedy(uri, error) or "Start the server"
        raise TrackingError(
            f"cannot use the MLflow store {redacted_uri(uri)} (tracking.uri): {short_message(error, uri)}. "
            f"{remedy}, {_OTHER_STORE}"
        ) from error


def is_transient(error: Exception) -> bool:
    """Whether the request may succeed later: the store was unreachable or overloaded, and did not reject it."""
    if isinstance(error, MlflowException):
        if error.error_code == "INTERNAL_ERROR" and not isinstance(error, RestException):
            # MlflowException's default code: raised for missing plug-ins as well as for lost requests.
            return str(error).startswith("API request")
        if isinstance(error.__cause__, sqlalchemy.exc.DBAPIError) and error.__cause__.connection_invalidated:
            return True
        status = int(error.get_http_status_code())  # type: ignore[no-untyped-call]
        return status >= _HTTP_SERVER_ERROR or status == _HTTP_TOO_MANY_REQUESTS
    if isinstance(error, requests.HTTPError):
        return error.response is None or error.response.status_code >= _HTTP_SERVER_ERROR
    if isinstance(error, sqlalchemy.exc.DBAPIError) and error.connection_invalidated:
        return True
    if _is_transient_of_s3(error):
        return True
    transient = (
        requests.ConnectionError,
        requests.Timeout,
        ConnectionError,
        TimeoutError,
        socket.gaierror,
        sqlalchemy.exc.OperationalError,
        sqlalchemy.exc.InterfaceError,
        sqlalchemy.exc.TimeoutError,
    )
    return isinstance(error, transient)


def _is_transient_of_s3(error: BaseException) -> bool:
    """Whether boto3, which need not be installed, raised an error of the connection or of the server."""
    kinds = {f"{kind.__module__}.{kind.__name__}" for kind in type(error).__mro__}
    if "boto3.exceptions.S3UploadFailedError" in kinds:
        return error.__context__ is not None and _is_transient_of_s3(error.__context__)
    if "botocore.exceptions.ClientError" in kinds:
        response = getattr(error, "response", {})
        return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) >= _HTTP_SERVER_ERROR
    return not kinds.isdisjoint({"botocore.exceptions.ConnectionError", "botocore.exceptions.HTTPClientError"})


def short_message(error: Exception, uri: str) -> str:
    """First line of an error's message, without passwords: messages of MLflow and SQLAlchemy can have pages."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return redacted_text(line, uri)


@contextmanager
def _sole_user_while_opening(uri: str) -> Iterator[None]:
    """Let one process at a time open an SQLite file: two that create its tables at once fail."""
    database = sqlite_path(uri) if uri.startswith("sqlite") else None
    if database is None:
        yield
        return
    descriptor = os.open(database.absolute().parent, os.O_RDONLY)
    try:
        with suppress(OSError):  # of file systems without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _configure_mlflow() -> None:
    """Shorten MLflow's timeouts, which are minutes by default, and hide its log of migrations and ended runs."""
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    log_as_we_do("mlflow", "alembic")
    # Prints a traceback for every failed request, which the tracker reports in a line.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def _check_uri(uri: str) -> None:
    """Check without MLflow, which retries for minutes, and creates a database at a mistyped path."""
    if is_redacted(uri):
        raise TrackingError(
            f"tracking.uri {uri} has hidden credentials (***); set {TRACKING_URI_VARIABLE} to the URI with them"
        )
    scheme = uri.partition("://")[0].lower()
    if scheme in ("http", "https"):
        _check_server(uri, 443 if scheme == "https" else 80)
    elif scheme.partition("+")[0] == "sqlite":
        with raising_tracking_errors(uri):
            _check_file(uri)
    else:
        with raising_tracking_errors(uri):
            connect_once(uri, create_sqlalchemy_engine)


def _check_server(uri: str, default_port: int) -> None:
    shown = redacted_uri(uri)
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port or default_port
        if not host:
            raise ValueError("it has no host")
        socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise TrackingError(
            f"cannot reach the MLflow server {shown} (tracking.uri): {error}. Start the server, {_OTHER_STORE}"
        ) from error
    except ValueError as error:
        # Python's message quotes a part of a password that contains a slash.
        reason = "write /, : and @ in a user or password as %2F, %3A and %40" if "@" in uri else str(error)
        raise TrackingError(
            f"tracking.uri {shown} is not a server address: {reason}; allowed: http(s)://HOST:PORT"
        ) from error


def _check_file(uri: str) -> None:
    shown, database = redacted_uri(uri), sqlite_path(uri)
    if database is None or not database.absolute().parent.is_dir():
        reason = "it has no path" if database is None else f"the folder {database.absolute().parent} does not exist"
        raise TrackingError(f"tracking.uri {shown}: {reason}; allowed: sqlite:///PATH in an existing folder")
    problem = None
    if database.is_dir():
        problem = "is a folder"
    elif not os.access(database if database.exists() else database.absolute().parent, os.R_OK | os.W_OK):
        problem = "is not readable and writable"
    if problem is not None:
        raise TrackingError(f"tracking.uri {shown}: {database} {problem}; allowed: sqlite:///PATH of a file")
    # Whatever the permissions state, opening it may fail, and MLflow would retry for minutes.
    engine = sqlalchemy.create_engine(uri)
    is_new = not database.exists()
    try:
        with engine.connect() as connection:
            if not is_new:
                connection.exec_driver_sql(f"PRAGMA busy_timeout = {1000 * LOCKED_SECONDS:.0f}")
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                connection.rollback()
    except sqlalchemy.exc.OperationalError as error:
        if "locked" not in str(error.orig):
            raise
        raise TrackingError(
            f"tracking.uri {shown}: another program has locked {database} for {LOCKED_SECONDS:g} s; end it, or use "
            "another store: --set tracking.uri=sqlite:///PATH"
        ) from error
    finally:
        engine.dispose()


def sqlite_path(uri: str) -> Path | None:
    """The file of an SQLite store; None without a path."""
    path = uri.partition("://")[2].removeprefix("/").partition("?")[0]
    return Path(path) if path else None
