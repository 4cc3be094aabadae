"""Time a report of studies of many runs, by part: reading, analysis, tables, pictures and page.

Writes an MLflow store (SQLite) of invented trials into a temporary folder, 111 parameters and 8 epochs of 20 metrics
each: seven in ten are finished, the others stopped or failed. Nothing is trained, and there are no artifacts.

    python benchmarks/report_scale.py --runs 1000 10000
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

if not __package__:
    # Run as a file of a checkout that is not installed: the packages are one folder up.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from hkd import metric_names as names
from hkd.config import TrialConfig
from hkd.config_files.parsing import flatten

STUDY = "many"
EPOCHS = 8
OTHER_METRICS = 16
"""Losses and the like, which a report does not show, beside a miss rate, the epoch and the costs."""
_TABLES = {
    "runs": "run_uuid name source_type source_name entry_point_name user_id status start_time end_time source_version "
    "lifecycle_stage artifact_uri experiment_id",
    "tags": "key value run_uuid",
    "params": "key value run_uuid",
    "metrics": "key value timestamp run_uuid step is_nan",
    "latest_metrics": "key value timestamp step is_nan run_uuid",
}
_MLFLOW_STATUS = {
    names.STATUS_FINISHED: "FINISHED",
    names.STATUS_STOPPED: "KILLED",
    names.STATUS_FAILED: "FAILED",
}

Row = tuple[object, ...]


def write_store(path: Path, num_runs: int, seed: int = 0) -> None:
    """An SQLite store with a study of ``num_runs`` trials, a teacher and the parent run.

    Rows are inserted directly: MLflow's client would take minutes.
    """
    from mlflow.tracking import MlflowClient

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # MLflow's SQL store uses deprecated functions
        experiment = MlflowClient(f"sqlite:///{path}").create_experiment(STUDY, artifact_location=str(path.parent))
    database = sqlite3.connect(path)
    with database:
        for table, rows in _rows(int(experiment), num_runs, np.random.default_rng(seed)):
            columns = _TABLES[table].split()
            places = ", ".join("?" * len(columns))
            database.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})", rows)
    database.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a row per study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[1000, 10_000], help="sizes (default: 1000 10000)")
    options = parser.parse_args(arguments)
    # The imports take seconds, whatever the size.
    import mlflow.tracking  # noqa: F401

    from analysis import pareto
    from analysis.records.detections import DetectionsReader
    from analysis.records.reader import read_study
    from analysis.results import compute_results

    for number, num_runs in enumerate(options.runs):
        with tempfile.TemporaryDirectory() as folder:
            uri = f"sqlite:///{Path(folder, 'mlflow.db')}"
            write_store(Path(folder, "mlflow.db"), num_runs)
            start, clock = time.perf_counter(), _Clock()
            records = read_study(STUDY, uri)
            clock.lap("reading")
            results = compute_results(records, read_detections=DetectionsReader(uri))
            clock.lap("analysis")
            megabytes = 0.0
            for name, content in pareto.report_files(records, results):
                clock.lap(name)
                megabytes += len(content) / 1e6 if name == "report.html" else 0.0
            wall = time.perf_counter() - start
        if number == 0:
            print("Seconds of CPU, which other programs change little:")
            print("  ".join(f"{cell:>16}" for cell in ("runs", *clock.laps, "sum", "wall-clock", "size of page")))
        cells = [
            f"{num_runs}",
            *(f"{seconds:.2f}" for seconds in (*clock.laps.values(), sum(clock.laps.values()), wall)),
        ]
        print("  ".join(f"{cell:>16}" for cell in (*cells, f"{megabytes:.1f} MB")), flush=True)
    return 0


class _Clock:
    """Seconds of CPU by part."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.process_time()

    def lap(self, part: str) -> None:
        now = time.process_time()
        self.laps[part] = now - self._last
        self._last = now


