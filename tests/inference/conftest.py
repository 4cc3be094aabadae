"""Data shared by the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hkd.models.build import build_detector
from hkd.models.weights import save_detector
from tests.scenes import data, scenes_dir
from tests.training.tiny import HEIGHT, STUDENT, WIDTH

__all__ = ["data", "scenes_dir"]


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small take longer in two threads, which wait for each other at every layer."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "student.safetensors"
    save_detector(path, build_detector(STUDENT), STUDENT, image_height=HEIGHT, image_width=WIDTH)
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """Noise, twice as large as the network's input both ways, but for a strip that is missing at the right."""
    pixels = np.random.default_rng(0).integers(0, 256, (2 * HEIGHT, 2 * WIDTH - 20, 3), dtype=np.uint8)
    path = tmp_path / "street.png"
    Image.fromarray(pixels).save(path)
    return path
