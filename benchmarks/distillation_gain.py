"""Measure what distillation gains: the same small student trained alone and with its teacher, over several seeds.

Prints a Markdown table of miss rates on generated scenes for the teacher, the student alone ("alone"), each
distillation stage on its own, the default weights ("default": pyramid, region and logits) and all four stages ("all"):
number of parameters, mean and standard deviation over the seeds, and the difference to "alone" seed by seed. Rows
differ in their distillation weights only; data, schedule and seeds are the same.

    python benchmarks/distillation_gain.py                                  # 25 minutes on two CPU cores
    python benchmarks/distillation_gain.py --seeds 0 --rows alone default   # two trainings
    python benchmarks/distillation_gain.py --rows alone default --set training.precision=fp32

Results of finished trainings are stored in --out and reused: delete that folder after changing the code.
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

if not __package__:
    # Run as a file of a checkout that is not installed: the packages are one folder up.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hkd.config import TrialConfig
from hkd.config_files.parsing import apply_overrides, config_hash, parse_config, parse_override
from hkd.config_files.yaml_format import load_yaml
from hkd.data.prepare import prepare_data
from hkd.files import write_json
from hkd.metric_names import AP, MR2_ALL, MR2_REASONABLE
from hkd.runtime.device import resolve_device
from hkd.runtime.process import configure_process
from hkd.training.fit import fit
from hkd.training.progress import TrainingProgress
from hkd.training.teacher import load_teacher, prepare_teacher
from hkd.training.trainer import Trainer

CONFIG = Path(__file__).with_name("distillation_gain.yaml")
STAGES = ("pyramid", "region", "embedding", "logits")
_NO_STAGE: dict[str, object] = {f"distillation.{stage}.weight": 0.0 for stage in STAGES}
ROWS: dict[str, dict[str, object]] = {
    "alone": _NO_STAGE,
    **{stage: {**_NO_STAGE, f"distillation.{stage}.weight": 1.0} for stage in STAGES},
    "default": {},
    "all": {f"distillation.{stage}.weight": 1.0 for stage in STAGES},
}
"""Configuration overrides of each row of the table."""
_METRICS = (MR2_REASONABLE, MR2_ALL, AP)


def main() -> int:
    """Run the trainings that are not finished, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=CONFIG, help="configuration, YAML (default: %(default)s)")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override one setting in all rows; may be repeated",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(6)), help="(default: 0 to 5)")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="rows to train (default: all)")
    parser.add_argument(
        "--workers",
        type=int,
        default=max(1, (os.cpu_count() or 1)),
        help="trainings in parallel, which share the CPU's cores (default: number of cores)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/distillation_gain"), help="folder of results (default: %(default)s)"
    )
    arguments = parser.parse_args()
    raw = apply_overrides(load_yaml(arguments.config), dict(map(parse_override, arguments.overrides)))
    config = parse_config(TrialConfig, raw, source=str(arguments.config))
    data = prepare_data(config.data)
    teacher = prepare_teacher(config, data, arguments.out, progress=_print_progress)
    print(f"teacher ready: {teacher.path}", file=sys.stderr)

    jobs = [(row, seed) for seed in arguments.seeds for row in arguments.rows]
    results: dict[tuple[str, int], dict[str, float]] = {}
    threads = max(1, (os.cpu_count() or 1) // arguments.workers)
    # Spawned: a forked child of a process that has used OpenMP may hang.
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
    """Metrics of one training of one row, read from its result file if it is finished."""
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
    # Evaluated after the last epoch only.
    training = config.training.model_copy(update={"evaluate_every_epochs": config.training.total_epochs})
    trainer = Trainer(config.model_copy(update={"training": training}), data, teacher, device=device)
    started = time.perf_counter()
    *_, last = fit(trainer)
    result = {
        **{name: value for name, value in last.metrics.items() if name in _METRICS},
        "num_params": trainer.cost.num_params,
        "flops": trainer.cost.flops,
        "seconds": time.perf_counter() - started,
        **{name: value for name, value in last.training.items() if name.startswith("gradient_ratio")},
    }
    write_json(path, result)
    return result


def _print_progress(progress: TrainingProgress) -> None:
    """Print a line to stderr every hundred steps of the teacher."""
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