def _rows(experiment: int, num_runs: int, random: np.random.Generator) -> Iterator[tuple[str, list[Row]]]:
    # One table after the other, and a thousand runs at a time: bounds memory.
    for first in range(-2, num_runs, 1000):
        runs = [_Run(experiment, index, random) for index in range(first, min(first + 1000, num_runs))]
        yield "runs", [run.row() for run in runs]
        yield "tags", [row for run in runs for row in run.tags()]
        yield "params", [row for run in runs for row in run.params()]
        metrics = [row for run in runs for row in run.metrics()]
        yield "metrics", metrics
        # The last one of a key and run wins.
        latest = {(key, run): (key, value, when, step, nan, run) for key, value, when, run, step, nan in metrics}
        yield "latest_metrics", list(latest.values())


class _Run:
    """One run: number -2 is the parent, -1 the teacher."""

    def __init__(self, experiment: int, index: int, random: np.random.Generator) -> None:
        self.experiment, self.index = experiment, index
        self.uuid = f"{index + 2:032x}"
        self.role = {-2: names.ROLE_STUDY, -1: names.ROLE_TEACHER}.get(index, names.ROLE_TRIAL)
        self.trial_id = names.TEACHER_TRIAL_ID if index == -1 else f"trial-{index + 1:05d}"
        statuses = [names.STATUS_FINISHED, names.STATUS_STOPPED, names.STATUS_FAILED]
        self.status = str(random.choice(statuses, p=[0.7, 0.25, 0.05])) if index >= 0 else names.STATUS_FINISHED
        self.epochs = EPOCHS if self.status == names.STATUS_FINISHED else int(random.integers(1, EPOCHS))
        self.width, self.weight = float(random.uniform(0.25, 1.0)), float(random.lognormal())
        noise = float(random.normal(0, 0.02))
        self.miss_rate = float(np.clip(0.1 + 0.2 * (1 - self.width) + 0.02 * np.log(self.weight) ** 2 + noise, 0.01, 1))
        self.learning_rate = float(10 ** random.uniform(-4, -2))

    def row(self) -> Row:
        start = 1000 * (self.index + 2)
        status = _MLFLOW_STATUS[self.status]
        text = ("UNKNOWN", "", "", "unknown")
        return (self.uuid, self.trial_id, *text, status, start, start + 30_000, "", "active", "", self.experiment)

    def tags(self) -> list[Row]:
        tags = {names.TAG_STUDY: STUDY, names.TAG_ROLE: self.role, names.TAG_STATUS: self.status}
        if self.role != names.ROLE_STUDY:
            tags[names.TAG_TRIAL_ID] = self.trial_id
        return [(key, value, self.uuid) for key, value in tags.items()]

    def params(self) -> list[Row]:
        if self.role == names.ROLE_STUDY:
            return [(names.PARAM_OBJECTIVES, ", ".join(names.DEFAULT_OBJECTIVES), self.uuid)]
        searched = {
            "student.width_multiplier": self.width,
            "distillation.pyramid.weight": self.weight,
            "training.learning_rate": self.learning_rate,
        }
        settings = {**_DEFAULTS, names.PARAM_TOTAL_EPOCHS: EPOCHS, **searched}
        return [(key, str(value), self.uuid) for key, value in settings.items()]

    def metrics(self) -> list[Row]:
        if self.role == names.ROLE_STUDY:
            return []
        params = 40e6 if self.role == names.ROLE_TEACHER else 20e6 * self.width**2
        rows: list[Row] = [
            (name, value, 0, self.uuid, 0, 0)
            for name, value in (
                (names.NUM_PARAMS, round(params)),
                (names.FLOPS, 2e3 * params),
                (names.GMACS, params / 1e6),
            )
        ]
        for epoch in range(1, self.epochs + 1):
            measured = {
                names.MR2_REASONABLE: self.miss_rate * (2 - epoch / EPOCHS),
                names.EPOCH: epoch,
                names.BUDGET_FRACTION: epoch / EPOCHS,
                **{f"other_{number}": 1 / epoch for number in range(OTHER_METRICS)},
            }
            rows += [(name, value, epoch, self.uuid, epoch, 0) for name, value in measured.items()]
        return rows


_DEFAULTS = flatten(TrialConfig())


if __name__ == "__main__":
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    sys.exit(main())
