"""A store of MLflow, without runs."""

from __future__ import annotations

import pytest

from tests.sweeps.mlflow_double import MlflowDouble


@pytest.fixture
def store() -> MlflowDouble:
    return MlflowDouble()
