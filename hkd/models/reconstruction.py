"""A student's layers, fitted to the outputs of its teacher's layers by least squares.

Weights that are selected from a larger network lack the inputs from the channels that were dropped, and the errors add
up from layer to layer. Each layer is therefore fitted, in the order of the forward pass, to what the teacher's layer of
the same name computes on the same images, given what the student's layers before it compute (He, Zhang and Sun,
"Channel pruning for accelerating very deep neural networks", ICCV 2017, section 3.2). No label is compared with an
output; labels only influence which regions of the images the box head is fitted on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from hkd.config import PYRAMID_LEVELS
from hkd.models.detector import Detector
from hkd.models.least_squares import EXACT, LeastSquares, LinearFit
from hkd.models.weight_selection import selected_outputs
from hkd.structures import Batch

_MOST_ROWS: Final = 24_000
"""Cells of feature maps, over all images, on which a convolution is fitted."""
_LEAST_VARIANCE: Final = 0.01
"""Of a norm's input, relative to that of the teacher's norm."""
_BODY: Final = "backbone.body."
_PYRAMID: Final = "backbone.fpn."


@dataclass(frozen=True)
class LayerFit:
    """How well a layer's outputs follow those of the teacher's: the explained share of their variance, at most 1.

    Of rows on which the layer was not fitted, see :meth:`hkd.models.least_squares.LeastSquares.solve`.
    """

    name: str
    before: float
    """With the first weights; negative if they are worse than a constant."""
    after: float


@torch.no_grad()
def reconstruct(
    student: Detector,
    teacher: Detector,
    batches: Sequence[Batch],
    *,
    sampling: Mapping[str, Any],
    with_body: bool,
    with_anchor_outputs: bool = True,
    seed: int,
) -> list[LayerFit]:
    """Fit the student's layers, in place, to the teacher's outputs on some images.

    Args:
        student: Its layers and norms have evenly spaced channels of the teacher's of the same names, see
            :func:`hkd.models.weight_selection.select_weights`.
        teacher: On the student's device, not fused.
        batches: Images of one size, on that device.
        sampling: Numbers of sampled anchors and regions, arguments of ``student.forward_train``.
        with_body: Whether to fit the ResNet, too; otherwise pyramid, RPN and box head on top of its features.
        with_anchor_outputs: Whether to fit the RPN's outputs, too, which mean the teacher's only with its anchors.
        seed: Of the cells and regions on which layers are fitted.

    Returns:
        How well each layer was fitted, in the order of the forward pass.
    """
    generator = torch.Generator().manual_seed(seed)
    was_training = student.training
    student.eval()
    teacher.eval()
    parts = (_BODY, _PYRAMID) if with_body else (_PYRAMID,)
    fits, pyramids = _fit_backbone(student, teacher, batches, parts, generator)
    fits += _fit_rpn(student, teacher, batches, pyramids, generator, with_outputs=with_anchor_outputs)
    fits += _fit_box_head(student, teacher, batches, pyramids, sampling, generator)
    student.train(was_training)
    return fits


def _fit_backbone(
    student: Detector, teacher: Detector, batches: Sequence[Batch], parts: tuple[str, ...], generator: torch.Generator
) -> tuple[list[LayerFit], list[dict[str, Tensor]]]:
    """Fit the convolutions of these parts in one forward pass of the student over all images.

    Returns:
        The fits, and the teacher's pyramid of each batch.
    """
    modules, teacher_modules = dict(student.named_modules()), dict(teacher.named_modules())
    layers = {
        name: module
        for name, module in modules.items()
        if name.startswith(parts) and isinstance(module, nn.Conv2d) and name in teacher_modules
    }
    num_images = sum(len(batch.images) for batch in batches)
    cells: dict[str, Tensor] = {}
    outputs: dict[str, list[Tensor]] = {name: [] for name in layers}

    def record(name: str, _module: nn.Module, _arguments: object, maps: Tensor) -> None:
        """Keep the teacher's outputs at the layer's cells, of the student's channels."""
        if name not in cells:
            cells[name] = _draw_cells(maps, _MOST_ROWS // num_images, generator)
        channels = selected_outputs(name, layers[name].out_channels, maps.shape[1]).to(maps.device)
        outputs[name].append(_at_cells(maps, cells[name], channels))

    with _hooks(teacher_modules[name].register_forward_hook(partial(record, name)) for name in layers):
        pyramids = [teacher.forward_pyramid(batch.images, batch.valid_sizes) for batch in batches]

    fits: list[LayerFit] = []

    def fit(name: str, layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        """Called with the student's inputs of a layer, before its outputs are computed."""
        assert isinstance(layer, nn.Conv2d)
        recorded = outputs.pop(name)
        squares = LeastSquares(sum(rows.shape[0] * rows.shape[1] for rows in recorded))
        first = 0
        for rows in recorded:
            maps = arguments[0][first : first + len(rows)]
            squares.add(_patches(maps, layer, cells[name]).flatten(0, 1), rows.flatten(0, 1))
            first += len(rows)
        fits.append(_fit(name, layer, squares, modules[_norm_of(name)] if name.startswith(_BODY) else None))

    images = torch.cat([batch.images for batch in batches])
    valid_sizes = torch.cat([batch.valid_sizes for batch in batches])
    with _hooks(layer.register_forward_pre_hook(partial(fit, name)) for name, layer in layers.items()):
        student.forward_pyramid(images, valid_sizes)
    return fits, pyramids


def _fit_rpn(
    student: Detector,
    teacher: Detector,
    batches: Sequence[Batch],
    teacher_pyramids: Sequence[Mapping[str, Tensor]],
    generator: torch.Generator,
    *,
    with_outputs: bool,
) -> list[LayerFit]:
    """Fit the RPN on cells of all levels."""
    head, teacher_head = student.rpn.head, teacher.rpn.head
    convolution, teacher_convolution = head.conv[0][0], teacher_head.conv[0][0]
    cells: dict[str, Tensor] = {}
    most = _MOST_ROWS // len(PYRAMID_LEVELS) // sum(len(batch.images) for batch in batches)
    inputs, hidden = [], []
    for batch, teacher_pyramid in zip(batches, teacher_pyramids, strict=True):
        pyramid = student.forward_pyramid(batch.images, batch.valid_sizes)
        inputs_of_levels, hidden_of_levels = [], []
        for level in PYRAMID_LEVELS:
            maps = teacher_convolution(teacher_pyramid[level])
            if level not in cells:
                cells[level] = _draw_cells(maps, most, generator)
            inputs_of_levels.append(_patches(pyramid[level], convolution, cells[level]))
            hidden_of_levels.append(_at_cells(maps, cells[level]))
        # Image by image: the ridge is chosen by halves of the images, not of the levels.
        inputs.append(torch.cat(inputs_of_levels, dim=1).flatten(0, 1))
        hidden.append(torch.cat(hidden_of_levels, dim=1).flatten(0, 1))
    rows, wanted = torch.cat(inputs), torch.cat(hidden)
    name = "rpn.head"
    fits = [_fit_rows(f"{name}.conv", convolution, rows, wanted)]
    if not with_outputs:
        return fits
    rows = functional.relu(functional.linear(rows, convolution.weight.flatten(1), convolution.bias))
    wanted = functional.relu(wanted)
    for output in ("cls_logits", "bbox_pred"):
        layer, teacher_layer = getattr(head, output), getattr(teacher_head, output)
        outputs = functional.linear(wanted, teacher_layer.weight.flatten(1), teacher_layer.bias)
        fits.append(_fit_rows(f"{name}.{output}", layer, rows, outputs))
    return fits


def _fit_box_head(
    student: Detector,
    teacher: Detector,
    batches: Sequence[Batch],
    teacher_pyramids: Sequence[Mapping[str, Tensor]],
    sampling: Mapping[str, Any],
    generator: torch.Generator,
) -> list[LayerFit]:
    """Fit the box head on regions that the student samples."""
    inputs: list[Tensor] = []
    wanted: dict[str, list[Tensor]] = {"fc6": [], "fc7": [], "cls_score": [], "bbox_pred": []}
    teacher_head = teacher.roi_heads.box_head
    for batch, pyramid in zip(batches, teacher_pyramids, strict=True):
        anchor_keys, region_keys = student.draw_sampling_keys(batch.images, batch.targets, generator)
        output, _ = student.forward_train(
            batch.images,
            batch.valid_sizes,
            batch.targets,
            anchor_keys=anchor_keys,
            region_keys=region_keys,
            **sampling,
        )
        taps = output.taps
        if teacher.canonical_region_size != student.canonical_region_size:
            taps = teacher.region_taps(pyramid, output.sampled.regions.boxes_xyxy, batch.images.shape[2])
        region = teacher.forward_regions(pyramid, taps)
        valid = output.sampled.regions.valid.flatten()
        inputs.append(output.region.region_features[valid].flatten(1))
        fc6 = teacher_head.fc6(region.region_features[valid].flatten(1))
        for name, rows in (
            ("fc6", fc6),
            ("fc7", teacher_head.fc7(functional.relu(fc6))),
            ("cls_score", region.class_logits[valid]),
            ("bbox_pred", region.box_deltas[valid]),
        ):
            wanted[name].append(rows)
    rows = torch.cat(inputs)
    fits = []
    for name in ("fc6", "fc7"):
        layer = getattr(student.roi_heads.box_head, name)
        fits.append(_fit_rows(f"roi_heads.box_head.{name}", layer, rows, torch.cat(wanted[name])))
        rows = functional.relu(layer(rows))
    for name in ("cls_score", "bbox_pred"):
        layer = getattr(student.roi_heads.box_predictor, name)
        fits.append(_fit_rows(f"roi_heads.box_predictor.{name}", layer, rows, torch.cat(wanted[name])))
    return fits


def _fit_rows(name: str, layer: nn.Conv2d | nn.Linear, inputs: Tensor, outputs: Tensor) -> LayerFit:
    squares = LeastSquares(len(inputs))
    squares.add(inputs, outputs[:, selected_outputs(name, len(layer.weight), outputs.shape[1]).to(outputs.device)])
    return _fit(name, layer, squares, None)


def _fit(name: str, layer: nn.Conv2d | nn.Linear, squares: LeastSquares, norm: nn.Module | None) -> LayerFit:
    """Fit a layer, and the norm that follows it."""
    solution = squares.solve(layer.weight.flatten(1))
    if solution.explained_before >= EXACT:
        return LayerFit(name, solution.explained_before, solution.explained_before)
    layer.weight.copy_(solution.weight.view_as(layer.weight))
    if norm is not None:
        _fit_norm(norm, solution)
    elif layer.bias is not None:
        layer.bias.copy_(solution.bias)
    return LayerFit(name, solution.explained_before, solution.explained)


def _fit_norm(norm: Any, solution: LinearFit) -> None:
    """Give the norm the statistics of ``W x``, which it would measure itself in training.

    Its scale stays the teacher's, although ``W x`` varies less than the teacher's outputs, by what is not explained:
    a scale that makes up for it trains worse (benchmarks/NOTES.md).
    """
    # A channel of which next to nothing is explained would otherwise be amplified without bound.
    fewest = _LEAST_VARIANCE * norm.running_var
    norm.running_mean.copy_(solution.means)
    norm.running_var.copy_(torch.maximum(solution.variances.to(fewest.dtype), fewest))


def _norm_of(convolution: str) -> str:
    """Name of the norm that follows a convolution of the ResNet: of ``conv2`` it is ``bn2``."""
    if convolution.endswith("downsample.0"):
        return convolution.removesuffix("0") + "1"
    return convolution.replace("conv", "bn")


def _draw_cells(maps: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """(2, n) int64: rows and columns of at most ``most`` cells of maps (B, C, H, W), at least one."""
    height, width = maps.shape[2:]
    drawn = torch.randperm(height * width, generator=generator)[: max(1, most)]
    return torch.stack([drawn // width, drawn % width]).to(maps.device)


def _at_cells(maps: Tensor, cells: Tensor, channels: Tensor | slice = slice(None)) -> Tensor:
    """(B, n, C) of maps (B, M, H, W), by default of all channels."""
    # Cells first: the channels of whole maps would be a copy of hundreds of megabytes.
    return maps[:, :, cells[0], cells[1]][:, channels].transpose(1, 2)


def _patches(maps: Tensor, layer: nn.Conv2d, cells: Tensor) -> Tensor:
    """(B, n, C * k * k): what a convolution reads for these cells of its outputs, in the order of its weight."""
    assert not isinstance(layer.padding, str), "torchvision's blocks state the number of cells"
    padding, stride, kernel = layer.padding[0], layer.stride[0], layer.kernel_size[0]
    padded = functional.pad(maps, (padding,) * 4)
    rows, columns = cells * stride
    taps = [padded[:, :, rows + y, columns + x] for y in range(kernel) for x in range(kernel)]
    return torch.stack(taps, dim=2).permute(0, 3, 1, 2).flatten(2)


@contextmanager
def _hooks(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    registered = list(handles)
    try:
        yield
    finally:
        for handle in registered:
            handle.remove()
