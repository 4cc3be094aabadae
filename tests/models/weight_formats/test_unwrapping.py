"""Where the weights of a network are found in what training programs save, and which prefix their names lose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hkd.models.weight_formats.errors import CheckpointError
from hkd.models.weight_formats.unwrapping import unwrap

FILE = Path("a.pth")
DETECTOR = {"backbone.body.conv1.weight": torch.zeros(1), "rpn.head.cls_logits.bias": torch.ones(1)}
AVERAGE = {name: tensor + 5 for name, tensor in DETECTOR.items()}
CLASSIFIER = {
    "conv1.weight": torch.zeros(1),
    "bn1.weight": torch.ones(1),
    "layer1.0.conv1.weight": torch.ones(1),
    "fc.weight": torch.ones(1),
}


def prefixed(prefix: str, tensors: dict[str, Tensor] = DETECTOR) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def infixed(part: str) -> dict[str, Tensor]:
    """Names with a wrapper's part after the first component, as where only the backbone is wrapped."""
    return {name.replace(".", f".{part}.", 1): tensor for name, tensor in DETECTOR.items()}


@pytest.mark.parametrize(
    "content",
    [
        DETECTOR,
        {"model": DETECTOR, "optimizer": {"state": {0: {"momentum_buffer": torch.ones(2)}}}, "epoch": 25},
        {"state_dict": prefixed("model."), "hyper_parameters": {"lr": 0.01}, "epoch": 3},  # Lightning
        {"model_state_dict": DETECTOR, "loss": torch.tensor(0.5)},
        prefixed("module."),  # DataParallel
        prefixed("_orig_mod."),  # torch.compile
        prefixed("module._orig_mod."),
        prefixed("_orig_mod.module."),
        infixed("_orig_mod"),
        infixed("_fsdp_wrapped_module"),
        prefixed("_forward_module.model.student."),
        {"checkpoint": {"ema": prefixed("module.")}},
        {**prefixed("module."), "n_averaged": torch.tensor(7)},  # AveragedModel
    ],
    ids=lambda content: next(iter(content)),
)
def test_detector_is_found_under_its_own_names(content: Any) -> None:
    found = unwrap(content, FILE)
    assert found.layout == "torchvision"
    assert found.tensors == DETECTOR


def test_prefix_is_removed_only_from_names_that_have_it() -> None:
    # A name that contains the prefix further back keeps it, and a tensor without it belongs to something else.
    content = {**prefixed("model."), "model.head.model.weight": torch.ones(1), "criterion.weight": torch.ones(1)}
    found = unwrap({"state_dict": content}, FILE)
    assert set(found.tensors) == {*DETECTOR, "head.model.weight"}
    (note,) = found.notes
    assert "1 tensor (criterion.weight)" in note


def test_weights_are_preferred_over_their_average_which_is_reported() -> None:
    found = unwrap({"model_ema": AVERAGE, "model": DETECTOR}, FILE)
    assert found.tensors == DETECTOR
    (note,) = found.notes
    assert 'read under "model"; not read: "model_ema"' in note


@pytest.mark.parametrize("key", ["model_ema", "ema_state_dict", "generator"])
def test_only_network_is_read_under_any_key(key: str) -> None:
    assert unwrap({key: DETECTOR}, FILE).tensors == DETECTOR


def test_two_networks_under_other_keys_are_refused_with_both() -> None:
    with pytest.raises(CheckpointError, match='a.pth: .*"ema", "swa".*a file of its own'):
        unwrap({"ema": DETECTOR, "swa": AVERAGE}, FILE)


def test_two_prefixes_are_refused_with_a_command_that_saves_one(tmp_path: Path) -> None:
    content = {"state_dict": prefixed("student.") | prefixed("teacher.", AVERAGE)}
    with pytest.raises(CheckpointError) as caught:
        unwrap(content, FILE)
    message = str(caught.value)
    assert "student., teacher." in message
    # The command is Python that gives the first of them.
    expression = message[message.index("torch.save(") :].replace("'weights.pth'", f"{str(tmp_path / 'w.pth')!r}")
    eval(expression, {"torch": torch, "checkpoint": content})
    assert torch.load(tmp_path / "w.pth", weights_only=True) == DETECTOR


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "model.encoder."])
def test_classifier_is_recognised(prefix: str) -> None:
    found = unwrap({"state_dict": prefixed(prefix, CLASSIFIER)}, FILE)
    assert found.layout == "resnet"
    assert found.tensors == CLASSIFIER


def test_unknown_network_is_returned_as_it_is() -> None:
    found = unwrap({"model": {"a.weight": torch.ones(1)}}, FILE)
    assert (found.layout, found.tensors) == ("unknown", {"a.weight": torch.ones(1)})


@pytest.mark.parametrize("content", [{}, {"model": {}}, {"a": 1}, [torch.zeros(1)], torch.zeros(1), "model", None])
def test_content_without_named_tensors_is_refused(content: Any) -> None:
    with pytest.raises(CheckpointError, match='a.pth: holds no state dict.*"model", "state_dict"'):
        unwrap(content, FILE)


def test_deep_and_cyclic_mappings_end() -> None:
    cyclic: dict[str, Any] = {}
    cyclic["model"] = cyclic["state_dict"] = cyclic
    with pytest.raises(CheckpointError):
        unwrap(cyclic, FILE)


def test_names_that_differ_in_a_wrapper_alone_are_refused() -> None:
    with pytest.raises(CheckpointError, match="two tensors named backbone.body.conv1.weight"):
        unwrap(DETECTOR | prefixed("_orig_mod."), FILE)
