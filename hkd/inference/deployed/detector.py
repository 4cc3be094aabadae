"""An exported detector with the interface of :class:`hkd.models.detector.Detector` that detection needs."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hkd.inference.deployed.metadata import DeployedMetadata
from hkd.inference.deployed.onnx_file import DeployedFile
from hkd.inference.deployed.runtimes import RUNTIMES, Pixels
from hkd.structures import Detections


class ImageSizeError(ValueError):
    """Images of another size than the exported detector's."""


class DeployedDetector:
    """An exported detector, loaded by a runtime."""

    def __init__(self, file: DeployedFile, runtime: str = "onnxruntime", num_threads: int | None = None) -> None:
        """``runtime`` is a name of :data:`RUNTIMES`.

        Raises:
            MissingPackageError: the runtime is not installed.
            CheckpointError: it cannot load the file.
        """
        self.metadata: DeployedMetadata = file.metadata
        self._run = RUNTIMES[runtime](file, num_threads)

    def eval(self) -> DeployedDetector:
        """Nothing: an exported detector is always in evaluation mode."""
        return self

    def detect(
        self, images: Tensor, valid_sizes: Tensor, *, score_threshold: float, nms_iou: float, max_detections: int
    ) -> Detections:
        """As :meth:`hkd.models.detector.Detector.detect`, for images of 8 bits a channel.

        The file states the IoU of suppression. Its own threshold and number of detections hold where they are
        stricter than the arguments.

        Raises:
            ImageSizeError: the images have another size than the file's input.
        """
        del nms_iou
        pixels = (images * 255).round().to(torch.uint8).cpu().numpy()
        size = (self.metadata.image_height, self.metadata.image_width)
        if pixels.shape[2:] != size:
            raise ImageSizeError(
                f"images of {pixels.shape[2]} x {pixels.shape[3]} pixels (height x width); the exported detector reads "
                f"{size[0]} x {size[1]} only"
            )
        marked = mark_black_borders(pixels, valid_sizes.cpu().numpy().astype(np.int64))
        batch, slots = self.metadata.batch, self.metadata.max_detections
        boxes = np.zeros((len(marked), slots, 4), dtype=np.float32)
        scores = np.zeros((len(marked), slots), dtype=np.float32)
        count = np.zeros(len(marked), dtype=np.int64)
        for first in range(0, len(marked), batch):
            some = marked[first : first + batch]
            missing = [(0, batch - len(some)), (0, 0), (0, 0), (0, 0)]
            found = self._run(np.pad(some, missing))
            part = slice(first, first + len(some))
            boxes[part] = found.boxes[: len(some)]
            scores[part] = found.scores[: len(some)]
            count[part] = found.count[: len(some)]
        kept = slice(0, max_detections)
        found_scores = torch.from_numpy(scores[:, kept])
        used = torch.arange(found_scores.shape[1]) < torch.from_numpy(count)[:, None]
        valid = used & (found_scores > score_threshold)
        return Detections(torch.from_numpy(boxes[:, kept]), found_scores, valid.long(), valid)


def mark_black_borders(pixels: Pixels, valid_sizes: np.typing.NDArray[np.int64]) -> Pixels:
    """``pixels`` (N, 3, H, W), in which the graph finds the pictures' sizes (N, 2).

    It takes black rows and columns at the lower and right border for padding. Where they are part of a picture, the
    lowest right pixel of this picture gets a red of 1.
    """
    marked = pixels
    for index, (height, width) in enumerate(valid_sizes.tolist()):
        picture = pixels[index, :, :height, :width]
        if picture[:, -1].any() and picture[:, :, -1].any():
            continue
        if marked is pixels:
            marked = pixels.copy()
        marked[index, 0, height - 1, width - 1] = max(1, marked[index, 0, height - 1, width - 1])
    return marked
