"""Measure what the driver of a study costs per trial, by part, with trials that train nothing.

    python -m benchmarks.sweep_scale                                    # 100 and 1,000 trials with Ray Tune
    python -m benchmarks.sweep_scale --simulated --trials 1000 10000    # without Ray: ask, ledger and tracking only
    python -m benchmarks.sweep_scale --trials 100 --sampler tpe
    python -m benchmarks.sweep_scale --simulated --trials 1000 --epochs 8 --server-latency-ms 50

CPU time of the driver's process: of its main thread, within the parts named, of the thread that writes to MLflow and of
Ray's threads. "loop in tracking" is the share of the trials' time in which Tune's loop is within the tracker, and
"written after" the time until MLflow had everything, after the last trial. Prints a Markdown table to stdout.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.sweep_scale.slow_server import slow_mlflow_server
from benchmarks.sweep_scale.trivial import SimulatedTune, TrivialTrial, trivial_study
from hkd.coco.annotations import without_boxes
from hkd.commands.parsing import positive_integer
from hkd.text.output import tamed_libraries
from sweeps.console.display import Display, TrialBoard
from sweeps.execution.cluster.connection import connected, trial_resources
from sweeps.execution.tune.callback import Recorder
from sweeps.execution.tune.run import TrialInputs, run_trials
from sweeps.folder import StudyFolder
from sweeps.interruption import Interruption
from sweeps.settings.space import trial_config
from sweeps.settings.study import StudyConfig
from sweeps.tracking import store
from sweeps.tracking.origin import origin_of
from sweeps.tracking.tracker import Tracker
from sweeps.trials.front import reference_point
from sweeps.trials.queue import TrialQueue
from sweeps.trials.records.ledger import open_ledger

_PARTS = ("ask", "ledger", "tracking", "display", "Tune and Ray", "MLflow's thread", "Ray's threads")


@dataclass
class Clock:
    """CPU seconds of the main thread by part. A part inside another one counts for the inner one only."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_PARTS, 0.0))
    wall: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_PARTS, 0.0))
    """The same, of the clock on the wall; inner parts included."""
    _stack: list[list[float]] = field(default_factory=list)

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed as a part."""

        def call(*arguments: Any, **named: Any) -> Any:
            self._stack.append([0.0])
            started, started_at = time.thread_time(), time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                taken = time.thread_time() - started
                (inner,) = self._stack.pop()
                self.seconds[part] += taken - inner
                self.wall[part] += time.perf_counter() - started_at
                if self._stack:
                    self._stack[-1][0] += taken

        return call

    def time_methods(self, part: str, target: object, *only: str) -> None:
        """Time the public methods of an object."""
        for name in only or [name for name in dir(target) if not name.startswith("_")]:
            method = getattr(target, name, None)
            if callable(method) and not isinstance(getattr(type(target), name, None), property):
                setattr(target, name, self.timed(part, method))


@dataclass(frozen=True)
class Cost:
    """What a study of trivial trials cost its driver."""

    num_trials: int
    seconds: dict[str, float]
    """CPU by part."""
    wall_seconds: float
    """Of the trials."""
    tracking_share: float
    """Of this time, how much the loop spent within the tracker."""
    drain_seconds: float
    """After the last trial, until MLflow had everything."""
    journal_bytes: int
    load_seconds: float
    """To open the ledger again."""


def measure(study: StudyConfig, *, is_simulated: bool) -> Cost:
    """Run a study of trivial trials."""
    clock, files = Clock(), StudyFolder(study)
    files.path.mkdir(parents=True)
    display = Display(Console(file=io.StringIO(), width=120))
    ledger = open_ledger(study, files.journal)
    queue = TrialQueue(study, ledger)
    tracker = Tracker(store.connect(study.tracking.uri), study.tracking.uri, study.name, None)
    tracker.start_study({}, {}, "", origin_of({"training": without_boxes([], files.path)}))
    tracker.follow_front(study.objectives, reference_point(study), [])
    total = study.search.num_trials + len(study.baselines)
    board = TrialBoard(display, objectives=study.objectives, total=total, ended=[], epochs_per_trial=1)
    clock.time_methods("ledger", ledger)
    clock.time_methods("ledger", queue, "next")
    _time_proposals(clock, ledger)
    clock.time_methods("tracking", tracker)
    clock.time_methods("display", board)
    recorder = Recorder(
        files, study.objectives, ledger, tracker, board, put_back=queue.put_back, is_interrupted=lambda: False
    )
    wall, main, process = time.monotonic(), time.thread_time(), time.process_time()
    if is_simulated:
        SimulatedTune(queue, recorder, files.path, 2).run(study.base, trial_config)
    else:
        _run_with_ray(study, files, queue, recorder)
    wall, in_tracker, drain = time.monotonic() - wall, clock.wall["tracking"], time.monotonic()
    tracker.end_study("finished")
    drain = time.monotonic() - drain
    assert tracker.num_pending == 0, tracker.last_error
    main, process = time.thread_time() - main, time.process_time() - process
    clock.seconds["Tune and Ray"] = main - sum(clock.seconds.values())
    clock.seconds["MLflow's thread"] = _thread_seconds(tracker)
    clock.seconds["Ray's threads"] = process - main - clock.seconds["MLflow's thread"]
    started = time.monotonic()
    open_ledger(study, files.journal).trials()
    load = time.monotonic() - started
    return Cost(total, clock.seconds, wall, in_tracker / wall, drain, files.journal.stat().st_size, load)


def _thread_seconds(tracker: Tracker) -> float:
    """CPU of the thread that writes to MLflow."""
    thread = tracker._writer._thread
    assert thread is not None
    assert thread.ident is not None
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))


def _time_proposals(clock: Clock, ledger: Any) -> None:
    """Time Optuna's ``ask``, sampler and journal included, apart from the rest of the ledger."""
    for study in ledger._studies.values():
        study.ask = clock.timed("ask", study.ask)


