from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from hkd.config import FeatureLoss
from hkd.distillation.region import embedding_distillation_loss, region_distillation_loss

VALID = torch.tensor([True, True, False, True, False, True, True, True])
KINDS: tuple[FeatureLoss, ...] = ("pearson", "mse")


def _normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _expected(student: Tensor, teacher: Tensor, kind: FeatureLoss) -> float:
    """By numpy in float64, from the valid regions, channels second."""
    a, b = (features.transpose(0, 1).flatten(1).double().numpy() for features in (student, teacher))
    if kind == "mse":
        return float(np.mean((a - b) ** 2))
    return float(np.mean([1.0 - np.corrcoef(a[channel], b[channel])[0, 1] for channel in range(len(a))]))


@pytest.mark.parametrize("kind", KINDS)
def test_region_loss_covers_cells_of_valid_regions(kind: FeatureLoss) -> None:
    student, teacher = _normal(8, 4, 7, 7, seed=0), _normal(8, 4, 7, 7, seed=1)
    loss = region_distillation_loss(student, teacher, VALID, kind)
    assert loss.item() == pytest.approx(_expected(student[VALID], teacher[VALID], kind), abs=2e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_embedding_loss_covers_valid_regions(kind: FeatureLoss) -> None:
    student, teacher = _normal(8, 16, seed=0), _normal(8, 16, seed=1)
    loss = embedding_distillation_loss(student, teacher, VALID, kind)
    assert loss.item() == pytest.approx(_expected(student[VALID], teacher[VALID], kind), abs=2e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_identical_features_have_exactly_zero_loss(kind: FeatureLoss) -> None:
    features, embedding = _normal(8, 4, 7, 7, seed=0), _normal(8, 16, seed=1)
    assert region_distillation_loss(features, features.clone(), VALID, kind).item() == 0.0
    assert embedding_distillation_loss(embedding, embedding.clone(), VALID, kind).item() == 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_loss_without_valid_regions_is_zero_with_zero_gradient(kind: FeatureLoss) -> None:
    none_valid = torch.zeros(8, dtype=torch.bool)
    features, embedding = _normal(8, 4, 7, 7, seed=0).requires_grad_(), _normal(8, 16, seed=1).requires_grad_()
    region = region_distillation_loss(features, _normal(8, 4, 7, 7, seed=2), none_valid, kind)
    of_embedding = embedding_distillation_loss(embedding, _normal(8, 16, seed=3), none_valid, kind)
    torch.autograd.backward(region + of_embedding)
    assert region.item() == 0.0
    assert of_embedding.item() == 0.0
    for leaf in (features, embedding):
        assert leaf.grad is not None
        assert torch.equal(leaf.grad, torch.zeros_like(leaf))


@pytest.mark.parametrize("kind", KINDS)
def test_only_student_receives_gradient_and_only_in_valid_regions(kind: FeatureLoss) -> None:
    for loss, shape in ((region_distillation_loss, (8, 4, 7, 7)), (embedding_distillation_loss, (8, 16))):
        student, teacher = _normal(*shape, seed=0).requires_grad_(), _normal(*shape, seed=1).requires_grad_()
        torch.autograd.backward(loss(student, teacher, VALID, kind))
        assert teacher.grad is None
        assert student.grad is not None
        assert torch.equal(student.grad.flatten(1).abs().amax(1) > 0, VALID)
