"""Six images without annotations, and a teacher that labels them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hkd.config import TrialConfig
from hkd.data.prepare import PreparedData, prepare_data
from hkd.training.teacher.prepare import PreparedTeacher, prepare_teacher
from hkd.training.teacher.pseudo_labels import PseudoLabels, prepare_labels
from tests.training.teacher.pseudo_labels.footage import changed
from tests.training.tiny import HEIGHT, WIDTH


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images of noise, in two folders of different depth."""
    folder = tmp_path_factory.mktemp("frames")
    random = np.random.default_rng(3)
    for number in range(6):
        path = folder / ("b" if number % 2 else "a/deep") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(path)
    return folder


@pytest.fixture(scope="module")
def config(scenes_dir: Path, frames: Path) -> TrialConfig:
    return changed(scenes_dir, frames)


@pytest.fixture(scope="module")
def data(config: TrialConfig) -> PreparedData:
    return prepare_data(config.data, progress=False)


@pytest.fixture(scope="module")
def teacher(config: TrialConfig, data: PreparedData) -> PreparedTeacher:
    return prepare_teacher(config, data, config.data.cache_dir)


@pytest.fixture(scope="module")
def labels(config: TrialConfig, data: PreparedData, teacher: PreparedTeacher) -> PseudoLabels:
    found = prepare_labels(config, data, teacher)
    assert found is not None
    return found
