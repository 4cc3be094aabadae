"""Detect pedestrians with a file of `hkd export`. Needs numpy, pillow and onnxruntime, nothing else.

python detect_onnx.py student.onnx street.jpg
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def detect(session, path):
    """Boxes (D, 4) x1, y1, x2, y2 in pixels of the upright picture, and scores (D,), descending."""
    batch, _, height, width = session.get_inputs()[0].shape
    picture = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    scale = min(height / picture.height, width / picture.width)
    columns, rows = (max(1, int(side * scale + 1e-9)) for side in picture.size)
    window = (0, 0, min(picture.width, columns / scale), min(picture.height, rows / scale))
    images = np.zeros((batch, height, width, 3), np.uint8)  # the picture at the top left, zeros elsewhere
    images[0, :rows, :columns] = picture.resize((columns, rows), Image.Resampling.BILINEAR, box=window)
    if not (images[0, rows - 1].any() and images[0, :, columns - 1].any()):
        images[0, rows - 1, columns - 1, 0] = 1  # black borders of the picture would count as padding
    boxes, scores, count = session.run(["boxes", "scores", "count"], {"images": images.transpose(0, 3, 1, 2)})
    return np.clip(boxes[0, : count[0]] / scale, 0, 2 * picture.size), scores[0, : count[0]]


if __name__ == "__main__":
    session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
    properties = session.get_modelmeta().custom_metadata_map
    if "hkd" not in properties:
        sys.exit(f"{sys.argv[1]}: has no metadata 'hkd'; name a file that hkd export wrote")
    metadata = json.loads(properties["hkd"])
    miss_rate = {"fp32": "mr2_reasonable", "int8": "int8_mr2_reasonable"}[metadata["precision"]]
    print(f"{metadata['classes'][0]}, {metadata['precision']}, MR^-2 {metadata['metrics'].get(miss_rate, 'unknown')}")
    for path in sys.argv[2:]:
        for box, score in zip(*detect(session, path), strict=True):
            if score >= 0.5:
                print(path, *box.round(1), f"{score:.3f}")
