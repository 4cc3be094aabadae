from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from analysis import store
from analysis.store import RecordsError, check_local_store, fetch_runs
from tests.analysis.studies import Written, write_study


def test_an_absent_sqlite_file_is_told_and_not_made(tmp_path: Path) -> None:
    path = tmp_path / "absent.db"
    with pytest.raises(
        RecordsError, match=r"there is no MLflow store at .*absent\.db .*sweeps/run\.py.*--tracking-uri"
    ):
        check_local_store(f"sqlite:///{path}")
    assert not path.exists()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_text(
        "shopping list, long enough to be mistaken for a header of a database, and then some more of it\n" * 9
    )
    with pytest.raises(RecordsError, match=r"notes\.db cannot be read as an SQLite database"):
        check_local_store(f"sqlite:///{path}")


def test_a_foreign_database_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    # MLflow, given this file, would put its own tables into it.
    path = tmp_path / "optuna.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE studies (study_id INTEGER)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(RecordsError, match="is an SQLite database but no MLflow store"):
        check_local_store(f"sqlite:///{path}")
    assert path.read_bytes() == before


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///"])
def test_a_database_in_memory_holds_no_study(uri: str) -> None:
    with pytest.raises(RecordsError, match=r"names no file; write sqlite:///PATH"):
        check_local_store(uri)


def test_a_path_without_its_scheme_is_told_the_scheme(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.touch()
    with pytest.raises(RecordsError, match=rf"{path}.*is a file.*sqlite:///PATH"):
        check_local_store(str(path))


@pytest.mark.parametrize("scheme", ["", "file:"])
def test_an_absent_folder_is_told(tmp_path: Path, scheme: str) -> None:
    with pytest.raises(RecordsError, match="there is no such folder; allowed are sqlite:///PATH"):
        check_local_store(f"{scheme}{tmp_path}/mlruns")
    assert not (tmp_path / "mlruns").exists()


def test_an_unknown_study_lists_those_that_are_there(client: MlflowClient, database: Path) -> None:
    write_study(client, "pennfudan", [])
    write_study(client, "demo", [])
    with pytest.raises(
        RecordsError, match=r"there is no study 'dmeo' in sqlite:.*; the studies there: demo, pennfudan\."
    ):
        fetch_runs("dmeo", f"sqlite:///{database}")


def test_a_store_without_studies_says_so(database: Path) -> None:
    with pytest.raises(RecordsError, match="the studies there: none yet"):
        fetch_runs("demo", f"sqlite:///{database}")


def test_a_deleted_study_can_be_brought_back(client: MlflowClient, database: Path) -> None:
    experiment = write_study(client, "demo", [])
    client.delete_experiment(experiment)
    with pytest.raises(RecordsError, match=rf"was deleted; `mlflow experiments restore --experiment-id {experiment}`"):
        fetch_runs("demo", f"sqlite:///{database}")


def test_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    # Port 9 (discard) is not served; the connection is refused at once.
    with pytest.raises(RecordsError, match=r"the MLflow store http://127\.0\.0\.1:9 cannot be read: .*--tracking-uri"):
        fetch_runs("demo", "http://127.0.0.1:9")


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
def test_message_on_absent_folder_has_no_credentials(uri: str) -> None:
    with pytest.raises(RecordsError) as caught:
        check_local_store(uri)
    assert "hunter2" not in str(caught.value)
    assert "***" in str(caught.value)


def test_runs_of_all_pages_come_oldest_first(
    client: MlflowClient, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_RUNS_PER_PAGE", 2)
    write_study(client, "demo", [Written(f"t{index}") for index in range(5)], parent=False)
    runs = fetch_runs("demo", f"sqlite:///{database}")
    assert [stored.run.info.run_name for stored in runs] == ["t0", "t1", "t2", "t3", "t4"]


def test_deleted_runs_are_not_read(client: MlflowClient, database: Path) -> None:
    write_study(client, "demo", [Written("t0"), Written("t1")], parent=False)
    client.delete_run(fetch_runs("demo", f"sqlite:///{database}")[0].run.info.run_id)
    assert [stored.run.info.run_name for stored in fetch_runs("demo", f"sqlite:///{database}")] == ["t1"]


def test_an_epoch_that_was_logged_twice_counts_as_logged_last(client: MlflowClient, database: Path) -> None:
    write_study(client, "demo", [Written("t0", mr2=(0.9, 0.6))], parent=False)
    (stored,) = fetch_runs("demo", f"sqlite:///{database}")
    client.log_metric(stored.run.info.run_id, "mr2_reasonable", 0.7, timestamp=10**12, step=1)
    (stored,) = fetch_runs("demo", f"sqlite:///{database}")
    assert stored.miss_rate_history == ((1, 0.7), (2, 0.6))
