"""Finding the weights of a network in what a training saved: below which keys, and with which prefix of their names.

The rules, in this order:

1. The weights are a mapping from names to tensors, at the top or below up to four keys (``model``, ``state_dict``).
   Of several that hold a network, the first in the order of :data:`KEYS` is read.
2. Parts that torch's wrappers add inside a name (``_orig_mod`` of ``torch.compile``, ``_fsdp_wrapped_module``) are
   removed wherever they stand.
3. The prefix (``module.``, ``model.``) is what stands before the name of the network's first convolution. It is removed
   from every name; tensors without it belong to something else and are left out. Two prefixes are two networks, and an
   error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from hkd.models.weight_formats.errors import CheckpointError

Layout = Literal["torchvision", "mmdetection", "resnet", "unknown"]
"""Whose names the weights have. ``resnet``: a classifier or backbone with torchvision's (and timm's) names."""

KEYS = ("model", "state_dict", "model_state_dict", "module", "net", "network", "weights", "student")
"""Keys of weights in order of preference; other keys, such as those of averaged weights, come after them."""

_MAX_DEPTH = 4
_MAX_MAPPINGS = 10_000
_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}
# Names that a network of each layout has; the first is its first convolution.
_MARKS: dict[Layout, tuple[str, ...]] = {
    "torchvision": ("backbone.body.conv1.weight",),
    "mmdetection": ("backbone.conv1.weight", "neck.lateral_convs.0.conv.weight"),
    "resnet": ("conv1.weight", "bn1.weight", "layer1.0.conv1.weight"),
}
_MAX_NAMES_SHOWN = 3


@dataclass(frozen=True)
class UnwrappedWeights:
    """Tensors of one network, under its own names."""

    tensors: dict[str, Tensor]
    layout: Layout
    notes: tuple[str, ...]
    """What was read from where and what was left out, a sentence each."""


def unwrap(content: Any, path: Path) -> UnwrappedWeights:
    """The weights in what a file of weights holds.

    A mapping of tensors without a network that is known here is returned as it is, with the layout ``unknown``.

    Args:
        content: From ``torch.load``, or the named tensors of a ``.safetensors`` file.
        path: For messages.

    Raises:
        CheckpointError: there are no named tensors, or several networks between which nothing decides.
    """
    found = [(keys, mapping) for keys, mapping in _mappings(content) if any(_is_tensor(v) for v in mapping.values())]
    networks = []
    for keys, mapping in found:
        tensors = _without_wrappers({str(name): v for name, v in mapping.items() if _is_tensor(v)}, path)
        layout, prefixes = _layout(tensors)
        if layout != "unknown":
            networks.append((keys, tensors, layout, prefixes))
    if not networks:
        return _unknown(found, path)
    networks.sort(key=lambda network: [_preference(key) for key in network[0]])
    keys, tensors, layout, prefixes = networks[0]
    ties = [other[0] for other in networks[1:] if [*map(_preference, other[0])] == [*map(_preference, keys)]]
    if ties:
        raise CheckpointError(
            f"{path}: holds the weights of several networks, under {_quoted([keys, *ties])}; save the one that is "
            "meant in a file of its own"
        )
    if len(prefixes) > 1:
        key = "" if not keys else "[" + "][".join(repr(part) for part in keys) + "]"
        raise CheckpointError(
            f"{path}: holds the weights of several networks, whose names start with {', '.join(prefixes)}; save the "
            f"one that is meant in a file of its own: torch.save({{name.removeprefix('{prefixes[0]}'): tensor for "
            f"name, tensor in checkpoint{key}.items() if name.startswith('{prefixes[0]}')}}, 'weights.pth')"
        )
    notes = []
    if len(networks) > 1:
        notes.append(f"weights read under {_quoted([keys])}; not read: {_quoted([other[0] for other in networks[1:]])}")
    prefix = prefixes[0]
    outside = [name for name in tensors if not name.startswith(prefix)]
    if outside:
        notes.append(f"not read: {_counted(outside)} outside the network, whose names start with {prefix}")
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    return UnwrappedWeights(own, layout, tuple(notes))


def _mappings(content: Any) -> Iterator[tuple[tuple[str, ...], Mapping[Any, Any]]]:
    """All mappings in nested mappings with the keys that lead to them, the outermost first."""
    level = [((), content)] if isinstance(content, Mapping) else []
    count = 0
    for _ in range(_MAX_DEPTH + 1):
        below: list[Any] = []
        for keys, mapping in level:
            yield keys, mapping
            count += 1
            if count == _MAX_MAPPINGS:
                return
            below += [((*keys, str(key)), value) for key, value in mapping.items() if isinstance(value, Mapping)]
        level = below


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def _without_wrappers(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    plain = {}
    for name, tensor in tensors.items():
        short = ".".join(part for part in name.split(".") if part not in _WRAPPERS)
        if short in plain:
            raise CheckpointError(f"{path}: holds two tensors named {short}, with and without the parts of a wrapper")
        plain[short] = tensor
    return plain


def _layout(tensors: Mapping[str, Tensor]) -> tuple[Layout, list[str]]:
    """The first layout that fits, and the prefixes under which it does."""
    for layout, (first, *others) in _MARKS.items():
        prefixes = [
            prefix
            for name in tensors
            if name.endswith(first)
            and ((prefix := name.removesuffix(first)) == "" or prefix.endswith("."))
            and all(prefix + other in tensors for other in others)
        ]
        if prefixes:
            return layout, prefixes
    return "unknown", []


def _preference(key: str) -> int:
    return KEYS.index(key) if key in KEYS else len(KEYS)


def _unknown(found: list[tuple[tuple[str, ...], Mapping[Any, Any]]], path: Path) -> UnwrappedWeights:
    for keys, mapping in found:
        if (not keys or keys[-1] in KEYS) and all(_is_tensor(value) for value in mapping.values()):
            return UnwrappedWeights({str(name): tensor for name, tensor in mapping.items()}, "unknown", ())
    raise CheckpointError(
        f"{path}: holds no state dict of a detector or a ResNet; allowed: a mapping from parameter names to tensors, "
        f"bare or under keys such as {_quoted([(key,) for key in KEYS[:3]])}"
    )


def _quoted(keys: list[tuple[str, ...]]) -> str:
    return ", ".join('"' + ".".join(parts) + '"' if parts else "no key" for parts in keys)


def _counted(names: list[str]) -> str:
    rest = len(names) - _MAX_NAMES_SHOWN
    tensors = "1 tensor" if len(names) == 1 else f"{len(names)} tensors"
    return f"{tensors} ({', '.join(names[:_MAX_NAMES_SHOWN])}{', ...' if rest > 0 else ''})"
