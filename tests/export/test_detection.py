"""Suppression in the exported graph."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch

from hkd.export.detection import _suppressed
from hkd.export.graph import GraphBuilder
from hkd.models.components.proposals import NMS_ITERATIONS, non_maximum_suppression


def chain(length: int) -> npt.NDArray[np.float32]:
    """Boxes (1, length, 4), each of which overlaps the next with an IoU of 7 / 13, the next but one with 4 / 16."""
    left = 3.0 * np.arange(length)
    corners = [left, np.zeros(length), left + 10, np.full(length, 10.0)]
    return np.stack(corners, axis=1).astype(np.float32)[None]


def kept_of(boxes: npt.NDArray[np.float32]) -> list[bool]:
    """Which boxes, by descending score, the graph keeps at an IoU of 0.5."""
    count = boxes.shape[1]
    graph = GraphBuilder()
    valid = graph.add("Identity", np.ones((1, count, 1), dtype=np.float32))
    kept = _suppressed(graph, "boxes", valid, count, 0.5, rank=3)
    model = graph.model({"boxes": (np.float32, [1, count, 4])}, {"kept": (kept, np.float32, [1, count, 1])}, {})
    (found,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"boxes": boxes})
    return [bool(value) for value in found.ravel() == 1]


def test_suppression_is_exact_for_chains_up_to_the_iterations() -> None:
    # Greedily, every second box is kept.
    assert kept_of(chain(NMS_ITERATIONS)) == [index % 2 == 0 for index in range(NMS_ITERATIONS)]


def test_suppression_loses_no_box_of_longer_chains() -> None:
    # Each iteration decides one more box of the chain; before, a box is kept after an even number of iterations.
    assert NMS_ITERATIONS % 2 == 0
    boxes = chain(100)
    kept = kept_of(boxes)
    assert kept == [index % 2 == 0 for index in range(NMS_ITERATIONS)] + [True] * (100 - NMS_ITERATIONS)
    exact = non_maximum_suppression(torch.from_numpy(boxes), torch.ones(1, 100, dtype=torch.bool), 0.5)
    assert all(is_kept for is_kept, is_exact in zip(kept, exact[0].tolist(), strict=True) if is_exact)
