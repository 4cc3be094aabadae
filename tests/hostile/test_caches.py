"""Files of a cache that someone replaced: each is rebuilt or refused with one message; none is followed or executed.

What is in place of a file may be a link, a pipe, a folder or other content; the promise holds in a folder that a group
shares, which is only warned of.
"""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hkd.config import TrialConfig
from hkd.data import store as store_module
from hkd.data.prepare import prepare_data
from hkd.training.pyramid_cache import cache as pyramid_module
from hkd.training.pyramid_cache.cache import open_cache
from hkd.training.pyramid_cache.capacity import CacheBudget
from hkd.training.teacher.prepare import load_teacher, prepare_teacher
from hkd.training.teacher.pseudo_labels import prepare_labels
from tests.training.tiny import TRAINING, trial_config

pytestmark = pytest.mark.thorough

VICTIM = "of the victim"
SECONDS = 60
KEY = "0123456789abcdef"


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def _npy_with_objects(path: Path, outside: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.array([Payload(outside / "executed")], dtype=object), allow_pickle=True)


SUBSTITUTES: dict[str, Callable[[Path, Path], object]] = {
    "link_to_file": lambda path, outside: path.symlink_to(outside / "victim"),
    "hard_link": lambda path, outside: path.hardlink_to(outside / "victim"),
    "dangling_link": lambda path, outside: path.symlink_to(outside / "absent"),
    "link_to_device": lambda path, _: path.symlink_to("/dev/zero"),
    "link_to_itself": lambda path, _: path.symlink_to(path),
    "pipe": lambda path, _: os.mkfifo(path),
    "folder": lambda path, _: path.mkdir(),
    "empty": lambda path, _: path.touch(),
    "noise": lambda path, _: path.write_bytes(np.random.default_rng(0).bytes(5000)),
    "nested_json": lambda path, _: path.write_text("[" * 100_000),
    "other_json": lambda path, _: path.write_text('{"sha256": [1], "bytes": -1e400, "metrics": {"a": {}}, "cost": {}}'),
    "pickle": lambda path, outside: path.write_bytes(pickle.dumps(Payload(outside / "executed"))),
    "npy_with_objects": _npy_with_objects,
}


