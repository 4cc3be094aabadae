"""Generated scenes as fixtures of several folders of tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from hkd.data.prepare import PreparedData, prepare_data
from tests.training.tiny import trial_config


@pytest.fixture(scope="session")
def scenes_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scenes")


@pytest.fixture(scope="session")
def data(scenes_dir: Path) -> PreparedData:
    """Five training scenes and three validation scenes."""
    return prepare_data(trial_config(scenes_dir).data, progress=False)
