"""The table of runs in MLflow's page."""

from __future__ import annotations

import json

from sweeps.tracking.tracker import Tracker
from sweeps.tracking.view import experiment_tags, runs_link
from tests.sweeps.mlflow_double import MlflowDouble

QUERY = "runs?workflowType=machine_learning&viewStateShareKey=hkd"


def test_link_is_that_of_the_server_or_of_mlflow_ui() -> None:
    assert runs_link("http://host:5000/", "7") == f"http://host:5000/#/experiments/7/{QUERY}"
    for uri in ("sqlite:///mlflow.db", "postgresql://me:SECRET@host/x", "mlruns"):
        assert runs_link(uri, "7") == f"http://127.0.0.1:5000/#/experiments/7/{QUERY}"


def test_link_has_no_credentials() -> None:
    assert runs_link("https://me:SECRET@host/mlflow", "7") == f"https://host/mlflow/#/experiments/7/{QUERY}"


def test_experiment_has_the_view_that_the_link_names() -> None:
    store = MlflowDouble()
    for _ in range(2):
        tracker = Tracker(store.client(), "sqlite:///mlflow.db", "study", None)
        tracker.start_study({}, {}, "")
        tracker.follow_front(["mr2_small", "flops"], {}, [])
        tracker.flush()
    assert store.tags == experiment_tags(["mr2_small", "flops"])
    view = json.loads(store.tags["mlflow.sharedViewState.hkd"])
    assert view["orderByKey"] == "metrics.`mr2_small`"
    assert view["selectedColumns"][:3] == ["metrics.`mr2_small`", "metrics.`flops`", "tags.`hkd.on_front`"]
