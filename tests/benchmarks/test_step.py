"""The step benchmark: the baseline does the same work as hkd, and its hkd trainer equals the training loop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmarks.step import breakdown as step_breakdown
from benchmarks.step import peak as step_peak
from benchmarks.step.breakdown import measure_breakdown, step_flops
from benchmarks.step.contenders import (
    BASELINE_FP32,
    BASELINE_SAMPLED,
    OURS,
    OURS_ALONE,
    OURS_CACHED,
    OURS_SHARED,
    Contenders,
)
from benchmarks.step.hkd_trainer import HkdTrainer, fuse_teacher
from benchmarks.step.timing import Spread, ratios, time_interleaved
from benchmarks.step.torchvision_trainer import TEMPERATURE, TorchvisionTrainer, logit_loss, pkd_loss
from benchmarks.step.workload import STUDENT, TEACHER, Workload
from hkd.data.prepare import prepare_data
from hkd.distillation.feature_losses import pearson_loss
from hkd.distillation.logits import kl_distillation_loss
from hkd.metric_names import SECONDS
from hkd.models.build import build_detector
from hkd.models.detector import Detector
from hkd.training.step.loss import GRADIENT_RATIO, forward_teacher_pyramid
from hkd.training.trainer import IMAGES_PER_SECOND, LEARNING_RATE, Trainer
from tests.training.tiny import TEACHER_SHAPE, build, trial_config

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
HEIGHT, WIDTH = 64, 96
# Narrow versions of the benchmark's detectors.
TINY = Workload(
    2,
    HEIGHT,
    WIDTH,
    CPU,
    student=STUDENT.model_copy(update={"width_multiplier": 0.125, "pyramid_channels": 8, "head_channels": 16}),
    teacher=TEACHER.model_copy(update={"width_multiplier": 0.125, "pyramid_channels": 16, "head_channels": 32}),
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small are slower with two threads, which synchronize at every layer."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def baseline() -> TorchvisionTrainer:
    """A trainer whose teacher has batch-norm statistics that vary over channels, as trained networks have.

    The teacher is in fp64: features grow through many random layers, and fp32's rounding errors with them.
    """
    torch.manual_seed(0)
    trainer = TorchvisionTrainer(TINY, is_bf16=False)
    for name, tensor in trainer.teacher.state_dict().items():
        if name.endswith("running_mean"):
            tensor.normal_(0.0, 0.2)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
    trainer.teacher.double()
    return trainer


@pytest.fixture(scope="module")
def same_teacher(baseline: TorchvisionTrainer) -> Detector:
    """Our detector with the baseline teacher's weights."""
    detector = build_detector(TINY.teacher)
    detector.load_state_dict(baseline.teacher.state_dict())
    return detector.double().eval()


