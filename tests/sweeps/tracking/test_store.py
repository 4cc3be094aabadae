"""Which MLflow stores are accepted, and the errors of the others."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import requests
import sqlalchemy.exc
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE

from sweeps.tracking import store as store_module
from sweeps.tracking.artifacts import artifact_location
from sweeps.tracking.store import TrackingError, connect, find_experiment, is_transient
from sweeps.tracking.tracker import Tracker
from tests.sweeps.mlflow_double import MlflowDouble, experiment


def test_unreachable_server_is_rejected() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    with pytest.raises(TrackingError, match=rf"http://\*\*\*@127\.0\.0\.1:{port} .*--set tracking.uri=") as caught:
        connect(f"http://someone:secret@127.0.0.1:{port}")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("sqlite:///no/such/folder/mlflow.db", "/no/such/folder does not exist"),
        ("sqlite:///", "it has no path"),
        ("gopher://host", "cannot use"),
        ("http://host:abc", r"allowed: http\(s\)://HOST:PORT"),
        ("http://127.0.0.1:99999", "is not a server address: Port out of range"),
        ("http://[::1", "is not a server address: Invalid IPv6 URL"),
        ("http://a..b:5000", "is not a server address"),
        ("http://", "it has no host"),
        # The part of a password before a slash is parsed as the port.
        ("http://me:pa/ss@host", r"http://\*\*\*@host is not a server address: write /, : and @"),
        ("http://***@host", "hidden credentials .*; set MLFLOW_TRACKING_URI"),
    ],
)
def test_invalid_uri_is_rejected_and_creates_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TrackingError, match=reason) as caught:
        connect(uri)
    assert "pa/" not in str(caught.value)
    assert "'pa'" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["/proc/mlflow.db", "x" * 5000, "a%00b"])
def test_file_that_cannot_be_opened_is_an_error_at_once(
    path: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)

    def retry(_: float) -> None:
        raise AssertionError("MLflow retries")

    monkeypatch.setattr("time.sleep", retry)
    with pytest.raises(TrackingError, match=r"tracking\.uri.*sqlite:///"):
        connect(f"sqlite:///{path}")


def test_folder_is_rejected_as_sqlite_file(tmp_path: Path) -> None:
    # At once; MLflow would retry for more than a minute.
    with pytest.raises(TrackingError, match=f"{tmp_path} is a folder; .*sqlite:///PATH"):
        connect(f"sqlite:///{tmp_path}")


def test_locked_sqlite_file_is_an_error_within_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "LOCKED_SECONDS", 0.05)
    holder = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)
    holder.execute("CREATE TABLE a (b)")
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(TrackingError, match=rf"has locked {tmp_path}/mlflow\.db .*--set tracking\.uri="):
        connect(f"sqlite:///{tmp_path}/mlflow.db")
    holder.close()


def test_new_sqlite_file_is_opened_by_one_process_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri, is_open, overlaps = f"sqlite:///{tmp_path}/mlflow.db", threading.Event(), []

    class ClientDouble:
        def __init__(self, _: str) -> None:
            overlaps.append(is_open.is_set())
            is_open.set()

        def search_experiments(self, max_results: int) -> None:
            time.sleep(0.1 * max_results)  # MLflow creates its tables here
            is_open.clear()

    monkeypatch.setattr(store_module, "MlflowClient", ClientDouble)
    threads = [threading.Thread(target=connect, args=(uri,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert overlaps == [False] * 3
    assert [path.name for path in tmp_path.iterdir() if path.name != "mlflow.db"] == []


START_STUDY = """
import sys
from pathlib import Path
from sweeps.tracking.store import connect, find_experiment
from sweeps.tracking.tracker import Tracker

