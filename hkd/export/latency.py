"""Latency, memory and size of detectors on this machine's CPU: the body of ``hkd benchmark``.

A single stream of pictures: one call at a time. The detectors run in turn, one call each a round, so that other load on
the machine affects all alike; ratios are of calls of the same round.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from hkd.config import EvaluationConfig
from hkd.data.sources.synthetic import draw_scene
from hkd.image_files.fitting import fitted_sizes, resized
from hkd.image_files.headers import ImageFileError
from hkd.image_files.pixels import read_rgb
from hkd.inference.deployed.onnx_file import ONNX_SUFFIX, is_exported, read_onnx_file
from hkd.inference.deployed.packages import MissingPackageError, required_package
from hkd.inference.deployed.runtimes import RUNTIMES, Pixels
from hkd.models.fused import fuse_for_inference
from hkd.models.weight_formats.errors import CheckpointError
from hkd.models.weights import DETECTOR_SUFFIX, load_detector
from hkd.runtime.processor import processor_name
from hkd.text.escaping import LinesError

TORCH: Final = "torch"
"""The runtime of ``.safetensors`` files: fused for inference, eager, fp32."""
DEFAULT_RUNTIME: Final = "onnxruntime"
"""Of ``.onnx`` files."""
WARM_UP_ROUNDS: Final = 10
_SCENE_SIZE: Final = (480, 640)
_MEMORY_TIMEOUT_SECONDS: Final = 600
_MEASURE_MEMORY: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); "
    "from hkd.export.peak_memory import main; sys.exit(main(sys.argv[1:]))"
)
_COLUMNS: Final = (
    "file",
    "runtime",
    "precision",
    "network, ms (90th percentile)",
    "whole pipeline, ms (90th percentile)",
    "network's time / first row's (quartiles)",
    "peak memory, MiB",
    "file, MB",
)


class BenchmarkError(LinesError):
    """Files cannot be timed as asked; each problem is a line."""


@dataclass(frozen=True)
class Times:
    """Milliseconds an image."""

    median_ms: float
    p90_ms: float


@dataclass(frozen=True)
class FileLatency:
    """Measurements of one file by one runtime."""

    file: str
    runtime: str
    precision: str
    input_size: tuple[int, int]
    """Height and width, pixels."""
    batch: int
    num_bytes: int
    network: Times
    """One call of the graph, from pixels of its input to detections."""
    pipeline: Times | None
    """From the bytes of an image file to boxes in its pixels: decoding, resizing and the network."""
    ratio: float
    """Median, over the rounds, of the network's time over that of the first file in the same round."""
    ratio_quartiles: tuple[float, float]
    peak_memory_bytes: int | None
    """Resident memory of a new process that loads the runtime and the file and detects in five inputs; Python's is
    included."""
    detector: dict[str, Any]
    """Its architecture: the fields of :class:`hkd.config.DetectorConfig`."""
    metrics: dict[str, float]
    """That the file states of itself."""
    study: dict[str, str] | None
    """Study and trial that it was exported from, where the file states them."""


@dataclass(frozen=True)
class LatencyReport:
    """All measurements of a run."""

    processor: str
    processors: int
    """Available to this process."""
    num_threads: int
    rounds: int
    picture: str
    versions: dict[str, str]
    rows: tuple[FileLatency, ...]


@dataclass(frozen=True)
class _Contender:
    path: Path
    runtime: str
    precision: str
    batch: int
    height: int
    width: int
    call: Callable[[Pixels], tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]]
    """Boxes (N, K, 4) and their number (N,) of images (N, 3, H, W)."""
    metadata: str
    """JSON of an exported file."""
    detector: dict[str, Any]
    metrics: dict[str, float]
    study: dict[str, str] | None = None


