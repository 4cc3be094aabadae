"""What ``--dry-run`` prints and checks."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from hkd.coco.writing import annotation_document
from hkd.models.cost import config_cost
from sweeps import run
from sweeps.folder import StudyFolder
from sweeps.settings.space import trial_config
from sweeps.settings.study import load_study
from tests.data.test_unlabelled import write_set
from tests.sweeps.command import files_in, input_error


def test_dry_run_prints_plan_and_writes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--config", "tiny.yaml", "--dry-run", "--set", "search.num_trials=3"]) == 0
    out = capsys.readouterr().out
    assert files_in(folder) == {"tiny.yaml"}
    study = load_study(Path("tiny.yaml"))
    # The resolved study, with defaults.
    assert "num_trials: 3" in out
    assert "sampler: front" in out
    for title, values in {
        "smallest student": {"student.pyramid_channels": 8},
        "largest student": {"student.pyramid_channels": 32},
        "baseline-undistilled": {},
    }.items():
        cost = config_cost(trial_config(study.base, values).student, 64, 96)
        (row,) = (line for line in out.splitlines() if title in line)
        assert row.split()[-2:] == [f"{cost.num_params / 1e6:.2f}", f"{cost.flops / 1e9:.2f}"]
    assert re.search(r"train 3 students proposed by front, 2 epochs each", out)
    assert "train the teacher for 1 epochs" in out
    assert "measure" not in out
    assert f"write to {folder}/runs/tiny (which is new) and sqlite:///mlflow.db" in out


def test_dry_run_reports_gpu_share_measurement(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--config", "tiny.yaml", "--dry-run", "--set", "resources.gpus_per_trial=auto"]) == 0
    out = capsys.readouterr().out
    assert "how many of its largest trials share one\n" in out


def test_dry_run_checks_objectives_on_annotations(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (96, 64)).save(folder / "a.png")
    images = [{"id": 1, "file_name": "a.png", "height": 64, "width": 96}]
    document = annotation_document(images, [{"image_id": 1, "bbox": [1, 1, 12, 30]}], ".")
    (folder / "set.json").write_text(json.dumps(document), encoding="utf-8")
    given = [f"base.data.{which}_annotations=set.json" for which in ("train", "validation")]
    flags = [word for setting in given for word in ("--set", setting)]
    # The only pedestrian is smaller than reasonable ones.
    assert "objectives: mr2_reasonable " in input_error(capsys, *flags, "--dry-run")


def test_dry_run_fetches_no_image_from_a_bucket(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets = {"train": range(1, 4), "validation": range(4, 6)}
    uris = {name: write_set(folder / "bucket", name, seeds).as_uri() for name, seeds in sets.items()}
    flags = [word for name, uri in uris.items() for word in ("--set", f"base.data.{name}_annotations={uri}")]
    assert run.main(["--config", "tiny.yaml", "--dry-run", *flags]) == 0
    out = capsys.readouterr().out
    assert f"fetch 3 images (0.1 MiB) of {uris['train']}, once per node; 3 (0.1 MiB) are missing here" in out
    assert f"fetch 2 images (0.0 MiB) of {uris['validation']}" in out
    assert f"train_annotations: {uris['train']}?version=" in out
    assert "that the bucket has their images" in out
    assert not list(folder.glob("cache/**/*.png"))


def test_dry_run_prints_no_password(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:SECRET@host")
    assert run.main(["--config", "tiny.yaml", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "SECRET" not in out
    assert out.count("http://***@host") == 2


def test_dry_run_rejects_changed_study(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = load_study(Path("tiny.yaml"))
    StudyFolder(study).write_study(study)
    assert run.main(["--config", "tiny.yaml", "--dry-run"]) == 0
    assert "(which exists; see --resume)" in capsys.readouterr().out
    assert 'a study named "tiny" exists' in input_error(capsys, "--dry-run", "--set", "base.training.batch_size=2")


def test_dry_run_table_fits_80_columns(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    name = "a-baseline-of-a-long-name-indeed"
    assert run.main(["--config", "tiny.yaml", "--dry-run", "--set", f"baselines.{name}.training.seed=1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    start, end = (next(i for i, line in enumerate(lines) if text in line) for text in ("M params", "Dry run"))
    table = lines[start:end]
    assert table[0].split() == ["backbone", "width", "pyramid", "head", "M", "params", "GFLOPs"]
    assert max(map(len, table)) <= 80
    # Teacher, three baselines, smallest and largest student; long names are folded, not truncated.
    assert sum(len(re.findall("resnet18 ", line)) for line in table) == 6
    assert f"baseline-{name}" in "".join(line.partition(" resnet18 ")[0].strip() for line in table)
    assert "…" not in "".join(table)


def test_dry_run_counts_configurations_of_small_space(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Four configurations: pyramid_channels of 8, 16, 24 or 32.
    flags = ["--set", "space.distillation.pyramid.weight=null", "--set", "search.num_trials=50"]
    assert run.main(["--config", "tiny.yaml", "--dry-run", *flags]) == 0
    assert "train 4 students proposed by front" in capsys.readouterr().out
