"""Compare the detections of exported detectors with those of the detectors that they were exported from, in fp32.

Prints a Markdown table: the largest differences of boxes, in pixels of the original images, and of scores, over all
detections that have a partner; the number without one; and MR^-2 before and after.

    python benchmarks/export_parity.py --annotations test.json --weights student.safetensors teacher.safetensors
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

if not __package__:
    # Run as a file of a checkout that is not installed: the packages are one folder up.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hkd.coco.annotations import Annotations, read_annotations
from hkd.coco.detections import DetectedBoxes
from hkd.config import EvaluationConfig
from hkd.data.store import open_store
from hkd.evaluation.evaluator import evaluate_boxes
from hkd.evaluation.formats.protocol_files import load_protocol
from hkd.export.onnx_export import ExportSettings, export_detector
from hkd.inference.deployed.detector import DeployedDetector
from hkd.inference.deployed.onnx_file import read_onnx_file
from hkd.inference.deployed.runtimes import RUNTIMES
from hkd.inference.store_detection import detect_store
from hkd.metric_names import MR2_REASONABLE
from hkd.models.detector import Detector
from hkd.models.fused import fuse_for_inference
from hkd.models.weights import load_detector

PIXELS, SCORE = 1e-3, 1e-4
"""Largest differences of partners."""


@dataclass(frozen=True)
class Difference:
    """Of two sets of detections."""

    pixels: float
    score: float
    without_partner: int


def difference(first: DetectedBoxes, second: DetectedBoxes) -> Difference:
    """The partner of a detection is the nearest of the same image, if box and score differ by at most ten bounds."""
    pixels, scores, alone = [0.0], [0.0], 0
    for image in np.union1d(first.image_index, second.image_index).tolist():
        ours, theirs = first.image_index == image, second.image_index == image
        box = np.abs(first.boxes_xywh[ours][:, None] - second.boxes_xywh[theirs]).max(axis=2, initial=0)
        score = np.abs(first.scores[ours][:, None] - second.scores[theirs])
        distance = np.maximum(box / PIXELS, score / SCORE)
        rest = set(range(distance.shape[1]))
        for index, row in enumerate(distance):
            partner = min(rest, key=row.__getitem__, default=None)
            if partner is None or row[partner] > 10:
                alone += 1
                continue
            rest.remove(partner)
            pixels.append(float(box[index, partner]))
            scores.append(float(score[index, partner]))
        alone += len(rest)
    return Difference(max(pixels), max(scores), alone)


def main() -> int:
    """Detect with both, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", type=Path, required=True, metavar="GT", help="annotation file (JSON)")
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of its images (default: as GT states)")
    parser.add_argument("--weights", type=Path, nargs="+", required=True, metavar="W", help=".safetensors files")
    parser.add_argument("--batch", type=int, default=1, help="images a call of the exported graph (default: 1)")
    options = parser.parse_args()
    annotations = read_annotations(options.annotations, options.images)
    print("| weights | runtime | detections | without partner | pixels | score | MR^-2, % | exported, % |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    with TemporaryDirectory(prefix="hkd-parity-") as folder:
        for weights in options.weights:
            print_rows(weights, annotations, options.batch, Path(folder))
    return 0


def print_rows(weights: Path, annotations: Annotations, batch: int, folder: Path) -> None:
    """One row for each runtime."""
    evaluation = EvaluationConfig()
    detector, metadata = load_detector(weights)
    store = open_store(annotations, metadata.image_height, metadata.image_width, folder, progress=False)
    exported = export_detector(
        weights, folder / "exported.onnx", ExportSettings.of_evaluation(evaluation, batch=batch)
    ).path

    def found_by(one: Detector | DeployedDetector) -> tuple[DetectedBoxes, float]:
        found = detect_store(one, store, annotations, evaluation, device=torch.device("cpu"))
        result = evaluate_boxes(annotations.ground_truth(), found, load_protocol(evaluation.protocol))
        return found, result.as_metrics()[MR2_REASONABLE]

    ours, miss_rate = found_by(fuse_for_inference(detector, torch.float32))
    for runtime in RUNTIMES:
        theirs, exported_miss_rate = found_by(DeployedDetector(read_onnx_file(exported), runtime))
        apart = difference(ours, theirs)
        cells = [weights.stem, runtime, f"{len(ours.scores)}", f"{apart.without_partner}", f"{apart.pixels:.1e}"]
        cells += [f"{apart.score:.1e}", f"{100 * miss_rate:.4f}", f"{100 * exported_miss_rate:.4f}"]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
