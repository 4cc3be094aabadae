"""A study whose MLflow store is in PostgreSQL and whose files are in a bucket; the database server fails meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from sweeps.trials.records.journal import LedgerError
from sweeps.trials.records.trial import read_trials
from tests.end_to_end.postgresql import PostgresServer, programs
from tests.end_to_end.processes import REPOSITORY, Command
from tests.sweeps.storage.s3_server import S3Server
from tests.sweeps.tiny import write_tiny_study

SECRET = "hunter2-of-the-test"
AWS = {"AWS_ACCESS_KEY_ID": "test-key", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": "us-east-1"}
EPOCHS = 6


# Of a strategy that MLflow 3 still uses.
@pytest.mark.filterwarnings("ignore:The ``noload`` loader:sqlalchemy.exc.SADeprecationWarning")
@pytest.mark.skipif(programs() is None, reason="PostgreSQL's programs are not installed")
def test_study_continues_while_the_database_server_restarts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {**AWS, "PGPASSWORD": SECRET}
    with PostgresServer(SECRET) as database, S3Server() as bucket:
        write_tiny_study(
            tmp_path / "tiny.yaml",
            Path("cache"),
            total_epochs=EPOCHS,
            baselines={},
            storage_path=bucket.uri,
            tracking={"uri": database.uri},
        )

        def least_epochs() -> int:
            journals = list(tmp_path.glob("cache/storage/*/tiny/trials.journal"))
            try:
                trials = read_trials(journals[0]) if journals else []
            except LedgerError:  # the study writes its first records
                return 0
            return min((trial.epoch for trial in trials), default=0)

        with Command([str(REPOSITORY / "sweeps" / "run.py"), "--config", "tiny.yaml"], tmp_path, variables) as command:
            command.wait_until(lambda: least_epochs() >= 1)
            database.stop()
            command.wait_until(lambda: least_epochs() >= 3)
            database.start()
            assert command.end() == 0, command.output
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        client = MlflowClient(database.uri)
        experiment = client.get_experiment_by_name("tiny")
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id], "tags.`hkd.trial_id` LIKE 'trial-%'")
        assert [run.info.status for run in runs] == ["FINISHED"] * 2
        for run in runs:
            steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "mr2_reasonable")]
            assert sorted(steps) == list(range(1, EPOCHS + 1))
            place = f"runs/mlartifacts/tiny/{run.info.run_id}/artifacts/"
            assert f"{place}student.safetensors" in bucket.objects()
        where = {"MLFLOW_TRACKING_URI": database.uri, "MLFLOW_S3_ENDPOINT_URL": f"http://{bucket.address}"}
        arguments = [str(REPOSITORY / "analysis" / "pareto.py"), "--study", "tiny"]
        with Command(arguments, tmp_path, {**variables, **where}) as report:
            assert report.end() == 0, report.output
    outputs = command.output + report.output
    assert "Traceback" not in outputs
    assert SECRET not in outputs
