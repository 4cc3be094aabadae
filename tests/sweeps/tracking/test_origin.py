"""Code, versions and data sets of a study's runs."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import torch

import hkd
from hkd.coco.annotations import without_boxes
from hkd.config import TrialConfig
from hkd.models.cost import Cost
from sweeps.tracking.origin import origin_of
from sweeps.tracking.tracker import Tracker
from sweeps.trials.records.trial import LedgerTrial
from tests.conftest import REPOSITORY
from tests.sweeps.mlflow_double import MlflowDouble

COST = Cost(num_params=1000, flops=4_000_000_000)
TRIAL = LedgerTrial("trial-001", "trial", None, {}, "running", 1, None, 0, {}, None, 0)


def test_origin_has_versions_commit_and_data_sets() -> None:
    train = without_boxes([], Path("/data"), Path("/data/mine/train.json"))
    origin = origin_of({"training": train, "validation": without_boxes([], Path("/scenes")), "test": None})
    assert origin.tags["hkd.version"] == hkd.__version__
    assert origin.tags["hkd.torch_version"] == torch.__version__.partition("+")[0]
    if (REPOSITORY / ".git").exists():
        command = ["git", "-C", str(REPOSITORY), "rev-parse", "HEAD"]
        head = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        assert origin.tags["mlflow.source.git.commit"] == head
    first, second = origin.datasets
    assert (first.dataset.name, second.dataset.name) == ("mine/train", "generated scenes, validation")
    assert first.dataset.digest == train.content_hash()
    assert json.loads(first.dataset.source) == {"uri": "/data/mine/train.json"}
    assert json.loads(first.dataset.profile or "") == {"images": 0, "people": 0, "ignore regions": 0}
    assert [(tag.key, tag.value) for tag in first.tags] == [("mlflow.data.context", "training")]


def test_data_set_of_a_bucket_has_its_uri() -> None:
    copy = without_boxes([], Path("/copy/images"), Path("/copy/annotations/train.json"))
    uri = "s3://bucket/mine/train.json?version=1a"
    (found,) = origin_of({"training": copy}, {"training": uri}).datasets
    assert (found.dataset.name, found.dataset.source_type) == ("mine/train", "s3")
    assert json.loads(found.dataset.source) == {"uri": uri}


def test_every_run_has_its_origin_once() -> None:
    store, origin = MlflowDouble(), origin_of({"training": without_boxes([], Path("/data"))})
    for _ in range(2):
        tracker = Tracker(store.client(), "sqlite:///mlflow.db", "study", None)
        tracker.start_study({}, {}, "", origin)
        tracker.log_teacher({}, COST, ({"seconds": 2.0}, {"seconds": 1.5}), {"ap": 0.5})
        tracker.start_trial(TRIAL, TrialConfig(), COST)
        tracker.end_trial(replace(TRIAL, status="finished"), None)
        tracker.flush()
    assert sorted(run.name for run in store.runs.values()) == ["study", "teacher", "trial-001"]
    for run in store.runs.values():
        assert [name for name, _ in run.datasets] == ["generated scenes, training"]
        assert run.tags["mlflow.source.name"] == "sweeps/run.py"
        assert run.tags["hkd.version"] == hkd.__version__


def test_teacher_starts_as_long_ago_as_its_epochs_took() -> None:
    store = MlflowDouble()
    tracker = Tracker(store.client(), "sqlite:///mlflow.db", "study", None)
    tracker.start_study({}, {}, "")
    tracker.log_teacher({}, COST, ({"seconds": 2.0}, {"seconds": 1.5}), {"ap": 0.5})
    tracker.flush()
    run = store.named("teacher")
    # 2.0 s + 1.5 s before its metrics, which have the time of its end.
    assert run.start_time is not None
    assert {time - run.start_time for time in run.times} == {3500}
