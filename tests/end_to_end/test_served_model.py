"""From an exported student to a registered model that answers a picture with boxes."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.models import Model
from mlflow.tracking import MlflowClient
from mlflow.types import DataType
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT
from PIL import Image

from hkd.inference.deployed.metadata import StudyIdentity
from tests.analysis.studies import Written, make_empty_database, write_study
from tests.end_to_end.processes import REPOSITORY, Command
from tests.export.exported import SETTINGS, crowded_detector, export, noise

PARETO = REPOSITORY / "analysis" / "pareto.py"
DRAWING = REPOSITORY / "examples" / "draw_served.py"
VALIDATION = Dataset("photos/val", "0123456789abcdef", "local", "{}")
PICTURE = (120, 80)
"""Width and height: neither is that of the graph."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study in store.db, of which a trial was exported and registered, twice."""
    from hkd.export.onnx_export import export_detector

    folder = tmp_path_factory.mktemp("served")
    make_empty_database(folder / "store.db")
    runs = [
        Written("teacher", mr2=(0.2,), num_params=6e6, role="teacher"),
        Written("t1"),
        Written("t2", num_params=5e5),
    ]
    client = client_of(folder)
    experiment = write_study(client, "demo", runs)
    (run,) = client.search_runs([experiment], "tags.`hkd.trial_id` = 't1'")
    client.log_inputs(run.info.run_id, [DatasetInput(VALIDATION, [InputTag(MLFLOW_DATASET_CONTEXT, "validation")])])
    export(crowded_detector(), folder)
    identity = StudyIdentity(study="demo", trial="t1")
    export_detector(folder / "student.safetensors", folder / "student.onnx", SETTINGS, study=identity)
    rows = noise(1)[0].transpose(1, 2, 0)
    Image.fromarray(rows).resize(PICTURE).save(folder / "picture.png")
    # The second time, the file is found in the working folder.
    for which in (["--model", "student.onnx"], ["--trial", "t1"]):
        command = [str(PARETO), "--study", "demo", "--attach", *which, "--register", "people"]
        # Another store than MLflow's default.
        command += ["--tracking-uri", f"sqlite:///{folder}/store.db"]
        done = subprocess.run(
            [sys.executable, *command], cwd=folder, capture_output=True, text=True, timeout=1000, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert "of student.onnx: models:/" in done.stdout
        assert "people, version 1, alias champion" in done.stdout
    return folder


def client_of(folder: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{folder}/store.db")


def expected(folder: Path) -> dict[str, Any]:
    """What the example for devices detects."""
    program = (
        "import json, sys, runpy, onnxruntime\n"
        f"detect = runpy.run_path({str(REPOSITORY / 'examples' / 'detect_onnx.py')!r})['detect']\n"
        "session = onnxruntime.InferenceSession('student.onnx', providers=['CPUExecutionProvider'])\n"
        "boxes, scores = detect(session, 'picture.png')\n"
        "print(json.dumps({'boxes': boxes.tolist(), 'scores': scores.tolist()}))\n"
    )
    found: dict[str, Any] = json.loads(output_of(folder, program))
    return found


def output_of(folder: Path, program: str) -> str:
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=1000, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def is_close(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    assert len(wanted["scores"]) > 3
    return np.shape(found["boxes"]) == np.shape(wanted["boxes"]) and all(
        np.allclose(found[key], wanted[key], atol=1e-3) for key in ("boxes", "scores")
    )


def test_model_has_signature_example_requirements_card_and_linked_metrics(folder: Path) -> None:
    client = client_of(folder)
    version = client.get_model_version_by_alias("people", "champion")
    assert str(version.version) == "1"
    assert (version.description or "").splitlines()[0] == "# t1 of the study demo, fp32"
    experiment = client.get_experiment_by_name("demo")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], "tags.`hkd.trial_id` = 't1'")
    assert version.run_id == run.info.run_id
    # Published twice, logged once.
    (model,) = client.search_logged_models([run.info.experiment_id])
    assert model.source_run_id == run.info.run_id
    linked = {metric.key: metric for metric in model.metrics or ()}
    assert linked["mr2_reasonable"].value == 0.4
    of_images = (linked["mr2_reasonable"].dataset_name, linked["mr2_reasonable"].dataset_digest)
    assert of_images == (VALIDATION.name, VALIDATION.digest)
    assert linked["mr2_reasonable"].run_id == run.info.run_id
    # Costs are of no images.
    assert linked["num_params"].dataset_name is None
    assert [point.step for point in client.get_metric_history(run.info.run_id, "mr2_reasonable")] == [1, 2, 3, 4]
    files = Path(model.artifact_location.removeprefix("file://"))
    names = {file.name for file in files.rglob("*") if file.is_file()}
    assert {"MLmodel", "student.onnx", "served_detector.py", "model_card.md", "requirements.txt"} <= names
    assert not {file for file in names if file.endswith(".pkl")}
    requirements = (files / "requirements.txt").read_text().split()
    assert {line.partition("==")[0] for line in requirements} == {"mlflow", "numpy", "onnxruntime", "pandas", "pillow"}
    assert "input_example.json" in names
    signature = Model.load(str(files)).signature
    assert [(column.name, column.type) for column in signature.inputs.inputs] == [("image", DataType.binary)]
    assert signature.outputs.input_names() == ["boxes", "scores"]
    assert [(each.name, each.default) for each in signature.params] == [("score_threshold", 0.5)]
    (parent,) = client.search_runs([run.info.experiment_id], "tags.`hkd.role` = 'study'")
    attached = {Path(entry.path).name for entry in client.list_artifacts(parent.info.run_id, "report")}
    assert {"report.html", "front.md", "trials.csv", "summary.json"} <= attached


def test_model_loads_without_torch_and_hkd(folder: Path) -> None:
    program = (
        "import sys, json, mlflow, pandas\n"
        "mlflow.set_tracking_uri('sqlite:///store.db')\n"
        "model = mlflow.pyfunc.load_model('models:/people@champion')\n"
        "table = pandas.DataFrame({'image': [open('picture.png', 'rb').read()]})\n"
        "(found,) = model.predict(table, params={'score_threshold': 0.0})\n"
        "found['loaded'] = sorted({'torch', 'torchvision', 'hkd'} & set(sys.modules))\n"
        "print(json.dumps(found))\n"
    )
    found = json.loads(output_of(folder, program))
    assert found["loaded"] == []
    assert is_close(found, expected(folder))


def test_served_model_answers_a_picture_with_boxes(folder: Path) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = str(listening.getsockname()[1])
    command = "-m mlflow models serve --env-manager local --host 127.0.0.1 -w 1 -m models:/people@champion --port"
    # MLflow starts uvicorn by its name.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    changes = {"MLFLOW_TRACKING_URI": "sqlite:///store.db", "PATH": path}
    with Command([*command.split(), port], folder, changes) as server:
        server.wait_for("Uvicorn running on")
        content = base64.b64encode((folder / "picture.png").read_bytes()).decode()
        (found,) = ask(port, content, score_threshold=0.0)["predictions"]
        assert is_close(found, expected(folder))
        (some,) = ask(port, content, score_threshold=found["scores"][1])["predictions"]
        assert len(some["scores"]) == 2
        assert_example_draws(folder, port, found)
        with pytest.raises(urllib.error.HTTPError, match="400"):
            ask(port, base64.b64encode(b"%PDF-1.4").decode())


def assert_example_draws(folder: Path, port: str, found: dict[str, Any]) -> None:
    """That the example draws the boxes of scores from 0.5 on."""
    command = [sys.executable, str(DRAWING), "picture.png", "drawn.png", f"http://127.0.0.1:{port}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    boxes = [box for box, score in zip(found["boxes"], found["scores"], strict=True) if score >= 0.5]
    assert len(done.stdout.splitlines()) == len(boxes) > 0
    drawn = Image.open(folder / "drawn.png")
    assert drawn.size == PICTURE
    pixels = np.asarray(drawn)
    for x, y in (box[:2] for box in boxes):
        corner = pixels[int(y) : int(y) + 2, int(x) : int(x) + 2].reshape(-1, 3)
        assert (255, 64, 0) in {tuple(pixel) for pixel in corner.tolist()}


def ask(port: str, content: str, **params: float) -> dict[str, Any]:
    body = json.dumps({"dataframe_records": [{"image": content}], "params": params}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        found: dict[str, Any] = json.load(answer)
    return found
