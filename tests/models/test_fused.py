from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hkd.config import DetectorConfig
from hkd.models import fused as fused_module
from hkd.models.build import build_detector
from hkd.models.detector import Detector
from hkd.models.fused import fuse_for_inference

SHAPES = {
    "basic blocks": DetectorConfig(backbone="resnet18", width_multiplier=0.25, pyramid_channels=16, head_channels=32),
    "bottlenecks": DetectorConfig(backbone="resnet50", width_multiplier=0.125, pyramid_channels=16, head_channels=32),
    "frozen norms": DetectorConfig(
        backbone="resnet18", width_multiplier=0.25, pyramid_channels=16, head_channels=32, norm="frozen_batch"
    ),
}


def _detector(config: DetectorConfig) -> Detector:
    """Random weights and norm statistics: with means of 0 and variances of 1, folding would have no effect."""
    torch.manual_seed(3)
    detector = build_detector(config).eval()
    generator = torch.Generator().manual_seed(7)
    for name, tensor in detector.state_dict().items():
        if name.endswith("running_mean"):
            tensor.copy_(0.3 * torch.randn(tensor.shape, generator=generator))
        elif name.endswith("running_var") or (name.endswith("weight") and ".bn" in name):
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    with torch.no_grad():
        # Random features are large: without scaling, all scores would be 0 or 1.
        detector.roi_heads.box_predictor.cls_score.weight.mul_(1e-3)
    return detector


def _images(height: int, width: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    images = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(1), dtype=dtype)
    # The second picture does not fill its canvas.
    return images, torch.tensor([[height, width], [height - 20, width - 30]], dtype=dtype)


def _pyramids(detector: Detector, images: Tensor, sizes: Tensor) -> Tensor:
    return torch.cat([level.flatten() for level in detector.forward_pyramid(images, sizes).values()])


@pytest.mark.parametrize("shape", SHAPES)
class TestFuseForInference:
    def test_outputs_equal_original_detector(self, shape: str) -> None:
        # In fp64 only what is computed can differ, not how it is rounded.
        detector = _detector(SHAPES[shape]).double()
        fused = fuse_for_inference(detector, torch.float64)
        images, sizes = _images(96, 160, torch.float64)
        with torch.no_grad():
            torch.testing.assert_close(
                _pyramids(fused, images, sizes), _pyramids(detector, images, sizes), rtol=1e-10, atol=1e-10
            )
            expected, found = (
                either.detect(images, sizes, score_threshold=0.3, nms_iou=0.5, max_detections=20)
                for either in (detector, fused)
            )
        assert expected.valid.sum() > 5
        assert torch.equal(found.valid, expected.valid)
        torch.testing.assert_close(found.boxes_xyxy, expected.boxes_xyxy, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(found.scores, expected.scores, rtol=1e-8, atol=1e-8)

    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.06)])
    def test_pyramid_is_within_rounding_after_changes_of_size(
        self, shape: str, dtype: torch.dtype, tolerance: float
    ) -> None:
        # A chain of 20 to 60 roundings of 2^-24 or, at bf16, of 2^-9 each: about 1e-6, or 0.03, of the whole.
        detector = _detector(SHAPES[shape])
        fused = fuse_for_inference(detector, dtype)
        for height, width in ((96, 160), (64, 96), (96, 160)):
            images, sizes = _images(height, width)
            with torch.no_grad():
                expected, found = _pyramids(detector, images, sizes), _pyramids(fused, images, sizes)
            assert found.dtype == dtype
            assert torch.linalg.vector_norm(found.float() - expected) < tolerance * torch.linalg.vector_norm(expected)

    def test_original_is_not_modified(self, shape: str) -> None:
        detector = _detector(SHAPES[shape]).train()
        before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
        fused = fuse_for_inference(detector, torch.bfloat16)
        with torch.no_grad():
            fused.forward_pyramid(*_images(64, 96))
        assert detector.training
        assert all(parameter.requires_grad for parameter in detector.parameters())
        assert not fused.training
        assert not any(parameter.requires_grad for parameter in fused.parameters())
        after = detector.state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)
        owned = {tensor.data_ptr() for tensor in after.values()}
        copied = [tensor for tensor in fused.state_dict().values() if tensor.dtype == torch.bfloat16]
        assert copied
        assert not owned & {tensor.data_ptr() for tensor in copied}

    def test_moving_copy_does_not_move_original(self, shape: str) -> None:
        detector = _detector(SHAPES[shape])
        fused = fuse_for_inference(detector, torch.bfloat16).to("meta")
        assert {tensor.device.type for tensor in fused.buffers()} == {"meta"}
        assert {tensor.device.type for tensor in (*detector.parameters(), *detector.buffers())} == {"cpu"}


def test_disabled_onednn_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a fused convolution was called")

    fused = fuse_for_inference(_detector(SHAPES["basic blocks"]), torch.float32)
    with torch.no_grad():
        expected = _pyramids(fused, *_images(64, 96))
        monkeypatch.setattr(fused_module._Convolution, "_fused", refuse)
        monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
        found = _pyramids(fused, *_images(64, 96))
    # Roundings of 2^-24 in a chain of 20: see above.
    assert torch.linalg.vector_norm(found - expected) < 1e-5 * torch.linalg.vector_norm(expected)


def test_norm_without_running_statistics_is_refused() -> None:
    detector = _detector(SHAPES["basic blocks"])
    detector.backbone.body["bn1"] = nn.InstanceNorm2d(16)
    with pytest.raises(AssertionError, match="InstanceNorm2d cannot be folded"):
        fuse_for_inference(detector, torch.float32)
