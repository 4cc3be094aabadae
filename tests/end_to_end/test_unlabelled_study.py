"""A real study whose trials train on images that its teacher labelled."""

from __future__ import annotations

import warnings
from pathlib import Path

from mlflow.tracking import MlflowClient

from tests.end_to_end.processes import REPOSITORY, Command
from tests.sweeps.tiny import tiny_trial, with_unlabelled_images, write_tiny_study


def test_study_labels_images_once_for_all_its_trials(tmp_path: Path) -> None:
    base = with_unlabelled_images(tiny_trial(tmp_path / "cache", total_epochs=1), tmp_path / "footage")
    undistilled = {f"distillation.{stage}.weight": 0.0 for stage in ("pyramid", "region", "logits")}
    write_tiny_study(
        tmp_path / "tiny.yaml",
        tmp_path / "cache",
        base=base,
        search={"num_trials": 1, "startup_trials": 2},
        baselines={"labelled": {"data.unlabelled_images": None}, "undistilled": undistilled},
    )
    arguments = [str(REPOSITORY / "sweeps" / "run.py"), "--config", "tiny.yaml"]
    with Command(arguments, tmp_path) as command:
        assert command.end() == 0, command.output
    assert "Labels of unlabelled images: " in command.output
    assert "in 5 images" in command.output
    assert "Study tiny: 3 finished" in command.output
    assert len(list(tmp_path.glob("runs/teachers/*/labels-*.json"))) == 1
    with warnings.catch_warnings():
        # SQLAlchemy warns when MLflow's SQL store is first imported.
        warnings.simplefilter("ignore", DeprecationWarning)
        client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    runs = {run.data.tags.get("hkd.trial_id"): run for run in client.search_runs([experiment.experiment_id])}
    assert runs["teacher"].data.metrics["pseudo_labels_images"] == 5
    assert runs["teacher"].data.metrics["pseudo_labels_object_score"] == 0.3
    (tmp_path / "footage").rename(tmp_path / "moved")
    with Command([*arguments, "--resume", "--set", "search.num_trials=2"], tmp_path) as command:
        assert command.end() == 2, command.output
    assert "error: data.unlabelled_images: cannot list" in command.output
