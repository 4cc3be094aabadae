"""Measure the time that a worker does not train between two trials, in workers that are reused and in new ones.

    python -m benchmarks.trial_overhead                               # 20 trials in a reused worker, 5 in new ones
    python -m benchmarks.trial_overhead --trials 100 --new-trials 0   # memory over 100 trials in one worker

A study of one worker, whose trials train one epoch of two batches each: a ResNet-50 teacher, ResNet-18 students of
several widths, images of 192 x 256 pixels, with the teacher's cache, ledger and MLflow of any study. The time between
two trials is that from the end of the last checkpoint of one to the first step of the next. Of it, "worker" is spent
in the worker to build the trial or, in a new one, to load images and teacher as well; "Tune" is the rest, which
includes the start of a new worker's process. Memory is the worker's resident memory after a trial's last checkpoint, as
means over ten trials, because it depends on the size of the student.
Prints a Markdown table to stdout.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console

from benchmarks.step.workload import STUDENT, TEACHER
from hkd.commands.parsing import non_negative_integer
from hkd.config import TeacherConfig
from hkd.models.build import build_detector
from hkd.models.weights import save_detector
from hkd.text.output import tamed_libraries
from hkd.training.pyramid_cache.capacity import CacheBudget
from sweeps.console.display import Display, TrialBoard
from sweeps.execution.cluster.connection import connected, trial_resources
from sweeps.execution.tune.callback import Recorder
from sweeps.execution.tune.run import TrialInputs, run_trials
from sweeps.folder import StudyFolder
from sweeps.interruption import Interruption
from sweeps.settings.study import StudyConfig
from sweeps.tracking import store
from sweeps.tracking.tracker import Tracker
from sweeps.trials.queue import TrialQueue
from sweeps.trials.records.ledger import open_ledger
from sweeps.trials.worker import DistillationTrial, TrialSpec

_STATUS = Path("/proc/self/status")


class TimedTrial(DistillationTrial):
    """Appends to a file when each trial starts to be built, is built, starts its first step and ends its last save."""

    times: ClassVar[Path]

    def _start(self, spec: TrialSpec) -> None:
        started, cpu_started = time.time(), time.process_time()
        super()._start(spec)
        cpu_seconds = time.process_time() - cpu_started
        self._events: dict[str, Any] = {
            "pid": os.getpid(), "building": started, "built": time.time(), "cpu_seconds": cpu_seconds
        }  # fmt: skip

    def step(self) -> dict[str, Any]:
        """Called by Tune for each epoch."""
        self._events.setdefault("step", time.time())
        return super().step()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Called by Tune after each epoch."""
        super().save_checkpoint(checkpoint_dir)
        event = {**self._events, "saved": time.time(), "resident_bytes": _resident_bytes()}
        with self.times.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")


@dataclass(frozen=True)
class Overhead:
    """Between the trials of one worker."""

    seconds: list[float]
    """From the last save of a trial to the first step of the next."""
    in_worker: list[float]
    """Of it, to build the trial in the worker."""
    cpu_in_worker: list[float]
    """The CPU time of that."""
    resident_bytes: list[int]
    """After each trial."""
    num_processes: int


def measure(study: StudyConfig, teacher: Path | None, *, reuses_workers: bool, trainable: Any = TimedTrial) -> Overhead:
    """Run a study of trials of one epoch in one worker at a time."""
    files = StudyFolder(study)
    files.path.mkdir(parents=True)
    times = files.path / "times.jsonl"
    display = Display(Console(file=io.StringIO(), width=120))
    ledger = open_ledger(study, files.journal)
    queue = TrialQueue(study, ledger)
    tracker = Tracker(store.connect(study.tracking.uri), study.tracking.uri, study.name, None)
    tracker.start_study({}, {}, "")
    board = TrialBoard(
        display, objectives=study.objectives, total=study.search.num_trials, ended=[], epochs_per_trial=1
    )
    recorder = Recorder(
        files, study.objectives, ledger, tracker, board, put_back=queue.put_back, is_interrupted=lambda: False
    )
    cache = None if teacher is None else CacheBudget(study.base.data.cache_dir / "teacher_outputs", 10**10)
    timed = type(trainable.__name__, (trainable,), {"times": times})
    with connected(None) as cluster, Interruption() as interruption:
        inputs = TrialInputs(teacher, cache, trial_resources(study.resources, cluster))
        run_trials(study, files, queue, recorder, inputs, interruption, timed, reuses_workers=reuses_workers)
    tracker.end_study("finished")
    trials = ledger.trials()
    assert all(trial.status == "finished" for trial in trials), [trial.error for trial in trials]
    events = [json.loads(line) for line in times.read_text(encoding="utf-8").splitlines()]
    return Overhead(
        [after["step"] - before["saved"] for before, after in pairwise(events)],
        [event["built"] - event["building"] for event in events[1:]],
        [event["cpu_seconds"] for event in events[1:]],
        [event["resident_bytes"] for event in events],
        len({event["pid"] for event in events}),
    )