def _run_with_ray(study: StudyConfig, files: StudyFolder, queue: TrialQueue, recorder: Recorder) -> None:
    with connected(None) as cluster, Interruption() as interruption:
        inputs = TrialInputs(None, None, trial_resources(study.resources, cluster))
        run_trials(study, files, queue, recorder, inputs, interruption, TrivialTrial)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=positive_integer, nargs="+", default=[100, 1000])
    parser.add_argument("--epochs", type=positive_integer, default=2, help="of a trial (default: 2)")
    parser.add_argument("--sampler", default="front")
    parser.add_argument("--simulated", action="store_true", help="without Ray: its part is that of the simulation")
    parser.add_argument(
        "--server-latency-ms",
        type=float,
        help="write to an MLflow server, behind this latency, instead of SQLite",
    )
    options = parser.parse_args()
    print("\n".join(_heading()), flush=True)
    for num_trials in options.trials:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            stack.enter_context(tamed_libraries(("hkd", "sweeps")))
            uri = f"sqlite:///{folder / 'mlflow.db'}"
            if options.server_latency_ms is not None:
                uri = stack.enter_context(slow_mlflow_server(folder, options.server_latency_ms))
            study = trivial_study(uri, folder, num_trials=num_trials, epochs=options.epochs, sampler=options.sampler)
            cost = measure(study, is_simulated=options.simulated)
        print(_row(cost), flush=True)


def _heading() -> Iterator[str]:
    more = (
        "all, ms of CPU per trial",
        "wall, s",
        "loop in tracking",
        "written after, s",
        "journal, MB",
        "opened in, s",
    )
    yield "| " + " | ".join(("trials", *_PARTS, *more)) + " |"
    yield "| ---: " * (1 + len(_PARTS) + len(more)) + "|"


def _row(cost: Cost) -> str:
    per_trial = [1e3 * cost.seconds[part] / cost.num_trials for part in _PARTS]
    return (
        f"| {cost.num_trials:,} | "
        + " | ".join(f"{each:.1f}" for each in per_trial)
        + f" | **{sum(per_trial):.1f}** | {cost.wall_seconds:.0f} | {100 * cost.tracking_share:.2f} % "
        f"| {cost.drain_seconds:.0f} | {cost.journal_bytes / 1e6:.1f} "
        f"| {cost.load_seconds:.1f} |"
    )


if __name__ == "__main__":
    main()