def _images() -> Tensor:
    return torch.rand(2, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


VALID_SIZES = torch.tensor([[float(HEIGHT), float(WIDTH)]] * 2)


@pytest.mark.parametrize("is_training", [False, True])
def test_baseline_and_hkd_compute_same_pyramid(
    baseline: TorchvisionTrainer, same_teacher: Detector, is_training: bool
) -> None:
    """From images in [0, 1], including normalisation, resizing (to the same size) and padding."""
    images = _images()
    baseline.teacher.train(is_training)
    same_teacher.train(is_training)
    with torch.no_grad():
        expected = baseline.teacher.backbone(baseline.teacher.transform(list(images))[0].tensors)
        found = same_teacher.forward_pyramid(images, VALID_SIZES)
    baseline.teacher.eval()
    same_teacher.eval()
    assert len(found) == len(expected) == 5
    for ours, theirs in zip(found.values(), expected.values(), strict=True):
        assert theirs.std() > 0.01  # the comparison is not vacuous
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_baseline_and_hkd_compute_same_box_head_outputs(baseline: TorchvisionTrainer, same_teacher: Detector) -> None:
    images = _images()
    # Square roots of the areas 24, 36 and 58 pixels: levels floor(4 + log2(side / 56)) = p2, p3 and p4.
    boxes = torch.tensor([[10.0, 10.0, 25.0, 48.4], [5.0, 3.0, 28.0, 59.3], [20.0, 1.0, 75.0, 62.2]])
    boxes = boxes.double().repeat(2, 1, 1)
    heads = baseline.teacher.roi_heads
    with torch.no_grad():
        pyramid = same_teacher.forward_pyramid(images, VALID_SIZES)
        found = same_teacher.forward_regions(pyramid, same_teacher.region_taps(pyramid, boxes, HEIGHT))
        numbered = dict(zip(("0", "1", "2", "3", "pool"), pyramid.values(), strict=True))
        pooled = heads.box_roi_pool(numbered, list(boxes), [(HEIGHT, WIDTH)] * 2)
        class_logits, box_deltas = heads.box_predictor(heads.box_head(pooled))
    torch.testing.assert_close(found.region_features, pooled, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.class_logits, class_logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.box_deltas, box_deltas, atol=1e-4, rtol=0)


def test_baseline_and_hkd_have_same_distillation_losses() -> None:
    generator = torch.Generator().manual_seed(2)
    student, noise = torch.randn(2, 2, 16, 48, 64, generator=generator)
    # r = 3 / sqrt(3^2 + 2^2) = 0.83, so a loss of 0.17. PKD's standard deviation divides by one cell less: of
    # 2 x 48 x 64 cells that changes the correlation by 1 / 6144, and the loss by 3e-5 at most.
    teacher = 3.0 * student + 2.0 * noise + 1.0
    expected = pearson_loss(student, teacher)
    assert 0.1 < float(expected) < 0.25
    torch.testing.assert_close(pkd_loss(student, teacher), expected, atol=1e-4, rtol=0)
    student, teacher = torch.randn(2, 40, 2, generator=generator)
    expected = kl_distillation_loss(student, teacher, TEMPERATURE, torch.ones(40, dtype=torch.bool))
    torch.testing.assert_close(logit_loss(student, teacher), expected, atol=1e-4, rtol=0)


def test_sampled_baseline_compares_every_eleventh_cell_of_large_maps() -> None:
    # 2 x 60 x 100 cells, which leave 1,091 at 11, hkd's largest step; each image is counted from its own first cell.
    shapes = [(2, config.pyramid_channels, 60, 100) for config in (TINY.student, TINY.teacher)]
    student, teacher = (torch.randn(shape, generator=torch.Generator().manual_seed(0)) for shape in shapes)
    for samples_cells in (False, True):
        trainer = TorchvisionTrainer(TINY, is_bf16=False, samples_cells=samples_cells)
        adapted = trainer.adapters[0](student)
        kept = slice(None, None, 11 if samples_cells else 1)
        expected = pkd_loss(*(features.flatten(2)[:, :, kept, None] for features in (adapted, teacher)))
        torch.testing.assert_close(trainer._feature_loss(0, student, teacher), expected)


@pytest.mark.parametrize("is_whole_epoch", [False, True])
def test_hkd_trainer_is_bit_identical_to_training_loop(tmp_path: Path, is_whole_epoch: bool) -> None:
    """Two steps from the same weights, at a constant learning rate, end with the same bits."""
    config = trial_config(
        tmp_path, training__precision="fp32", training__warmup_fraction=0, training__final_learning_rate_fraction=1
    )
    data = prepare_data(config.data, progress=False)
    trainer = Trainer(config, data, build(TEACHER_SHAPE, 1), device=CPU)
    teacher = fuse_teacher(build(TEACHER_SHAPE, 1), config, CPU)
    ours = HkdTrainer(config, data.train_store, data.train_annotations, CPU, teacher=teacher)
    ours.learners[0].detector.load_state_dict(trainer.student.state_dict())
    ours.generator.manual_seed(2**31 + config.training.seed)  # as the loop seeds its first epoch's
    assert ours.loader.steps_per_epoch == 2
    measured = trainer.train_epoch()
    if is_whole_epoch:
        # All metrics of the loop except times and the learning rate, which is constant.
        others = {LEARNING_RATE, SECONDS, IMAGES_PER_SECOND}
        assert ours.train_epoch() == {name: value for name, value in measured.items() if name not in others}
        assert any(name.startswith(GRADIENT_RATIO) for name in measured)
    else:
        for _ in range(2):
            ours.step()
    expected = trainer.student.state_dict()
    for name, tensor in ours.learners[0].detector.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_cached_contender_reads_pyramids_of_one_epoch() -> None:
    torch.manual_seed(0)
    contenders = Contenders(TINY)
    trainer = contenders.make(OURS_CACHED).trainer
    again = contenders.make(OURS_ALONE).trainer  # sees the same batches: the first epoch's
    assert isinstance(trainer, HkdTrainer)
    assert isinstance(again, HkdTrainer)
    assert trainer.pyramids is not None
    # p2..p6 of 64 x 96 pixels: 16 x 24, 8 x 12, 4 x 6, 2 x 3 and 1 x 2 cells of 16 channels, two bytes or four, of two
    # images; besides, each level and the header fill pages of 4,096 bytes.
    numbers = (384 + 96 + 24 + 6 + 2) * 16 * 2
    assert 2 * numbers < trainer.pyramids.bytes_per_batch < 4 * numbers + 6 * 4096
    for _ in range(trainer.loader.steps_per_epoch):
        batch = again.next_batch()
        expected = forward_teacher_pyramid(contenders.teacher, batch, trainer.autocast_dtype)
        for level, features in trainer.pyramids.read(batch.images).items():
            assert torch.equal(features, expected[level])


def test_breakdown_times_every_part_and_restores_calls() -> None:
    trainer = Contenders(TINY).make(OURS).trainer
    assert isinstance(trainer, HkdTrainer)
    result = measure_breakdown(trainer, 1, CPU)
    # Of one round medians are the values: the parts and the rest are the step.
    assert sum(part.milliseconds.median for part in result.parts) == pytest.approx(result.step_milliseconds.median)
    assert all(part.milliseconds.median > 0 for part in result.parts if part.name != step_breakdown.REST)
    assert not {"next_batch", "backward", "update"} & vars(trainer).keys()


def test_flops_are_two_per_multiply_add_with_backward_and_fused_convolutions() -> None:
    layer = nn.Linear(3, 5)
    rows = torch.rand(4, 3)
    # 4 x 3 by 3 x 5 forward, and as much for the weight's gradient: 2 * 2 * 60.
    assert step_flops(lambda: torch.autograd.backward(layer(rows).sum())) == 240
    convolution = nn.Conv2d(8, 16, 3, padding=1)
    images = torch.rand(2, 8, 10, 12)
    arguments = (convolution.weight, convolution.bias, [1, 1], [1, 1], [1, 1], 1)
    fused = torch.ops.mkldnn._convolution_pointwise
    with torch.no_grad():
        # 2 images x 120 cells x 16 channels out of 8 x 9 products each.
        assert step_flops(lambda: convolution(images)) == 2 * 2 * 120 * 16 * 72
        assert step_flops(lambda: fused(images, *arguments, "relu", [], None)) == 2 * 2 * 120 * 16 * 72
        added = torch.zeros(2, 16, 10, 12)
        call = step_flops(lambda: fused.binary(images, added, *arguments, "add", None, "relu", [], None))
        assert call == 2 * 2 * 120 * 16 * 72


def test_baseline_and_hkd_have_similar_flops() -> None:
    """Within a few per cent, by which torchvision's number of sampled regions varies."""
    contenders = Contenders(TINY)
    torch.manual_seed(0)
    theirs, ours = (step_flops(contenders.make(name).step) for name in (BASELINE_FP32, OURS))
    assert ours == pytest.approx(theirs, rel=0.1)


def test_rounds_run_every_call_once_and_ratios_are_within_round() -> None:
    called: list[str] = []
    calls = {name: lambda name=name: called.append(name) for name in ("one", "other")}
    milliseconds = time_interleaved(calls, 3, 2, CPU, "test")
    assert {name: len(values) for name, values in milliseconds.items()} == {"one": 3, "other": 3}
    for turn in range(5):
        assert set(called[2 * turn : 2 * turn + 2]) == {"one", "other"}
    # Quartiles of 2, 4 and 8 by linear interpolation: halfway between neighbours.
    assert ratios([2.0, 8.0, 8.0], [1.0, 2.0, 1.0]) == Spread(4.0, 3.0, 6.0)
    assert Spread(4.0, 2.0, 8.0).inverse(8.0) == Spread(2.0, 1.0, 4.0)


@pytest.mark.parametrize(("milliseconds", "calls"), [(1500.0, 1), (10.0, 18)])
def test_peak_stops_at_first_slow_size(monkeypatch: pytest.MonkeyPatch, milliseconds: float, calls: int) -> None:
    # Three sizes of one warm-up and five repetitions; of an emulated dtype the first call only.
    timed: list[object] = []

    def milliseconds_of(call: object, _: torch.device) -> float:
        timed.append(call)
        return milliseconds

    monkeypatch.setattr(step_peak, "milliseconds_of", milliseconds_of)
    monkeypatch.setattr(step_peak, "_MATRIX_SIZES", {"cpu": (2, 4, 8)})
    result = step_peak._peak("matmul", "bf16", CPU)
    assert len(timed) == calls
    # All calls take the same time, so that the largest size measured has the most operations per second.
    size = 2 if calls == 1 else 8
    assert result.size == f"{size} x {size}"
    assert result.teraflops_per_second == pytest.approx(2 * size**3 / milliseconds / 1e9)


# torch and torchvision with their dependencies, and hkd's required at import; scipy only on a CPU.
_AVAILABLE = {"torch", "torchvision", "numpy", "pyyaml", "pydantic", "pillow", "filelock", "scipy"}
_HIDE = """
from importlib.machinery import PathFinder

find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name.partition(".")[0] in {hidden!r} else find(name, *rest)
"""


@pytest.mark.end_to_end
def test_all_sections_run_without_optional_dependencies(tmp_path: Path) -> None:
    """All sections at a tiny size, with hkd's other dependencies hidden from the process and its children."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = {text.partition(">")[0].partition("[")[0] for text in project["dependencies"]}
    assert required > _AVAILABLE
    (tmp_path / "sitecustomize.py").write_text(_HIDE.format(hidden=required - _AVAILABLE), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    probe = subprocess.run([sys.executable, "-c", "import rich"], env=environment, capture_output=True, check=False)
    assert b"No module named 'rich'" in probe.stderr
    options = "--device cpu --threads 1 --batch-size 2 --height 64 --width 96 --rounds 1 --passes 1 --file-images 2"
    contenders = [BASELINE_FP32, BASELINE_SAMPLED, OURS, OURS_ALONE, OURS_CACHED, OURS_SHARED]
    out = tmp_path / "step.json"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.step",
            *options.split(),
            "--json",
            str(out),
            "--contenders",
            *contenders,
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(out.read_text(encoding="utf-8"))
    for section in ("step", "breakdown", "limit", "from_files", "processes"):
        assert results[section], section
    assert len(results["step"]["rows"]) == len(contenders)
    for heading in (
        "one step",
        "peak of this machine",
        "an epoch from files",
        "evaluation from files",
        "fresh process",
    ):
        assert f"| {heading} |" in done.stdout
