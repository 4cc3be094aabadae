"""Print the peak memory of detection by one file, in bytes: run in a new process by :mod:`hkd.export.latency`.

Imports torch only for torch, so that the memory of a device without it is measured.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from hkd.runtime.memory import peak_resident_bytes

_CALLS = 5


def main(arguments: list[str]) -> int:
    """``FILE RUNTIME THREADS N 3 H W``, and the metadata of an exported file on the standard input."""
    path, runtime, num_threads = Path(arguments[0]), arguments[1], int(arguments[2])
    images = np.zeros([int(side) for side in arguments[3:]], dtype=np.uint8)
    if runtime == "torch":
        _detect_by_torch(path, images.shape, num_threads)
    else:
        from hkd.inference.deployed.metadata import parse_metadata
        from hkd.inference.deployed.onnx_file import DeployedFile
        from hkd.inference.deployed.runtimes import RUNTIMES

        run = RUNTIMES[runtime](DeployedFile(path, path.read_bytes(), parse_metadata(sys.stdin.read())), num_threads)
        for _ in range(_CALLS):
            run(images)
    sys.stdout.write(f"{peak_resident_bytes()}\n")
    return 0


def _detect_by_torch(path: Path, shape: tuple[int, ...], num_threads: int) -> None:
    import torch

    from hkd.models.fused import fuse_for_inference
    from hkd.models.weights import load_detector

    torch.set_num_threads(num_threads)
    detector = fuse_for_inference(load_detector(path)[0], torch.float32)
    sizes = torch.tensor([shape[2:]], dtype=torch.float32)
    for _ in range(_CALLS):
        detector.detect(torch.zeros(shape), sizes, score_threshold=0.01, nms_iou=0.5, max_detections=100)
