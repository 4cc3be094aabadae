from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from hkd.distillation.logits import box_delta_loss, kl_distillation_loss

VALID = torch.tensor([True, False, True, True, False, True])


def _normal(*shape: int, seed: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class TestKl:
    @pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
    def test_loss_of_two_classes_equals_hand_computation(self, temperature: float) -> None:
        # At every temperature T, the softened teacher is (1/4, 3/4) and the softened student (1/2, 1/2):
        # KL = 1/4 ln(1/2) + 3/4 ln(3/2) = 3/4 ln 3 - ln 2 = 0.1308, times T^2.
        teacher = torch.tensor([[0.0, temperature * math.log(3.0)]])
        student = torch.tensor([[5.0, 5.0]])
        expected = temperature**2 * (0.75 * math.log(3.0) - math.log(2.0))
        loss = kl_distillation_loss(student, teacher, temperature, torch.tensor([True]))
        assert loss.item() == pytest.approx(expected, rel=1e-5)

    def test_divergence_is_from_teacher_to_student(self) -> None:
        # Student (1/4, 3/4), teacher (1/2, 1/2): 1/2 ln 2 + 1/2 ln(2/3) = ln 2 - 1/2 ln 3 = 0.1438.
        student, teacher = torch.tensor([[0.0, math.log(3.0)]]), torch.tensor([[0.0, 0.0]])
        loss = kl_distillation_loss(student, teacher, 1.0, torch.tensor([True]))
        assert loss.item() == pytest.approx(math.log(2.0) - 0.5 * math.log(3.0), rel=1e-5)

    @pytest.mark.parametrize("classes", [2, 5])
    @pytest.mark.parametrize("temperature", [1.0, 3.0])
    def test_loss_equals_torch_kl_div_of_valid_regions(self, classes: int, temperature: float) -> None:
        student, teacher = _normal(6, classes, seed=0, scale=3.0), _normal(6, classes, seed=1, scale=3.0)
        reference = nn.KLDivLoss(reduction="batchmean")(
            torch.log_softmax(student[VALID].double() / temperature, dim=1),
            torch.softmax(teacher[VALID].double() / temperature, dim=1),
        )
        loss = kl_distillation_loss(student, teacher, temperature, VALID)
        assert loss.item() == pytest.approx(temperature**2 * reference.item(), rel=1e-5)

    def test_gradient_equals_hand_computation(self) -> None:
        student = _normal(6, 3, seed=0).requires_grad_()
        teacher = _normal(6, 3, seed=1).requires_grad_()
        temperature = 2.0
        torch.autograd.backward(kl_distillation_loss(student, teacher, temperature, VALID))
        # d KL / d logits = (softmax(student / T) - softmax(teacher / T)) / T, times T^2, over the 4 valid regions.
        difference = torch.softmax(student.detach() / 2.0, 1) - torch.softmax(teacher.detach() / 2.0, 1)
        expected = temperature / 4 * difference * VALID[:, None]
        assert teacher.grad is None
        assert student.grad is not None
        torch.testing.assert_close(student.grad, expected, rtol=1e-5, atol=1e-7)

    def test_identical_logits_have_exactly_zero_loss(self) -> None:
        logits = _normal(6, 4, seed=0, scale=20.0)
        # Each term is p * (log p - log p).
        assert kl_distillation_loss(logits.clone(), logits, 2.0, VALID).item() == 0.0

    def test_unused_slots_do_not_affect_loss_or_gradient(self) -> None:
        student, teacher = _normal(6, 3, seed=0), _normal(6, 3, seed=1)
        expected = kl_distillation_loss(student, teacher, 2.0, VALID)
        spoilt = torch.where(VALID[:, None], student, float("nan")).requires_grad_()
        loss = kl_distillation_loss(spoilt, torch.where(VALID[:, None], teacher, float("inf")), 2.0, VALID)
        torch.autograd.backward(loss)
        assert torch.equal(loss.detach(), expected)
        assert spoilt.grad is not None
        assert torch.equal(spoilt.grad.abs().amax(1) > 0, VALID)
        assert torch.isfinite(spoilt.grad).all()

    def test_extreme_logits_at_low_temperature_stay_finite(self) -> None:
        # Softened logits differ by 4000: the student's log-probability of the teacher's class is -4000, and T^2 = 1e-4.
        student = torch.tensor([[40.0, 0.0]], requires_grad=True)
        loss = kl_distillation_loss(student, torch.tensor([[0.0, 40.0]]), 0.01, torch.tensor([True]))
        torch.autograd.backward(loss)
        assert loss.item() == pytest.approx(0.4, rel=1e-5)
        assert student.grad is not None
        assert torch.isfinite(student.grad).all()

    def test_loss_without_valid_regions_is_zero_with_zero_gradient(self) -> None:
        student = _normal(6, 3, seed=0).requires_grad_()
        loss = kl_distillation_loss(student, _normal(6, 3, seed=1), 2.0, torch.zeros(6, dtype=torch.bool))
        torch.autograd.backward(loss)
        assert loss.item() == 0.0
        assert student.grad is not None
        assert torch.equal(student.grad, torch.zeros_like(student))

    def test_loss_is_fp32_for_bf16_logits_and_under_autocast(self) -> None:
        student, teacher = _normal(6, 3, seed=0).bfloat16(), _normal(6, 3, seed=1).bfloat16()
        expected = kl_distillation_loss(student.float(), teacher.float(), 2.0, VALID)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = kl_distillation_loss(student, teacher, 2.0, VALID)
        assert loss.dtype == torch.float32
        assert torch.equal(loss, expected)


class TestBoxDeltas:
    def test_loss_of_foreground_deltas_equals_hand_computation(self) -> None:
        # K = 2: the first four deltas are the background's. Differences of the pedestrian's: 1, 2, 0, -1 and 0, 0, 2, 0
        # at the valid regions: 6 + 4 over 8 elements.
        student = torch.tensor([[9.0] * 4 + [1.0, 2.0, 3.0, 4.0], [9.0] * 4 + [7.0] * 4, [9.0] * 4 + [0.0] * 4])
        teacher = torch.tensor([[0.0] * 4 + [0.0, 0.0, 3.0, 5.0], [0.0] * 8, [0.0] * 6 + [-2.0, 0.0]])
        loss = box_delta_loss(student, teacher, torch.tensor([True, False, True]))
        assert loss.item() == pytest.approx(10.0 / 8, rel=1e-6)

    def test_all_foreground_classes_are_compared(self) -> None:
        student, teacher = _normal(6, 12, seed=0), _normal(6, 12, seed=1)
        expected = (student[VALID][:, 4:] - teacher[VALID][:, 4:]).double().square().mean().item()
        assert box_delta_loss(student, teacher, VALID).item() == pytest.approx(expected, rel=1e-6)

    def test_only_foreground_deltas_of_valid_regions_receive_gradient(self) -> None:
        student, teacher = _normal(6, 8, seed=0).requires_grad_(), _normal(6, 8, seed=1).requires_grad_()
        torch.autograd.backward(box_delta_loss(student, teacher, VALID))
        assert teacher.grad is None
        assert student.grad is not None
        foreground = torch.arange(8) >= 4
        assert torch.equal(student.grad != 0, VALID[:, None] & foreground)

    def test_identical_deltas_have_exactly_zero_loss(self) -> None:
        deltas = _normal(6, 8, seed=0)
        assert box_delta_loss(deltas.clone(), deltas, VALID).item() == 0.0

    def test_loss_without_valid_regions_is_zero_with_zero_gradient(self) -> None:
        # Unused slots may hold anything.
        student = torch.full((6, 8), float("nan"), requires_grad=True)
        loss = box_delta_loss(student, _normal(6, 8, seed=1), torch.zeros(6, dtype=torch.bool))
        torch.autograd.backward(loss)
        assert loss.item() == 0.0
        assert student.grad is not None
        assert torch.equal(student.grad, torch.zeros_like(student))

    def test_loss_is_fp32(self) -> None:
        student, teacher = _normal(6, 8, seed=0).bfloat16(), _normal(6, 8, seed=1).bfloat16()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = box_delta_loss(student, teacher, VALID)
        assert loss.dtype == torch.float32
        assert torch.equal(loss, box_delta_loss(student.float(), teacher.float(), VALID))