name, uri = sys.argv[1:]
print("imported", flush=True)
sys.stdin.readline()
client = connect(uri)
tracker = Tracker(client, uri, name, find_experiment(client, uri, name, study_exists=False), storage=Path("runs"))
tracker.start_study({}, {}, "")
tracker.end_study("finished")
print(tracker.rejections)
"""


def test_two_processes_start_studies_at_once_in_a_new_sqlite_file(tmp_path: Path) -> None:
    uri, names = f"sqlite:///{tmp_path}/mlflow.db", ("one", "other")
    command = [sys.executable, "-W", "ignore", "-c", START_STUDY]
    variables = {**os.environ, "PYTHONPATH": str(Path(store_module.__file__).parents[2])}
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    started: list[Any] = [
        subprocess.Popen([*command, name, uri], cwd=tmp_path, env=variables, text=True, **pipes) for name in names
    ]
    for process in started:
        assert process.stdout.readline() == "imported\n"
    for process in started:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in started:
        output, errors = process.communicate(timeout=300)
        assert (process.returncode, output, errors) == (0, "[]\n", "")
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        query = "SELECT e.name, r.status FROM experiments e JOIN runs r USING (experiment_id) ORDER BY e.name"
        assert database.execute(query).fetchall() == [(name, "FINISHED") for name in names]


@pytest.mark.parametrize(
    ("driver", "remedy"),
    [
        ("psycopg", r"Run: pip install 'hkd\[postgres\]'$"),
        # SQLAlchemy before 2.1 asks for it where the URI names no driver.
        ("psycopg2", r"Run: pip install 'hkd\[postgres\]', and write postgresql\+psycopg:// in the URI"),
    ],
)
def test_missing_postgres_driver_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, driver: str, remedy: str
) -> None:
    def create(_: str) -> None:  # as SQLAlchemy does
        raise ModuleNotFoundError(f"No module named '{driver}'")

    monkeypatch.setattr(store_module, "create_sqlalchemy_engine", create)
    with pytest.raises(TrackingError, match=rf"postgresql://\*\*\*@host/x .*{driver}.*{remedy}"):
        connect("postgresql://me:SECRET@host/x")


def test_unreachable_database_is_an_error_after_one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    # MLflow waits between its ten attempts, 101 s in all.
    monkeypatch.setattr("mlflow.store.db.utils.time.sleep", lambda _: pytest.fail("connected again"))
    with pytest.raises(
        TrackingError, match=r"postgresql\+psycopg://\*\*\*@127\.0\.0\.1:9/x .*refused.*address"
    ) as caught:
        connect("postgresql+psycopg://anna:hunter2@127.0.0.1:9/x")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("http://host:5000", None),
        ("sqlite:////data/mlflow.db", "file:///data/mlartifacts/study"),
        ("postgresql://host/x", "file:///shared/runs/mlartifacts/study"),
        ("mysql+pymysql://host/x", "file:///shared/runs/mlartifacts/study"),
    ],
)
def test_artifacts_are_with_the_store_or_the_study(uri: str, expected: str | None) -> None:
    assert artifact_location(uri, "study", Path("/shared/runs")) == expected


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("http://host:5000", None),
        ("sqlite:////data/mlflow.db", "file:///data/mlartifacts/study"),
        ("postgresql://host/x", "s3://bucket/runs/mlartifacts/study"),
    ],
)
def test_artifacts_of_a_database_are_in_the_bucket_of_the_study(uri: str, expected: str | None) -> None:
    assert artifact_location(uri, "study", "s3://bucket/runs?endpoint_override=h:1&scheme=http") == expected


def test_experiment_that_cannot_be_created_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MlflowDouble()

    def reject(*_: object, **__: object) -> None:
        raise MlflowException("Permission denied", INVALID_PARAMETER_VALUE)

    monkeypatch.setattr(store, "create_experiment", reject)
    with pytest.raises(TrackingError, match=r"MLflow store http://\*\*\*@host .*: Permission denied"):
        Tracker(store.client(), "http://me:pw@host", "study", None)


def http_error(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError("refused", response=response)


def rest_error(code: str) -> RestException:
    """The client's exception for an error response."""
    return RestException({"error_code": code, "message": "m"})  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MlflowException("away", TEMPORARILY_UNAVAILABLE), True),
        (rest_error("INTERNAL_ERROR"), True),
        (rest_error("REQUEST_LIMIT_EXCEEDED"), True),
        # Both have MlflowException's default code.
        (MlflowException("API request to http://h failed with exception Connection refused"), True),
        (MlflowException("Could not find a registered artifact repository for: gs://bucket"), False),
        (MlflowException("wrong", INVALID_PARAMETER_VALUE), False),
        (rest_error("RESOURCE_DOES_NOT_EXIST"), False),
        (http_error(503), True),
        (http_error(403), False),
        (requests.ConnectionError(), True),
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (sqlalchemy.exc.OperationalError("select", {}, Exception("database is locked")), True),
        (sqlalchemy.exc.IntegrityError("insert", {}, Exception("not unique")), False),
        (PermissionError(), False),
        (ModuleNotFoundError(), False),
    ],
)
def test_transient_errors(error: Exception, expected: bool) -> None:
    assert is_transient(error) is expected


class Experiments(MlflowDouble):
    def __init__(self, lifecycle_stage: str | None) -> None:
        super().__init__()
        self._lifecycle_stage = lifecycle_stage

    def get_experiment_by_name(self, _: str) -> object:
        return None if self._lifecycle_stage is None else experiment(self._lifecycle_stage)


def test_experiment_with_runs_of_another_study_is_rejected() -> None:
    uri = "sqlite:///mlflow.db"
    assert find_experiment(Experiments(None).client(), uri, "study", study_exists=False) is None
    there = Experiments("active")
    found = find_experiment(there.client(), uri, "study", study_exists=False)
    assert found is not None
    assert found.experiment_id == "1"
    there.create_run("1", "study", {})
    with pytest.raises(TrackingError, match=r'runs of a study "study".*--name NAME.*--set storage_path='):
        find_experiment(there.client(), uri, "study", study_exists=False)
    assert find_experiment(there.client(), uri, "study", study_exists=True) is not None
    with pytest.raises(TrackingError, match="mlflow experiments restore --experiment-id 1"):
        find_experiment(Experiments("deleted").client(), uri, "study", study_exists=True)
