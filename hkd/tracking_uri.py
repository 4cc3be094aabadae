"""The MLflow store of a study, from a setting or the environment. Studies write it, reports read it.

Every user of a machine can list the arguments of its processes: credentials on a command line are refused.
"""

from __future__ import annotations

import os

from hkd.text.redaction import is_redacted, redacted_uri

DEFAULT_TRACKING_URI = "sqlite:///mlflow.db"
TRACKING_URI_VARIABLE = "MLFLOW_TRACKING_URI"
"""MLflow's own; MLflow also reads MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD and MLFLOW_TRACKING_TOKEN."""


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
    return (
        f"{shown} has credentials, which every user of this machine can read in the list of processes; set "
        f"{TRACKING_URI_VARIABLE} to it, or give the URI without them and set MLFLOW_TRACKING_USERNAME and "
        "MLFLOW_TRACKING_PASSWORD"
    )
