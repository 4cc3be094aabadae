"""Latency of a trial with ``evaluation.latency``: from the worker to the ledger and to MLflow."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ray.tune.experiment import Trial

from hkd.metric_names import LATENCY_MS
from hkd.training.pyramid_cache.capacity import CacheBudget
from sweeps.console.display import TrialBoard
from sweeps.execution.tune.callback import Recorder
from sweeps.execution.tune.run import TrialInputs, _spec
from sweeps.folder import StudyFolder
from sweeps.settings.resources import TrialResources
from sweeps.settings.study import StudyConfig
from sweeps.tracking.tracker import Tracker
from sweeps.trials.latency.shapes import detectors_to_measure
from sweeps.trials.records.ledger import open_ledger
from sweeps.trials.worker import METRICS, SPEC
from tests.sweeps.console.test_display import plain_display
from tests.sweeps.in_process_worker import worker
from tests.sweeps.mlflow_double import MlflowDouble
from tests.sweeps.tiny import tiny_trial
from tests.sweeps.tracking.tracked import flushed
from tests.sweeps.trials.latency.measured import invented_ms, write_table

SIZE = (64, 96)


@pytest.mark.usefixtures("restored_process")
def test_latency_is_in_the_record_and_in_the_run_of_a_trial(tmp_path: Path) -> None:
    table = tmp_path / "device.json"
    base: dict[str, Any] = {**tiny_trial(tmp_path / "cache", total_epochs=1), "teacher": None}
    base["evaluation"] = {**base["evaluation"], "latency": {"table": str(table)}}
    objectives = ("mr2_all", LATENCY_MS)
    raw = {"name": "x", "storage_path": tmp_path / "runs", "objectives": objectives, "baselines": {"b": {}}}
    space = {"student.pyramid_channels": {"type": "int", "low": 8, "high": 128, "step": 8}}
    study = StudyConfig.model_validate({**raw, "base": base, "space": space})
    write_table(table, detectors_to_measure(study), *SIZE)
    folder, store = StudyFolder(study), MlflowDouble()
    folder.path.mkdir(parents=True)
    ledger = open_ledger(study, folder.journal)
    tracker = flushed(Tracker(store.client(), "http://host", "x", None))
    tracker.start_study({}, {}, "")
    board = TrialBoard(plain_display()[0], objectives=objectives, total=1, ended=[], epochs_per_trial=1)
    recorder = Recorder(
        folder, objectives, ledger, tracker, board, put_back=lambda _: None, is_interrupted=lambda: False
    )
    known = ledger.start_baseline("b", {"student.pyramid_channels": 24})
    resources = TrialResources(num_cpus=1.0, num_gpus=0.0, num_threads=1, max_concurrent=1)
    spec = _spec(study, folder, known, TrialInputs(None, CacheBudget(tmp_path, 0), resources, None))
    trial = cast("Trial", SimpleNamespace(config={SPEC: spec}))
    recorder.expect(known)
    recorder.on_trial_start(iteration=0, trials=[trial], trial=trial)
    on_worker = worker()
    on_worker.setup({SPEC: spec})
    result = on_worker.step()
    recorder.on_trial_result(iteration=0, trials=[trial], trial=trial, result=result)
    recorder.on_trial_complete(iteration=0, trials=[trial], trial=trial)
    # The table is a straight line in FLOPs, to which the prediction is fitted.
    expected = pytest.approx(invented_ms(spec.config.student, *SIZE), rel=0.01)
    assert result[METRICS][LATENCY_MS] == expected
    (ended,) = ledger.trials()
    assert ended.status == "finished"
    assert ended.metrics[LATENCY_MS] == expected
    points = {(step, value) for name, step, value in store.named("baseline-b").history if name == LATENCY_MS}
    assert {step for step, _ in points} >= {0}
    assert [value for _, value in points] == [expected] * len(points)
