from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from hkd.config import FeatureLoss
from hkd.distillation.feature_losses import feature_loss, mse_loss, pearson_loss
from hkd.distillation.moments import channel_moments


def _normal(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _some_cells(count: int, height: int, width: int, seed: int = 9) -> Tensor:
    return torch.rand(count, 1, height, width, generator=torch.Generator().manual_seed(seed)) < 0.6


def _one_minus_correlation(student: Tensor, teacher: Tensor, mask: Tensor) -> float:
    """By numpy, in float64, channel by channel."""
    kept = mask.expand(-1, 1, *student.shape[-2:])[:, 0].numpy()
    losses = []
    for channel in range(student.shape[1]):
        a = student[:, channel].double().numpy()[kept]
        b = teacher[:, channel].double().numpy()[kept]
        losses.append(1.0 - np.corrcoef(a, b)[0, 1])
    return float(np.mean(losses))


class TestPearson:
    @pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
    def test_loss_is_one_minus_correlation_over_masked_cells(self, memory_format: torch.memory_format) -> None:
        teacher = _normal(3, 4, 6, 5, seed=0).to(memory_format=memory_format)
        student = (0.7 * teacher + _normal(3, 4, 6, 5, seed=1)).to(memory_format=memory_format)
        mask = _some_cells(3, 6, 5)
        # fp32 sums over 90 cells: 1e-6 is some ten units in the last place. (epsilon / variance is 1e-8.)
        assert pearson_loss(student, teacher, mask).item() == pytest.approx(
            _one_minus_correlation(student, teacher, mask), abs=1e-6
        )
        everything = torch.ones(3, 1, 6, 5, dtype=torch.bool)
        expected = _one_minus_correlation(student, teacher, everything)
        assert pearson_loss(student, teacher).item() == pytest.approx(expected, abs=1e-6)
        assert pearson_loss(student, teacher, everything).item() == pytest.approx(expected, abs=1e-6)

    def test_mask_of_one_value_per_image_covers_all_its_cells(self) -> None:
        student, teacher = _normal(5, 3, 4, 4, seed=0), _normal(5, 3, 4, 4, seed=1)
        mask = torch.tensor([True, False, True, True, False])[:, None, None, None]
        expected = _one_minus_correlation(student, teacher, mask.expand(5, 1, 4, 4))
        assert pearson_loss(student, teacher, mask).item() == pytest.approx(expected, abs=1e-6)

    def test_loss_is_half_mean_squared_difference_of_standardised_channels(self) -> None:
        student, teacher = _normal(2, 3, 4, 5, seed=0), _normal(2, 3, 4, 5, seed=1)

        def standardised(features: Tensor) -> Tensor:
            variance, mean = torch.var_mean(features.double(), dim=(0, 2, 3), correction=0, keepdim=True)
            return (features.double() - mean) / variance.sqrt()

        expected = 0.5 * (standardised(student) - standardised(teacher)).square().mean()
        assert pearson_loss(student, teacher).item() == pytest.approx(expected.item(), abs=1e-6)

    def test_loss_is_invariant_to_scale_and_offset_but_not_to_sign(self) -> None:
        teacher = _normal(2, 3, 4, 5, seed=0)
        scale = torch.tensor([0.3, 1.0, 50.0])[None, :, None, None]
        offset = torch.tensor([-2.0, 0.0, 7.0])[None, :, None, None]
        # r = 1 and r = -1. Epsilon beside the smallest variance, 0.09, takes 1e-7; sums of 40 cells round at 1e-6.
        assert pearson_loss(scale * teacher + offset, teacher).item() == pytest.approx(0.0, abs=2e-6)
        assert pearson_loss(-scale * teacher + offset, teacher).item() == pytest.approx(2.0, abs=2e-6)

    def test_loss_is_accurate_for_large_means(self) -> None:
        teacher = 1000.0 + 0.1 * _normal(4, 2, 16, 16, seed=0)
        student = 0.5 * (teacher - 1000.0) + 0.1 * _normal(4, 2, 16, 16, seed=1) - 3000.0
        everything = torch.ones(4, 1, 16, 16, dtype=torch.bool)
        # Sums of squares of 1e6 in fp32 (unit 0.06) could not hold a variance of 0.01. The mean's own unit, 2.4e-4 at
        # 3000, is 2e-3 of the spread; that shifts the variances by its square, 4e-6.
        expected = _one_minus_correlation(student, teacher, everything)
        assert pearson_loss(student, teacher, everything).item() == pytest.approx(expected, abs=1e-5)
        assert pearson_loss(student, teacher).item() == pytest.approx(expected, abs=1e-5)

    def test_gradient_passes_gradcheck(self) -> None:
        teacher = _normal(2, 3, 4, 5, seed=0, dtype=torch.float64)
        student = _normal(2, 3, 4, 5, seed=1, dtype=torch.float64).requires_grad_()
        for mask in (None, _some_cells(2, 4, 5), torch.tensor([True, False])[:, None, None, None]):
            assert torch.autograd.gradcheck(
                lambda features, mask=mask: channel_moments(features, teacher, mask)[::2], (student,)
            )

    def test_gradient_equals_autograd_of_correlation(self) -> None:
        teacher = _normal(2, 3, 4, 5, seed=0)
        student = _normal(2, 3, 4, 5, seed=1).requires_grad_()
        mask = _some_cells(2, 4, 5)
        torch.autograd.backward(pearson_loss(student, teacher, mask))

        # The same by autograd in float64, on the cells that count.
        reference = student.detach().double().requires_grad_()
        kept = mask[:, 0]
        correlations = [
            torch.corrcoef(torch.stack([reference[:, channel][kept], teacher[:, channel].double()[kept]]))[0, 1]
            for channel in range(3)
        ]
        torch.autograd.backward(1.0 - torch.stack(correlations).mean())
        assert student.grad is not None
        assert reference.grad is not None
        torch.testing.assert_close(student.grad, reference.grad.float(), rtol=1e-5, atol=1e-7)

    def test_constant_channels_give_finite_values_and_gradients(self) -> None:
        varying = _normal(4, 1, 3, 3, seed=0)
        constant = torch.full((4, 1, 3, 3), 0.25)
        # Channel by channel: both constant, student constant, teacher constant, both vary and agree.
        student = torch.cat([constant, constant, varying, varying], dim=1).requires_grad_()
        teacher = torch.cat([3.0 * constant, varying, constant, varying], dim=1)
        loss = pearson_loss(student, teacher)
        torch.autograd.backward(loss)
        # Standardised, a constant is all 0: half the mean square of the other side's unit variance is 1/2.
        assert loss.item() == pytest.approx((0.0 + 0.5 + 0.5 + 0.0) / 4, abs=1e-6)
        assert student.grad is not None
        norms = torch.linalg.vector_norm(student.grad, dim=(0, 2, 3))
        assert norms[0] == 0.0
        # A quarter of 1 / sqrt(1e-8 * 36 cells): towards the teacher's pattern, as hard as epsilon lets it.
        assert norms[1].item() == pytest.approx(0.25 / np.sqrt(1e-8 * 36), rel=1e-4)
        # Nothing to learn from a constant teacher; what is left is epsilon / spread^4.
        assert norms[2].item() < 1e-8
        assert norms[3].item() < 1e-7

    def test_rounding_of_large_constants_is_bounded(self) -> None:
        student = torch.full((3, 2, 5, 7), 1000.1, requires_grad=True)
        teacher = torch.full((3, 2, 5, 7), -777.7)
        loss = pearson_loss(student, teacher, _some_cells(3, 5, 7))
        torch.autograd.backward(loss)
        # A mean off by its last unit, 6.1e-5, leaves a variance v of 3.7e-9: v / (v + 1e-8) = 0.27 a side, so at most
        # twice that where the signs differ. (Taken for a pattern, with no epsilon, it would be up to 2.)
        assert 0.0 <= loss.item() <= 0.55
        assert student.grad is not None
        assert torch.isfinite(student.grad).all()

    def test_single_cell_has_zero_loss_and_gradient(self) -> None:
        student = _normal(1, 4, 1, 1, seed=0).requires_grad_()
        loss = pearson_loss(student, _normal(1, 4, 1, 1, seed=1))
        torch.autograd.backward(loss)
        assert loss.item() == 0.0
        assert student.grad is not None
        assert torch.equal(student.grad, torch.zeros_like(student))


class TestMse:
    def test_loss_equals_hand_computation(self) -> None:
        student = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, -1.0]]).view(1, 2, 1, 3)
        teacher = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 1.0]]).view(1, 2, 1, 3)
        # Squares: 0, 4, 9 and 1, 0, 4: 18 over 6 elements.
        assert mse_loss(student, teacher).item() == pytest.approx(3.0, rel=1e-6)
        # Without the middle cell: 0, 9, 1, 4 over 4.
        mask = torch.tensor([True, False, True]).view(1, 1, 1, 3)
        assert mse_loss(student, teacher, mask).item() == pytest.approx(3.5, rel=1e-6)

    def test_mask_of_one_value_per_image_covers_all_its_cells(self) -> None:
        student, teacher = _normal(3, 2, 4, 4, seed=0), _normal(3, 2, 4, 4, seed=1)
        mask = torch.tensor([True, False, True])[:, None, None, None]
        expected = (student[[0, 2]] - teacher[[0, 2]]).double().square().mean().item()
        assert mse_loss(student, teacher, mask).item() == pytest.approx(expected, rel=1e-6)

    def test_gradient_equals_hand_computation(self) -> None:
        student = torch.tensor([1.0, 2.0, 3.0]).view(1, 1, 1, 3).requires_grad_()
        mask = torch.tensor([True, False, True]).view(1, 1, 1, 3)
        torch.autograd.backward(mse_loss(student, torch.zeros(1, 1, 1, 3), mask))
        # d (1^2 + 3^2) / 2.
        assert student.grad is not None
        torch.testing.assert_close(student.grad.flatten(), torch.tensor([1.0, 0.0, 3.0]))


