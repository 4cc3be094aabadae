"""Hostile YAML and settings, at every command that reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from hkd.cli import main
from sweeps.run import main as run_sweep
from tests.hostile.refusing import Main, refusal
from tests.hostile.yaml_files import BOMBS


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def assert_only(folder: Path, *names: str) -> None:
    """Nothing was executed and nothing written."""
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)


@pytest.mark.parametrize("bomb", BOMBS)
def test_configuration_of_a_training(bomb: str, inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("trial.yaml").write_bytes(BOMBS[bomb])
    if bomb == "long file":  # of comments
        assert "1 MiB" in refusal(main, ["train", "trial.yaml"], capsys)
    assert "trial.yaml" in refusal(main, ["train", "trial.yaml"], capsys)
    assert_only(inside, "trial.yaml")


@pytest.mark.parametrize("bomb", BOMBS)
def test_study(bomb: str, inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("study.yaml").write_bytes(BOMBS[bomb])
    assert "study.yaml" in refusal(run_sweep, ["--config", "study.yaml", "--dry-run"], capsys)
    assert_only(inside, "study.yaml")


@pytest.mark.parametrize("bomb", BOMBS)
def test_base_of_a_study(bomb: str, inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("base.yaml").write_bytes(BOMBS[bomb])
    Path("study.yaml").write_text("name: x\nbase: base.yaml\n")
    assert "base" in refusal(run_sweep, ["--config", "study.yaml", "--dry-run"], capsys)
    assert_only(inside, "study.yaml", "base.yaml")


@pytest.mark.parametrize("bomb", BOMBS)
def test_protocol(bomb: str, inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_bytes(BOMBS[bomb])
    message = refusal(
        main, ["evaluate", "--ground-truth", "gt.json", "--detections", "dt.json", "--protocol", "mine.yaml"], capsys
    )
    assert "mine.yaml" in message
    assert_only(inside, "mine.yaml")


@pytest.mark.parametrize("bomb", BOMBS)
def test_configuration_of_a_yolo_data_set(bomb: str, inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = inside / "root"
    root.mkdir()
    (root / "data.yaml").write_bytes(BOMBS[bomb])
    assert "data.yaml" in refusal(main, ["data", "yolo", "--root", "root", "--out", "out"], capsys)
    assert_only(inside, "root")


OVERRIDES = {
    "epochs of 30 digits": "training.total_epochs=" + "9" * 30,
    "a billion proposals": "student.proposals_per_image=1000000000",
    "a billion proposals of a level": "student.pre_nms_proposals_per_level=1000000000",
    "sides of 100,000 pixels": "data.image_height=100000",
    "scenes of 100,000 pixels": "data.synthetic.width=100000",
    "a billion threads": "training.num_threads=1000000000",
    "anchors of 1e30 pixels": "student.anchor_sizes=[1e30, 1e30, 1e30, 1e30, 1e30]",
    "anchors of 1e-300 pixels": "student.anchor_sizes=[1e-300, 1, 1, 1, 1]",
    "a thousand aspect ratios": f"student.anchor_aspect_ratios={[1] * 1000}",
    "aspect ratios of 1e30": "student.anchor_aspect_ratios=[1e30]",
    "batches of 1e12": "training.batch_size=1000000000000",
    "evaluation batches of 1e12": "evaluation.batch_size=1000000000000",
    "infinite learning rate": "training.learning_rate=.inf",
    "learning rate beyond floats": "training.learning_rate=1e400",
    "learning rate of 1e30": "training.learning_rate=1e30",
    "weights of 1e300": "distillation.pyramid.weight=1e300",
    "NaN": "training.momentum=.nan",
    "scale of 1e-300": "data.augmentation.scale_min=1e-300",
    "scale of 1e300": "data.augmentation.scale_max=1e300",
    "detections": "evaluation.max_detections_per_image=1000000000",
    "negative": "training.batch_size=-1",
    "device": "data.train_annotations=/dev/zero",
    "long name": "x" * 100_000 + "=1",
    "deep name": "training." + "a." * 20_000 + "b=1",
    "deep value": "training.seed=" + "[" * 10_000,
    "laughs": "training.seed={a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9], b: &b "
    "[*a, *a, *a, *a, *a, *a, *a, *a, *a], c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b], d: &d "
    "[*c, *c, *c, *c, *c, *c, *c, *c, *c], e: &e [*d, *d, *d, *d, *d, *d, *d, *d, *d]}",
}


@pytest.mark.parametrize("name", OVERRIDES)
def test_override_of_a_training(name: str, inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("trial.yaml").write_text("teacher: null\n")
    refusal(main, ["train", "trial.yaml", "--set", OVERRIDES[name]], capsys)
    assert_only(inside, "trial.yaml")


@pytest.mark.parametrize("name", OVERRIDES)
def test_override_of_a_study(name: str, inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("study.yaml").write_text("name: x\n")
    refusal(run_sweep, ["--config", "study.yaml", "--dry-run", "--set", f"base.{OVERRIDES[name]}"], capsys)
    assert_only(inside, "study.yaml")


@pytest.mark.parametrize(
    "arguments",
    [
        ["data", "synthetic", "--out", "out", "--train-images", "1" + "0" * 30],
        ["data", "synthetic", "--out", "out", "--height", "100000"],
        ["data", "synthetic", "--out", "out", "--width", "9" * 5_000],
        ["data", "synthetic", "--out", "out", "--seed", "1" + "0" * 30],
        ["data", "synthetic", "--out", "out", "--preview", "1000000"],
        ["data", "pennfudan", "--root", ".", "--out", "out", "--train-images", "1" + "0" * 30],
        ["data", "caltech", "--root", ".", "--out", "out", "--every", "1" + "0" * 30],
        ["data", "coco", "--root", ".", "--out", "out", "--max-megapixels", "1e400"],
        ["evaluate", "--ground-truth", "a", "--detections", "b", "--resamples", "1" + "0" * 30],
        ["detect", "a.png", "--weights", "w", "--out", "out", "--score-threshold", "1e400"],
        ["draw", "--annotations", "a", "--weights", "w", "--out", "out.png", "--fppi", "1e400"],
        ["draw", "--annotations", "a", "--weights", "w", "--out", "out.png", "--count", "1" + "0" * 30],
    ],
    ids=lambda arguments: f"{arguments[1]} {arguments[-2]}",
)
def test_numbers_of_the_command_line(arguments: list[str], inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert arguments[-2] in refusal(main, arguments, capsys)
    assert_only(inside)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("data: {image_height: 16384, image_width: 16384}\ntraining: {batch_size: 65536}", "training.batch_size"),
        (
            "data: {image_height: 16384, image_width: 512}\ntraining: {batch_size: 1}\nevaluation: {batch_size: 65536}",
            "evaluation.batch_size",
        ),
    ],
)
def test_sizes_whose_product_no_machine_has(
    text: str, problem: str, inside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("trial.yaml").write_text(f"teacher: null\n{text}\n")
    message = refusal(main, ["train", "trial.yaml", "--set", "training.device=cpu"], capsys)
    assert f"{problem} 65536 at 16384 x " in message
    assert "needs at least" in message


ENTRY_POINTS: list[tuple[Main, list[str]]] = [(main, ["train"]), (run_sweep, ["--dry-run", "--config"])]


@pytest.mark.parametrize(("run", "arguments"), ENTRY_POINTS, ids=["hkd train", "sweeps/run.py"])
@pytest.mark.parametrize("path", ["/dev/zero", ".", "missing.yaml", "loop.yaml", "/dev/null/x", "x" * 5_000])
def test_paths_that_are_no_files(
    run: Main, arguments: list[str], path: str, inside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("loop.yaml").symlink_to("loop.yaml")
    refusal(run, [*arguments, path], capsys)
    assert_only(inside, "loop.yaml")
