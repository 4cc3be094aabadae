"""Where the artifacts of a study are, and whether MLflow can use that place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sweeps.tracking import artifacts
from sweeps.tracking.artifacts import artifact_location, check_artifacts
from sweeps.tracking.store import TrackingError
from tests.sweeps.storage.s3_server import CREDENTIALS, S3Server

POSTGRESQL = "postgresql://host/mlflow"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> S3Server:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    # Restored after the test, which lets the study set it.
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", "unset")
    monkeypatch.delenv("MLFLOW_S3_ENDPOINT_URL")
    return S3Server()


def test_artifacts_of_a_study_in_a_bucket_go_there_with_a_database_server_only() -> None:
    bucket = "s3://bucket/runs?endpoint_override=host:9000&scheme=http"
    assert artifact_location(POSTGRESQL, "demo", bucket) == "s3://bucket/runs/mlartifacts/demo"
    assert artifact_location(POSTGRESQL, "demo", Path("/shared/runs")) == "file:///shared/runs/mlartifacts/demo"
    assert artifact_location("sqlite:////data/mlflow.db", "demo", bucket) == "file:///data/mlartifacts/demo"
    assert artifact_location("http://host:5000", "demo", bucket) is None


def test_bucket_is_listed_at_the_server_of_the_storage(server: S3Server) -> None:
    with server:
        check_artifacts(None, POSTGRESQL, "demo", server.uri)
        assert os.environ["MLFLOW_S3_ENDPOINT_URL"] == f"http://{server.address}"


def test_missing_bucket_ends_the_study_with_its_place(server: S3Server) -> None:
    with server, pytest.raises(TrackingError, match=r"s3://absent/runs/mlartifacts/demo .*cannot list"):
        check_artifacts(None, POSTGRESQL, "demo", server.uri.replace("study-bucket", "absent"))


def test_missing_package_is_named(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_: str) -> None:
        raise ModuleNotFoundError("No module named 'boto3'")

    monkeypatch.setattr(artifacts, "get_artifact_repository", absent)
    with server, pytest.raises(TrackingError, match=r"No module named 'boto3'.*pip install boto3"):
        check_artifacts(None, POSTGRESQL, "demo", server.uri)
