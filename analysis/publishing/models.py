"""Exported detectors as MLflow's logged models, and as versions in its registry."""

from __future__ import annotations

import hashlib
import io
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from analysis.publishing.exported import ExportedTrial, PublishingError
from analysis.records.store import reading_store
from hkd import metric_names as names
from hkd.text.output import log_as_we_do
from hkd.tracking_uri import TRACKING_URI_VARIABLE

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, Metric, Run
    from mlflow.tracking import MlflowClient

CHAMPION: Final = "champion"
"""Alias of the registered version."""
CARD_FILE: Final = "model_card.md"
_CODE = Path(__file__).with_name("served_detector.py")
_PACKAGES = ("mlflow", "numpy", "onnxruntime", "pandas", "pillow")
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_. -]{0,99}")
_LINKED = (*names.MISS_RATES, names.AP, names.AP50, *names.COSTS)
_METRICS_PER_BATCH = 1000  # MLflow's limit


@dataclass(frozen=True)
class RegisteredVersion:
    """A version in the registry."""

    name: str
    version: str
    is_edited: bool
    """Whether a user wrote another description of it, which stays."""


def check_model_name(name: str) -> None:
    """Check the name of a registered model.

    Raises:
        PublishingError: MLflow or a file system would refuse it.
    """
    if not _MODEL_NAME.fullmatch(name):
        raise PublishingError(
            f"--register {name[:40]!r}: allowed are up to 100 letters, digits, spaces, _ . -, first a letter or digit"
        )


def log_models(tracking_uri: str, exported: Sequence[tuple[ExportedTrial, str]]) -> list[str]:
    """Log detectors with their model cards as models of their trials' runs, unless that was done before.

    Returns:
        MLflow's ids of the models.

    Raises:
        RecordsError: the store cannot be written.
    """
    with reading_store(tracking_uri, what="written") as client:
        return [_log_model(client, each, card) for each, card in exported]


def register(tracking_uri: str, name: str, exported: ExportedTrial, model_id: str, card: str) -> RegisteredVersion:
    """Make a logged model the champion of a registered model; a version of it is created unless there is one.

    Its description is the card, unless a user edited it.

    Raises:
        RecordsError: the registry cannot be written.
    """
    with reading_store(tracking_uri, what="written") as client:
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name, description="Pedestrian detectors that were distilled with hkd.")
        versions = client.search_model_versions(f"name = '{name}'")
        source = f"models:/{model_id}"
        known = next((each for each in versions if each.source == source), None)
        if known is None:
            with _as_default_store(client):
                known = client.create_model_version(name, source, exported.trial.run_id, model_id=model_id)
        present = known.description or ""
        is_edited = present != "" and known.tags.get(names.TAG_CARD_SHA256) != _text_hash(present)
        if not is_edited:
            client.set_model_version_tag(name, known.version, names.TAG_CARD_SHA256, _text_hash(card))
            client.update_model_version(name, known.version, card)
        client.set_registered_model_alias(name, CHAMPION, known.version)
        return RegisteredVersion(name, str(known.version), is_edited)


def _text_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def _as_default_store(client: MlflowClient) -> Iterator[None]:
    """MLflow looks a logged model up in the process's default store, whatever the client's is."""
    import mlflow

    before, in_environment = mlflow.get_tracking_uri(), os.environ.get(TRACKING_URI_VARIABLE)
    mlflow.set_tracking_uri(client.tracking_uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)
        if in_environment is None:
            # MLflow sets it for child processes.
            os.environ.pop(TRACKING_URI_VARIABLE, None)


