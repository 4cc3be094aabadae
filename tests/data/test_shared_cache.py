"""A cache in a folder where another user puts files and links: what they point to is never written or executed."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hkd.coco.annotations import Annotations, read_annotations
from hkd.coco.writing import write_annotations
from hkd.data import store as store_module
from hkd.data.store import StoreError, open_store
from hkd.own_folders import SharedFolderError
from tests.conftest import REPOSITORY

NOBODY = 65534

FORKS = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="processes cannot be forked here"
)


def attack(folder: Path, target: Path, ready: Event) -> None:
    """What another user runs all the time: replace every file by a link, as far as the folder's permissions allow."""
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    os.chdir(folder)
    ready.set()
    while True:
        for name in [*os.listdir(), "partial", "images.npy.partial"]:  # noqa: PTH208
            with suppress(OSError):
                if not Path(name).is_symlink():
                    Path(".planted").symlink_to(target)
                    Path(".planted").replace(name)


@pytest.fixture(name="annotations")
def forty_pictures(tmp_path: Path) -> Annotations:
    (tmp_path / "set" / "images").mkdir(parents=True)
    records = []
    for number in range(40):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "set" / "images" / f"{number}.png")
        records.append({"id": number + 1, "file_name": f"{number}.png", "height": 64, "width": 64})
    write_annotations(tmp_path / "set" / "set.json", records, [], "images")
    return read_annotations(tmp_path / "set" / "set.json")


@contextmanager
def attacker(folder: Path, target: Path) -> Iterator[None]:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=attack, args=(folder, target, ready))
    process.start()
    try:
        assert ready.wait(60)
        yield
        assert process.is_alive()
    finally:
        process.kill()
        process.join()


@FORKS
@pytest.mark.skipif(os.geteuid() != 0, reason="acts as another user: run as root")
@pytest.mark.parametrize("mode", [0o1777, 0o777], ids=["sticky", "not sticky"])
def test_links_of_another_user_never_overwrite_files(
    tmp_path: Path, annotations: Annotations, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    # Such folders are refused; here the check is switched off, to test what protects files without it.
    monkeypatch.setattr(store_module, "create_own_folder", lambda *_: None)
    base = Path(os.path.realpath("/tmp")) / f"hkd-shared-{os.getpid()}-{mode:o}"
    base.mkdir()
    try:
        cache, target = base / "cache", base / "target"
        cache.mkdir()
        cache.chmod(mode)
        target.write_text("of the victim")
        with attacker(cache, target):
            for size in range(32, 64, 4):
                with suppress(StoreError):  # its files may disappear
                    open_store(annotations, size, size, cache, progress=False)
        assert target.read_text() == "of the victim"
        assert not target.is_symlink()
    finally:
        subprocess.run(["rm", "-rf", str(base)], check=True)


def test_cache_that_all_can_write_to_is_refused_before_anything_is_read(
    tmp_path: Path, annotations: Annotations
) -> None:
    open_store(annotations, 64, 64, tmp_path / "cache", progress=False)
    (tmp_path / "cache").chmod(0o777)
    with pytest.raises(SharedFolderError, match="data.cache_dir"):
        open_store(annotations, 64, 64, tmp_path / "cache", progress=False)


def test_pickle_in_place_of_a_store_is_not_executed(tmp_path: Path, annotations: Annotations) -> None:
    class Payload:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "executed",)

    expected = open_store(annotations, 64, 64, tmp_path / "cache", progress=False).images.copy()
    (path,) = (tmp_path / "cache").glob("*.npy")
    path.unlink()
    np.save(path, np.array([Payload()], dtype=object), allow_pickle=True)
    with pytest.warns(UserWarning, match="rebuilding"):
        found = open_store(annotations, 64, 64, tmp_path / "cache", progress=False)
    np.testing.assert_array_equal(found.images, expected)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("suffix", [".npy", ".json"])
def test_pipe_in_place_of_a_cached_file_is_replaced(tmp_path: Path, annotations: Annotations, suffix: str) -> None:
    open_store(annotations, 64, 64, tmp_path / "cache", progress=False)
    (path,) = (tmp_path / "cache").glob(f"*{suffix}")
    path.unlink()
    os.mkfifo(path)
    program = (
        "import sys, warnings; from pathlib import Path; warnings.simplefilter('ignore')\n"
        "from hkd.coco.annotations import read_annotations; from hkd.data.store import open_store\n"
        "open_store(read_annotations(Path(sys.argv[1])), 64, 64, Path(sys.argv[2]), progress=False)"
    )
    command = [sys.executable, "-c", program, str(annotations.path), str(tmp_path / "cache")]
    subprocess.run(command, check=True, timeout=120, cwd=REPOSITORY)
    assert path.is_file()


@pytest.mark.parametrize("content", [json.dumps(["sha256"]), '{"sha256": 1', "[" * 100_000, '{"sha256": "0"}'], ids=len)
def test_changed_checksum_file_leads_to_a_rebuild(tmp_path: Path, annotations: Annotations, content: str) -> None:
    open_store(annotations, 64, 64, tmp_path / "cache", progress=False)
    store_module._verified.clear()
    (path,) = (tmp_path / "cache").glob("*.json")
    path.write_text(content, encoding="utf-8")
    with pytest.warns(UserWarning, match="rebuilding"):
        open_store(annotations, 64, 64, tmp_path / "cache", progress=False)


def test_partial_stores_of_killed_builds_are_removed(tmp_path: Path, annotations: Annotations) -> None:
    open_store(annotations, 64, 64, tmp_path / "cache", progress=False)
    (path,) = (tmp_path / "cache").glob("*.npy")
    path.unlink()
    (tmp_path / "cache" / f".{path.name}.4711-0123456789abcdef").write_text("half")
    open_store(annotations, 64, 64, tmp_path / "cache", progress=False)
    assert not list((tmp_path / "cache").glob(".*"))
