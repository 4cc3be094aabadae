"""Pictures resized to a network's input: at its top left, both sides by one scale, zeros elsewhere."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image


def fitted_sizes(
    sizes: npt.NDArray[np.int64], input_height: int, input_width: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Scales (N,) and heights and widths (N, 2) in the input, of pictures whose heights and widths are ``sizes``."""
    scales = np.minimum(input_height / sizes[:, 0], input_width / sizes[:, 1])
    # Rounded down, so that picture and boxes share one scale exactly; 1e-9 corrects 191.99999.
    fitted = np.clip((sizes * scales[:, None] + 1e-9).astype(np.int64), 1, (input_height, input_width))
    return scales, fitted


def resized(picture: Image.Image, scale: float, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Pixels (height, width, 3) of an RGB picture, by Pillow's bilinear filter, which widens as it reduces."""
    # The part of the original that is covered by complete pixels of the input.
    window = (0, 0, min(picture.width, width / scale), min(picture.height, height / scale))
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR, box=window))