def measure_latency(
    files: Sequence[Path],
    *,
    runtimes: Sequence[str] = (),
    num_threads: int = 1,
    rounds: int = 200,
    picture: Path | None = None,
    network_only: bool = False,
) -> LatencyReport:
    """Time detectors in turn.

    Args:
        files: exported detectors (``.onnx``) and files of weights (``.safetensors``), which torch runs.
        runtimes: of exported files, each of them (default: onnxruntime); ``torch`` is that of weights.
        num_threads: CPU threads of a runtime.
        rounds: timed calls of each.
        picture: image file of the pipeline; None: a generated scene of 480 x 640 pixels, as JPEG.
        network_only: whether to omit whole pipeline and peak memory, which take more than half of the time.

    Raises:
        BenchmarkError: listing files that cannot be used, or that no runtime was given for, runtimes that are not
            installed, and a picture that cannot be read.
    """
    torch.set_num_threads(num_threads)
    with TemporaryDirectory(prefix="hkd-benchmark-") as folder:
        if picture is None:
            picture = Path(folder) / "scene.jpg"
            Image.fromarray(draw_scene(0, 0, *_SCENE_SIZE).image).save(picture, quality=90)
        contenders, size = _loaded(files, tuple(runtimes), num_threads, picture)
        network, pipeline = _timed(contenders, picture, rounds, network_only=network_only)
    rows = []
    for index, one in enumerate(contenders):
        ratios = network[index] / network[0] * (contenders[0].batch / one.batch)
        rows.append(
            FileLatency(
                file=str(one.path),
                runtime=one.runtime,
                precision=one.precision,
                input_size=(one.height, one.width),
                batch=one.batch,
                num_bytes=one.path.stat().st_size,
                network=_times(network[index] / one.batch),
                pipeline=None if pipeline is None else _times(pipeline[index] / one.batch),
                ratio=float(np.median(ratios)),
                ratio_quartiles=(float(np.quantile(ratios, 0.25)), float(np.quantile(ratios, 0.75))),
                peak_memory_bytes=None if network_only else _peak_memory(one, num_threads),
                detector=one.detector,
                metrics=one.metrics,
                study=one.study,
            )
        )
    return LatencyReport(
        processor=processor_name(),
        processors=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        num_threads=num_threads,
        rounds=rounds,
        picture=f"{size[0]} x {size[1]}",
        versions={one.runtime: _version(one.runtime) for one in contenders},
        rows=tuple(rows),
    )


def format_latency(report: LatencyReport) -> str:
    """The report as a Markdown table under a line on the machine."""
    versions = ", ".join(f"{name} {number}" for name, number in sorted(report.versions.items()))
    machine = (
        f"{report.processor}, {report.processors} processors, {report.num_threads} thread(s) a runtime; {versions}; "
        f"{report.rounds} rounds in turn; pictures of {report.picture} pixels (width x height)"
    )
    lines = [
        machine,
        "",
        f"| {' | '.join(_COLUMNS)} |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    # Files of the same name in several folders are shown with their paths.
    paths_of_name: dict[str, set[str]] = {}
    for row in report.rows:
        paths_of_name.setdefault(Path(row.file).name, set()).add(row.file)
    for row in report.rows:
        name = Path(row.file).name
        low, high = row.ratio_quartiles
        cells = [
            (row.file if len(paths_of_name[name]) > 1 else name)
            + (f" (batch {row.batch}, times an image)" if row.batch > 1 else ""),
            row.runtime,
            row.precision,
            f"{row.network.median_ms:.2f} ({row.network.p90_ms:.2f})",
            "-" if row.pipeline is None else f"{row.pipeline.median_ms:.2f} ({row.pipeline.p90_ms:.2f})",
            f"{row.ratio:.2f} ({low:.2f} to {high:.2f})",
            "-" if row.peak_memory_bytes is None else f"{row.peak_memory_bytes / 2**20:.0f}",
            f"{row.num_bytes / 1e6:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _loaded(
    files: Sequence[Path], runtimes: tuple[str, ...], num_threads: int, picture: Path
) -> tuple[list[_Contender], tuple[int, int]]:
    """All detectors, and the picture's width and height."""
    contenders, size = [], (0, 0)
    problems: list[str] = []
    for path in files:
        try:
            contenders += [_load(path, runtime, num_threads) for runtime in _runtimes_of(path, runtimes)]
        except (BenchmarkError, CheckpointError, MissingPackageError) as error:
            problems.append(str(error))
    try:
        size = read_rgb(picture).size
    except FileNotFoundError:
        problems.append(f"{picture}: no such file")
    except ImageFileError as error:
        problems.append(f"{picture}: {error}")
    if problems:
        raise BenchmarkError(*dict.fromkeys(problems))
    return contenders, size


def _version(runtime: str) -> str:
    # Not that of the distribution, which may have another name, such as onnxruntime-gpu.
    return str(required_package(runtime).__version__).partition("-")[0]


def _runtimes_of(path: Path, requested: tuple[str, ...]) -> list[str]:
    if is_exported(path):
        found = [name for name in requested or (DEFAULT_RUNTIME,) if name in RUNTIMES]
        known = " or ".join(RUNTIMES)
    elif path.suffix != DETECTOR_SUFFIX:
        raise BenchmarkError(
            f"{path}: allowed are {ONNX_SUFFIX} files of hkd export and {DETECTOR_SUFFIX} files of hkd; export it with "
            "hkd export --config"
        )
    else:
        found = [TORCH] if TORCH in requested or not requested else []
        known = TORCH
    if not found:
        raise BenchmarkError(f"{path}: no --runtime was given that runs it; it is run by {known}")
    return found


def _load(path: Path, runtime: str, num_threads: int) -> _Contender:
    if runtime == TORCH:
        return _torch_contender(path)
    file = read_onnx_file(path)
    required_package(runtime)
    run = RUNTIMES[runtime](file, num_threads)
    metadata = file.metadata

    def call(images: Pixels) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        found = run(images)
        return found.boxes, found.count

    return _Contender(
        path,
        runtime,
        metadata.precision,
        metadata.batch,
        metadata.image_height,
        metadata.image_width,
        call,
        metadata.to_json(),
        metadata.detector.model_dump(mode="json"),
        metadata.metrics,
        None if metadata.study is None else metadata.study.model_dump(),
    )


def _torch_contender(path: Path) -> _Contender:
    detector, metadata = load_detector(path)
    fused = fuse_for_inference(detector, torch.float32)
    evaluation = EvaluationConfig()
    height, width = metadata.image_height, metadata.image_width
    sizes = torch.tensor([[height, width]], dtype=torch.float32)

    @torch.no_grad()
    def call(images: Pixels) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        found = fused.detect(
            torch.from_numpy(images).to(torch.float32).mul_(1 / 255),
            sizes,
            score_threshold=evaluation.score_threshold,
            nms_iou=evaluation.nms_iou,
            max_detections=evaluation.max_detections_per_image,
        )
        return found.boxes_xyxy.numpy(), found.valid.sum(dim=1).numpy()

    architecture = metadata.config.model_dump(mode="json")
    return _Contender(path, TORCH, "fp32", 1, height, width, call, "", architecture, metadata.metrics)


def _timed(
    contenders: Sequence[_Contender], picture: Path, rounds: int, *, network_only: bool
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64] | None]:
    """Milliseconds of each call (contenders, rounds), of the networks alone and of the whole pipelines."""
    inputs = [_input_of(picture, one)[0] for one in contenders]
    network = np.zeros((len(contenders), WARM_UP_ROUNDS + rounds))
    pipeline = np.zeros_like(network)
    for round_ in range(network.shape[1]):
        for index, one in enumerate(contenders):
            start = time.perf_counter()
            one.call(inputs[index])
            network[index, round_] = time.perf_counter() - start
        for index, one in enumerate(() if network_only else contenders):
            start = time.perf_counter()
            _detect_file(picture, one)
            pipeline[index, round_] = time.perf_counter() - start
    return 1e3 * network[:, WARM_UP_ROUNDS:], None if network_only else 1e3 * pipeline[:, WARM_UP_ROUNDS:]


