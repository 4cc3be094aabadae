"""Batches for training and evaluation, from a store.

An epoch is a pure function of (seed, epoch): a resumed training gets the same batches as an uninterrupted one. Batches
may mix two sets of images. Each is then drawn from its own permutations, one after the other across epochs: no image is
repeated before all of its set were drawn.

Nothing is prefetched: gathering a batch from the mapped store takes a fraction of a millisecond, and its augmentation
runs on the training's own device, where a prefetching thread would compete with it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hkd.coco.annotations import Annotations
from hkd.coco.parsing.errors import AnnotationError
from hkd.config.data import unlabelled_per_batch
from hkd.data.store import ImageStore
from hkd.data.transforms import MINIMUM_SIDE, augment, to_float
from hkd.structures import Batch, Targets

# Parts of the seeds of two sets; above 2**31, as no seed, epoch or step is: the seeds of augmentation differ.
_FIRST_OF_TWO, _SECOND_OF_TWO = 2**31 + 1, 2**31 + 2


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


@dataclass(frozen=True)
class MixedIn:
    """A second set of images, of which each batch has a fixed number, behind those of the first set."""

    store: ImageStore
    annotations: Annotations
    """Their boxes, in the same order."""
    fraction: float
    """Of each batch, in (0, 1)."""


class _ImageSet:
    """Images in a store, and their targets on the device."""

    def __init__(
        self, store: ImageStore, annotations: Annotations, max_objects: int, seed: list[int], device: torch.device
    ) -> None:
        self.store = store
        packed = pack_targets(annotations, store, max_objects)
        self.targets = Targets(*(part.to(device) for part in (packed.boxes_xyxy, packed.valid, packed.ignore)))
        self.valid_sizes = torch.from_numpy(store.valid_sizes.astype(np.float32)).to(device)
        self._seed = seed

    def __len__(self) -> int:
        return len(self.store.image_ids)

    def permutation(self, number: int) -> npt.NDArray[np.int64]:
        """The ``number``-th order of all images."""
        order: npt.NDArray[np.int64] = np.random.default_rng([*self._seed, number]).permutation(len(self))
        return order

    def drawn(self, first: int, count: int) -> npt.NDArray[np.int64]:
        """``count`` images from the ``first`` on of all permutations, one after the other."""
        numbers = range(first // len(self), (first + count - 1) // len(self) + 1)
        orders = np.concatenate([np.zeros(0, dtype=np.int64), *map(self.permutation, numbers)])
        start = first % len(self)
        return orders[start : start + count]


class BatchLoader:
    """Shuffled, augmented batches of one size; images that do not fill a batch are left out of the epoch.

    With a second set, an epoch has as many steps as the images of both fill batches.

    Args:
        store: the images.
        annotations: their boxes, in the same order.
        batch_size: images per batch (B); images of a smaller set are repeated to fill one batch.
        max_objects: ground-truth slots per image (G).
        seed: of the order and of all augmentation.
        device: device of the batches.
        augmentation: arguments of :func:`hkd.data.transforms.augment`; None leaves images as they are.
        mixed_in: a second set of images; None: batches are of the first set alone.

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
        mixed_in: MixedIn | None = None,
    ) -> None:
        self._batch_size = batch_size
        self._seed = seed
        self._device = torch.device(device)
        self._augmentation = augmentation
        self._images = _ImageSet(store, annotations, max_objects, [seed], self._device)
        self._mixed_in: _ImageSet | None = None
        self._fraction = 0.0
        if mixed_in is not None:
            self._images = _ImageSet(store, annotations, max_objects, [seed, _FIRST_OF_TWO], self._device)
            self._mixed_in = _ImageSet(
                mixed_in.store, mixed_in.annotations, max_objects, [seed, _SECOND_OF_TWO], self._device
            )
            self._fraction = mixed_in.fraction
        self._set_batch_size(batch_size)

    def with_batch_size(self, batch_size: int) -> BatchLoader:
        """A loader of the same images, which are shared, with another batch size."""
        other = copy.copy(self)
        other._set_batch_size(batch_size)
        return other

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch: a pure function of the seed and the epoch."""
        order, others = self._order(epoch)
        for step in range(self.steps_per_epoch):
            yield self._batch(*self._chosen(order, others, step), epoch, step)

    def batch(self, epoch: int, step: int) -> Batch:
        """One batch of :meth:`epoch`."""
        return self._batch(*self._chosen(*self._order(epoch), step), epoch, step)

    def _order(self, epoch: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Positions of an epoch's images in the first and in the second set."""
        steps, mixed = self.steps_per_epoch, self._num_mixed_in
        own = self._batch_size - mixed
        if self._mixed_in is None:
            order = np.resize(self._images.permutation(epoch), steps * own)
            return order, order[:0]
        order = self._images.drawn(epoch * steps * own, steps * own)
        return order, self._mixed_in.drawn(epoch * steps * mixed, steps * mixed)

    def _chosen(
        self, order: npt.NDArray[np.int64], others: npt.NDArray[np.int64], step: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        mixed = self._num_mixed_in
        own = self._batch_size - mixed
        return order[step * own : (step + 1) * own], others[step * mixed : (step + 1) * mixed]

    def _set_batch_size(self, batch_size: int) -> None:
        num_images = len(self._images)
        self._batch_size = batch_size
        self._num_mixed_in = 0
        if self._mixed_in is not None:
            num_images += len(self._mixed_in)
            # A batch of one, which is only tried to measure memory, has no image of the second set.
            self._num_mixed_in = min(max(1, unlabelled_per_batch(batch_size, self._fraction)), batch_size - 1)
        self.steps_per_epoch = max(1, num_images // batch_size)

    def _batch(self, own: npt.NDArray[np.int64], others: npt.NDArray[np.int64], epoch: int, step: int) -> Batch:
        images, sizes, targets = self._gathered(self._images, own)
        if self._mixed_in is not None and len(others):
            more_images, more_sizes, more = self._gathered(self._mixed_in, others)
            images, sizes = torch.cat([images, more_images]), torch.cat([sizes, more_sizes])
            targets = Targets(
                torch.cat([targets.boxes_xyxy, more.boxes_xyxy]),
                torch.cat([targets.valid, more.valid]),
                torch.cat([targets.ignore, more.ignore]),
            )
        if self._augmentation is None:
            return Batch(to_float(images), sizes, targets)
        # step + 1: NumPy treats [seed, epoch] and [seed, epoch, 0] as the same seed, which the order uses.
        (seed,) = np.random.SeedSequence([self._seed, epoch, step + 1]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(seed >> np.uint64(1)))
        changed, sizes, targets = augment(images, sizes, targets, generator, **self._augmentation)
        return Batch(changed, sizes, targets)

    def _gathered(self, images: _ImageSet, indices: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor, Targets]:
        positions = _to_device(torch.from_numpy(indices), self._device)
        pixels = _to_device(torch.from_numpy(np.asarray(images.store.images[indices])), self._device)
        stored = images.targets
        targets = Targets(stored.boxes_xyxy[positions], stored.valid[positions], stored.ignore[positions])
        return pixels, images.valid_sizes[positions], targets


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
