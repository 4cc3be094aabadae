"""Measure what distillation gains on photographs: one student over several seeds, on validation and test photographs.

Rows (--rows):
  teacher     the teacher, trained once per seed
  alone       the student from random weights
  pretrained  the student alone, pretrained on generated scenes like the teacher: the fair baseline
  selected    the student alone, its first weights selected from the teacher and fitted to its layers' outputs
  distilled   distilled, from random weights
  both        distilled, first weights as of `selected`

All rows have the same training photographs and schedule, those of the configuration. Prints a Markdown table per set of
photographs: MR^-2 as mean and standard deviation over the seeds, with the bootstrap interval over photographs of the
mean, and its paired differences from the teacher, from the student alone and from the fair baseline, of each seed as
well. All seeds share one pretraining on generated scenes (per architecture): its spread is no part of that over seeds.

    python -m benchmarks.photographs --test data/inria/test.json         # sweeps/configs/inria.yaml
    python -m benchmarks.photographs --seeds 0 --rows pretrained both    # two students, a pretraining and a teacher
    python -m benchmarks.photographs --set training.total_epochs=30 --out runs/long

--out has a folder for each row and seed (student.safetensors or teacher.safetensors, detections, log.txt), and all
numbers in results.json. Interrupted trainings resume after their last complete epoch, finished ones are only
evaluated: delete --out, and the teachers in data.cache_dir, after changing the code. Studies share these teachers.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

if not __package__:
    # Run as a folder of a checkout that is not installed: the packages are one folder up.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.photographs.rows import (
    PRETRAINED,
    REFERENCES,
    ROWS,
    TEACHER,
    load_base,
    row_config,
    student_pretraining,
    with_pretrained_student,
)
from benchmarks.photographs.statistics import evaluate_rows
from benchmarks.photographs.table import caption, table
from benchmarks.photographs.trainings import (
    Measured,
    measure,
    photographs,
    read_detections,
    train_student,
    train_teacher,
)
from benchmarks.workers import end_with_parent
from hkd.coco.parsing.errors import AnnotationError
from hkd.commands.parsing import positive_integer
from hkd.config import TrialConfig
from hkd.config_files.parsing import parse_override
from hkd.config_files.problems import ConfigError
from hkd.evaluation.bootstrap import RESAMPLES
from hkd.evaluation.formats.protocol_files import load_protocol
from hkd.files import write_atomically, write_json

KeyT = TypeVar("KeyT")
ResultT = TypeVar("ResultT")
CONFIG = Path(__file__).resolve().parents[2] / "sweeps" / "configs" / "inria.yaml"
SUBSET = "reasonable"
Job = tuple[str, int]
"""Row and seed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the trainings that are not finished, then print the tables."""
    options = _options(arguments)
    threads = max(1, (os.cpu_count() or 1) // options.workers)
    try:
        raw = load_base(options.config, dict(map(parse_override, options.overrides)))
        configs = {
            (row, seed): row_config(
                raw, row, seed, threads, one_teacher=options.one_teacher, source=str(options.config)
            )
            for seed in options.seeds
            for row in options.rows
        }
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    problem = _problem(configs)
    if problem is not None:
        print(f"{options.config}: {problem}", file=sys.stderr)
        return 2
    some = next(iter(configs.values()))
    assert some.data.validation_annotations is not None
    sets = {"validation": some.data.validation_annotations} | ({} if options.test is None else {"test": options.test})
    try:
        for path in sets.values():
            photographs(some, path)
    except AnnotationError as error:
        print(error, file=sys.stderr)
        return 2
    # Spawned: a forked child of a process that has used OpenMP may hang.
    with ProcessPoolExecutor(options.workers, get_context("spawn"), end_with_parent) as pool:
        try:
            measured = _train_all(pool, configs, sets, options.out, options.workers)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    text = _tables(configs, measured, sets, options)
    print(text)
    write_atomically(options.out / "tables.md", text + "\n")
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.photographs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config", type=Path, default=CONFIG, help="YAML of a study, or of a training (default: %(default)s)"
    )
    parser.add_argument("--test", type=Path, metavar="FILE", help="annotation file of the test photographs")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override one setting of the training in all rows, such as training.total_epochs=30; may be repeated",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="(default: 0 1 2)")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="rows to train (default: all)")
    parser.add_argument(
        "--one-teacher", action="store_true", help="the configured teacher for all seeds, instead of one per seed"
    )
    parser.add_argument(
        "--workers",
        type=positive_integer,
        default=os.cpu_count() or 1,
        help="trainings in parallel, which share the CPU's cores (default: number of cores)",
    )
    parser.add_argument(
        "--resamples",
        type=positive_integer,
        default=RESAMPLES,
        help="bootstrap resamples of the photographs (default: %(default)s)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/photographs"), help="folder of results (default: %(default)s)"
    )
    return parser.parse_args(arguments)


def _problem(configs: Mapping[Job, TrialConfig]) -> str | None:
    """What the rows need and the configuration does not have."""
    for (row, _), config in configs.items():
        if config.data.validation_annotations is None:
            return "data names no annotation files; the comparison is of photographs"
        if config.teacher is None:
            return "teacher is null; the rows are compared with a teacher"
        if row == PRETRAINED and config.teacher.init_from_synthetic is None:
            return f"the row {PRETRAINED} needs teacher.init_from_synthetic; set it, or leave the row out with --rows"
    return None


def _train_all(
    pool: ProcessPoolExecutor, configs: Mapping[Job, TrialConfig], sets: Mapping[str, Path], out: Path, workers: int
) -> dict[Job, Measured]:
    """Train teachers, the student's pretraining and students, and detect with all of them."""
    origins = {job: origin for job, config in configs.items() if (origin := _origin(job[0], config)) is not None}
    # The same teacher of several rows and seeds is trained once. The student's pretraining is the shortest: first.
    distinct = {_key(origin): origin for origin in origins.values()}
    keys = sorted(distinct, key=lambda key: not _is_pretraining(distinct[key]))

    def prepare(keys: Sequence[str]) -> dict[str, Future[Path]]:
        return {key: pool.submit(train_teacher, distinct[key]) for key in keys}

    def train(jobs: Sequence[Job], prepared: Mapping[str, Path]) -> dict[Job, Future[Path]]:
        configured = {
            job: with_pretrained_student(configs[job], prepared[_key(origins[job])])
            if job[0] == PRETRAINED
            else configs[job]
            for job in jobs
        }
        return {job: pool.submit(train_student, config, out / _name(job)) for job, config in configured.items()}

    # Teachers after the first wait for its pretraining, which they share: students without an origin go first.
    preparations = prepare(keys[:workers])
    trainings = train([job for job in configs if job not in origins], {})
    preparations |= prepare(keys[workers:])
    prepared = _collect(preparations, lambda key: "pretraining" if _is_pretraining(distinct[key]) else "teacher")
    trainings |= train([job for job in origins if job[0] != TEACHER], prepared)
    weights = {job: prepared[_key(origin)] for job, origin in origins.items() if job[0] == TEACHER}
    weights |= _collect(trainings, _name)
    detections = {
        job: pool.submit(measure, config, weights[job], dict(sets), out / _name(job)) for job, config in configs.items()
    }
    return _collect(detections, lambda job: f"detections of {_name(job)}")


