"""Layers of the detector as ONNX nodes: backbone with feature pyramid, RPN and box head. Batch norms are folded."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from hkd.export.graph import Array, GraphBuilder, floats, integers
from hkd.models.components.heads import ProposalHead, RegionHead
from hkd.models.components.regions import POOLED_SIZE
from hkd.models.detector import Detector
from hkd.models.fused import folded_convolution

LAYERS = ("backbone/", "rpn/", "box_head/")
"""Scopes of the nodes with weights; INT8 quantises nodes of these only, and the backbone part by part."""


def add_pyramid(graph: GraphBuilder, detector: Detector, images: str) -> list[str]:
    """Levels p2..p6 (N, C, H / stride, W / stride) of normalised images (N, 3, H, W)."""
    graph.scope = "backbone/stem/"
    body, pyramid = detector.backbone.body, detector.backbone.fpn
    features = _convolution(graph, images, body["conv1"], body["bn1"], relu=True)
    features = graph.add("MaxPool", features, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    stages = []
    for stage in (1, 2, 3, 4):
        graph.scope = f"backbone/layer{stage}/"
        for block in body[f"layer{stage}"]:
            features = _block(graph, features, block)
        stages.append(features)
    graph.scope = "backbone/fpn/"
    levels: list[str] = []
    above: str | None = None
    for lateral, output, features in reversed(
        list(zip(pyramid.inner_blocks, pyramid.layer_blocks, stages, strict=True))
    ):
        if above is not None:
            # Exact where the sides of the input are multiples of 32.
            above = graph.add(
                "Resize",
                above,
                "",
                floats([1, 1, 2, 2]),
                mode="nearest",
                coordinate_transformation_mode="asymmetric",
                nearest_mode="floor",
            )
        above = _convolution(graph, features, lateral[0], None, added=above)
        levels.insert(0, _convolution(graph, above, output[0], None))
    # As torchvision's LastLevelMaxPool: every second cell.
    levels.append(graph.add("MaxPool", levels[-1], kernel_shape=[1, 1], strides=[2, 2]))
    return levels


def add_proposal_head(graph: GraphBuilder, head: ProposalHead, levels: list[str]) -> list[str]:
    """Objectness logits and deltas (N, H_l, W_l, 5 * anchors a cell) of each level; the logits are first."""
    graph.scope = "rpn/"
    logit, delta = head.head.cls_logits, head.head.bbox_pred
    weight = _array(torch.cat([logit.weight, delta.weight]))
    bias = _array(torch.cat([logit.bias, delta.bias]))
    outputs = []
    for level in levels:
        hidden = level
        for block in head.head.conv:
            hidden = _convolution(graph, hidden, block[0], None, relu=True)
        output = graph.add("Conv", hidden, weight, bias, kernel_shape=[1, 1])
        outputs.append(graph.add("Transpose", output, perm=[0, 2, 3, 1]))
    return outputs


def add_box_head(graph: GraphBuilder, head: RegionHead, regions: str) -> tuple[str, str]:
    """Probabilities of a person (R, 1) and their deltas (R, 4) of regions (R, 49 * C), bin by bin."""
    graph.scope = "box_head/"
    box_head, predictor = head.box_head, head.box_predictor
    fc6 = box_head.fc6
    channels = fc6.in_features // POOLED_SIZE**2
    # In the order of the regions' features.
    weight = fc6.weight.view(-1, channels, POOLED_SIZE**2).transpose(1, 2).reshape(fc6.weight.shape)
    hidden = graph.add("Relu", graph.add("Gemm", regions, _array(weight), _array(fc6.bias), transB=1))
    hidden = graph.add("Relu", _linear(graph, hidden, box_head.fc7.weight, box_head.fc7.bias))
    scored, boxes = predictor.cls_score, predictor.bbox_pred
    # Deltas of class 1 only; both layers as one product.
    outputs = _linear(
        graph, hidden, torch.cat([scored.weight, boxes.weight[4:8]]), torch.cat([scored.bias, boxes.bias[4:8]])
    )
    graph.scope = "detections/"
    logits, deltas = graph.add_all("Split", 2, outputs, integers([scored.out_features, 4]), axis=1)
    # Over all classes that were trained: those after the person count as background.
    probabilities = graph.add("Softmax", logits, axis=1)
    return graph.add("Slice", probabilities, integers([1]), integers([2]), integers([1])), deltas


def _block(graph: GraphBuilder, features: str, block: BasicBlock | Bottleneck) -> str:
    shortcut = features
    if block.downsample is not None:
        shortcut = _convolution(graph, features, block.downsample[0], block.downsample[1])
    pairs: list[tuple[nn.Module, nn.Module]] = [(block.conv1, block.bn1), (block.conv2, block.bn2)]
    if isinstance(block, Bottleneck):
        pairs.append((block.conv3, block.bn3))
    for convolution, norm in pairs[:-1]:
        features = _convolution(graph, features, convolution, norm, relu=True)
    return _convolution(graph, features, *pairs[-1], added=shortcut, relu=True)


def _convolution(
    graph: GraphBuilder,
    features: str,
    convolution: nn.Module,
    norm: nn.Module | None,
    *,
    added: str | None = None,
    relu: bool = False,
) -> str:
    assert isinstance(convolution, nn.Conv2d)
    weight, bias = folded_convolution(convolution, norm)
    rows, columns = (int(side) for side in convolution.padding)
    result = graph.add(
        "Conv",
        features,
        _array(weight),
        *([] if bias is None else [_array(bias)]),
        kernel_shape=list(convolution.kernel_size),
        strides=list(convolution.stride),
        pads=[rows, columns, rows, columns],
    )
    if added is not None:
        result = graph.add("Add", result, added)
    return graph.add("Relu", result) if relu else result


def _linear(graph: GraphBuilder, rows: str, weight: Tensor, bias: Tensor) -> str:
    return graph.add("Gemm", rows, _array(weight), _array(bias), transB=1)


def _array(tensor: Tensor) -> Array:
    return np.ascontiguousarray(tensor.detach().cpu().float().numpy())
