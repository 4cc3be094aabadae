"""Key of a cache of the teacher's pyramids: equal for trainings whose pyramids are equal, bit for bit."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hkd.coco.annotations import Annotations
from hkd.config import TrialConfig
from hkd.config_files.parsing import config_hash
from hkd.data.prepare import PreparedData
from hkd.models.detector import Detector

# Part of the key: increment it when a change of the code changes the teacher's pyramid or the batches.
_RECIPE = 2


def cache_key(
    config: TrialConfig,
    data: PreparedData,
    teacher: Detector,
    device: torch.device,
    autocast_dtype: torch.dtype | None,
    pseudo_labels: Annotations | None = None,
    weights_hash: str | None = None,
) -> str:
    """Hash of all that determines the bits of the teacher's pyramids: its weights, the batches, and the processor.

    Student, distillation and schedule are not part of it.

    Args:
        weights_hash: :func:`state_hash` of the teacher; None computes it.
    """
    if device.type == "cuda":
        processor: list[object] = [torch.cuda.get_device_name(device)]
    else:
        # The number of threads determines the order of sums, and with it the last bits.
        processor = [torch.backends.cpu.get_cpu_capability(), torch.get_num_threads(), _matrix_instructions()]
    mixed_in: dict[str, object] = {}
    if data.unlabelled is not None and pseudo_labels is not None:
        mixed_in["unlabelled"] = [
            pseudo_labels.content_hash(),
            data.unlabelled.store.checksum,
            config.data.unlabelled_fraction,
        ]
    return config_hash(
        {
            "recipe": _RECIPE,
            "teacher": weights_hash or state_hash(teacher.state_dict()),
            "layers": str(teacher.backbone),
            "train": [data.train_annotations.content_hash(), data.train_store.checksum],
            "image_size": [config.data.image_height, config.data.image_width],
            "max_objects": config.data.max_objects_per_image,
            "augmentation": config.data.augmentation.model_dump(mode="json"),
            "seed": config.training.seed,
            "batch_size": config.training.batch_size,
            "autocast": str(autocast_dtype),
            "torch": torch.__version__,
            "processor": [device.type, *processor],
            **mixed_in,
        }
    )


def state_hash(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values of tensors, in hexadecimal."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _matrix_instructions() -> list[str]:
    """This CPU's instructions by which oneDNN selects kernels, and with them the order of sums, by torch's names.

    torch's own capability does not distinguish AMX from AVX-512.
    """
    # Absent from the oldest torch that is supported.
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return sorted(
        name
        for name, is_present in capabilities.items()
        if is_present is True and (name.startswith("amx") or "bf16" in name or "fp16" in name)
    )
