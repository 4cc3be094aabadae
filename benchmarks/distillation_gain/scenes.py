"""The generated scenes of the benchmark, drawn once, and annotation files of subsets of them.

Laid out as::

    <out>/scenes/labelled/train.json, validation.json, images/    seed 0
    <out>/scenes/labelled/train_000400_from_000800.json           training scenes 800 to 1199: the same image files
    <out>/scenes/unlabelled/train.json, images/                   seed 1

N labelled scenes of a training with seed s are the scenes s N to s N + N - 1, counted modulo the drawn ones, so that
the spread over seeds includes the choice of scenes. Subsets of two seeds are disjoint while the drawn scenes suffice:
of 3,200 scenes, seeds 0 to 7 have other 400; 1,600 are the same for seeds 0, 2, 4 and for 1, 3, 5.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from benchmarks.distillation_gain.conditions import ScenesConfig
from hkd.coco.parsing.reading import read_json
from hkd.data.sources.synthetic import STYLES, style_hash, write_scenes
from hkd.files import write_json

LABELLED, UNLABELLED = "labelled", "unlabelled"
_UNLABELLED_SEED_OFFSET = 1


class ScenesError(ValueError):
    """The scenes that are present are not those that the benchmark needs."""


class Scenes:
    """The scenes below ``<out>/scenes``, drawn where they are absent.

    Args:
        out: Folder of the benchmark's results.
        config: Which scenes.
        progress: Show a progress bar while drawing.

    Raises:
        ScenesError: the folder holds other scenes.
    """

    def __init__(self, out: Path, config: ScenesConfig, *, progress: bool = True) -> None:
        self._folder = out.absolute() / "scenes"
        self._config = config
        self._progress = progress
        self._folder.mkdir(parents=True, exist_ok=True)
        self._subsets: dict[tuple[int, int], Path] = {}
        labelled = self._draw(LABELLED, config.train_images, config.validation_images, config.seed)
        self.validation = labelled / "validation.json"

    def train(self, labels: int, seed: int) -> Path:
        """Annotations of ``labels`` training scenes: those from ``seed * labels`` on, modulo the number of all.

        Raises:
            ScenesError: there are not as many.
        """
        key = labels, seed * labels % self._config.train_images
        if key not in self._subsets:
            self._subsets[key] = self._subset(*key)
        return self._subsets[key]

    def unlabelled(self) -> Path:
        """Annotations of the scenes whose labels no training reads, beside their folder; drawn if they are absent."""
        folder = self._draw(UNLABELLED, self._config.unlabelled_images, 1, self._config.seed + _UNLABELLED_SEED_OFFSET)
        return folder / "train.json"

    def _subset(self, labels: int, offset: int) -> Path:
        available = self._config.train_images
        if labels > available:
            raise ScenesError(f"{labels} labelled scenes: {available} are drawn; increase scenes.train_images")
        whole = self._folder / LABELLED / "train.json"
        if labels == available:
            return whole
        path = whole.with_name(f"train_{labels:06d}_from_{offset:06d}.json")
        document = _some_images(_read(whole), labels, offset)
        if not path.is_file() or _read(path) != document:
            write_json(path, document, indent=None)
        return path

    def _draw(self, name: str, train_images: int, validation_images: int, seed: int) -> Path:
        folder, config = self._folder / name, self._config
        with FileLock(self._folder / f"{name}.lock"):
            if not all((folder / file).is_file() for file in ("train.json", "validation.json")):
                write_scenes(
                    folder,
                    train_images=train_images,
                    validation_images=validation_images,
                    height=config.height,
                    width=config.width,
                    seed=seed,
                    style=STYLES[config.style],
                    progress=self._progress,
                )
        wanted = {
            "seed": seed,
            "height": config.height,
            "width": config.width,
            "style": style_hash(STYLES[config.style]),
        }
        for file, images in (("train.json", train_images), ("validation.json", validation_images)):
            _check(folder / file, {"images": images, **wanted})
        return folder


@functools.cache
def content_hash(path: Path) -> str:
    """32 hexadecimal digits that change with any image record, box or size of an image file.

    Of the file itself, not of what hkd reads from it, so that a change of hkd's reader does not change it.
    """
    document = _read(path)
    root = path.parent / document["info"]["image_root"]
    sizes = [(root / image["file_name"]).stat().st_size for image in document["images"]]
    text = json.dumps([document["images"], document["annotations"], sizes], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _check(path: Path, wanted: Mapping[str, Any]) -> None:
    found = _read(path)["info"].get("scenes", {})
    different = [
        f"{name} {found.get(name)!r} instead of {value!r}" for name, value in wanted.items() if found.get(name) != value
    ]
    if different:
        raise ScenesError(
            f"{path}: holds scenes with {', '.join(different)}; name another folder with --out, or remove it"
        )


def _some_images(document: dict[str, Any], count: int, offset: int) -> dict[str, Any]:
    """The images from an offset on, continued at the first one after the last, and their boxes."""
    images = (document["images"] * 2)[offset : offset + count]
    kept = {image["id"] for image in images}
    return {
        **{key: value for key, value in document.items() if key != "info"},
        "info": {"image_root": document["info"]["image_root"]},
        "images": images,
        "annotations": [box for box in document["annotations"] if box["image_id"] in kept],
    }


def _read(path: Path) -> dict[str, Any]:
    document = read_json(path)
    if not isinstance(document, dict) or not isinstance(document.get("info"), dict):
        raise ScenesError(f"{path}: is no annotation file of generated scenes; name another folder with --out")
    return document
