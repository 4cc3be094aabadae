"""Photographs in the layout of Penn-Fudan's database."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

_NUMBER: Final = 8
_TEXT: Final = """# Compatible with PASCAL Annotation Version 1.00
Image filename : "PennFudanPed/PNGImages/{name}.png"
Image size (X x Y x C) : 160 x 120 x 3
Database : "The Penn-Fudan-Pedestrian Database"
Objects with ground truth : 1 {{ "PASpersonWalking" }}
# Details for pedestrian 1 ("PASpersonWalking")
Original label for object 1 "PASpersonWalking" : "PennFudanPed"
Bounding box for object 1 "PASpersonWalking" (Xmin, Ymin) - (Xmax, Ymax) : (51, 11) - (90, 110)
"""


def write_photographs(folder: Path) -> None:
    """Write eight images of noise with one person each, 100 pixels high."""
    for name in ("Annotation", "PNGImages"):
        (folder / name).mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(_NUMBER):
        name = f"FudanPed{number:05d}"
        (folder / "Annotation" / f"{name}.txt").write_text(_TEXT.format(name=name), encoding="utf-8")
        pixels = random.integers(0, 255, (120, 160, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "PNGImages" / f"{name}.png")