def overhead_study(folder: Path, name: str, *, num_trials: int, teacher: TeacherConfig | None = TEACHER) -> StudyConfig:
    """Trials of one epoch of two batches, of students of several widths."""
    base: dict[str, Any] = {
        "data": {
            "image_height": 192,
            "image_width": 256,
            "synthetic": {"train_images": 16, "validation_images": 4, "height": 192, "width": 256},
            "cache_dir": str(folder / "cache"),
        },
        "teacher": None if teacher is None else teacher.model_dump(mode="json"),
        "student": STUDENT.model_dump(mode="json"),
        "training": {"total_epochs": 1, "batch_size": 8},
    }
    return StudyConfig.model_validate(
        {
            "name": name,
            "storage_path": folder / "runs",
            "tracking": {"uri": f"sqlite:///{folder / name}.db"},
            "base": base,
            "space": {
                "student.width_multiplier": {"type": "float", "low": 0.125, "high": 0.5},
                "student.pyramid_channels": {"type": "int", "low": 32, "high": 128, "step": 8},
            },
            "search": {"num_trials": num_trials, "sampler": "random", "confirm_seeds": 0},
            "resources": {"max_concurrent_trials": 1},
            "baselines": {},
        }
    )


def write_teacher(path: Path, config: TeacherConfig = TEACHER) -> Path:
    """Random weights, which take as long to load as trained ones."""
    save_detector(path, build_detector(config), config, image_height=192, image_width=256, metrics={})
    return path


def _resident_bytes() -> int:
    for line in _STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"{_STATUS} has no VmRSS")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=non_negative_integer, default=20, help="in a reused worker (default: 20)")
    parser.add_argument("--new-trials", type=non_negative_integer, default=5, help="in a new worker each (default: 5)")
    options = parser.parse_args()
    print("\n".join(heading()), flush=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(tamed_libraries(("hkd", "sweeps")))
        teacher = write_teacher(folder / "teacher.safetensors")
        for name, num_trials, reuses_workers in (("reused", options.trials, True), ("new", options.new_trials, False)):
            if num_trials >= 2:
                study = overhead_study(folder, name, num_trials=num_trials)
                print(row(name, measure(study, teacher, reuses_workers=reuses_workers)), flush=True)


def heading() -> tuple[str, str]:
    """First lines of the table."""
    titles = (
        "worker",
        "trials",
        "processes",
        "between two trials, s: median",
        "largest",
        "worker, s",
        "its CPU, s",
        "Tune, s",
        "memory over the first ten trials, MiB",
        "last ten",
        "largest",
    )
    return "| " + " | ".join(titles) + " |", "| --- " + "| ---: " * (len(titles) - 1) + "|"


def row(name: str, overhead: Overhead) -> str:
    """One line of the table; "worker" and "Tune" are medians as well."""
    seconds, in_worker, resident = overhead.seconds, overhead.in_worker, overhead.resident_bytes
    in_tune = [total - part for total, part in zip(seconds, in_worker, strict=True)]
    memory = [statistics.mean(resident[:10]), statistics.mean(resident[-10:]), max(resident)]
    medians = [statistics.median(each) for each in (in_worker, overhead.cpu_in_worker, in_tune)]
    return (
        f"| {name} | {len(resident)} | {overhead.num_processes} | **{statistics.median(seconds):.2f}** "
        f"| {max(seconds):.2f} | {' | '.join(f'{each:.2f}' for each in medians)} "
        f"| {' | '.join(f'{each / 2**20:.0f}' for each in memory)} |"
    )


if __name__ == "__main__":
    main()
