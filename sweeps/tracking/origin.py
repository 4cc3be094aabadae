"""Where the results of a study come from: code, versions and data, as MLflow's page shows them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path, PurePosixPath

from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_GIT_COMMIT, MLFLOW_SOURCE_NAME, MLFLOW_SOURCE_TYPE

import hkd
from hkd import metric_names as names
from hkd.bucket_uri import place_of
from hkd.coco.annotations import Annotations

_GIT_SECONDS = 10.0
_LONGEST_NAME = 200
"""MLflow's limit is 500."""


@dataclass(frozen=True)
class Origin:
    """Tags and data sets of every run of a study."""

    tags: Mapping[str, str] = field(default_factory=dict)
    datasets: Sequence[DatasetInput] = ()


def origin_of(annotations: Mapping[str, Annotations | None], locations: Mapping[str, str] | None = None) -> Origin:
    """The origin of results that this process computes.

    Args:
        annotations: ``training``, ``validation`` and ``test`` images; None for those that a study does not have.
        locations: URIs of those that are copies of data sets in a bucket.
    """
    tags = {
        MLFLOW_SOURCE_NAME: "sweeps/run.py",
        MLFLOW_SOURCE_TYPE: "LOCAL",
        names.TAG_HKD_VERSION: hkd.__version__,
        names.TAG_TORCH_VERSION: version("torch"),
    }
    commit = _commit(Path(hkd.__file__).parents[1])
    if commit is not None:
        tags[MLFLOW_GIT_COMMIT] = commit
    known = [(context, images) for context, images in annotations.items() if images is not None]
    uris = locations or {}
    return Origin(tags, [_dataset_input(context, images, uris.get(context)) for context, images in known])


def _dataset_input(context: str, images: Annotations, uri: str | None) -> DatasetInput:
    path = images.path if uri is None else PurePosixPath(place_of(uri))
    name = f"generated scenes, {context}" if path is None else f"{path.parent.name}/{path.stem}"
    boxes = images.coco_records()
    ignored = sum(bool(box.get("ignore")) for box in boxes)
    dataset = Dataset(
        name=name[:_LONGEST_NAME],
        digest=images.content_hash(),
        source_type="local" if uri is None else uri.partition(":")[0],
        source=json.dumps({"uri": uri or str(images.image_root if path is None else path)}),
        profile=json.dumps({"images": len(images.images), "people": len(boxes) - ignored, "ignore regions": ignored}),
    )
    return DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, context)])


def _commit(checkout: Path) -> str | None:
    """The commit of the code that runs; None where it was installed without its history."""
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
