"""Cache of the teacher's pyramids on a node's disk, for all trainings on the same batches.

A batch is a pure function of (seed, epoch, step), independent of the student (see :mod:`hkd.data.loader`). So is the
frozen teacher's pyramid of it, including augmentation. The first training that reaches a step computes the pyramid and
writes it; every other one with the same seed, batch size, data and augmentation reads it, bit for bit what it would
have computed.

Only the pyramid is cached: for an image of 192 x 256 pixels and 256 channels, 2.1 MB in bf16. The teacher's box head is
computed from it, because each student samples its own regions. Their outputs would need 25 kB per region's features
(7 x 7 x 256), 1.6 MB per image of 64 regions, 131 kB for their embeddings (1,024) and 1.3 kB for their logits and box
deltas, and could not be reused.

Laid out as::

    <folder>/lock                       held while a cache is opened: one process evicts at a time
    <folder>/<key>/plan.json            planned size in bytes; its modification time is that of the last use
    <folder>/<key>/users/<process>      each locked by a training that uses the cache
    <folder>/<key>/<epoch>/<step>.pyramid
    <folder>/<key>/<epoch>/lock-<n>     held by the training that computes the entry of a step, n = step modulo 16

Trainings that start together are at the same step at the same time. One that finds its entry being computed by another
computes that of a later step meanwhile, so that each of N trainings runs the teacher for about one step in N.

All of it may be removed whenever no training uses it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from hkd.coco.annotations import Annotations
from hkd.config import PYRAMID_LEVELS, TrialConfig
from hkd.data.prepare import PreparedData
from hkd.files import remove_leftovers
from hkd.models.components.anchors import pyramid_grid_sizes
from hkd.models.detector import Detector
from hkd.own_folders import NEW_FOLDER_MODE, create_own_folder
from hkd.structures import TabledPyramid
from hkd.training.pyramid_cache.capacity import (
    PLAN_FILE,
    CacheBudget,
    end_use,
    maximum_capacity,
    remove_epochs_from,
    reserve_capacity,
    start_use,
)
from hkd.training.pyramid_cache.entry_file import PyramidFileError, checksum, file_bytes, read_pyramid, write_pyramid
from hkd.training.pyramid_cache.key import cache_key

CACHED_FRACTION = "teacher_cached_fraction"
"""Fraction of an epoch's steps whose pyramid was read from the cache."""
DAMAGED_ENTRIES = "teacher_cache_damaged"
"""Number of entries that were damaged and recomputed in an epoch."""
UNWRITTEN_ENTRIES = "teacher_cache_unwritten"
"""Number of entries that could not be written in an epoch, as the disk is full or absent; omitted if 0."""

Pyramid = dict[str, Tensor]
LaterStep = Callable[[int], tuple[Tensor, Callable[[], Pyramid]]]
"""Images of a step's batch, and the teacher's forward on them."""

# Wait for an entry that another training computes: it started earlier, and leaving it the machine takes no longer than
# computing the entry again. The limit is for a training that was stopped or is far slower.
_MAX_WAIT_SECONDS = 10.0
_POLL_SECONDS = 0.002
_LOCK = "lock"
_NUM_LOCKS = 16
"""Of an epoch: each later step within this number has another lock than the current one."""

_verified: dict[Path, tuple[int, int]] = {}
"""(mtime_ns, size) of each entry when this process verified it."""


