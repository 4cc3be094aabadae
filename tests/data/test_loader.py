"""Batches and packed targets."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hkd.coco.annotations import Annotations, parse_annotations
from hkd.coco.parsing.errors import AnnotationError
from hkd.coco.writing import annotation_document
from hkd.data.loader import BatchLoader, MixedIn, evaluation_batches, pack_targets
from hkd.data.store import ImageStore
from hkd.data.transforms import to_float
from hkd.structures import Batch

_AUGMENTATION = {
    "flip_probability": 0.5,
    "scale_min": 0.8,
    "scale_max": 1.3,
    "brightness": 0.2,
    "contrast": 0.2,
    "saturation": 0.2,
    "minimum_visible_fraction": 0.4,
}


def _set(boxes: list[list[list[float]]], ignored: frozenset[int] = frozenset()) -> tuple[Annotations, ImageStore]:
    """An image of 100 x 60 (width x height) for each list of boxes, stored at half size in 32 x 64; each image is one
    grey, its position.
    """
    count = len(boxes)
    document = {
        "images": [{"id": 5 + i, "file_name": f"{i}.png", "height": 60, "width": 100} for i in range(count)],
        "categories": [{"id": 1, "name": "pedestrian"}],
        "annotations": [
            {"image_id": 5 + i, "category_id": 1, "bbox": box}
            for i, image_boxes in enumerate(boxes)
            for box in image_boxes
        ],
    }
    for number, record in enumerate(document["annotations"]):
        record.update(id=number, ignore=int(number in ignored))
    images = np.zeros((count, 32, 64, 3), dtype=np.uint8)
    images[:, :30, :50] = np.arange(count)[:, None, None, None]
    store = ImageStore(images, np.full(count, 0.5), np.tile(np.array([30, 50]), (count, 1)), np.arange(5, 5 + count))
    return parse_annotations(document, Path("set.json"), check_images=False), store


def _loader(count: int, **changes: Any) -> BatchLoader:
    annotations, store = _set([[[10, 10, 20, 40]]] * count)
    arguments: dict[str, Any] = {
        "batch_size": 4,
        "max_objects": 2,
        "seed": 3,
        "device": "cpu",
        "augmentation": _AUGMENTATION,
    }
    return BatchLoader(store, annotations, **(arguments | changes))


def _positions(batches: list[Batch]) -> list[int]:
    """Position in the store of each image of batches without augmentation: its grey."""
    return (torch.cat([batch.images[:, 0, 0, 0] for batch in batches]) * 255).round().int().tolist()


def _assert_equal(left: list[Batch], right: list[Batch]) -> None:
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        for x, y in (
            (a.images, b.images),
            (a.valid_sizes, b.valid_sizes),
            (a.targets.boxes_xyxy, b.targets.boxes_xyxy),
            (a.targets.valid, b.targets.valid),
            (a.targets.ignore, b.targets.ignore),
        ):
            assert torch.equal(x, y)


def test_targets_are_in_pixels_of_store() -> None:
    boxes: list[list[list[float]]] = [[[10, 20, 30, 40], [0, 0, 100, 60]], [], [[1, 2, 3, 4]]]
    targets = pack_targets(*_set(boxes, ignored=frozenset({1})), max_objects=3)
    # Halved, and as corners.
    assert targets.boxes_xyxy.tolist() == [
        [[5, 10, 20, 30], [0, 0, 50, 30], [0, 0, 0, 0]],
        [[0, 0, 0, 0]] * 3,
        [[0.5, 1, 2, 3], [0, 0, 0, 0], [0, 0, 0, 0]],
    ]
    assert targets.valid.tolist() == [[True, True, False], [False] * 3, [True, False, False]]
    assert targets.ignore.tolist() == [[False, True, False], [False] * 3, [False] * 3]
    assert targets.boxes_xyxy.dtype == torch.float32


def test_targets_of_annotations_in_any_order() -> None:
    annotations, store = _set([[[10, 20, 30, 40]], [[20, 20, 30, 40], [30, 20, 30, 40]]])
    records = [annotations.coco_records()[i] for i in (1, 0, 2)]
    images = [{**asdict(image), "id": image.image_id} for image in annotations.images]
    document = annotation_document(images, records, ".")
    shuffled = parse_annotations(document, Path("set.json"), check_images=False)
    assert shuffled.image_index.tolist() == [1, 0, 1]
    expected = pack_targets(annotations, store, 2)
    assert torch.equal(pack_targets(shuffled, store, 2).boxes_xyxy, expected.boxes_xyxy)


def test_boxes_below_one_pixel_are_dropped_and_others_clipped_to_stored_picture() -> None:
    annotations, store = _set([[[0, 0, 1.9, 50], [0, 0, 2, 50], [80, 10, 20, 50]]])
    store = ImageStore(store.images, store.scales, np.array([[29, 49]]), store.image_ids)
    targets = pack_targets(annotations, store, 2)
    assert targets.boxes_xyxy.tolist() == [[[0, 0, 1, 25], [40, 5, 49, 29]]]


def test_too_many_boxes_are_rejected_with_required_number() -> None:
    annotations, store = _set([[], [[10, 10, 20, 20]] * 3, [[10, 10, 20, 20]] * 2])
    with pytest.raises(AnnotationError, match=r"image 6 '1.png' holds 3 boxes, more than the 2 slots; .* at least 3"):
        pack_targets(annotations, store, 2)
    assert pack_targets(annotations, store, 3).valid.sum(1).tolist() == [0, 3, 2]


def test_set_without_boxes_has_empty_slots() -> None:
    assert not pack_targets(*_set([[], []]), max_objects=2).valid.any()


def test_epoch_shows_each_image_at_most_once_in_new_order() -> None:
    loader = _loader(10, augmentation=None)
    assert loader.steps_per_epoch == 2
    epochs = [_positions(list(loader.epoch(epoch))) for epoch in range(5)]
    for positions in epochs:
        assert len(set(positions)) == 8
    assert len({tuple(positions) for positions in epochs}) == 5
    assert set().union(*epochs) == set(range(10))  # no image is left out of every epoch


def test_epoch_depends_only_on_seed_and_epoch() -> None:
    loader = _loader(10)
    batches = list(loader.epoch(2))
    list(loader.epoch(0))
    _assert_equal(list(loader.epoch(2)), batches)
    _assert_equal(list(_loader(10).epoch(2)), batches)
    orders = [_positions(list(_loader(10, seed=seed, augmentation=None).epoch(2))) for seed in (3, 4)]
    assert orders[0] != orders[1]


def test_augmentation_differs_between_steps_and_epochs() -> None:
    # All images are alike and as large as their canvas, so that batches differ by their augmentation only.
    annotations, store = _set([[[10, 10, 20, 40]]] * 8)
    store.images[:] = 100
    loader = BatchLoader(
        store, annotations, batch_size=4, max_objects=1, seed=0, device="cpu", augmentation=_AUGMENTATION
    )
    batches = [batch for epoch in (0, 1) for batch in loader.epoch(epoch)]
    assert len({batch.images.mean().item() for batch in batches}) == 4


def test_images_of_batch_have_their_own_targets() -> None:
    annotations, store = _set([[[2 * i, 10, 20, 40]] for i in range(8)])
    loader = BatchLoader(store, annotations, batch_size=4, max_objects=2, seed=3, device="cpu", augmentation=None)
    batches = list(loader.epoch(0))
    assert sorted(_positions(batches)) == list(range(8))
    for batch in batches:
        assert batch.images.shape == (4, 3, 32, 64)
        assert batch.valid_sizes.tolist() == [[30, 50]] * 4
        # [2 i, 10, 20, 40] halved.
        assert batch.targets.boxes_xyxy[:, 0].tolist() == [[i, 5, i + 10, 25] for i in _positions([batch])]
        assert batch.targets.valid.tolist() == [[True, False]] * 4


def test_augmented_pictures_keep_their_targets() -> None:
    still = _AUGMENTATION | {"scale_min": 1, "scale_max": 1, "brightness": 0, "contrast": 0, "saturation": 0}
    annotations, store = _set([[[2 * i, 10, 20, 40]] for i in range(8)])
    loader = BatchLoader(
        store,
        annotations,
        batch_size=4,
        max_objects=2,
        seed=0,
        device="cpu",
        augmentation=still | {"flip_probability": 1},
    )
    for batch in loader.epoch(0):
        # The colours are not augmented: an image's grey is its position. Image i's box is [i, i + 10] in the store,
        # mirrored in 50 columns.
        positions = torch.tensor(_positions([batch]))
        expected = torch.stack([40 - positions, 50 - positions], dim=1).float()
        torch.testing.assert_close(batch.targets.boxes_xyxy[:, 0, 0::2], expected)


def test_small_set_fills_batch_by_repetition() -> None:
    loader = _loader(3, augmentation=None)
    assert loader.steps_per_epoch == 1
    (batch,) = loader.epoch(0)
    assert batch.images.shape[0] == 4
    counts = np.bincount(_positions([batch]), minlength=3)
    assert sorted(counts.tolist()) == [1, 1, 2]


def test_evaluation_shows_every_image_once_in_order() -> None:
    _, store = _set([[]] * 5)
    batches = list(evaluation_batches(store, 2, "cpu"))
    assert [indices.tolist() for _, _, indices in batches] == [[0, 1], [2, 3], [4]]
    images = torch.cat([images for images, _, _ in batches])
    torch.testing.assert_close(images, to_float(torch.from_numpy(store.images)))
    assert [sizes.tolist() for _, sizes, _ in batches] == [[[30, 50]] * 2, [[30, 50]] * 2, [[30, 50]]]


def test_batches_of_read_only_store_are_writable() -> None:
    annotations, store = _set([[[10, 10, 20, 40]]] * 4)
    store.images.flags.writeable = False
    loader = BatchLoader(store, annotations, batch_size=4, max_objects=1, seed=0, device="cpu", augmentation=None)
    next(iter(loader.epoch(0))).images.zero_()
    next(iter(evaluation_batches(store, 4, "cpu")))[0].zero_()
    assert store.images[3, 0, 0].tolist() == [3, 3, 3]


def test_loader_with_other_batch_size_equals_new_loader() -> None:
    loader = _loader(9)
    before = list(loader.epoch(1))
    other = loader.with_batch_size(2)
    assert other.steps_per_epoch == 4
    _assert_equal(list(other.epoch(1)), list(_loader(9, batch_size=2).epoch(1)))
    # More than there are images: they are repeated.
    assert loader.with_batch_size(12).steps_per_epoch == 1
    assert len(next(loader.with_batch_size(12).epoch(0)).images) == 12
    assert loader.steps_per_epoch == 2
    _assert_equal(list(loader.epoch(1)), before)


def _mixed(own: int, others: int, fraction: float = 0.5, **changes: Any) -> BatchLoader:
    """A loader of two sets: the second one's images have the greys from 100 on, and boxes as high as they are wide."""
    annotations, store = _set([[[10, 10, 20, 20]]] * others)
    store.images[:, :30, :50] += 100
    return _loader(own, mixed_in=MixedIn(store, annotations, fraction), **changes)