def _log_model(client: MlflowClient, exported: ExportedTrial, card: str) -> str:
    from mlflow.entities import LoggedModelOutput

    run = client.get_run(exported.trial.run_id)
    model = _known_model(client, run, exported)
    if model is None:
        metadata = exported.file.metadata
        model = client.create_logged_model(
            run.info.experiment_id,
            name=exported.name,
            source_run_id=run.info.run_id,
            tags={
                names.TAG_ONNX_SHA256: exported.sha256,
                names.TAG_TRIAL_ID: exported.trial.trial_id,
                names.TAG_PRECISION: metadata.precision,
            },
            params={
                "opset": str(metadata.opset),
                "batch": str(metadata.batch),
                "max_detections": str(metadata.max_detections),
            },
            model_type="pedestrian-detector",
        )
        with tempfile.TemporaryDirectory() as folder:
            _save(exported, card, Path(folder) / "model", model.model_id)
            client.log_model_artifacts(model.model_id, str(Path(folder) / "model"))
        client.finalize_logged_model(model.model_id, "READY")
    outputs = () if run.outputs is None else run.outputs.model_outputs
    if model.model_id not in {each.model_id for each in outputs}:
        client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, 0)])
    metrics = _metrics(client, run, exported, model.model_id)
    for first in range(0, len(metrics), _METRICS_PER_BATCH):
        client.log_batch(run.info.run_id, metrics=metrics[first : first + _METRICS_PER_BATCH])
    return str(model.model_id)


def _known_model(client: MlflowClient, run: Run, exported: ExportedTrial) -> LoggedModel | None:
    from mlflow.entities import LoggedModelStatus

    page = client.search_logged_models(
        [run.info.experiment_id], f"tags.`{names.TAG_ONNX_SHA256}` = '{exported.sha256}'"
    )
    return next(
        (model for model in page if model.source_run_id == run.info.run_id and model.status == LoggedModelStatus.READY),
        None,
    )


def _metrics(client: MlflowClient, run: Run, exported: ExportedTrial, model_id: str) -> list[Metric]:
    """The run's metrics, linked to the model and to the images that they were measured on.

    With time, step and value of the run's own, which MLflow then stores once. Of an INT8 file, only what is counted:
    miss rates and latency are those of the fp32 network.
    """
    from mlflow.entities import Metric

    datasets = _datasets(run)
    linked = []
    for key in run.data.metrics:
        plain = key.removeprefix(names.CONFIRMED_PREFIX).removeprefix(names.TEST_PREFIX).removesuffix(names.STD_SUFFIX)
        is_counted = plain in names.COSTS and plain != names.LATENCY_MS
        if plain not in _LINKED or not (is_counted or exported.file.metadata.precision == "fp32"):
            continue
        last = client.get_metric_history(run.info.run_id, key)[-1]
        context = "test" if names.TEST_PREFIX in key else "validation"
        name, digest = (None, None) if plain in names.COSTS else datasets.get(context, (None, None))
        linked.append(Metric(key, last.value, last.timestamp, last.step, model_id, name, digest))
    return linked


def _datasets(run: Run) -> Mapping[str, tuple[str, str]]:
    """Name and digest of each data set by what it was used for."""
    from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

    return {
        tag.value: (each.dataset.name, each.dataset.digest)
        for each in (run.inputs.dataset_inputs if run.inputs is not None else ())
        for tag in each.tags
        if tag.key == MLFLOW_DATASET_CONTEXT
    }


def _save(exported: ExportedTrial, card: str, folder: Path, model_id: str) -> None:
    """Write the folder of the model: code, graph, signature, example, requirements, card."""
    import pandas as pd
    from mlflow import pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array

    log_as_we_do("mlflow")
    signature = ModelSignature(
        Schema([ColSpec(DataType.binary, "image")]),
        Schema([ColSpec(Array(Array(DataType.double)), "boxes"), ColSpec(Array(DataType.double), "scores")]),
        ParamSchema([ParamSpec("score_threshold", DataType.double, 0.5)]),
    )
    with tempfile.TemporaryDirectory() as work:
        graph = Path(work) / "student.onnx"
        graph.write_bytes(exported.file.content)
        pyfunc.save_model(
            folder,
            mlflow_model=Model(model_id=model_id),
            loader_module=_CODE.stem,
            code_paths=[str(_CODE)],
            data_path=str(graph),
            signature=signature,
            input_example=pd.DataFrame({"image": [_gray_picture()]}),
            pip_requirements=[f"{name}=={version(name)}" for name in _PACKAGES],
            metadata={"hkd": exported.file.metadata.model_dump(mode="json")},
        )
    (folder / CARD_FILE).write_text(card, encoding="utf-8")


def _gray_picture() -> bytes:
    """An example that is nobody's photograph, as PNG."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (64, 64), (128, 128, 128)).save(file, "PNG")
    return file.getvalue()