def _detect_file(picture: Path, one: _Contender) -> list[npt.NDArray[np.float32]]:
    """Boxes in pixels of the picture, which fills the batch."""
    images, scale = _input_of(picture, one)
    boxes, count = one.call(images)
    return [found[:number] / scale for found, number in zip(boxes, count.tolist(), strict=True)]


def _input_of(picture: Path, one: _Contender) -> tuple[Pixels, float]:
    images = np.zeros((one.batch, one.height, one.width, 3), dtype=np.uint8)
    scale = 1.0
    for image in images:
        opened = read_rgb(picture)
        scales, sizes = fitted_sizes(np.array([[opened.height, opened.width]]), one.height, one.width)
        scale = float(scales[0])
        height, width = sizes[0].tolist()
        image[:height, :width] = resized(opened, scale, height, width)
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)), scale


def _times(milliseconds: npt.NDArray[np.float64]) -> Times:
    return Times(float(np.median(milliseconds)), float(np.quantile(milliseconds, 0.9)))


def _peak_memory(one: _Contender, num_threads: int) -> int:
    shape = [one.batch, 3, one.height, one.width]
    # The modules of this process, none of the working folder: it may hold downloads, such as a numpy.py.
    command = [sys.executable, "-P", "-c", _MEASURE_MEMORY, json.dumps(sys.path)]
    arguments = [str(one.path.resolve()), one.runtime, str(num_threads), *map(str, shape)]
    try:
        child = subprocess.run(
            [*command, *arguments],
            input=one.metadata,
            capture_output=True,
            text=True,
            check=False,
            timeout=_MEMORY_TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise BenchmarkError(
            f"{one.path}: measuring its memory took more than {_MEMORY_TIMEOUT_SECONDS} seconds"
        ) from error
    if child.returncode != 0:
        last = (child.stderr.strip().splitlines() or ["no message"])[-1]
        raise BenchmarkError(f"{one.path}: its memory cannot be measured in a new process ({last})")
    return int(child.stdout)
