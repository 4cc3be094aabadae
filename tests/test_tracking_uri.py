from __future__ import annotations

import pytest

from hkd.tracking_uri import command_line_problem, default_tracking_uri, with_credentials


def test_default_is_that_of_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_tracking_uri() == "sqlite:///mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert default_tracking_uri() == "sqlite:///mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:5000")
    assert default_tracking_uri() == "http://host:5000"


def test_hidden_credentials_are_those_of_the_environment_for_the_same_uri(monkeypatch: pytest.MonkeyPatch) -> None:
    assert with_credentials("http://***@host") == "http://***@host"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:pw@host")
    assert with_credentials("http://***@host") == "http://me:pw@host"
    # Never those of one server for another.
    assert with_credentials("http://***@other") == "http://***@other"
    assert with_credentials("http://host") == "http://host"


@pytest.mark.parametrize(
    "uri", ["http://me:pw@host", "http://:pw@host", "postgresql://me:pw@h/db", "http://h/?token=pw", "http://h/#key=pw"]
)
def test_credentials_are_a_problem_on_a_command_line(uri: str) -> None:
    problem = command_line_problem(uri)
    assert problem is not None
    assert "pw" not in problem


@pytest.mark.parametrize(
    ("uri", "variable"),
    [("postgresql+psycopg://me:pw@h/db", "PGPASSWORD"), ("http://me:pw@h", "MLFLOW_TRACKING_PASSWORD")],
)
def test_variable_for_the_password_is_that_of_the_store(uri: str, variable: str) -> None:
    assert variable in str(command_line_problem(uri))


@pytest.mark.parametrize("uri", ["http://host:5000", "sqlite:////home/me@work/x.db", "http://***@host", "runs/me@x"])
def test_uri_without_credentials_is_no_problem(uri: str) -> None:
    assert command_line_problem(uri) is None