@pytest.fixture(autouse=True)
def time_limit() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise AssertionError(f"not ended after {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "victim").write_text(VICTIM)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrialConfig, Path]:
    """A training and the folder of its files, with a copy of them as they are before anything is replaced."""
    folder = tmp_path_factory.mktemp("trained")
    files, copy = folder / "files", folder / "copy"
    config = trial_config(files / "cache", teacher__training={**TRAINING, "total_epochs": 1})
    prepare_teacher(config, prepare_data(config.data, progress=False), files / "teachers")
    shutil.copytree(files, copy, symlinks=True)
    return config, folder


@pytest.fixture
def cached(trained: tuple[TrialConfig, Path]) -> tuple[TrialConfig, Path]:
    """A training and the folder of its intact files, ``cache`` and ``teachers``."""
    config, folder = trained
    shutil.rmtree(folder / "files")
    shutil.copytree(folder / "copy", folder / "files")
    store_module._verified.clear()
    return config, folder / "files"


def _replace(path: Path, substitute: str, outside: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    SUBSTITUTES[substitute](path, outside)
    store_module._verified.clear()
    pyramid_module._verified.clear()


def _result(run: Callable[[], object]) -> object:
    """What ``run`` returns; None if it refuses with one message."""
    refusal: ValueError | None = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return run()
        except ValueError as error:
            refusal = error
    assert type(refusal).__module__.startswith("hkd."), repr(refusal)
    assert 0 < len(str(refusal)) < 1000
    return None


def _check_outside(outside: Path) -> None:
    assert [path.name for path in outside.iterdir()] == ["victim"]
    assert (outside / "victim").read_text() == VICTIM


@pytest.mark.parametrize("substitute", SUBSTITUTES)
@pytest.mark.parametrize(
    "pattern",
    [
        "images-*.npy",
        "images-*.json",
        "images-*.lock",
        "scenes-*.lock",
        "scenes-*/train.json",
        "scenes-*/validation.json",
        "scenes-*/images/train_000000.png",
    ],
)
def test_replaced_file_of_images_or_scenes(
    cached: tuple[TrialConfig, Path], outside: Path, pattern: str, substitute: str
) -> None:
    config, folder = cached[0].data, cached[1]
    expected = prepare_data(config, progress=False)
    _replace(next(iter(sorted((folder / "cache").glob(pattern)))), substitute, outside)
    found: Any = _result(lambda: prepare_data(config, progress=False))
    if found is not None:
        np.testing.assert_array_equal(found.train_store.images, expected.train_store.images)
        np.testing.assert_array_equal(found.validation_store.images, expected.validation_store.images)
    _check_outside(outside)


@pytest.mark.parametrize("substitute", SUBSTITUTES)
@pytest.mark.parametrize("name", ["teacher.json", "teacher.safetensors", "lock"])
def test_replaced_file_of_a_teacher(
    cached: tuple[TrialConfig, Path], outside: Path, name: str, substitute: str
) -> None:
    config, folder = cached
    assert config.teacher is not None
    teacher, data = config.teacher, prepare_data(config.data, progress=False)
    first = prepare_teacher(config, data, folder / "teachers")
    expected = load_teacher(first.path, teacher).state_dict()
    _replace(first.path.parent / name, substitute, outside)
    if name == "lock":
        (first.path.parent / "teacher.json").unlink()  # the lock is only acquired for what is not cached
    found: Any = _result(
        lambda: load_teacher(prepare_teacher(config, data, folder / "teachers").path, teacher).state_dict()
    )
    if found is not None:
        assert all(torch.equal(found[key], expected[key]) for key in expected)
    _check_outside(outside)


@pytest.mark.parametrize("substitute", SUBSTITUTES)
@pytest.mark.parametrize("ending", ["", ".lock"])
def test_replaced_file_of_labels(
    cached: tuple[TrialConfig, Path], outside: Path, tmp_path: Path, ending: str, substitute: str
) -> None:
    config, folder = cached
    Image.new("RGB", (32, 32), "red").save(tmp_path / "red.png")
    scores = {"unlabelled_object_score": 0.3, "unlabelled_ignored_score": 0.1}
    update = {"unlabelled_images": tmp_path, **scores}
    config = config.model_copy(update={"data": config.data.model_copy(update=update)})
    data = prepare_data(config.data, progress=False)
    teacher = prepare_teacher(config, data, folder / "teachers")
    expected = prepare_labels(config, data, teacher)
    assert expected is not None
    _replace(Path(f"{expected.path}{ending}"), substitute, outside)
    if ending:
        expected.path.unlink()  # the lock is only acquired for what is not cached
    found: Any = _result(lambda: prepare_labels(config, data, teacher))
    if found is not None:
        assert found.summary == expected.summary
        assert found.annotations.content_hash() == expected.annotations.content_hash()
    _check_outside(outside)


@pytest.mark.parametrize("substitute", SUBSTITUTES)
@pytest.mark.parametrize(
    "name", ["lock", f"{KEY}/plan.json", f"{KEY}/users/4711-00ff", f"{KEY}/0/0.pyramid", f"{KEY}/0/lock-0"]
)
def test_replaced_file_of_the_pyramids(tmp_path: Path, outside: Path, name: str, substitute: str) -> None:
    images = torch.zeros(2, 3, 32, 32)
    expected = {"p2": torch.arange(1024.0).view(2, 8, 8, 8).bfloat16()}

    def read() -> dict[str, torch.Tensor]:
        budget = CacheBudget(tmp_path / "cache", 10**9)
        cache = open_cache(budget, KEY, entry_bytes=8192, steps_per_epoch=3, total_epochs=2)
        try:
            return cache.pyramid(0, 0, images, lambda: expected)
        finally:
            cache.close()

    read()
    _replace(tmp_path / "cache" / name, substitute, outside)
    if name.endswith("0/lock-0"):
        (tmp_path / "cache" / KEY / "0" / "0.pyramid").unlink()  # the lock is only acquired for what is not cached
    found: Any = _result(read)
    assert found is not None, "a training does not depend on its cache"
    assert torch.equal(found["p2"], expected["p2"])
    _check_outside(outside)
