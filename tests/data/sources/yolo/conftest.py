from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.data.sources.yolo.street import CONFIG, write_image


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "street"
    write_image(root / "images/train/a.jpg", "0 0.5 0.4 0.3 0.6\n1 0.3 0.7 0.4 0.2\n")
    write_image(root / "images/train/night/b.png", None)
    write_image(root / "images/val/c.jpg", "0 0.25 0.5 0.5 1\n\n")
    (root / "data.yaml").write_text(yaml.safe_dump(CONFIG))
    return root
