from __future__ import annotations

import dataclasses
import math
import shutil
import sqlite3
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from analysis.records import runs as runs_module
from analysis.records.runs import StoredRun
from analysis.records.store import RecordsError, check_local_store, fetch_histories, fetch_runs
from tests.analysis.studies import Written, write_study


def test_missing_sqlite_file_is_error_and_not_created(tmp_path: Path) -> None:
    path = tmp_path / "absent.db"
    with pytest.raises(
        RecordsError, match=r"there is no MLflow store at .*absent\.db .*sweeps/run\.py.*--tracking-uri"
    ):
        check_local_store(f"sqlite:///{path}")
    assert not path.exists()


def test_text_file_is_error(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_text(
        "shopping list, long enough to be mistaken for a header of a database, and then some more of it\n" * 9
    )
    with pytest.raises(RecordsError, match=r"notes\.db cannot be read as an SQLite database"):
        check_local_store(f"sqlite:///{path}")


def test_foreign_database_is_error_and_unchanged(tmp_path: Path) -> None:
    # MLflow would add its own tables to this file.
    path = tmp_path / "optuna.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE studies (study_id INTEGER)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(RecordsError, match="optuna.db .*no.* MLflow store.*--tracking-uri"):
        check_local_store(f"sqlite:///{path}")
    assert path.read_bytes() == before


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///"])
def test_database_in_memory_is_error(uri: str) -> None:
    with pytest.raises(RecordsError, match=r"names no file; write sqlite:///PATH"):
        check_local_store(uri)


@pytest.mark.parametrize("uri", ["http://[::1", "http://h:99999999"])
def test_malformed_address_is_error(uri: str) -> None:
    with pytest.raises(RecordsError, match="cannot be read.*--tracking-uri"):
        fetch_runs("demo", uri)


def test_path_without_scheme_is_error_that_names_scheme(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.touch()
    with pytest.raises(RecordsError, match=rf"{path}.*is a file.*sqlite:///PATH"):
        check_local_store(str(path))


@pytest.mark.parametrize("scheme", ["", "file:"])
def test_missing_folder_is_error(tmp_path: Path, scheme: str) -> None:
    with pytest.raises(RecordsError, match="there is no such folder; allowed are sqlite:///PATH"):
        check_local_store(f"{scheme}{tmp_path}/mlruns")
    assert not (tmp_path / "mlruns").exists()


def test_unknown_study_is_error_that_lists_studies(client: MlflowClient, database: Path) -> None:
    write_study(client, "pennfudan", [])
    write_study(client, "demo", [])
    with pytest.raises(RecordsError, match=r"study 'dmeo'.* sqlite:.*demo, pennfudan\."):
        fetch_runs("dmeo", f"sqlite:///{database}")


def test_store_without_studies_is_error(database: Path) -> None:
    with pytest.raises(RecordsError, match="studies: none"):
        fetch_runs("demo", f"sqlite:///{database}")


def test_deleted_study_is_error_with_command_that_restores_it(client: MlflowClient, database: Path) -> None:
    experiment = write_study(client, "demo", [])
    client.delete_experiment(experiment)
    with pytest.raises(
        RecordsError, match=rf"study 'demo'.* deleted.*`mlflow experiments restore --experiment-id {experiment}`"
    ):
        fetch_runs("demo", f"sqlite:///{database}")


def test_unreachable_server_is_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    # Port 9 (discard) is not served; the connection is refused at once.
    with pytest.raises(RecordsError, match=r"the MLflow store http://127\.0\.0\.1:9 cannot be read: .*--tracking-uri"):
        fetch_runs("demo", "http://127.0.0.1:9")


def test_unreachable_database_is_error_after_one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    # MLflow waits between its ten attempts, 101 s in all.
    monkeypatch.setattr("mlflow.store.db.utils.time.sleep", lambda _: pytest.fail("connected again"))
    with pytest.raises(RecordsError, match=r"postgresql\+psycopg://\*\*\*@127\.0\.0\.1:9/x cannot be read: .*refused"):
        fetch_runs("demo", "postgresql+psycopg://anna:hunter2@127.0.0.1:9/x")


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://anna:hunter2@127.0.0.1:9", "http://***@127.0.0.1:9"),
        ("http://127.0.0.1:9/?password=hunter2", "http://127.0.0.1:9/?password=***"),
        ("HTTP://127.0.0.1:9/?api_key=hunter2", "HTTP://127.0.0.1:9/?api_key=***"),
        ("http://anna:hunter2/x@127.0.0.1:9", "http://***@127.0.0.1:9"),
        ("postgresql://anna:hunter2/x@127.0.0.1:9/x", "postgresql://***@127.0.0.1:9/x"),
    ],
)
def test_message_has_no_credentials(uri: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RecordsError) as caught:
        fetch_runs("demo", uri)
    assert not any(secret in str(caught.value) for secret in ("anna", "hunter2"))
    assert shown in str(caught.value)


