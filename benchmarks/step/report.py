"""Results of the speed benchmarks as Markdown tables."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torchvision

from benchmarks.step.breakdown import Breakdown
from benchmarks.step.contenders import BASELINE_FP32, LABELS, OURS_ALONE
from benchmarks.step.fresh_process import ProcessFigures
from benchmarks.step.peak import PeakPerformance
from benchmarks.step.throughput import FromFiles, Throughput
from benchmarks.step.timing import Spread, ratios
from benchmarks.step.workload import Workload
from hkd.runtime.processor import processor_name


@dataclass(frozen=True)
class StepRow:
    """Time of one contender's step, per student if a step trains several."""

    label: str
    milliseconds: Spread
    images_per_second: Spread
    speedup: Spread | None
    """Relative to the fp32 baseline in the same round; None if that was not measured."""
    cost_of_alone: Spread | None
    """Time over that of hkd's student alone in the same round; None if that was not measured."""


def machine_line(device: torch.device, threads: int) -> str:
    """Processor or GPU, threads and versions."""
    versions = f"torch {torch.__version__}, torchvision {torchvision.__version__}, Python {platform.python_version()}"
    cpu = f"{processor_name()}, {threads} threads of {os.cpu_count()} cores"
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}; {cpu}; {versions}"
    return f"{cpu}, {torch.backends.cpu.get_cpu_capability()}; {versions}"


def work_line(workload: Workload) -> str:
    """Batch, image size and detectors."""
    student, teacher = workload.student, workload.teacher
    return (
        f"Batch {workload.batch_size} of {workload.image_height} x {workload.image_width} pixels; teacher "
        f"{teacher.backbone}, pyramid {teacher.pyramid_channels}, head {teacher.head_channels}; student "
        f"{student.backbone} at width {student.width_multiplier:g}, pyramid {student.pyramid_channels}, head "
        f"{student.head_channels}"
    )


def step_rows(milliseconds: Mapping[str, Sequence[float]], names: Sequence[str], batch_size: int) -> list[StepRow]:
    """Rows of the contenders ``names`` from the milliseconds per student of all contenders in each round."""
    baseline, alone = milliseconds.get(BASELINE_FP32), milliseconds.get(OURS_ALONE)
    rows = []
    for name in names:
        own = milliseconds[name]
        spread = Spread.of(own)
        rows.append(
            StepRow(
                LABELS[name],
                spread,
                spread.inverse(1e3 * batch_size),
                None if baseline is None else ratios(baseline, own),
                None if alone is None else ratios(own, alone),
            )
        )
    return rows


def step_table(rows: Sequence[StepRow], rounds: int) -> str:
    """One row per contender."""
    lines = [
        [
            row.label,
            interval(row.milliseconds, "{:.0f}" if row.milliseconds.median >= 100 else "{:.1f}"),
            f"{row.images_per_second.median:.1f}",
            _optional(row.speedup, "{:.2f}x"),
            _optional(row.cost_of_alone, "{:.2f}x"),
        ]
        for row in rows
    ]
    header = [
        "one step",
        "ms, median (quartiles)",
        "images/s",
        "speed over torchvision fp32",
        "time / time of the student alone",
    ]
    note = f"{rounds} rounds of one step of each, in one process; ratios are medians of the ratios within a round."
    return "\n\n".join([markdown_table(header, lines), note])


def breakdown_table(breakdown: Breakdown) -> str:
    """One row per part of hkd's step."""
    lines = [
        [part.name, interval(part.milliseconds, "{:.1f}"), f"{100 * part.share:.0f} %"] for part in breakdown.parts
    ]
    lines.append(["the step", interval(breakdown.step_milliseconds, "{:.1f}"), "100 %"])
    return markdown_table(["part of our distilled step", "ms, median (quartiles)", "share"], lines)


def limit_tables(limit: PeakPerformance) -> str:
    """Measured peaks, and the efficiency of each step."""
    peaks = markdown_table(
        ["peak of this machine", "TFLOP/s", "reached at"],
        [[f"{peak.operation}, {peak.dtype}", f"{peak.teraflops_per_second:.3g}", peak.size] for peak in limit.peaks],
    )
    distances = markdown_table(
        ["one step", "TFLOP", "ms", "ms at the peak", "share of the peak"],
        [
            [
                distance.label,
                f"{distance.teraflops:.3g}",
                f"{distance.milliseconds:.0f}",
                f"{distance.least_milliseconds:.1f}",
                f"{100 * distance.share_of_peak:.0f} %",
            ]
            for distance in limit.distances
        ],
    )
    return f"{peaks}\n\n{distances}"


def from_files_tables(result: FromFiles) -> str:
    """Throughput of an epoch, of its batches and of an evaluation."""
    tables = []
    for title, rows in (
        ("an epoch from files", result.epoch),
        ("its batches alone, without training", result.data_only),
        ("evaluation from files", result.evaluation),
    ):
        if rows:
            header = [title, "images/s, median (quartiles)", "speed over torchvision fp32"]
            tables.append(markdown_table(header, [_throughput(row) for row in rows]))
    note = (
        f"{result.images} JPEG files of {result.file_height} x {result.file_width} pixels, in the page cache; "
        f"torchvision decodes them in each pass in {result.loader_workers} workers, hkd once per node into its image "
        f"store ({result.store_seconds:.2f} s, {result.images / result.store_seconds:.0f} images/s, not included)."
    )
    return "\n\n".join([*tables, note])


def first_step_table(figures: Sequence[ProcessFigures]) -> str:
    """Time to the end of the first step."""
    lines = [
        [
            row.label,
            f"{row.first_step_seconds:.1f}",
            f"{row.import_seconds:.1f}",
            f"{row.build_seconds:.1f}",
            f"{row.step_seconds:.1f}",
        ]
        for row in figures
    ]
    return markdown_table(
        ["fresh process", "s to the end of the first step", "of it start and imports", "building", "first step"], lines
    )


def memory_table(figures: Sequence[ProcessFigures], device: torch.device) -> str:
    """Peak memory of a few steps."""
    is_gpu = device.type == "cuda"
    lines = [
        [row.label, f"{row.peak_mebibytes:.0f}", *([] if is_gpu else [f"{row.imports_mebibytes:.0f}"])]
        for row in figures
    ]
    if is_gpu:
        return markdown_table(["three steps", "peak of GPU memory allocated, MiB"], lines)
    return markdown_table(["three steps", "peak resident size of the process, MiB", "of it imports"], lines)


def _throughput(row: Throughput) -> list[str]:
    return [row.label, interval(row.images_per_second, "{:.1f}"), _optional(row.speedup, "{:.2f}x")]


def interval(spread: Spread, form: str) -> str:
    """Median and quartiles in the format ``form``."""
    low, high = form.format(spread.lower_quartile), form.format(spread.upper_quartile)
    return f"{form.format(spread.median)} ({low} to {high})"


def _optional(spread: Spread | None, form: str) -> str:
    return "" if spread is None else interval(spread, form)


def markdown_table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table with its first column aligned left, the others right."""
    rule = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *lines))
