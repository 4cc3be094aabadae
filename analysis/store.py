"""Fetches the runs of one study from an MLflow store, without ever creating or changing one."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from hkd import metric_names as names
from hkd.redaction import redacted_text, redacted_uri

if TYPE_CHECKING:
    from mlflow.entities import Experiment, Run
    from mlflow.tracking import MlflowClient

_RUNS_PER_PAGE = 500


class RecordsError(ValueError):
    """A study that cannot be read; the message says what was looked for, where, and what to do."""


def check_local_store(tracking_uri: str) -> None:
    """Refuse a local store that is not there.

    Left alone, MLflow would create one, or put its tables into a file of another program.

    Raises:
        RecordsError: there is no such file or folder, or it is no MLflow store.
    """
    scheme, _, rest = tracking_uri.partition(":")
    shown = redacted_uri(tracking_uri)
    if scheme.partition("+")[0] == "sqlite":
        path = Path(rest.removeprefix("///").partition("?")[0])
        if not path.name:
            raise RecordsError(f"tracking URI {shown!r} names no file; write sqlite:///PATH (sqlite:///mlflow.db).")
        _check_sqlite_file(path)
    elif "://" not in tracking_uri and scheme != "databricks":
        path = Path(rest if scheme == "file" else tracking_uri)
        if path.is_file():
            raise RecordsError(f"tracking URI {shown!r} is a file; for an SQLite store write sqlite:///PATH.")
        if not path.is_dir():
            raise RecordsError(
                f"tracking URI {shown!r}: there is no such folder; allowed are sqlite:///PATH, "
                "http(s)://HOST:PORT and whatever else MLflow reads."
            )


def _check_sqlite_file(path: Path) -> None:
    if not path.is_file():
        raise RecordsError(
            f"there is no MLflow store at {path} (looked in {path.resolve().parent}); "
            "run a study first (python sweeps/run.py), or name the store with --tracking-uri."
        )
    try:
        connection = sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True)
        try:
            tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise RecordsError(f"{path} cannot be read as an SQLite database: {error}.") from error
    if not {"experiments", "runs"} <= tables:
        raise RecordsError(f"{path} is an SQLite database but no MLflow store; name the store with --tracking-uri.")


@dataclass(frozen=True)
class StoredRun:
    """One run of MLflow's, with what its last values do not tell."""

    run: Run
    miss_rate_history: tuple[tuple[int, float], ...]
    """(epoch, mr2_reasonable) of every evaluation, oldest first."""


def fetch_runs(study: str, tracking_uri: str) -> list[StoredRun]:
    """All runs of the study that are not deleted, oldest first.

    Raises:
        RecordsError: the store cannot be read or reached, or holds no such study.
    """
    # Imported here: it takes seconds, which a mistaken command line or path should not cost.
    import sqlalchemy.exc
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    shown = redacted_uri(tracking_uri)
    try:
        client = MlflowClient(tracking_uri)
        experiment = _find_experiment(client, study, shown)
        return [StoredRun(run, _miss_rate_history(client, run)) for run in _all_runs(client, experiment)]
    except (MlflowException, sqlalchemy.exc.SQLAlchemyError, ImportError, OSError) as error:
        # MLflow's and SQLAlchemy's messages go on for pages; the first line says what happened.
        first_line = redacted_text((str(error).strip() or type(error).__name__).splitlines()[0], tracking_uri)
        raise RecordsError(
            f"the MLflow store {shown} cannot be read: {first_line.rstrip('.')}. "
            "Check --tracking-uri, and that a server named there runs and can be reached from here."
        ) from error


def _find_experiment(client: MlflowClient, study: str, shown_uri: str) -> Experiment:
    experiment = client.get_experiment_by_name(study)
    if experiment is None:
        present = sorted(each.name for each in client.search_experiments() if each.name != "Default")
        listed = ", ".join(present) if present else "none yet"
        raise RecordsError(f"there is no study {study!r} in {shown_uri}; the studies there: {listed}.")
    if experiment.lifecycle_stage == "deleted":
        raise RecordsError(
            f"study {study!r} in {shown_uri} was deleted; "
            f"`mlflow experiments restore --experiment-id {experiment.experiment_id}` brings it back."
        )
    return experiment


def _all_runs(client: MlflowClient, experiment: Experiment) -> list[Run]:
    runs: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs(
            [experiment.experiment_id],
            max_results=_RUNS_PER_PAGE,
            order_by=["attributes.start_time ASC"],
            page_token=token,
        )
        runs.extend(page)
        token = page.token
        if not token:
            return runs


def _miss_rate_history(client: MlflowClient, run: Run) -> tuple[tuple[int, float], ...]:
    if names.MR2_REASONABLE not in run.data.metrics:
        return ()
    points = client.get_metric_history(run.info.run_id, names.MR2_REASONABLE)
    # A step that was logged twice (an epoch repeated after an interruption) counts as logged last.
    points.sort(key=lambda point: (point.step, point.timestamp))
    return tuple({point.step: point.value for point in points}.items())
