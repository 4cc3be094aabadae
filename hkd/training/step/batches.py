"""The batches of a training, from its configuration and data."""

from __future__ import annotations

import torch

from hkd.coco.annotations import Annotations
from hkd.config import TrialConfig
from hkd.data.loader import BatchLoader, MixedIn
from hkd.data.prepare import PreparedData


def build_loader(
    config: TrialConfig, data: PreparedData, pseudo_labels: Annotations | None, device: torch.device
) -> BatchLoader:
    """The training images, mixed with the unlabelled ones where the configuration names some.

    Raises:
        ValueError: it does, and there are no pseudo-labels.
    """
    settings, mixed_in = config.data, None
    if settings.unlabelled_images is not None:
        if data.unlabelled is None or pseudo_labels is None:
            raise ValueError(
                "data.unlabelled_images is set, but Trainer got no pseudo-labels; pass those of prepare_labels(...)"
            )
        mixed_in = MixedIn(data.unlabelled.store, pseudo_labels, settings.unlabelled_fraction)
    return BatchLoader(
        data.train_store,
        data.train_annotations,
        batch_size=config.training.batch_size,
        max_objects=settings.max_objects_per_image,
        seed=config.training.seed,
        device=device,
        augmentation=settings.augmentation.model_dump(),
        mixed_in=mixed_in,
    )
