"""The baseline: the same distillation step with torchvision's ``FasterRCNN``, as commonly written.

It uses lists of images, per-image targets, torchvision's transforms, forward hooks for the features, and a
``DataLoader`` whose workers decode the files in every epoch; in fp32, or with bf16 autocast and channels_last. The
losses are ``hkd``'s defaults: PKD's loss (Cao et al., NeurIPS 2022) on the pyramid and on the pooled regions, the
Kullback-Leibler divergence at temperature 2 on the class logits, with 1x1 adapters. Features are compared at every
cell, as published, or at about as many cells as ``hkd`` samples.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.io import decode_image
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FasterRCNN, FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.transforms import v2
from torchvision.tv_tensors import BoundingBoxes, Image

from benchmarks.step.workload import Pictures, Workload
from hkd.config import DetectorConfig, TrialConfig
from hkd.distillation.cells import sampling_stride
from hkd.models.components.backbone import build_backbone

TEMPERATURE = 2.0


def build_faster_rcnn(config: DetectorConfig, trial: TrialConfig) -> FasterRCNN:
    """Torchvision's detector with the architecture and the settings of ``hkd``'s."""
    training, evaluation = trial.training, trial.evaluation
    return FasterRCNN(
        build_backbone(config.backbone, config.width_multiplier, config.pyramid_channels, config.norm),
        num_classes=None,
        min_size=trial.data.image_height,
        max_size=trial.data.image_width,
        rpn_anchor_generator=AnchorGenerator(
            tuple((size,) for size in config.anchor_sizes), (config.anchor_aspect_ratios,) * 5
        ),
        rpn_pre_nms_top_n_train=config.pre_nms_proposals_per_level,
        rpn_pre_nms_top_n_test=config.pre_nms_proposals_per_level,
        rpn_post_nms_top_n_train=config.proposals_per_image,
        rpn_post_nms_top_n_test=config.proposals_per_image,
        rpn_nms_thresh=config.proposal_nms_iou,
        rpn_batch_size_per_image=training.sampled_anchors_per_image,
        rpn_positive_fraction=training.positive_anchor_fraction,
        box_batch_size_per_image=training.sampled_regions_per_image,
        box_positive_fraction=training.positive_region_fraction,
        box_roi_pool=MultiScaleRoIAlign(
            ["0", "1", "2", "3"], output_size=7, sampling_ratio=2, canonical_scale=int(config.canonical_region_size)
        ),
        box_head=TwoMLPHead(config.pyramid_channels * 49, config.head_channels),
        box_predictor=FastRCNNPredictor(config.head_channels, 2),
        box_score_thresh=evaluation.score_threshold,
        box_nms_thresh=evaluation.nms_iou,
        box_detections_per_img=evaluation.max_detections_per_image,
    )


class TorchvisionTrainer:
    """Student, teacher, adapters and optimiser; :meth:`step` is one distillation step.

    Args:
        workload: detectors, schedule and device.
        is_bf16: bf16 autocast and channels_last instead of fp32.
        samples_cells: compare about as many cells as ``hkd`` samples instead of all.
    """

    def __init__(self, workload: Workload, *, is_bf16: bool, samples_cells: bool = False) -> None:
        self._training = workload.config.training
        self._device = workload.device
        self._is_bf16 = is_bf16
        self._samples_cells = samples_cells
        config = workload.config
        layout = torch.channels_last if is_bf16 else torch.contiguous_format
        self.student = build_faster_rcnn(workload.student, config).to(self._device, memory_format=layout).train()
        self.teacher = build_faster_rcnn(workload.teacher, config).to(self._device, memory_format=layout).eval()
        self.teacher.requires_grad_(False)
        channels = (workload.student.pyramid_channels, workload.teacher.pyramid_channels)
        adapters = nn.ModuleList(nn.Conv2d(*channels, kernel_size=1) for _ in range(6))
        self.adapters = adapters.to(self._device).to(memory_format=layout)
        self._parameters = [*self.student.parameters(), *self.adapters.parameters()]
        self._optimizer = torch.optim.SGD(
            self._parameters,
            lr=self._training.learning_rate,
            momentum=self._training.momentum,
            weight_decay=self._training.weight_decay,
        )
        self._caught: dict[str, Any] = {}
        student = self.student
        student.transform.register_forward_hook(self._catch("transformed"))
        student.backbone.register_forward_hook(self._catch("pyramid"))
        student.roi_heads.box_roi_pool.register_forward_hook(self._catch("pool"))
        student.roi_heads.box_predictor.register_forward_hook(self._catch("predictor"))

    def step(self, images: Sequence[Tensor], targets: Sequence[dict[str, Tensor]]) -> Tensor:
        """One step on images (3, H, W) in [0, 1] and their targets; returns the loss ()."""
        images = [image.to(self._device, non_blocking=True) for image in images]
        targets = [{key: value.to(self._device, non_blocking=True) for key, value in own.items()} for own in targets]
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._is_bf16):
            losses = list(self.student(images, targets).values())
            losses += self._distillation()
        loss = torch.stack([part.float() for part in losses]).sum()
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        if self._training.gradient_clip_norm is not None:
            nn.utils.clip_grad_norm_(self._parameters, self._training.gradient_clip_norm)
        self._optimizer.step()
        return loss.detach()

    @torch.no_grad()
    def detect(self, batches: Iterable[tuple[Sequence[Tensor], object]]) -> list[dict[str, Tensor]]:
        """The student's detections in each image, on the CPU."""
        self.student.eval()
        found: list[dict[str, Tensor]] = []
        for images, _ in batches:
            images = [image.to(self._device, non_blocking=True) for image in images]
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._is_bf16):
                detections = self.student(images)
            found += [{key: value.cpu() for key, value in own.items()} for own in detections]
        return found

    def _distillation(self) -> list[Tensor]:
        (_, proposals, image_sizes), pooled = self._caught["pool"]
        with torch.no_grad():
            batch = self._caught["transformed"][1][0].tensors
            teacher_pyramid: OrderedDict[str, Tensor] = self.teacher.backbone(batch)
            heads = self.teacher.roi_heads
            teacher_pooled = heads.box_roi_pool(teacher_pyramid, proposals, image_sizes)
            teacher_logits, _ = heads.box_predictor(heads.box_head(teacher_pooled))
        student_pyramid = self._caught["pyramid"][1]
        student_logits, _ = self._caught["predictor"][1]
        pyramid = [
            self._feature_loss(number, student_pyramid[level], teacher_pyramid[level])
            for number, level in enumerate(teacher_pyramid)
        ]
        region = self._feature_loss(5, pooled, teacher_pooled)
        return [torch.stack(pyramid).mean(), region, logit_loss(student_logits, teacher_logits)]

    def _feature_loss(self, number: int, student: Tensor, teacher: Tensor) -> Tensor:
        if self._samples_cells:
            # Per image, which needs no copy of the map and gives about as many cells as hkd's sample of the batch.
            step = sampling_stride(student)
            student, teacher = (features.flatten(2)[:, :, ::step, None] for features in (student, teacher))
        return pkd_loss(self.adapters[number](student), teacher)

    def _catch(self, name: str) -> Any:
        def hook(_: nn.Module, inputs: Any, outputs: Any) -> None:
            self._caught[name] = (inputs, outputs)

        return hook


