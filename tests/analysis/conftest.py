"""MLflow stores for the tests of analysis."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from tests.analysis.studies import make_empty_database


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with MLflow's tables and nothing in them: creating one takes seconds, copying does not."""
    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    make_empty_database(path)
    return path


@pytest.fixture
def database(empty_database: Path, tmp_path: Path) -> Path:
    """An empty store for one test."""
    return Path(shutil.copy(empty_database, tmp_path / "mlflow.db"))


@pytest.fixture
def client(database: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """A client of that store, with its artifacts beside it: MLflow writes them to the working folder of this moment."""
    with monkeypatch.context() as patch:
        patch.chdir(database.parent)
        return MlflowClient(f"sqlite:///{database}")
