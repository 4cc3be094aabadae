"""The MLflow store of a study, from a setting or the environment. Studies write it, reports read it.

Every user of a machine can list the arguments of its processes: credentials on a command line are refused.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from hkd.text.redaction import is_redacted, redacted_uri

if TYPE_CHECKING:
    from sqlalchemy import Engine

DEFAULT_TRACKING_URI = "sqlite:///mlflow.db"
TRACKING_URI_VARIABLE = "MLFLOW_TRACKING_URI"
"""MLflow's own; MLflow also reads MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD and MLFLOW_TRACKING_TOKEN."""

_DATABASE_SERVERS: Final = ("postgresql", "mysql", "mssql")
"""Databases of MLflow other than SQLite."""
_CONNECT_SECONDS: Final = "10"


def default_tracking_uri() -> str:
    """The store that the environment names, else an SQLite file in the working directory."""
    return os.environ.get(TRACKING_URI_VARIABLE) or DEFAULT_TRACKING_URI


def with_credentials(uri: str) -> str:
    """The URI as the environment has it, if that is this URI with the credentials that are hidden in it (``***``)."""
    complete = default_tracking_uri()
    return complete if is_redacted(uri) and redacted_uri(complete) == uri else uri


def command_line_problem(uri: str) -> str | None:
    """Why a URI must not be an argument, and what to do instead; None if it has no credentials."""
    shown = redacted_uri(uri)
    if shown == uri:
        return None
    elsewhere = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    if is_on_database_server(uri):
        elsewhere = "PGUSER and PGPASSWORD" if _is_postgresql(uri) else ""
    separately = f", or give the URI without them and set {elsewhere}" if elsewhere else ""
    return (
        f"{shown} has credentials, which every user of this machine can read in the list of processes; set "
        f"{TRACKING_URI_VARIABLE} to it{separately}"
    )


def is_on_database_server(uri: str) -> bool:
    """Whether the store is a database that a server of its own holds, as PostgreSQL."""
    return uri.partition(":")[0].partition("+")[0].lower() in _DATABASE_SERVERS


def connect_once(uri: str, create_engine: Callable[[str], Engine]) -> None:
    """Connect to the server of a database, if the store is one, and raise what that raises.

    MLflow would try ten times, for 101 s, before it raises the same.

    Args:
        create_engine: MLflow's ``create_sqlalchemy_engine``, which adds its settings of the connection.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the server cannot be reached, or rejects user, password or database.
        ImportError: the package that connects to it is not installed.
        ValueError: the URI is malformed.
    """
    if is_on_database_server(uri):
        # Of PostgreSQL, which waits for minutes for an address that answers nothing.
        os.environ.setdefault("PGCONNECT_TIMEOUT", _CONNECT_SECONDS)
        engine = create_engine(uri)
        try:
            engine.connect().close()
        finally:
            engine.dispose()


def database_remedy(uri: str, error: Exception) -> str | None:
    """What to do about an error of a database's server, or of the package for it; None for other stores."""
    message = str(error)
    if uri.startswith("postgres:"):
        return "Write postgresql:// instead of postgres://"
    if not is_on_database_server(uri):
        return None
    if isinstance(error, ImportError):
        if not _is_postgresql(uri):
            return "Install it"
        # Without a driver in the URI, SQLAlchemy before 2.1 uses psycopg2.
        driver = "" if "psycopg2" not in message else ", and write postgresql+psycopg:// in the URI"
        return f"Run: pip install 'hkd[postgres]'{driver}"
    if "password" in message:
        where = f"{TRACKING_URI_VARIABLE}" + (", PGPASSWORD or ~/.pgpass" if _is_postgresql(uri) else "")
        return f"Check the user, and the password in {where}"
    name = urlsplit(uri).path.removeprefix("/")
    if f'database "{name}" does not exist' in message:
        return f"Create the database (createdb {name}), or correct its name"
    return "Check the address, user, password and database in the URI, and that the server runs"


def _is_postgresql(uri: str) -> bool:
    return uri.lower().startswith("postgresql")
