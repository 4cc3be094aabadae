from __future__ import annotations

import pytest
import torch

from hkd.distillation.objective import total_loss


def test_total_is_sum_and_all_losses_are_logged() -> None:
    source = torch.tensor(1.0, requires_grad=True)
    detection = {"rpn_box": 2.0 * source, "roi_box": 3.0 * source}
    total, parts = total_loss(detection, {"distill_region": 5.0 * source})
    assert {name: part.item() for name, part in parts.items()} == {
        "rpn_box": 2.0,
        "roi_box": 3.0,
        "distill_region": 5.0,
        "loss_total": 10.0,
    }
    assert not any(part.requires_grad for part in parts.values())
    (gradient,) = torch.autograd.grad(total, source)
    assert gradient.item() == 10.0


def test_total_without_distillation_is_sum_of_detection_losses() -> None:
    total, parts = total_loss({"rpn_box": torch.tensor(0.1), "roi_box": torch.tensor(0.2)}, {})
    assert total.item() == (torch.tensor(0.1) + torch.tensor(0.2)).item()
    assert set(parts) == {"rpn_box", "roi_box", "loss_total"}


def test_losses_of_same_name_are_refused() -> None:
    with pytest.raises(AssertionError, match="same name"):
        total_loss({"roi_box": torch.tensor(0.1)}, {"roi_box": torch.tensor(0.1)})