def pkd_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Half the mean squared difference of features standardised per channel, as in PKD's published code."""

    def standardise(features: Tensor) -> Tensor:
        rows = features.float().permute(1, 0, 2, 3).reshape(features.shape[1], -1)
        return (rows - rows.mean(dim=1, keepdim=True)) / (rows.std(dim=1, keepdim=True) + 1e-6)

    return functional.mse_loss(standardise(student), standardise(teacher)) / 2


def logit_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Kullback-Leibler divergence (Hinton et al., 2015) at :data:`TEMPERATURE`, mean over regions."""
    student, teacher = (
        functional.log_softmax(logits.float() / TEMPERATURE, dim=1) for logits in (student_logits, teacher_logits)
    )
    return TEMPERATURE**2 * functional.kl_div(student, teacher, reduction="batchmean", log_target=True)


def augmentation(workload: Workload) -> v2.Compose:
    """Flip, scale jitter, crop and colour jitter of single images with the strength of ``hkd``'s defaults."""
    settings = workload.config.data.augmentation
    size = (workload.image_height, workload.image_width)
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(settings.flip_probability),
            v2.ScaleJitter(size, (settings.scale_min, settings.scale_max), antialias=False),
            v2.RandomCrop(size, pad_if_needed=True),
            v2.ColorJitter(settings.brightness, settings.contrast, settings.saturation),
            v2.ToDtype(torch.float32, scale=True),
            v2.SanitizeBoundingBoxes(min_size=1.0),
        ]
    )


class TorchvisionDataset(torch.utils.data.Dataset[tuple[Tensor, dict[str, Tensor]]]):
    """Images from memory or, with ``paths``, from files that are decoded at every access; augmented for training."""

    def __init__(
        self,
        workload: Workload,
        pictures: Pictures,
        paths: Sequence[Path] | None = None,
        *,
        is_training: bool = True,
    ) -> None:
        self._pictures = pictures
        self._paths = paths
        self._change = augmentation(workload) if is_training else v2.ToDtype(torch.float32, scale=True)
        self._resize = v2.Resize((workload.image_height, workload.image_width))

    def __len__(self) -> int:
        return len(self._pictures.images)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        if self._paths is None:
            pixels = torch.from_numpy(self._pictures.images[index]).permute(2, 0, 1)
        else:
            pixels = decode_image(str(self._paths[index]), mode="RGB")
        image = Image(pixels)
        own = torch.from_numpy(np.asarray(self._pictures.boxes_xyxy[index]))
        boxes = BoundingBoxes(own, format="XYXY", canvas_size=image.shape[-2:])
        sample = {"boxes": boxes, "labels": torch.ones(len(own), dtype=torch.int64)}
        if self._paths is not None:
            image, sample = self._resize(image, sample)
        image, sample = self._change(image, sample)
        return image.as_subclass(Tensor), {key: value.as_subclass(Tensor) for key, value in sample.items()}


def collate(samples: Sequence[tuple[Tensor, dict[str, Tensor]]]) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """A batch in the form of torchvision's detectors: two lists."""
    return [image for image, _ in samples], [target for _, target in samples]
