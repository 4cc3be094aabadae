"""Where the artifacts of a study are: the files that MLflow has of its runs."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from mlflow.entities import Experiment
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from hkd.bucket_uri import SCHEMES, place_of
from hkd.buckets import reason_of
from sweeps.tracking.store import TrackingError, sqlite_path

_PACKAGES = {"s3": "boto3", "gs": "google-cloud-storage"}
"""With which MLflow reads and writes a bucket."""
_ENDPOINT_VARIABLE = "MLFLOW_S3_ENDPOINT_URL"


def artifact_location(uri: str, study: str, storage: Path | str) -> str | None:
    """A folder for the artifacts of a study: beside an SQLite file, or in the storage of a study with another database.

    None for a server, which has its own artifact location. MLflow's default for a database is the working directory.

    Args:
        storage: Of the study, a folder or the URI of one in a bucket.
    """
    scheme = urlsplit(uri).scheme.partition("+")[0]
    if scheme in ("http", "https"):
        return None
    folder = storage
    if scheme == "sqlite":
        database = sqlite_path(uri)
        assert database is not None
        folder = database.absolute().parent
    if isinstance(folder, str):
        return f"{place_of(folder).rstrip('/')}/mlartifacts/{study}"
    return (folder.absolute() / "mlartifacts" / study).as_uri()


def check_artifacts(experiment: Experiment | None, uri: str, study: str, storage: Path | str) -> None:
    """Check that MLflow can use a study's own bucket for artifacts, if it is to.

    Args:
        experiment: Of the study; None where it will be created.
        storage: Of the study.

    Raises:
        TrackingError: a package is not installed, or the bucket cannot be listed with it.
    """
    new = artifact_location(uri, study, storage)
    location = new if experiment is None else experiment.artifact_location
    if location is None or not is_in_bucket(location, storage):
        return
    assert isinstance(storage, str)
    _set_endpoint(storage)
    try:
        get_artifact_repository(location).list_artifacts()
    except ImportError as error:
        package = _PACKAGES[urlsplit(location).scheme]
        raise TrackingError(
            f"artifacts of the runs go to {location} (storage_path), and MLflow needs a package for it that is not "
            f"installed ({reason_of(error)}); run: pip install {package}"
        ) from error
    # Artifact stores are plug-ins and can raise anything.
    except Exception as error:
        raise TrackingError(
            f"artifacts of the runs go to {location} (storage_path), which MLflow cannot list: {reason_of(error)}. "
            f"Check the credentials of this machine and {_ENDPOINT_VARIABLE}, or use another store: "
            "--set tracking.uri=sqlite:///mlflow.db"
        ) from error


def is_in_bucket(location: str, storage: Path | str) -> bool:
    """Whether artifacts are in the bucket of the study."""
    return isinstance(storage, str) and location.startswith(tuple(f"{each}://" for each in SCHEMES))


def _set_endpoint(storage: str) -> None:
    """Let MLflow use the same server of S3 as the study, which states it by pyarrow's options."""
    options = parse_qs(urlsplit(storage).query)
    if storage.startswith("s3:") and "endpoint_override" in options:
        scheme = options.get("scheme", ["https"])[-1]
        os.environ.setdefault(_ENDPOINT_VARIABLE, f"{scheme}://{options['endpoint_override'][-1]}")