@dataclass(frozen=True)
class CachePlan:
    """How many of a training's pyramids are cached."""

    entry_bytes: int
    """Of one step."""
    steps_per_epoch: int
    total_epochs: int
    cached_epochs: int
    """The first epochs; in later ones each training computes the pyramids itself."""
    limit: str = ""
    """What limits the number of epochs, as text; empty if all are cached."""

    @property
    def epoch_bytes(self) -> int:
        """Of one epoch."""
        return self.entry_bytes * self.steps_per_epoch

    def within(self, available: tuple[int, str]) -> CachePlan:
        """The plan for a capacity in bytes and the text of what limits it."""
        cached_epochs = min(self.total_epochs, available[0] // self.epoch_bytes)
        limit = "" if cached_epochs == self.total_epochs else available[1]
        return replace(self, cached_epochs=cached_epochs, limit=limit)

    def __str__(self) -> str:
        planned = (
            f"{self.total_epochs} epochs of {self.steps_per_epoch} steps, {self.entry_bytes / 1e6:.1f} MB each, take "
            f"{self.epoch_bytes * self.total_epochs / 1e9:.2f} GB"
        )
        if self.cached_epochs == self.total_epochs:
            return f"all are cached: {planned}"
        kept = f"those of the first {self.cached_epochs} epochs are cached" if self.cached_epochs else "none is cached"
        return f"{kept}: {planned}, more than {self.limit}"


class TeacherCache:
    """The pyramids of one key, as used by one training; see :func:`open_cache`. In use until closed or deleted."""

    def __init__(self, folder: Path, plan: CachePlan, user: FileLock | None) -> None:
        self.plan = plan
        self._folder = folder
        self._user = user  # a lock: the cache is not evicted while it is held
        self._can_write = True
        self._counts = {"read": 0, "computed": 0, "damaged": 0, "unwritten": 0}
        self._computed_before: set[Path] = set()
        """Entries that this training computed before it needs them."""

    def pyramid(
        self, epoch: int, step: int, images: Tensor, compute: Callable[[], Pyramid], later: LaterStep | None = None
    ) -> Pyramid:
        """The teacher's pyramid of a step's batch: read if it is cached, else computed and written.

        An entry that is damaged or belongs to other images is recomputed and counted. A failure to write is counted and
        does not stop the training.

        Args:
            images: Of the batch; compared with an entry that this process reads for the first time.
            compute: The teacher's forward.
            later: Returns images and forward of a later step of this epoch, whose entry is computed while another
                training computes this one; None only waits.

        Returns:
            Level -> tensor, on the images' device.
        """
        if epoch >= self.plan.cached_epochs:
            return self._computed(compute)
        if step == 0:
            with suppress(OSError):
                os.utime(self._folder / PLAN_FILE)  # of the last use, for eviction
        path = self._path(epoch, step)
        with suppress(OSError, PyramidFileError):
            return self._read(path, images)
        lock = _lock_of(path, step)
        try:
            path.parent.mkdir(mode=NEW_FOLDER_MODE, parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                if later is not None:
                    self._compute_later_entry(epoch, step, later)
                lock.acquire(timeout=_MAX_WAIT_SECONDS, poll_interval=_POLL_SECONDS)
        except (Timeout, OSError):
            return self._computed(compute)
        try:
            return self._build(path, images, compute)
        finally:
            lock.release()

    def _compute_later_entry(self, epoch: int, step: int, later: LaterStep) -> None:
        """Compute and write the first entry of the next steps that is absent and that no other training computes."""
        if not self._can_write:
            return
        for ahead in range(step + 1, min(step + _NUM_LOCKS, self.plan.steps_per_epoch)):
            path = self._path(epoch, ahead)
            lock = _lock_of(path, ahead)
            if path.exists():
                continue
            with suppress(Timeout):
                lock.acquire(timeout=0)
                try:
                    if not path.exists():
                        self._write(path, *later(ahead))
                        self._computed_before.add(path)
                        return
                finally:
                    lock.release()

    def take_counts(self) -> dict[str, float]:
        """Counts since the last call, by metric name."""
        steps = self._counts["read"] + self._counts["computed"]
        numbers = {
            CACHED_FRACTION: self._counts["read"] / max(1, steps),
            DAMAGED_ENTRIES: float(self._counts["damaged"]),
        }
        if self._counts["unwritten"]:
            numbers[UNWRITTEN_ENTRIES] = float(self._counts["unwritten"])
        self._counts = dict.fromkeys(self._counts, 0)
        return numbers

    def close(self) -> None:
        """Stop using the cache, so that it may be evicted."""
        if self._user is not None:
            end_use(self._user)
            self._user = None

    def _build(self, path: Path, images: Tensor, compute: Callable[[], Pyramid]) -> Pyramid:
        """Compute and write an entry, or read it if another training wrote it in the meantime."""
        try:
            return self._read(path, images)
        except FileNotFoundError:
            pass
        except (OSError, PyramidFileError):
            self._counts["damaged"] += 1
        self._counts["computed"] += 1
        return self._write(path, images, compute)

    def _write(self, path: Path, images: Tensor, compute: Callable[[], Pyramid]) -> Pyramid:
        """Compute and write an entry, whose lock the caller holds."""
        pyramid = compute()
        size = file_bytes({name: level.nbytes for name, level in pyramid.items()})
        assert size <= self.plan.entry_bytes, f"an entry takes {size} bytes, {self.plan.entry_bytes} were planned"
        if self._can_write:
            try:
                remove_leftovers(path)
                write_pyramid(path, pyramid, self._identity(path, images))
                _verified[path] = _stamp(path)
            except OSError:
                self._can_write = False  # the disk is full or absent
        self._counts["unwritten"] += not self._can_write
        return pyramid

    def _read(self, path: Path, images: Tensor) -> Pyramid:
        stamp = _stamp(path)
        is_verified = _verified.get(path) == stamp
        pyramid = read_pyramid(path, None if is_verified else self._identity(path, images))
        _verified[path] = stamp
        self._counts["computed" if path in self._computed_before else "read"] += 1
        self._computed_before.discard(path)
        if isinstance(pyramid, TabledPyramid):
            return pyramid.to(images.device)
        return {name: level.to(images.device) for name, level in pyramid.items()}

    def _path(self, epoch: int, step: int) -> Path:
        return self._folder / str(epoch) / f"{step}.pyramid"

    def _computed(self, compute: Callable[[], Pyramid]) -> Pyramid:
        self._counts["computed"] += 1
        return compute()

    def _identity(self, path: Path, images: Tensor) -> str:
        # With a checksum of the images, a change of the batches that the key does not cover is detected.
        return f"{self._folder.name}, epoch {path.parent.name}, {path.name}, images {checksum(images):08x}"


def open_cache(
    budget: CacheBudget, key: str, *, entry_bytes: int, steps_per_epoch: int, total_epochs: int
) -> TeacherCache:
    """Open the cache of a key, plan how many epochs it keeps, and evict other keys for them.

    Keys that a training uses are not evicted. If the capacity is too small for all epochs, the first ones that fit are
    cached, or none. Errors of the disk are not raised: the plan then states why nothing is cached.

    Args:
        key: See :func:`hkd.training.pyramid_cache.key.cache_key`.
        entry_bytes: Of one step; see :func:`planned_entry_bytes`.
    """
    budget = replace(budget, folder=budget.folder.absolute())
    folder, nothing = budget.folder / key, CachePlan(entry_bytes, steps_per_epoch, total_epochs, 0)
    if budget.max_bytes <= 0:
        return TeacherCache(folder, nothing.within(maximum_capacity(budget)), None)
    epoch_bytes = nothing.epoch_bytes
    try:
        create_own_folder(budget.folder, "data.cache_dir")
        with FileLock(budget.folder / _LOCK):
            available = reserve_capacity(budget, key, unit_bytes=epoch_bytes, wanted_bytes=epoch_bytes * total_epochs)
            plan = nothing.within(available)
            remove_epochs_from(folder, available[0] // epoch_bytes)
            user = start_use(folder, epoch_bytes * plan.cached_epochs) if plan.cached_epochs else None
    except OSError as error:
        return TeacherCache(folder, nothing.within((0, f"can be written to {budget.folder} ({error.strerror})")), None)
    return TeacherCache(folder, plan, user)


def plan_cache(budget: CacheBudget, *, entry_bytes: int, steps_per_epoch: int, total_epochs: int) -> CachePlan:
    """What :func:`open_cache` would plan if no other key were in use; changes nothing."""
    return CachePlan(entry_bytes, steps_per_epoch, total_epochs, 0).within(maximum_capacity(budget))


def open_training_cache(
    budget: CacheBudget,
    config: TrialConfig,
    data: PreparedData,
    teacher: Detector,
    *,
    steps_per_epoch: int,
    device: torch.device,
    autocast_dtype: torch.dtype | None,
    pseudo_labels: Annotations | None = None,
    weights_hash: str | None = None,
) -> TeacherCache:
    """Open the cache for a training's configuration and teacher."""
    return open_cache(
        budget,
        cache_key(config, data, teacher, device, autocast_dtype, pseudo_labels, weights_hash),
        entry_bytes=planned_entry_bytes(config, teacher.pyramid_channels, autocast_dtype),
        steps_per_epoch=steps_per_epoch,
        total_epochs=config.training.total_epochs,
    )


def planned_entry_bytes(config: TrialConfig, pyramid_channels: int, autocast_dtype: torch.dtype | None) -> int:
    """Size of the file of one step's pyramid: batch x channels x cells of p2..p6, in the type of the forward."""
    itemsize = (autocast_dtype or torch.float32).itemsize
    grids = pyramid_grid_sizes(config.data.image_height, config.data.image_width)
    cells = [rows * columns for rows, columns in grids]
    bytes_a_cell = config.training.batch_size * pyramid_channels * itemsize
    return file_bytes({name: bytes_a_cell * count for name, count in zip(PYRAMID_LEVELS, cells, strict=True)})


def _lock_of(path: Path, step: int) -> FileLock:
    """Held while an entry is computed."""
    return FileLock(path.with_name(f"{_LOCK}-{step % _NUM_LOCKS}"), thread_local=False)


def _stamp(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_mtime_ns, state.st_size
