"""Does distillation help? The same small student, trained alone and under its teacher, over several seeds.

Prints a table of log-average miss rate on generated scenes: teacher, student alone, each distillation level
alone, the default weights (pyramid, region and logits) and all four levels, with the mean and the standard
deviation over the seeds, the difference to the student alone, seed by seed, and the parameters of each.
Everything but the distillation weights is the same for all rows: data, schedule, seeds.

    python benchmarks/distillation_gain.py                    # 6 seeds, two trainings at a time
    python benchmarks/distillation_gain.py --seeds 0 --rows alone default   # a quick look
    python benchmarks/distillation_gain.py --rows alone default --set training.precision=fp32

Finished trainings are kept under --out and not repeated: remove that folder after a change of the code.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from hkd.config import TrialConfig
from hkd.config_io import apply_overrides, config_hash, parse_config, parse_override
from hkd.config_yaml import load_yaml
from hkd.data.prepare import prepare_data
from hkd.files import write_json
from hkd.metric_names import AP, MR2_ALL, MR2_REASONABLE
from hkd.runtime.device import resolve_device
from hkd.runtime.process import configure_process
from hkd.training.loop import Trainer
from hkd.training.progress import TrainingProgress
from hkd.training.teacher import load_teacher, prepare_teacher

CONFIG = Path(__file__).with_name("distillation_gain.yaml")
LEVELS = ("pyramid", "region", "embedding", "logits")
_NO_LEVEL: dict[str, object] = {f"distillation.{level}.weight": 0.0 for level in LEVELS}
ROWS: dict[str, dict[str, object]] = {
    "alone": _NO_LEVEL,
    **{level: {**_NO_LEVEL, f"distillation.{level}.weight": 1.0} for level in LEVELS},
    # As the configuration's defaults have it: pyramid, region and logits.
    "default": {},
    "all": {f"distillation.{level}.weight": 1.0 for level in LEVELS},
}
_METRICS = (MR2_REASONABLE, MR2_ALL, AP)


def main() -> int:
    """Train what is not trained yet, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=CONFIG, help="a TrialConfig (default: %(default)s)")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one setting of all rows",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(6)))
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 1)), help="trainings at a time")
    parser.add_argument("--out", type=Path, default=Path("runs/distillation_gain"))
    arguments = parser.parse_args()
    raw = apply_overrides(load_yaml(arguments.config), dict(map(parse_override, arguments.overrides)))
    config = parse_config(TrialConfig, raw, source=str(arguments.config))
    data = prepare_data(config.data)
    teacher = prepare_teacher(config, data, arguments.out, progress=_print_progress)
    print(f"teacher ready: {teacher.path}", file=sys.stderr)

    jobs = [(row, seed) for seed in arguments.seeds for row in arguments.rows]
    results: dict[tuple[str, int], dict[str, float]] = {}
    threads = max(1, (os.cpu_count() or 1) // arguments.workers)
    # Spawned, not forked: a forked child of a process that has used OpenMP may hang.
    with ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn")) as pool:
        futures = {
            pool.submit(_train, raw, row, seed, threads, teacher.path, arguments.out): (row, seed) for row, seed in jobs
        }
        for done, future in enumerate(as_completed(futures), start=1):
            row, seed = futures[future]
            results[row, seed] = future.result()
            shown = f"{100 * results[row, seed][MR2_REASONABLE]:.1f}%"
            print(f"[{done}/{len(jobs)}] {row}, seed {seed}: {MR2_REASONABLE} {shown}", file=sys.stderr, flush=True)
    print(_table(results, arguments.rows, arguments.seeds, teacher.metrics, teacher.cost.num_params))
    return 0


def _train(
    raw: dict[str, object], row: str, seed: int, threads: int, teacher_path: Path, out: Path
) -> dict[str, float]:
    """One training of one row; read from its file where it was done before."""
    overrides: dict[str, object] = {**ROWS[row], "training.seed": seed, "training.num_threads": threads}
    config = parse_config(TrialConfig, apply_overrides(raw, overrides), source=row)
    device = resolve_device(config.training.device)
    configure_process(device, threads)
    data = prepare_data(config.data, progress=False)
    key = config_hash(config, data.train_annotations.content_hash(), teacher_path.parent.name)
    path = out / "trainings" / f"{row}-{seed}-{key}.json"
    if path.is_file():
        finished: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
        return finished
    teacher = None
    if config.distillation.is_active:
        assert config.teacher is not None
        teacher = load_teacher(teacher_path, config.teacher)
    trainer = Trainer(config, data, teacher, device=device)
    started = time.perf_counter()
    while trainer.epoch < trainer.total_epochs:
        measured = trainer.train_epoch()
    result = {
        **{name: value for name, value in trainer.evaluate().as_metrics().items() if name in _METRICS},
        "num_params": trainer.cost.num_params,
        "flops": trainer.cost.flops,
        "seconds": time.perf_counter() - started,
        **{name: value for name, value in measured.items() if name.startswith("gradient_ratio")},
    }
    write_json(path, result)
    return result


def _print_progress(progress: TrainingProgress) -> None:
    """A line on stderr for each hundred steps of the teacher."""
    if progress.step % 100 == 0:
        print(f"{progress.title}: step {progress.step} of {progress.total_steps}", file=sys.stderr, flush=True)


def _table(
    results: dict[tuple[str, int], dict[str, float]],
    rows: list[str],
    seeds: list[int],
    teacher_metrics: dict[str, float],
    teacher_params: int,
) -> str:
    """The results in per cent, as Markdown."""
    lines = [
        (
            "| | parameters | fewer than the teacher | MR^-2 reasonable, % | MR^-2 all, % | AP, % "
            "| change in MR^-2 reasonable against alone, points |"
        ),
        "|---|---|---|---|---|---|---|",
        (
            f"| teacher | {teacher_params / 1e6:.2f} M | | {100 * teacher_metrics[MR2_REASONABLE]:.1f} "
            f"| {100 * teacher_metrics[MR2_ALL]:.1f} | {100 * teacher_metrics[AP]:.1f} | |"
        ),
    ]
    for row in rows:
        of_row = [results[row, seed] for seed in seeds]
        params = of_row[0]["num_params"]
        columns = [_spread([100 * result[name] for result in of_row]) for name in _METRICS]
        change = ""
        if row != "alone" and "alone" in rows:
            differences = [
                100 * (results[row, seed][MR2_REASONABLE] - results["alone", seed][MR2_REASONABLE]) for seed in seeds
            ]
            change = f"{_spread(differences, sign='+')} ({', '.join(f'{value:+.1f}' for value in differences)})"
        lines.append(
            f"| {row} | {params / 1e6:.2f} M | {teacher_params / params:.1f}x | {' | '.join(columns)} | {change} |"
        )
    return "\n".join(lines)


def _spread(values: list[float], sign: str = "") -> str:
    """Mean and sample standard deviation."""
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):{sign}.1f}{deviation}"


if __name__ == "__main__":
    raise SystemExit(main())
