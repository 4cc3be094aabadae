"""Recognition of networks that are no detector of ours, so that a refusal can name them."""

from __future__ import annotations

import re
from collections.abc import Iterable

# A pattern of a parameter's name (prefixes may stand before it), and the network that has such a name.
_MARKS = (
    (
        r"backbone\.fpn\.inner_blocks\.0\.1\.|roi_heads\.box_head\.\d+\.\d+\.",
        "torchvision's fasterrcnn_resnet50_fpn_v2, with norms in the pyramid and convolutions in the box head",
    ),
    (
        r"backbone\.body\.\d+\.",
        "a torchvision detector with a MobileNet backbone, such as fasterrcnn_mobilenet_v3_large_fpn",
    ),
    (r"head\.classification_head\.", "a one-stage detector of torchvision (RetinaNet, FCOS or SSD)"),
    (
        r"backbone\.bottom_up\.|proposal_generator\.rpn_head\.",
        "a detector with detectron2's names (there is no map of them, and its models of BGR images differ in strides)",
    ),
    (r"roi_head\.bbox_head\.\d+\.|roi_heads\.box_head\.\d+\.fc", "a cascade of box heads (Cascade R-CNN)"),
    (r"(?:bbox_head|neck)\.", "a detector of mmdetection other than Faster R-CNN on a ResNet with FPN"),
    (r"(?:transformer\.(?:encoder|decoder)|class_embed)\.", "a transformer (DETR)"),
    (r"model\.\d+\.(?:conv|cv1|m)\.", "a YOLO network"),
    (r"blocks\.\d+\.attn\.|encoder\.layers?\.", "a vision transformer"),
)


def recognised_as(names: Iterable[str]) -> str | None:
    """What has parameters of these names; None if they are not known."""
    listed = list(names)
    for pattern, description in _MARKS:
        if any(re.search(rf"(?:\A|\.){pattern}", name) for name in listed):
            return description
    return None