def _origin(row: str, config: TrialConfig) -> TrialConfig | None:
    """What is trained before a row: its teacher, or the student's pretraining; None if nothing is."""
    if row == PRETRAINED:
        return student_pretraining(config)
    return config if row == TEACHER or config.uses_teacher else None


def _is_pretraining(origin: TrialConfig) -> bool:
    return origin.data.train_annotations is None


def _key(origin: TrialConfig) -> str:
    """Equal for equal teachers, whatever their students' settings."""
    assert origin.teacher is not None
    return f"{_is_pretraining(origin)} {origin.teacher.model_dump_json()}"


def _name(job: Job) -> str:
    return f"{job[0]}-{job[1]}"


def _collect(futures: Mapping[KeyT, Future[ResultT]], name: Callable[[KeyT], str]) -> dict[KeyT, ResultT]:
    """Wait for all results, and print the end of each."""
    keys = {future: key for key, future in futures.items()}
    results: dict[KeyT, ResultT] = {}
    for future in as_completed(keys):
        key = keys[future]
        results[key] = future.result()
        print(f"{name(key)}: done ({len(results)} of {len(futures)})", file=sys.stderr, flush=True)
    return results


def _tables(
    configs: Mapping[Job, TrialConfig],
    measured: Mapping[Job, Measured],
    sets: Mapping[str, Path],
    options: argparse.Namespace,
) -> str:
    """The tables; their numbers are written to ``results.json`` as well."""
    seeds_of: dict[str, list[int]] = {}
    for row, seed in configs:
        seeds_of.setdefault(row, []).append(seed)
    config = next(iter(configs.values()))
    protocol = load_protocol(config.evaluation.protocol)
    costs = {row: measured[row, seeds[0]].cost for row, seeds in seeds_of.items()}
    parts: list[str] = []
    numbers: dict[str, object] = {}
    for name, path in sets.items():
        ground_truth = photographs(config, path).ground_truth()
        detections = {
            row: [read_detections(measured[row, seed].detections[name]) for seed in seeds]
            for row, seeds in seeds_of.items()
        }
        results = evaluate_rows(
            ground_truth,
            detections,
            protocol,
            subset=SUBSET,
            references=REFERENCES,
            resamples=options.resamples,
        )
        numbers[name] = {row: {"seeds": seeds_of[row], **asdict(result)} for row, result in results.items()}
        parts.append(table(name, len(ground_truth.image_ids), results, costs))
    write_json(options.out / "results.json", {"costs": {row: asdict(each) for row, each in costs.items()}, **numbers})
    return "\n\n".join([*parts, caption(config)])


if __name__ == "__main__":
    raise SystemExit(main())