def test_mixed_batches_have_both_sets_in_the_set_ratio() -> None:
    loader = _mixed(5, 12, fraction=0.75, augmentation=None)
    # 17 images fill four batches of four.
    assert loader.steps_per_epoch == 4
    for batch in loader.epoch(0):
        positions = _positions([batch])
        assert [position >= 100 for position in positions] == [False, True, True, True]
        boxes = batch.targets.boxes_xyxy[:, 0]
        # [10, 10, 20, 40] and [10, 10, 20, 20], halved.
        assert boxes[0].tolist() == [5, 5, 15, 25]
        assert boxes[1:].tolist() == [[5, 5, 15, 15]] * 3
        assert batch.targets.valid.tolist() == [[True, False]] * 4
        assert batch.valid_sizes.tolist() == [[30, 50]] * 4


def test_each_set_is_drawn_completely_before_an_image_repeats() -> None:
    # Batches of two images of each set; an epoch has 12 // 4 = 3 steps, and draws six images of each.
    loader = _mixed(5, 7, augmentation=None)
    epochs = [_positions(list(loader.epoch(epoch))) for epoch in range(35)]
    own = [position for epoch in epochs for position in epoch if position < 100]
    others = [position - 100 for epoch in epochs for position in epoch if position >= 100]
    assert len(own) == len(others) == 35 * 6
    for drawn, size in ((own, 5), (others, 7)):
        orders = [drawn[first : first + size] for first in range(0, len(drawn), size)]
        assert all(sorted(order) == list(range(size)) for order in orders)
        assert len({tuple(order) for order in orders}) > len(orders) // 2, "orders differ"
    assert own[:5] != others[:5], "sets have orders of their own"


def test_mixed_epoch_depends_only_on_seed_and_epoch() -> None:
    loader = _mixed(10, 20)
    batches = list(loader.epoch(2))
    list(loader.epoch(0))
    _assert_equal(list(loader.epoch(2)), batches)
    _assert_equal(list(_mixed(10, 20).epoch(2)), batches)
    orders = [_positions(list(_mixed(10, 20, seed=seed, augmentation=None).epoch(2))) for seed in (3, 4)]
    assert orders[0] != orders[1]


def test_mixed_loader_with_other_batch_size() -> None:
    loader = _mixed(10, 20)
    before = list(loader.epoch(1))
    other = loader.with_batch_size(6)
    _assert_equal(list(other.epoch(1)), list(_mixed(10, 20, batch_size=6).epoch(1)))
    # Memory is measured with a single image, too.
    assert len(next(loader.with_batch_size(1).epoch(0)).images) == 1
    _assert_equal(list(loader.epoch(1)), before)
