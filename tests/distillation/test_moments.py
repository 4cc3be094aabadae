from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hkd.distillation.feature_losses import pearson_loss
from hkd.distillation.moments import Moments, adapted_moments, channel_moments
from hkd.distillation.pyramid import pyramid_distillation_loss


def _normal(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _one_map(student: Tensor, teacher: Tensor, mask: Tensor | None, weight: Tensor) -> Moments:
    """Moments (C,) of a single map."""
    return Moments(*(moment[0] for moment in adapted_moments([student], [teacher], [mask], [weight])))


def _masks(count: int, height: int, width: int) -> tuple[Tensor | None, ...]:
    some = torch.rand(count, 1, height, width, generator=torch.Generator().manual_seed(9)) < 0.6
    whole = (torch.arange(count) % 2 == 0)[:, None, None, None]
    return None, some, whole


def _adapted(student: Tensor, weight: Tensor) -> Tensor:
    return torch.einsum("nshw,ts->nthw", student, weight)


class TestAdaptedMoments:
    def test_moments_equal_those_of_adapted_map(self) -> None:
        # A mean of 5 and a deviation of 1: moments that are not centred would differ.
        student = 5.0 + _normal(3, 4, 6, 5, seed=0)
        teacher = _normal(3, 7, 6, 5, seed=1) - 2.0
        weight = _normal(7, 4, seed=2)
        for mask in _masks(3, 6, 5):
            found = _one_map(student, teacher, mask, weight)
            expected = channel_moments(_adapted(student, weight), teacher, mask)
            for name, values, wanted in zip(Moments._fields, found, expected, strict=True):
                torch.testing.assert_close(values, wanted, rtol=1e-4, atol=1e-5, msg=name)

    def test_gradients_pass_gradcheck(self) -> None:
        student = _normal(2, 3, 4, 5, seed=0, dtype=torch.float64).requires_grad_()
        teacher = _normal(2, 4, 4, 5, seed=1, dtype=torch.float64)
        weight = _normal(4, 3, seed=2, dtype=torch.float64).requires_grad_()
        for mask in _masks(2, 4, 5):
            assert torch.autograd.gradcheck(
                lambda features, weight, mask=mask: _one_map(features, teacher, mask, weight)[::2],
                (student, weight),
            )

    def test_padding_does_not_affect_loss_or_gradient(self) -> None:
        mask = _masks(3, 6, 5)[1]
        assert mask is not None
        student, teacher, weight = _normal(3, 4, 6, 5, seed=0), _normal(3, 7, 6, 5, seed=1), _normal(7, 4, seed=2)

        def loss_and_gradient(in_padding: float) -> tuple[Tensor, Tensor]:
            features = torch.where(mask, student, in_padding).requires_grad_()
            loss = pearson_loss(features, torch.where(mask, teacher, -in_padding), mask, weight)
            (gradient,) = torch.autograd.grad(loss, features)
            return loss.detach(), gradient

        loss, gradient = loss_and_gradient(0.0)
        assert loss > 0.5  # of unrelated features
        assert torch.equal(gradient != 0, mask.expand_as(gradient))
        for in_padding in (1e3, float("nan"), float("inf")):
            again, gradient_again = loss_and_gradient(in_padding)
            assert torch.equal(again, loss)
            assert torch.equal(gradient_again, gradient)

    def test_moments_of_empty_mask_and_constant_channels_are_zero(self) -> None:
        teacher, weight = _normal(2, 7, 4, 4, seed=1), _normal(7, 3, seed=2)
        nowhere = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
        for student, mask in ((_normal(2, 3, 4, 4, seed=0), nowhere), (torch.full((2, 3, 4, 4), 4.0), None)):
            features = student.requires_grad_()
            moments = _one_map(features, teacher, mask, weight)
            assert moments.student_variance.tolist() == [0.0] * 7
            assert moments.covariance.tolist() == [0.0] * 7
            loss = pearson_loss(features, teacher, mask, weight)
            (gradient,) = torch.autograd.grad(loss, features)
            assert torch.isfinite(gradient).all()
            # Half a teacher's standardised variance against a student of zeros; nothing at all where no cell counts.
            assert loss.item() == pytest.approx(0.0 if mask is nowhere else 0.5, abs=1e-6)

    def test_loss_of_bf16_maps_equals_loss_of_same_values_in_fp32(self) -> None:
        student, weight = 3.0 + _normal(4, 16, 12, 12, seed=0), _normal(8, 16, seed=2)
        teacher = _adapted(student, weight) + 2.0 * _normal(4, 8, 12, 12, seed=1)
        student, teacher = student.bfloat16(), teacher.bfloat16()
        narrow = pearson_loss(student, teacher, None, weight)
        assert narrow.dtype == torch.float32
        assert torch.equal(narrow, pearson_loss(student.float(), teacher.float(), None, weight))

    def test_gradients_are_accurate_at_perfect_correlation(self) -> None:
        # Two cells have a correlation of 1 or -1, whatever they hold: the variance equals its least, cov^2 / var_t, but
        # for rounding, which must not decide whether it has a gradient. The adapted map is the reference.
        for seed in range(4):
            student = (1.0 + 0.1 * _normal(1, 8, 1, 2, seed=seed, dtype=torch.float64)).requires_grad_()
            teacher = _normal(1, 16, 1, 2, seed=seed + 10, dtype=torch.float64)
            weight = _normal(16, 8, seed=seed + 20, dtype=torch.float64).requires_grad_()
            found, wanted = (
                torch.autograd.grad(loss, (student, weight))
                for loss in (
                    pearson_loss(student, teacher, None, weight),
                    pearson_loss(_adapted(student, weight), teacher),
                )
            )
            for gradient, expected in zip(found, wanted, strict=True):
                torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-9)

    @pytest.mark.parametrize("cells", [(1, 2), (4, 8)])
    def test_gradients_of_bf16_maps_are_accurate_near_perfect_correlation(self, cells: tuple[int, int]) -> None:
        # At a correlation near 1 the gradient's two parts cancel: rounded to bf16 each, they would leave noise alone.
        student = _normal(3, 32, *cells, seed=0)
        teacher = _adapted(student, truth := _normal(48, 32, seed=1)) + 0.05 * _normal(3, 48, *cells, seed=2)
        gradients = []
        for dtype in (torch.bfloat16, torch.float64):
            features = student.bfloat16().to(dtype).requires_grad_()
            wide = torch.promote_types(dtype, torch.float32)
            loss = pearson_loss(features, teacher.bfloat16().to(dtype), None, truth.to(wide))
            gradients.append(torch.autograd.grad(loss, features)[0].double())
        # Its own rounding to 8 bits is 2^-9 = 0.002.
        assert (gradients[0] - gradients[1]).norm() < 0.004 * gradients[1].norm()

    def test_teacher_receives_no_gradient(self) -> None:
        student = _normal(2, 3, 4, 4, seed=0).requires_grad_()
        teacher = _normal(2, 5, 4, 4, seed=1).requires_grad_()
        torch.autograd.backward(pearson_loss(student, teacher, None, _normal(5, 3, seed=2)))
        assert teacher.grad is None
        assert student.grad is not None

    def test_loss_of_bf16_maps_is_accurate_for_least_squares_adapter(self) -> None:
        # Channels that are mixtures of ever weaker sources, as a network's are, under the adapter of least squares: its
        # w^T Cov w cancels most digits of Cov. With entries of 8 bits this loss was -4,572.
        student = _adapted(
            _normal(8, 64, 8, 8, seed=0) * (0.9 ** torch.arange(64))[:, None, None], _normal(64, 64, seed=1)
        )
        teacher = _adapted(_normal(8, 64, 8, 8, seed=0), _normal(16, 64, seed=2))
        student, teacher = student.bfloat16(), teacher.bfloat16()
        rows, wanted = (
            (features - features.mean(dim=(0, 2, 3), keepdim=True)).permute(0, 2, 3, 1).flatten(0, 2)
            for features in (student.double(), teacher.double())
        )
        ridge = 1e-4 * len(rows) * torch.eye(64, dtype=torch.float64)
        weight = torch.linalg.solve(rows.T @ rows + ridge, rows.T @ wanted).T.float()
        exact = pearson_loss(_adapted(student.double(), weight.double()), teacher.double()).item()
        # What is left of fp32's seven digits.
        assert pearson_loss(student, teacher, None, weight).item() == pytest.approx(exact, abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
class TestMeansBesideTheSpread:
    """Means of 20 and deviations of 1 on both sides, compared to fp64 of the rounded features."""

    @staticmethod
    def _maps(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        student, weight = _normal(4, 8, 12, 12, seed=0), _normal(6, 8, seed=2)
        teacher = _adapted(student, weight) / 8**0.5 + _normal(4, 6, 12, 12, seed=1)
        # bf16 numbers near 20 differ by 1/8: a deviation of 1 covers about 30 of them.
        return (20.0 - student).to(dtype), (20.0 + teacher).to(dtype), -weight

    def test_moments_are_accurate(self, dtype: torch.dtype) -> None:
        student, teacher, weight = self._maps(dtype)
        for mask in _masks(4, 12, 12):
            found = _one_map(student, teacher, mask, weight)
            wide = _one_map(student.double(), teacher.double(), mask, weight.double())
            expected = channel_moments(_adapted(student.double(), weight.double()), teacher.double(), mask)
            for name, values, same, wanted in zip(Moments._fields, found, wide, expected, strict=True):
                torch.testing.assert_close(same, wanted, rtol=1e-9, atol=1e-9, msg=name)
                # Moments of 1 to 10, of numbers about 20 that fp32 holds to 1e-6.
                torch.testing.assert_close(values.double(), wanted, rtol=2e-5, atol=2e-5, msg=name)

    def test_gradients_are_accurate(self, dtype: torch.dtype) -> None:
        student, teacher, weight = self._maps(dtype)
        for mask in _masks(4, 12, 12):
            gradients = []
            for wide in (dtype, torch.float64):
                features = student.to(wide).requires_grad_()
                # Moments instead of the loss, whose derivative along a mean is 0 and hides uncentred means.
                found = _one_map(features, teacher.to(wide), mask, weight.to(torch.promote_types(wide, torch.float32)))
                gradients.append(
                    torch.autograd.grad(found.covariance.sum() + found.student_variance.sum(), features)[0]
                )
            narrow, exact = gradients
            # bf16 gradients, and the matrices by which they are made, are rounded to 8 bits (2^-9 = 0.002).
            tolerance = 1e-5 if dtype == torch.float32 else 8e-3
            assert (narrow.double() - exact).norm() <= tolerance * exact.norm()
            # A shift of all cells moves nothing: 346 and 576 cells' gradients sum to 0, but for rounding.
            assert exact.sum(dim=(0, 2, 3)).abs().max() < 1e-12 * exact.norm()
            assert narrow.double().sum(dim=(0, 2, 3)).norm() <= 5 * tolerance * exact.norm()

    def test_moments_of_constant_teacher_are_near_zero(self, dtype: torch.dtype) -> None:
        student, teacher, weight = self._maps(dtype)
        for value in (3.3, -0.05, 20.1):
            constant = torch.full_like(teacher, value)
            for mask in _masks(4, 12, 12):
                found = _one_map(student, constant, mask, weight)
                # The square of a mean's rounding, two units of 20 (1.9e-6) at the most: a five-hundredth of epsilon.
                assert found.teacher_variance.max().item() < 2e-11
                assert found.covariance.abs().max().item() < 1e-6


class TestLargeMaps:
    """307,200 cells: row-by-row sums would lose four digits."""

    @pytest.fixture
    def maps(self) -> tuple[Tensor, Tensor, Tensor]:
        student, weight = 2.0 + _normal(8, 16, 160, 240, seed=0), _normal(16, 16, seed=2)
        return student, 20.0 + _adapted(student, weight) + 1.2 * _normal(8, 16, 160, 240, seed=1), weight

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_loss_equals_fp64(self, maps: tuple[Tensor, Tensor, Tensor], dtype: torch.dtype) -> None:
        student, teacher, weight = maps
        student, teacher = student.to(dtype), teacher.to(dtype)
        exact = pearson_loss(student.double(), teacher.double(), None, weight.double()).item()
        assert exact == pytest.approx(
            pearson_loss(_adapted(student.double(), weight.double()), teacher.double()).item(), rel=1e-9
        )
        # fp32 has 7 digits, of a loss that is a difference of numbers twenty times as large.
        assert pearson_loss(student, teacher, None, weight).item() == pytest.approx(exact, rel=1e-5)

    @pytest.mark.parametrize("value", [3.3, -0.05])
    def test_constant_teacher_has_loss_of_one_half(self, maps: tuple[Tensor, Tensor, Tensor], value: float) -> None:
        # The student's own standardised variance alone: a half. A mean right to 1e-6 leaves a teacher's variance of
        # 1e-11, which is 1e-3 of epsilon.
        student, teacher, weight = maps
        assert pearson_loss(student, torch.full_like(teacher, value), None, weight).item() == pytest.approx(
            0.5, abs=1e-3
        )


def test_gradient_under_autocast_equals_fp64() -> None:
    student, teacher, weight = _normal(2, 3, 4, 5, seed=0), _normal(2, 4, 4, 5, seed=1), _normal(4, 3, seed=2)
    features = student.requires_grad_()
    # Of the covariance, which torch takes back by products element by element: its matrix products would be bf16's.
    covariance = _one_map(features, teacher, None, weight).covariance.sum()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (gradient,) = torch.autograd.grad(covariance, features)
    exact = student.detach().double().requires_grad_()
    found = _one_map(exact, teacher.double(), None, weight.double())
    (expected,) = torch.autograd.grad(found.covariance.sum(), exact)
    assert (gradient.double() - expected).norm() < 1e-6 * expected.norm()


def test_fp16_maps_do_not_overflow() -> None:
    # fp16 ends at 65,504; 4,096 cells' squares about their mean sum to 409,600.
    student, teacher = ((50.0 + 10.0 * _normal(1, 4, 64, 64, seed=seed)).half() for seed in (0, 1))
    weight = _normal(4, 4, seed=2)
    expected = pearson_loss(student.double(), teacher.double(), None, weight.double()).item()
    assert pearson_loss(student, teacher, None, weight).item() == pytest.approx(expected, rel=1e-5)


def test_pyramid_loss_is_fp32_under_autocast() -> None:
    student, teacher = {"p2": _normal(2, 3, 48, 48, seed=0)}, {"p2": _normal(2, 4, 48, 48, seed=1)}
    weights, sizes = {"p2": _normal(4, 3, seed=2)}, torch.tensor([[192.0, 192.0], [150.0, 192.0]])
    expected = pyramid_distillation_loss(student, teacher, sizes, (192, 192), "pearson", weights)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(pyramid_distillation_loss(student, teacher, sizes, (192, 192), "pearson", weights), expected)


def test_loss_is_not_negative_if_adapter_cancels_most_digits() -> None:
    # Each second channel is its neighbour but for a part in 200, and the adapter, as one in training would, asks for
    # that part alone, enlarged: of a variance of 4 = 800^2 x 0.0025^2 it finds what 18 bits of 2 x 800^2 leave, 5 more
    # or less. The correlation is about 1, so that half of all seeds would have it above.
    for seed in range(6):
        first, part = _normal(4, 4, 32, 32, seed=seed), 0.0025 * _normal(4, 4, 32, 32, seed=seed + 50)
        student = torch.cat([first, first + part], dim=1).bfloat16()
        seen = student[:, 4:].float() - student[:, :4].float()
        weight = 800.0 * torch.cat([-torch.eye(4), torch.eye(4)], dim=1)
        loss = pearson_loss(student, (100.0 * seen).bfloat16(), None, weight).item()
        assert -1e-6 <= loss <= 2.0
