"""Augmentation of a batch of images on the device: mirror, zoom, window and colour, without a loop over images.

One affine sampling grid per image computes mirror, zoom and window at once. The three colour changes are affine in RGB,
so that they are one 3 x 3 matrix and one offset per image.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hkd.structures import Targets

MINIMUM_SIDE = 1.0
"""A box with a side of fewer pixels of the network's input is dropped: there is nothing to learn from."""

_GREY_WEIGHTS = (0.299, 0.587, 0.114)
"""Of red, green and blue (ITU-R BT.601), as torchvision's colour changes weigh them."""


def to_float(images_uint8: Tensor) -> Tensor:
    """(B, H, W, 3) uint8 to (B, 3, H, W) float32 in [0, 1], laid out channels_last."""
    return images_uint8.permute(0, 3, 1, 2).to(torch.float32).mul_(1 / 255)


def augment(
    images_uint8: Tensor,
    valid_sizes: Tensor,
    targets: Targets,
    generator: torch.Generator,
    *,
    flip_probability: float,
    scale_min: float,
    scale_max: float,
    brightness: float,
    contrast: float,
    saturation: float,
    minimum_visible_fraction: float,
) -> tuple[Tensor, Tensor, Targets]:
    """Sample one change for each image of a batch and apply it to picture and boxes.

    An image is zoomed by a factor uniform in [scale_min, scale_max]. A larger result is cropped to a random H x W
    window; a smaller one is padded with zeros at the bottom and right, so that pictures stay at the top left. Colour
    factors are uniform in [1 - strength, 1 + strength] and are applied as torchvision's ``adjust_brightness``,
    ``adjust_contrast`` and ``adjust_saturation``, in this order, but clamped to [0, 1] once, at the end.

    Args:
        images_uint8: (B, H, W, 3) uint8 RGB.
        valid_sizes: (B, 2) height and width of each picture on its canvas.
        targets: boxes of the images before the change.
        generator: on the CPU; the only source of random numbers.
        flip_probability: probability of a mirror image.
        scale_min: smallest zoom.
        scale_max: largest zoom.
        brightness: strength in [0, 1].
        contrast: strength in [0, 1]; the pivot is the mean grey of the whole picture.
        saturation: strength in [0, 1].
        minimum_visible_fraction: a box with a smaller fraction of its area inside the window becomes an ignore region.

    Returns:
        Images (B, 3, H, W) float32 in [0, 1]; new valid sizes (B, 2) float32; targets, in which boxes with a side below
        :data:`MINIMUM_SIDE` are not valid.
    """
    batch, height, width, _ = images_uint8.shape
    # One draw, one transfer. Columns: mirror, zoom, row and column of the window, brightness, contrast, saturation.
    chance = torch.rand((batch, 7), generator=generator).to(images_uint8.device, non_blocking=True)
    zoom = scale_min + (scale_max - scale_min) * chance[:, 1]
    is_mirrored = chance[:, 0] < flip_probability
    rows = _Axis.draw(valid_sizes[:, 0], zoom, chance[:, 2], torch.zeros_like(is_mirrored), height)
    columns = _Axis.draw(valid_sizes[:, 1], zoom, chance[:, 3], is_mirrored, width)
    factors = [
        1 + strength * (2 * chance[:, column] - 1)
        for column, strength in ((4, brightness), (5, contrast), (6, saturation))
    ]
    images = _change_pictures(images_uint8, valid_sizes, rows, columns, *factors)
    sizes = torch.stack([rows.size, columns.size], dim=1)
    return images, sizes, _change_boxes(targets, rows, columns, minimum_visible_fraction)


