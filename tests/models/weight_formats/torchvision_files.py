"""State dicts as older versions of torchvision named them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def old_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names before pytorch/vision pull request 5444, as in fasterrcnn_resnet50_fpn_coco-258fb6c6.pth."""
    renamed = {}
    for name, tensor in tensors.items():
        old = name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        if ".inner_blocks." in old or ".layer_blocks." in old:
            # inner_blocks.3.0.weight -> inner_blocks.3.weight
            start, index, _, kind = old.rsplit(".", 3)
            old = f"{start}.{index}.{kind}"
        renamed[old] = tensor
    return renamed