@pytest.mark.parametrize("kind", ["pearson", "mse"])
class TestEitherLoss:
    def test_identical_features_have_exactly_zero_loss(self, kind: FeatureLoss) -> None:
        # Also with a dead channel, and at scales where epsilon is large and small beside the variance.
        features = _normal(4, 5, 6, 7, seed=0) * torch.tensor([0.0, 1e-5, 1e-2, 1.0, 1e3])[None, :, None, None]
        student = features.clone().requires_grad_()
        for mask in (None, _some_cells(4, 6, 7)):
            # mse: each difference is 0. pearson: variances and covariance are then the same sums of the same numbers,
            # v / (v + e) on either side of the minus, because sqrt((v + e)^2) rounds to v + e.
            assert feature_loss(student, features, mask, kind).item() == 0.0

    def test_values_outside_mask_do_not_affect_loss_or_gradient(self, kind: FeatureLoss) -> None:
        mask = _some_cells(3, 6, 5)
        student, teacher = _normal(3, 4, 6, 5, seed=0), _normal(3, 4, 6, 5, seed=1)

        def loss_and_gradient(in_padding: float) -> tuple[Tensor, Tensor]:
            features = torch.where(mask, student, in_padding).requires_grad_()
            loss = feature_loss(features, torch.where(mask, teacher, -in_padding), mask, kind)
            (gradient,) = torch.autograd.grad(loss, features)
            return loss.detach(), gradient

        loss, gradient = loss_and_gradient(0.0)
        assert loss > 0.5  # of unrelated features
        assert torch.equal(gradient != 0, mask.expand_as(gradient))
        for in_padding in (1e6, float("nan"), float("inf")):
            again, gradient_again = loss_and_gradient(in_padding)
            assert torch.equal(again, loss)
            assert torch.equal(gradient_again, gradient)

    def test_empty_mask_has_zero_loss_and_gradient(self, kind: FeatureLoss) -> None:
        student = _normal(2, 3, 4, 4, seed=0).requires_grad_()
        loss = feature_loss(student, _normal(2, 3, 4, 4, seed=1), torch.zeros(2, 1, 4, 4, dtype=torch.bool), kind)
        torch.autograd.backward(loss)
        assert loss.item() == 0.0
        assert student.grad is not None
        assert torch.equal(student.grad, torch.zeros_like(student))

    def test_teacher_receives_no_gradient(self, kind: FeatureLoss) -> None:
        student = _normal(2, 3, 4, 4, seed=0).requires_grad_()
        teacher = _normal(2, 3, 4, 4, seed=1).requires_grad_()
        torch.autograd.backward(feature_loss(student, teacher, None, kind))
        assert teacher.grad is None
        assert student.grad is not None
        assert student.grad.abs().sum() > 0

    def test_loss_is_fp32_for_bf16_features_and_under_autocast(self, kind: FeatureLoss) -> None:
        student, teacher = _normal(2, 8, 16, 16, seed=0).bfloat16(), _normal(2, 8, 16, 16, seed=1).bfloat16()
        mask = _some_cells(2, 16, 16)
        expected = feature_loss(student.float(), teacher.float(), mask, kind)
        leaf = student.clone().requires_grad_()
        loss = feature_loss(leaf, teacher, mask, kind)
        torch.autograd.backward(loss)
        assert loss.dtype == torch.float32
        assert torch.equal(loss.detach(), expected)
        assert leaf.grad is not None
        assert leaf.grad.dtype == torch.bfloat16
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(feature_loss(student, teacher, mask, kind), expected)

    def test_arguments_are_not_modified(self, kind: FeatureLoss) -> None:
        student, teacher = _normal(2, 3, 4, 4, seed=0), _normal(2, 3, 4, 4, seed=1)
        for mask in (None, _some_cells(2, 4, 4)):
            feature_loss(student, teacher, mask, kind)
        assert torch.equal(student, _normal(2, 3, 4, 4, seed=0))
        assert torch.equal(teacher, _normal(2, 3, 4, 4, seed=1))

    def test_broadcastable_shapes_are_refused(self, kind: FeatureLoss) -> None:
        features = _normal(2, 3, 4, 4, seed=0)
        with pytest.raises(AssertionError, match="teacher"):
            feature_loss(features, features[:, :1], None, kind)
        with pytest.raises(AssertionError, match="mask"):
            feature_loss(features, features, torch.ones(1, 1, 4, 4, dtype=torch.bool), kind)
        with pytest.raises(AssertionError, match="bool"):
            feature_loss(features, features, torch.ones(2, 1, 4, 4), kind)