@dataclass(frozen=True)
class _Axis:
    """The change of the rows, or of the columns, of each image; every tensor is (B,)."""

    old_size: Tensor
    """Pixels of the picture before."""
    start: Tensor
    """Start of the window, in pixels before."""
    size: Tensor
    """Pixels of the picture after: a whole number, at most the canvas."""
    scale: Tensor
    """Pixels after per pixel before: the zoom, up to the rounding of ``size``."""
    is_mirrored: Tensor
    canvas: int

    @classmethod
    def draw(cls, old_size: Tensor, zoom: Tensor, place: Tensor, is_mirrored: Tensor, canvas: int) -> _Axis:
        """A window of at most ``canvas`` / ``zoom`` pixels; ``place`` in [0, 1] moves it from one end to the other."""
        window = torch.minimum(old_size, canvas / zoom)
        size = (window * zoom).round().clamp(1, canvas)
        return cls(old_size, place * (old_size - window), size, size / window, is_mirrored, canvas)

    def centres(self) -> Tensor:
        """(canvas,) centres of the pixels after."""
        return torch.arange(self.canvas, device=self.size.device) + 0.5

    def grid(self) -> Tensor:
        """(B, canvas) position before of each pixel after, in grid_sample's units: -1 to 1 over the canvas."""
        centres = torch.where(self.is_mirrored[:, None], self.size[:, None] - self.centres(), self.centres())
        source = self.start[:, None] + centres / self.scale[:, None]
        # Kept half a pixel inside, so that no padding is blended into the picture's edge.
        source = torch.minimum(source.clamp(min=0.5), self.old_size[:, None] - 0.5)
        return source * (2 / self.canvas) - 1

    def move(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """(B, G) ends of boxes before to ends after, not clipped."""
        low, high = ((end - self.start[:, None]) * self.scale[:, None] for end in (low, high))
        mirrored, size = self.is_mirrored[:, None], self.size[:, None]
        return torch.where(mirrored, size - high, low), torch.where(mirrored, size - low, high)


def _change_pictures(
    images_uint8: Tensor,
    valid_sizes: Tensor,
    rows: _Axis,
    columns: _Axis,
    brightness: Tensor,
    contrast: Tensor,
    saturation: Tensor,
) -> Tensor:
    """Resample the images and change their colours by factors (B,); (B, 3, H, W) float32 in [0, 1]."""
    batch, height, width, _ = images_uint8.shape
    pictures = images_uint8.permute(0, 3, 1, 2).to(torch.float32)
    shape = (batch, height, width)
    grid = torch.stack([columns.grid()[:, None, :].expand(shape), rows.grid()[:, :, None].expand(shape)], dim=-1)
    sampled = F.grid_sample(pictures, grid, align_corners=False).reshape(batch, 3, height * width)

    # brightness: x1 = b x. contrast: x2 = c x1 + (1 - c) mean grey(x1). saturation: x3 = s x2 + (1 - s) grey(x2).
    # Grey is linear with weights that sum to 1, so x3 = c b (s x + (1 - s) grey(x)) + (1 - c) b mean grey(x).
    identity = torch.eye(3, device=sampled.device)
    weights = torch.stack([sampled.new_full((), weight) for weight in _GREY_WEIGHTS])
    mean_grey = (pictures.sum((2, 3)) / valid_sizes.prod(1, keepdim=True)) @ weights / 255
    mixing = torch.lerp(weights.expand(3, 3), identity, saturation[:, None, None])
    matrix = (contrast * brightness / 255)[:, None, None] * mixing
    offset = ((1 - contrast) * brightness * mean_grey)[:, None, None]
    changed = torch.bmm(matrix, sampled).add_(offset).view(batch, 3, height, width)

    # An upper limit of 1 in the picture and 0 in the padding: clamps and masks in one pass.
    in_rows, in_columns = ((axis.centres() < axis.size[:, None]).to(torch.float32) for axis in (rows, columns))
    limit = in_rows[:, None, :, None] * in_columns[:, None, None, :]
    return torch.clamp_(changed, limit.new_zeros(()), limit)


def _change_boxes(targets: Targets, rows: _Axis, columns: _Axis, minimum_visible_fraction: float) -> Targets:
    x1, y1, x2, y2 = targets.boxes_xyxy.unbind(-1)
    x1, x2 = columns.move(x1, x2)
    y1, y2 = rows.move(y1, y2)
    area = (x2 - x1) * (y2 - y1)
    x1, x2 = (torch.minimum(x.clamp(min=0), columns.size[:, None]) for x in (x1, x2))
    y1, y2 = (torch.minimum(y.clamp(min=0), rows.size[:, None]) for y in (y1, y2))
    valid = targets.valid & (x2 - x1 >= MINIMUM_SIDE) & (y2 - y1 >= MINIMUM_SIDE)
    is_cut_away = (x2 - x1) * (y2 - y1) < minimum_visible_fraction * area
    return Targets(
        boxes_xyxy=torch.stack([x1, y1, x2, y2], dim=-1) * valid[..., None],
        valid=valid,
        ignore=valid & (targets.ignore | is_cut_away),
    )