@pytest.mark.parametrize("uri", ["anna:hunter2@host/x", "anna:hunter2/x@host", "host/?token=hunter2"])
def test_message_on_missing_folder_has_no_credentials(uri: str) -> None:
    with pytest.raises(RecordsError) as caught:
        check_local_store(uri)
    assert "hunter2" not in str(caught.value)
    assert "***" in str(caught.value)


def test_runs_of_all_pages_are_returned_oldest_first(
    client: MlflowClient, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs_module, "_RUNS_PER_PAGE", 2)
    monkeypatch.setattr(runs_module, "_COLUMNS", {"runs": {"a column of another version"}})
    write_study(client, "demo", [Written(f"t{index}") for index in range(5)], parent=False)
    runs = fetch_runs("demo", f"sqlite:///{database}")
    assert [run.name for run in runs] == ["t0", "t1", "t2", "t3", "t4"]


def test_tables_are_read_as_mlflow_reads_them(
    client: MlflowClient, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In two experiments, with NaN, infinity, a deleted run, equal steps, and a run that still runs.
    write_study(client, "other", [Written("x", metrics={"a": 1.0})])
    odd = Written("t1", params={"a": "'; --"}, metrics={"nan": math.nan, "inf": math.inf})
    write_study(client, "demo", [Written("t0"), odd, Written("t2", status="running"), Written("t3")])
    uri = f"sqlite:///{database}"
    client.delete_run(fetch_runs("demo", uri)[-1].run_id)
    client.log_metric(fetch_runs("demo", uri)[1].run_id, "mr2_reasonable", 0.7, timestamp=10**12, step=1)
    direct = fetch_runs("demo", uri)
    histories = fetch_histories("demo", direct, "mr2_reasonable", uri)
    monkeypatch.setattr(runs_module, "_COLUMNS", {"runs": {"a column of another version"}})
    through_mlflow = fetch_runs("demo", uri)
    # NaN is unequal to itself, but has one text.
    assert list(map(repr, map(_sorted, direct))) == list(map(repr, map(_sorted, through_mlflow)))
    assert fetch_histories("demo", direct, "mr2_reasonable", uri) == histories
    assert [len(history) for history in histories.values()] == [0, 4, 4, 4]


def _sorted(run: StoredRun) -> StoredRun:
    return dataclasses.replace(
        run,
        tags=dict(sorted(run.tags.items())),
        params=dict(sorted(run.params.items())),
        metrics=dict(sorted(run.metrics.items())),
    )


def test_deleted_runs_are_not_read(client: MlflowClient, database: Path) -> None:
    write_study(client, "demo", [Written("t0"), Written("t1")], parent=False)
    client.delete_run(fetch_runs("demo", f"sqlite:///{database}")[0].run_id)
    assert [run.name for run in fetch_runs("demo", f"sqlite:///{database}")] == ["t1"]


def test_last_value_of_repeated_epoch_counts(client: MlflowClient, database: Path) -> None:
    write_study(client, "demo", [Written("t0", mr2=(0.9, 0.6))], parent=False)
    uri = f"sqlite:///{database}"
    (run,) = fetch_runs("demo", uri)
    client.log_metric(run.run_id, "mr2_reasonable", 0.7, timestamp=10**12, step=1)
    assert fetch_histories("demo", [run], "mr2_reasonable", uri) == {run.run_id: ((1, 0.7), (2, 0.6))}
    assert fetch_histories("demo", [run], "mr2_all", uri) == {run.run_id: ()}


def test_relative_path_means_the_working_folder_of_each_reading(
    empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for study in ("one", "two"):
        folder = tmp_path / study
        folder.mkdir()
        shutil.copy(empty_database, folder / "mlflow.db")
        write_study(MlflowClient(f"sqlite:///{folder / 'mlflow.db'}"), study, [Written("t0")])
    for study in ("one", "two"):
        monkeypatch.chdir(tmp_path / study)
        assert len(fetch_runs(study, "sqlite:///mlflow.db")) == 2  # the study and its trial
