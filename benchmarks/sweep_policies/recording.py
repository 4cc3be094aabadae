"""Trains the configurations of the task and records their curves.

Laid out as::

    <out>/trainings/<configuration>-<seed>-<key>.json   a finished training; the key is that of its settings
    <out>/locks/                                        each held by the process that trains
    <out>/teachers/, pyramids/, cache/                  the teacher, its pyramids and the decoded scenes
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from filelock import FileLock, Timeout

from benchmarks.sweep_policies.curves import Curve
from benchmarks.sweep_policies.task import TEACHER_IMAGES, Configuration, training_config
from hkd.config import DataConfig, TeacherConfig, TrialConfig
from hkd.config_files.parsing import config_hash
from hkd.data.prepare import PreparedData, prepare_data
from hkd.files import read_record, write_json
from hkd.metric_names import MR2_REASONABLE
from hkd.models.detector import Detector
from hkd.runtime.process import configure_process
from hkd.training.fit import fit
from hkd.training.pyramid_cache.capacity import CacheBudget
from hkd.training.teacher.prepare import PreparedTeacher, load_teacher, prepare_teacher
from hkd.training.trainer import Trainer
from sweeps.interruption import Interruption
from sweeps.settings.study import StudyConfig

RECIPE = 1
"""Part of the key of every result: increment it when a change of hkd makes recorded curves stale."""
_PYRAMID_BYTES = 8 * 10**9
_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Recording:
    """One training."""

    configuration: Configuration
    seed: int
    config: TrialConfig
    out: Path
    teacher_images: int = TEACHER_IMAGES

    @property
    def name(self) -> str:
        """Of its files: readable, with a key of all settings that determine the result."""
        settings = self.config.model_dump(mode="json", exclude={"evaluation": {"latency"}})
        key = config_hash(RECIPE, settings, self.teacher_images)[:8]
        return f"{self.configuration.number:03d}-{self.seed}-{key}"

    @property
    def path(self) -> Path:
        """The file that marks it as finished."""
        return self.out / "trainings" / f"{self.name}.json"

    def curve(self) -> Curve | None:
        """What it recorded; None if it is not finished."""
        if not self.path.is_file():
            return None
        record = read_record(self.path)
        return Curve(**{**record, "miss_rates": tuple(record["miss_rates"])})


def recordings(
    task: StudyConfig,
    chosen: Sequence[Configuration],
    seeds: Sequence[int],
    out: Path,
    teacher_images: int = TEACHER_IMAGES,
) -> list[Recording]:
    """The trainings in the order in which they are run: all configurations with the first seed, then the next."""
    found = []
    for turn, seed in enumerate(seeds):
        # The first training of a seed computes the teacher's pyramids for all: another configuration for each seed.
        shift = turn * len(chosen) // len(seeds)
        found += [
            Recording(each, seed, training_config(task, each.params, seed), out, teacher_images)
            for each in (*chosen[shift:], *chosen[:shift])
        ]
    return found


def record_all(todo: Sequence[Recording], *, workers: int, max_hours: float | None = None) -> bool:
    """Run the trainings that are not finished; returns whether all are finished now.

    SIGINT and SIGTERM end it after the trainings that run, which take seconds.

    Args:
        workers: Trainings at once, of one thread each.
        max_hours: No training is started later than this; None: no limit.
    """
    deadline = None if max_hours is None else time.monotonic() + 3600 * max_hours
    waiting = [each for each in todo if not each.path.is_file()]
    done = len(todo) - len(waiting)
    if not waiting:
        return True
    for folder in ("trainings", "locks"):
        (todo[0].out / folder).mkdir(parents=True, exist_ok=True)
    # Before any worker waits for it.
    _prepare_teacher(waiting[0])
    context = multiprocessing.get_context("spawn")
    running: dict[Future[Curve | None], Recording] = {}
    with (
        Interruption() as interruption,
        interruption.deferred(),
        ProcessPoolExecutor(workers, context, _ignore_signals) as pool,
    ):
        while waiting or running:
            is_over = interruption.is_requested or (deadline is not None and time.monotonic() >= deadline)
            while waiting and len(running) < workers and not is_over:
                recording = waiting.pop(0)
                running[pool.submit(record, recording)] = recording
            if not running:
                break
            finished, _ = wait(running, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
            for future in finished:
                recording, curve = running.pop(future), future.result()
                if curve is not None:
                    done += 1
                    shown = f"{100 * curve.miss_rates[-1]:.1f} %, {curve.cpu_seconds:.0f} s of CPU time"
                    print(f"[{done}/{len(todo)}] {recording.name}: {shown}", file=sys.stderr, flush=True)
    return all(each.path.is_file() for each in todo)


def record(recording: Recording) -> Curve | None:
    """Train, and write the curve; None if another process trains this."""
    lock = FileLock(recording.out / "locks" / f"{recording.name}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return None
    try:
        curve = recording.curve()
        if curve is None:
            curve = _train(recording)
            write_json(recording.path, curve)
    finally:
        lock.release()
    return curve


def listing(todo: Sequence[Recording], workers: int) -> str:
    """How many are finished, and how long the others are expected to take."""
    curves = [curve for each in todo if (curve := each.curve()) is not None]
    left = len(todo) - len(curves)
    if not left:
        return f"{len(curves)} finished, none missing"
    text = f"{len(curves)} finished, {left} missing"
    if not curves:
        return f"{text}: of unknown duration, none is finished"
    seconds = fmean(curve.cpu_seconds for curve in curves)
    return f"{text}: {left * seconds / 3600:.1f} h of CPU time, {left * seconds / 3600 / workers:.1f} h with {workers}"


def _train(recording: Recording) -> Curve:
    config = _in_folder(recording.config, recording.out)
    configure_process(torch.device("cpu"), config.training.num_threads)
    prepared = _prepare_teacher(recording)
    data = _prepared(config.data)
    assert config.teacher is not None
    teacher = _teacher(prepared.path, config.teacher)
    started = time.process_time()
    budget = CacheBudget(recording.out / "pyramids", _PYRAMID_BYTES)
    trainer = Trainer(config, data, teacher, device="cpu", teacher_cache=budget)
    miss_rates = []
    try:
        for result in fit(trainer):
            miss_rates.append(result.metrics[MR2_REASONABLE])
            _exit_without_parent()
    finally:
        trainer.close()
    return Curve(
        configuration=recording.configuration.number,
        seed=recording.seed,
        params=recording.configuration.params,
        num_params=trainer.cost.num_params,
        flops=trainer.cost.flops,
        cpu_seconds=round(time.process_time() - started, 2),
        miss_rates=tuple(miss_rates),
    )


def _prepare_teacher(recording: Recording) -> PreparedTeacher:
    config = _in_folder(recording.config, recording.out)
    scenes = config.data.synthetic.model_copy(update={"train_images": recording.teacher_images})
    data = config.data.model_copy(update={"synthetic": scenes})
    return prepare_teacher(config.model_copy(update={"data": data}), _prepared(data), recording.out)


def _in_folder(config: TrialConfig, out: Path) -> TrialConfig:
    data = config.data.model_copy(update={"cache_dir": out / "cache"})
    return config.model_copy(update={"data": data})


@functools.lru_cache(maxsize=2)
def _prepared(config: DataConfig) -> PreparedData:
    return prepare_data(config, progress=False)


@functools.lru_cache(maxsize=1)
def _teacher(path: Path, config: TeacherConfig) -> Detector:
    return load_teacher(path, config)


def _ignore_signals() -> None:
    """In a worker: the parent handles signals."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _exit_without_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        os._exit(1)  # the parent was killed, and nothing would end this process
