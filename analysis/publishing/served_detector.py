"""The code of a detector in MLflow's registry: pictures in, boxes out. Needs neither hkd nor torch.

MLflow copies this file into the model and imports it where the model is loaded, so that nothing is unpickled.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from PIL import Image, ImageOps

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
MOST_PIXELS = 64_000_000


class ServedDetector:
    """Detects people in files of pictures, by ONNX Runtime."""

    def __init__(self, path: str) -> None:
        self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self._batch, _, self._height, self._width = self._session.get_inputs()[0].shape

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Boxes (D, 4) x1, y1, x2, y2 in pixels of the upright picture, and scores (D,), descending, of each picture.

        Args:
            model_input: Table with the column ``image``: the bytes of a file.
            params: ``score_threshold``: lowest score.

        Raises:
            MlflowException: a file is no picture, or too large; a server answers with status 400.
        """
        threshold = float((params or {}).get("score_threshold", 0.5))
        return [self._detect(content, threshold) for content in model_input["image"]]

    def _detect(self, content: bytes, threshold: float) -> dict[str, Any]:
        picture = _open(content)
        scale = min(self._height / picture.height, self._width / picture.width)
        columns, rows = (max(1, int(side * scale + 1e-9)) for side in picture.size)
        window = (0, 0, min(picture.width, columns / scale), min(picture.height, rows / scale))
        images = np.zeros((self._batch, self._height, self._width, 3), np.uint8)
        images[0, :rows, :columns] = picture.resize((columns, rows), Image.Resampling.BILINEAR, box=window)
        if not (images[0, rows - 1].any() and images[0, :, columns - 1].any()):
            images[0, rows - 1, columns - 1, 0] = 1  # black borders of the picture would count as padding
        found = self._session.run(["boxes", "scores", "count"], {"images": images.transpose(0, 3, 1, 2)})
        boxes, scores, count = (output[0] for output in found)
        kept = scores[:count] >= threshold
        limits = 2 * picture.size
        return {
            "boxes": np.clip(boxes[:count][kept] / scale, 0, limits).tolist(),
            "scores": scores[:count][kept].tolist(),
        }


def _open(content: bytes) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(content), formats=FORMATS)
        if picture.width * picture.height > MOST_PIXELS:
            size = f"{picture.width} x {picture.height}"
            raise MlflowException(f"picture of {size} pixels; allowed: {MOST_PIXELS} in all", INVALID_PARAMETER_VALUE)
        return ImageOps.exif_transpose(picture).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        problem = f"not a picture ({', '.join(FORMATS)}), or a part of one"
        raise MlflowException(problem, INVALID_PARAMETER_VALUE) from error


def _load_pyfunc(path: str) -> ServedDetector:
    """Called by MLflow with the path of the ONNX file."""
    return ServedDetector(path)
