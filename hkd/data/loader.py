"""Batches for training and evaluation, from a store.

An epoch is a pure function of (seed, epoch): a resumed training gets the same batches as an uninterrupted one. Nothing
is prefetched: gathering a batch from the mapped store takes a fraction of a millisecond, and its augmentation runs on
the training's own device, where a prefetching thread would compete with it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hkd.coco.annotations import Annotations
from hkd.coco.parsing.errors import AnnotationError
from hkd.data.store import ImageStore
from hkd.data.transforms import MINIMUM_SIDE, augment, to_float
from hkd.structures import Batch, Targets


def pack_targets(annotations: Annotations, store: ImageStore, max_objects: int) -> Targets:
    """Ground truth of the whole set, ``B = N`` images, ``G = max_objects`` slots, in pixels of the network's input.

    Boxes keep their order. One with a side under :data:`hkd.data.transforms.MINIMUM_SIDE` pixels is left out.

    Raises:
        AnnotationError: if an image holds more boxes than there are slots, with the number needed.
    """
    image_index = annotations.image_index
    scales = store.scales[image_index][:, None]
    low = annotations.boxes_xywh[:, :2] * scales
    high = low + annotations.boxes_xywh[:, 2:] * scales
    # The store may have cut part of a pixel off the right or bottom edge.
    high = np.minimum(high, store.valid_sizes[image_index][:, ::-1])
    keep = (high - low >= MINIMUM_SIDE).all(axis=1)
    low, high, ignore, image_index = low[keep], high[keep], annotations.ignore[keep], image_index[keep]

    counts = np.bincount(image_index, minlength=len(store.image_ids))
    fullest = int(counts.argmax())
    if counts[fullest] > max_objects:
        image = annotations.images[fullest]
        problem = (
            f"image {image.image_id} '{image.file_name}' holds {counts[fullest]} boxes, more than the {max_objects}"
            f" slots; set data.max_objects_per_image to at least {counts[fullest]}"
        )
        raise AnnotationError([problem], str(annotations.path))
    order = np.argsort(image_index, kind="stable")
    # Position of each box among those of its image.
    slot = np.arange(len(order)) - (np.cumsum(counts) - counts)[image_index[order]]
    place = (image_index[order], slot)
    boxes = np.zeros((len(counts), max_objects, 4), dtype=np.float32)
    valid, ignored = np.zeros((2, len(counts), max_objects), dtype=np.bool_)
    boxes[place] = np.concatenate([low, high], axis=1)[order]
    valid[place] = True
    ignored[place] = ignore[order]
    return Targets(torch.from_numpy(boxes), torch.from_numpy(valid), torch.from_numpy(ignored))


class BatchLoader:
    """Shuffled, augmented batches of one size; images that do not fill a batch are left out of the epoch.

    Args:
        store: the images.
        annotations: their boxes, in the same order.
        batch_size: images per batch (B); images of a smaller set are repeated to fill one batch.
        max_objects: ground-truth slots per image (G).
        seed: of the order and of all augmentation.
        device: device of the batches.
        augmentation: arguments of :func:`hkd.data.transforms.augment`; None leaves images as they are.

    Raises:
        AnnotationError: if an image holds more than ``max_objects`` boxes.
    """

    def __init__(
        self,
        store: ImageStore,
        annotations: Annotations,
        *,
        batch_size: int,
        max_objects: int,
        seed: int,
        device: torch.device | str,
        augmentation: Mapping[str, float] | None,
    ) -> None:
        self._store = store
        self._batch_size = batch_size
        self._seed = seed
        self._device = torch.device(device)
        self._augmentation = augmentation
        packed = pack_targets(annotations, store, max_objects)
        self._targets = Targets(*(part.to(self._device) for part in (packed.boxes_xyxy, packed.valid, packed.ignore)))
        self._valid_sizes = torch.from_numpy(store.valid_sizes.astype(np.float32)).to(self._device)
        self.steps_per_epoch = max(1, len(store.image_ids) // batch_size)

    def with_batch_size(self, batch_size: int) -> BatchLoader:
        """A loader of the same images, which are shared, with another batch size."""
        other = copy.copy(self)
        other._batch_size = batch_size
        other.steps_per_epoch = max(1, len(self._store.image_ids) // batch_size)
        return other

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch: a pure function of the seed and the epoch."""
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._store.image_ids))
        order = np.resize(order, self.steps_per_epoch * self._batch_size)
        for step in range(self.steps_per_epoch):
            yield self._batch(order[step * self._batch_size : (step + 1) * self._batch_size], epoch, step)

    def _batch(self, indices: npt.NDArray[np.int64], epoch: int, step: int) -> Batch:
        positions = _to_device(torch.from_numpy(indices), self._device)
        images = _to_device(torch.from_numpy(np.asarray(self._store.images[indices])), self._device)
        sizes = self._valid_sizes[positions]
        stored = self._targets
        targets = Targets(stored.boxes_xyxy[positions], stored.valid[positions], stored.ignore[positions])
        if self._augmentation is None:
            return Batch(to_float(images), sizes, targets)
        # step + 1: NumPy treats [seed, epoch] and [seed, epoch, 0] as the same seed, which the order uses.
        (seed,) = np.random.SeedSequence([self._seed, epoch, step + 1]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(seed >> np.uint64(1)))
        changed, sizes, targets = augment(images, sizes, targets, generator, **self._augmentation)
        return Batch(changed, sizes, targets)


def evaluation_batches(
    store: ImageStore, batch_size: int, device: torch.device | str
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Every image once, in order, unchanged: images (B, 3, H, W) float32, valid sizes (B, 2) and positions in the
    store (B,). The last batch may be smaller.
    """
    device = torch.device(device)
    for first in range(0, len(store.image_ids), batch_size):
        chosen = slice(first, first + batch_size)
        images = _to_device(torch.from_numpy(np.array(store.images[chosen])), device)
        sizes = _to_device(torch.from_numpy(store.valid_sizes[chosen].astype(np.float32)), device)
        positions = torch.arange(first, first + len(images), device=device)
        yield to_float(images), sizes, positions


def _to_device(tensor: Tensor, device: torch.device) -> Tensor:
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)  # a copy from unpinned memory is synchronous
