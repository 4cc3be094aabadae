"""Where generated scenes are kept."""

from __future__ import annotations

from pathlib import Path

from hkd.config import SyntheticConfig
from hkd.config_files.parsing import config_hash
from hkd.data.sources import synthetic


def scenes_hash(config: SyntheticConfig) -> str:
    """Hash of everything that determines the generated scenes.

    It includes the drawing code, so that a change of the code invalidates everything computed from older pictures.
    """
    sources = Path(synthetic.__file__).parent
    code = {
        path.name: path.read_text(encoding="utf-8")
        for path in [Path(synthetic.__file__), *(sources / "scene").glob("*.py")]
    }
    return config_hash(config, code)


def scenes_folder(config: SyntheticConfig, cache_dir: Path) -> Path:
    """The folder of ``train.json`` and ``validation.json`` with their images; it need not exist."""
    return cache_dir / f"scenes-{scenes_hash(config)}"
